"""Telling every process who came and who went.

The layer is the fast way and may lose what it takes; what it does not take is dropped.  Each
process compares its sockets with the rows every few seconds: that is the sure way.
"""

import asyncio
import json
import logging
from collections.abc import Iterable
from typing import Final

from realtime import hub, layer, loops, metrics
from realtime.layer import Envelope, PublishFailed
from realtime.logs import OncePerSecond
from realtime.models import Member
from realtime.presence.changes import Change
from realtime.protocol.attendance import Announcement
from realtime.protocol.messages import encode_member_added, encode_member_removed

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

WAITING: Final = 20_000
"""Ours: announcements that may wait for the layer."""

BURST: Final = 50
"""Ours: announcements handed to the layer before the next look at whether it takes them."""


class Announcer:
    """Publishes the changes of one process, in order, apart from whoever commits them."""

    def __init__(self) -> None:
        self._waiting: list[Change] = []
        self._task: asyncio.Task[object] | None = None

    def announce(self, changes: Iterable[Change]) -> None:
        """Publish *changes*."""
        self._waiting += changes
        self._drop(len(self._waiting) - WAITING)
        if self._waiting and self._task is None:
            self._task = loops.spawn(self._publish_all(), "presence announcer")

    async def finish(self, seconds: float) -> None:
        """Wait until everything is said, but no longer than *seconds*."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=seconds)
        if self._task is not None:
            await loops.cancel(self._task)

    async def _publish_all(self) -> None:
        try:
            while self._waiting:
                burst = self._waiting[:BURST]
                del self._waiting[:BURST]
                try:
                    await layer.publish(
                        [envelope_of(change) for change in burst], source="presence"
                    )
                except PublishFailed as error:
                    logger.warning("presence is not announced, others look it up: %s", error)
                    metrics.count("announcements_dropped", len(burst))
                    self._drop(len(self._waiting))
        finally:
            self._task = None

    def _drop(self, count: int) -> None:
        if count > 0:
            metrics.count("announcements_dropped", count)
            del self._waiting[:count]


def deliver_here(changes: Iterable[Change]) -> None:
    """Tell the sockets of this process what they have not heard, without the layer."""
    local = hub.current()
    for change in changes:
        if change.channel == Member.ONLINE:  # who listens to sign-ins knows what is new
            local.deliver(envelope_of(change))
        elif local.misses(change.app_id, change.channel, _announcement(change)):
            metrics.count("announcements_recovered")
            local.deliver(envelope_of(change))


def followed(held: Iterable[tuple[str, str, str]]) -> set[str]:
    """The channels of *held*, by app, channel and socket, whose news somebody here wants."""
    local = hub.current()
    return {
        channel
        for app_id, channel, _ in held
        if channel != Member.ONLINE or local.subscriptions(app_id, channel)
    }


def envelope_of(change: Change) -> Envelope:
    """*change* as browsers hear of it, or, where it is about a sign-in, as processes do."""
    if change.channel == Member.ONLINE:
        news = [change.member.user_id, change.version, change.present]
        return Envelope(change.app_id, change.channel, json.dumps(news))
    if change.present:
        text = encode_member_added(change.channel, change.member)
    else:
        text = encode_member_removed(change.channel, change.member.user_id)
    return Envelope(change.app_id, change.channel, text, announcement=_announcement(change))


def _announcement(change: Change) -> Announcement:
    return Announcement(change.member.user_id, change.version, change.present, change.shown_since)
