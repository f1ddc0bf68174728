"""How many connections a channel has, told to its subscribers.

Counted in the rows of all processes, after this one's own are committed.  Crowded channels are
told less often, and of the last change in any case.

Source: Pusher docs, "Subscription count events".
"""

import asyncio
import logging
from typing import Final

from channels.db import database_sync_to_async
from django.core.cache import caches
from django.db import DatabaseError, InterfaceError

from realtime import conf, layer, loops, metrics
from realtime.layer import Envelope, PublishFailed
from realtime.logs import OncePerSecond
from realtime.presence import census, ledger
from realtime.protocol.app import App
from realtime.protocol.facts import Fact
from realtime.protocol.messages import encode_subscription_count
from realtime.webhooks import facts

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

CROWD: Final = 100
"""Pusher docs: up to so many subscribers are told of every change."""

RETRY_SECONDS: Final = 1
"""Ours: the pause after the rows could not be read, or the layer did not take the counts."""

CROWD_SECONDS: Final = 5
"""Pusher docs: how often the others are told."""

ChannelKey = tuple[str, str]


class Counts:
    """Tells what changed in this process; made by ``current()``."""

    def __init__(self) -> None:
        self._changed: dict[ChannelKey, App] = {}
        self._later: set[ChannelKey] = set()
        """Channels that are told when it is time."""
        self._teller: asyncio.Task[object] | None = None

    def changed(self, app: App, channel: str) -> None:
        """Somebody subscribed or unsubscribed here."""
        self._changed[app.id, channel] = app
        if self._teller is None:
            self._teller = loops.spawn(self._tell_all(), "subscription counts")

    async def _tell_all(self) -> None:
        changed: dict[ChannelKey, App] = {}
        try:
            while self._changed:
                changed, self._changed = self._changed, {}
                await ledger.current().flushed()
                await self._tell(changed)
        except (DatabaseError, InterfaceError, PublishFailed, TimeoutError) as error:
            logger.warning("subscribers are not told how many they are, yet: %s", error)
            for key, app in changed.items():
                self._again(key, app, RETRY_SECONDS)
        finally:
            self._teller = None

    async def _tell(self, changed: dict[ChannelKey, App]) -> None:
        totals = await database_sync_to_async(_totals, thread_sensitive=False)(set(changed))
        told = []
        for key, total in totals.items():
            if total <= CROWD or await _is_time(key):
                told.append(Envelope(*key, encode_subscription_count(key[1], total)))
                if facts.wanted(changed[key], "subscription_count", key[1]):
                    ledger.current().tell(_fact(key, total))
            else:
                self._again(key, changed[key], CROWD_SECONDS)
        await layer.publish(told, source="presence")

    def _again(self, key: ChannelKey, app: App, seconds: float) -> None:
        def tell() -> None:
            self._later.discard(key)
            self.changed(app, key[1])

        if key not in self._later:
            self._later.add(key)
            asyncio.get_running_loop().call_later(seconds, tell)


def _fact(key: ChannelKey, total: int) -> Fact:
    app_id, channel = key
    kind = "subscription_count"
    return Fact(app_id=app_id, kind=kind, channel=channel, subscription_count=total)


def _totals(keys: set[ChannelKey]) -> dict[ChannelKey, int]:
    totals = {}
    for app_id in {app_id for app_id, _ in keys}:
        channels = [channel for app, channel in keys if app == app_id]
        for channel, total in census.subscriptions(app_id, channels).items():
            totals[app_id, channel] = total
    return totals


async def _is_time(key: ChannelKey) -> bool:
    """Whether no process told that crowd within the last seconds, as far as the cache knows."""
    async with asyncio.timeout(conf.get().publish_timeout_seconds):
        return await database_sync_to_async(_takes_turn, thread_sensitive=False)(key)


def _takes_turn(key: ChannelKey) -> bool:
    name = f"realtime.counted.{layer.digest(*key)}"
    try:
        cache = caches[conf.get().cache]
        return bool(cache.add(name, "1", CROWD_SECONDS))
    except Exception as error:  # each cache raises errors of its own
        metrics.count("cache_failures")
        logger.error("the cache that spaces subscription counts does not answer: %r", error)
        return True


_counts: loops.PerLoop[Counts] = loops.PerLoop(Counts)
current = _counts.current
