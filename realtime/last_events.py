"""The last event of each cache channel, kept for those who subscribe later.

It is in Django's cache, under the name of the channel, and outlives every subscription.  An
event is kept before it is published: whoever subscribes meanwhile gets it from the cache, from
the layer or from both, and ``Kept`` takes the repeat away.

Source: Pusher docs, "Cache channels".
"""

import asyncio
import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from channels.db import database_sync_to_async
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache

from realtime import conf, metrics
from realtime.layer import Envelope, digest
from realtime.logs import OncePerSecond
from realtime.protocol.messages import encode_cache_miss
from realtime.protocol.names import is_cache_channel

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

TRAVEL_NANOSECONDS: Final = 30 * 10**9
"""Ours: how long after it was kept an event may still come by; clocks differ a little."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What the cache has for one channel."""

    channel: str
    at: int = 0
    """``Envelope.kept_at`` of the event; 0 where there is none."""
    text: str = ""

    def before(self, held: Sequence[Envelope]) -> list[str]:
        """What a new subscriber gets first, where *held* was published meanwhile.

        Each event once, the older ones first; that the cache was empty only if nothing came.
        """
        texts = [envelope.text for envelope in held]
        came = [envelope.kept_at for envelope in held if envelope.kept_at is not None]
        if not self.at:
            return texts if came else [encode_cache_miss(self.channel), *texts]
        if came and self.at >= min(came):
            return texts  # the others, and the one of the cache, come by here
        return [self.text, *texts]

    def may_come_again(self, held: Sequence[Envelope]) -> bool:
        """Whether the event was given and is so new that it may still be on its way here."""
        came = [envelope.kept_at for envelope in held if envelope.kept_at is not None]
        on_its_way = time.time_ns() - self.at < TRAVEL_NANOSECONDS
        return on_its_way and not (came and self.at >= min(came))

    @property
    def data(self) -> str:
        """The data of the event, as it was published."""
        data: str = json.loads(self.text)["data"]
        return data

    @property
    def seconds_left(self) -> int:
        """For how long it is kept still."""
        return max(0, conf.get().cache_seconds - (time.time_ns() - self.at) // 10**9)


def stamped(envelopes: Iterable[Envelope]) -> list[Envelope]:
    """*envelopes* with the time at which they are kept, which is now, where they are."""
    return [
        replace(envelope, kept_at=time.time_ns())
        if is_cache_channel(envelope.channel)
        else envelope
        for envelope in envelopes
    ]


def keep(envelopes: Iterable[Envelope]) -> None:
    """Put those that are to be kept into the cache; the last of a channel stays."""
    last = {
        _key(envelope.app_id, envelope.channel): f"{envelope.kept_at} {envelope.text}"
        for envelope in envelopes
        if envelope.kept_at is not None
    }
    if last:
        try:
            _cache().set_many(last, conf.get().cache_seconds)
        except Exception as error:  # each cache raises errors of its own
            _note(error)


def read(app_id: str, channel: str) -> Kept:
    """What the cache has for *channel*; nothing, also where the cache does not answer."""
    try:
        found: Any = _cache().get(_key(app_id, channel))  # Any: whatever somebody put there
    except Exception as error:
        _note(error)
        found = None
    at, _, text = (found if isinstance(found, str) else "").partition(" ")
    return Kept(channel, int(at), text) if at.isdecimal() else Kept(channel)


async def akeep(envelopes: Sequence[Envelope]) -> None:
    """``keep`` for coroutines; a cache that hangs is left alone after a while."""
    if any(envelope.kept_at is not None for envelope in envelopes):
        try:
            async with asyncio.timeout(conf.get().publish_timeout_seconds):
                await database_sync_to_async(keep, thread_sensitive=False)(envelopes)
        except TimeoutError as error:
            _note(error)


async def aread(app_id: str, channel: str) -> Kept:
    """``read`` for coroutines; a cache that hangs has nothing."""
    try:
        async with asyncio.timeout(conf.get().publish_timeout_seconds):
            return await database_sync_to_async(read, thread_sensitive=False)(app_id, channel)
    except TimeoutError as error:
        _note(error)
        return Kept(channel)


def _cache() -> BaseCache:
    return caches[conf.get().cache]


def _key(app_id: str, channel: str) -> str:
    # A digest: memcached takes no long names.
    return f"realtime.last.{digest(app_id, channel)}"


def _note(error: Exception) -> None:
    metrics.count("cache_failures")
    logger.error("the cache of the last events does not answer: %r", error)
