"""The Channels layer: how an event reaches the other server processes.

One envelope goes to one layer group, in a message of its own or with its neighbours.  The
text inside is the text that browsers get; nobody parses it on the way.  A group is named by
a digest, because layers allow fewer characters than Pusher does; the channel itself travels
inside, so two channels whose digests collide still deliver nothing wrong.
"""

import asyncio
import contextlib
import functools
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from channels.layers import BaseChannelLayer, InMemoryChannelLayer, channel_layers
from django.core.signals import setting_changed
from django.dispatch import receiver

from realtime import backends, conf, loops, metrics
from realtime.protocol.attendance import Announcement
from realtime.protocol.errors import RealtimeError

logger = logging.getLogger(__name__)

EVENT: Final = "realtime.event"
EVENTS: Final = "realtime.events"
"""Several events of one channel, in order: a message costs the layer more than an event in it."""
MARKER: Final = "realtime.marker"
TERMINATE: Final = "realtime.terminate"
RELAY: Final = "realtime.relay"

SENT_AT: Final = "at"
"""Key of an event's message: when it was published, in Unix seconds.  Nothing depends on it."""

CONTROL_GROUP: Final = "realtime.control"
"""Every bus joins it at start."""

IN_MEMORY_CAPACITY: Final = 10_000
"""Ours: the layer's own default, 100, is for one consumer; our one channel is a process."""

BUNDLE_EVENTS: Final = 100
"""Ours: events in one message of the layer."""

BUNDLE_CHARS: Final = 65_536
"""Ours: of the events in one message, unless it is a single one."""

NEVER: Final = 10**9
"""Seconds: the layer would forget the members of its groups after a day."""


_refusal: str | None = None
_layers: dict[str, BaseChannelLayer] = {}
"""By alias."""


class PublishFailed(RealtimeError):
    """The layer did not take the message."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """One encoded event on its way to the subscribers of one channel."""

    app_id: str
    channel: str
    text: str
    except_socket_id: str | None = None
    announcement: Announcement | None = None
    kept_at: int | None = None
    """Of events that are kept for later subscribers: when, in nanoseconds since 1970, by the
    clock of whoever published it.  Two events hardly ever have the same."""

    def message(self) -> dict[str, Any]:
        """This envelope as a message of the layer."""
        message: dict[str, Any] = {
            "type": EVENT,
            "app": self.app_id,
            "channel": self.channel,
            "text": self.text,
            "except": self.except_socket_id,
        }
        if self.announcement is not None:
            news = self.announcement
            message["member"] = [news.user_id, news.version, news.present, news.shown_since]
        if self.kept_at is not None:
            message["kept"] = self.kept_at
        return message

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> "Envelope":
        """The envelope in *message*.

        Raises:
            KeyError, TypeError, ValueError: it is none of ours.
        """
        member, kept_at = message.get("member"), message.get("kept")
        return cls(
            message["app"],
            message["channel"],
            message["text"],
            message.get("except"),
            None if member is None else _announcement(*member),
            None if kept_at is None else int(kept_at),
        )


def _announcement(
    user_id: object, version: str | int, present: object, shown_since: str | int = 0
) -> Announcement:
    # A process of the version before this one does not say since when.
    return Announcement(str(user_id), int(version), bool(present), int(shown_since))


def channel_layer() -> BaseChannelLayer:
    """The layer that the site configured, or one in memory where it did not.

    An object of our own: the consumers of the site wait on theirs, and must not be cut off
    when ours gets new connections.
    """
    alias = conf.get().layer
    if alias not in _layers:
        backends.see_drops_of_the_queue()
        _layers[alias] = _make_layer(alias)
    return _layers[alias]


def is_in_memory() -> bool:
    """Whether the layer ends at this process."""
    return isinstance(channel_layer(), InMemoryChannelLayer)


def digest(app_id: str, channel: str) -> str:
    """Stands for a channel where long names are not taken."""
    return hashlib.blake2b(f"{app_id}:{channel}".encode(), digest_size=20).hexdigest()


def layer_group(app_id: str, channel: str) -> str:
    """The layer group of a Pusher channel: fewer than 100 letters, digits and dots."""
    return f"realtime.{digest(app_id, channel)}"


async def renew_channel_layer(deaf: BaseChannelLayer, seconds: float) -> BaseChannelLayer:
    """Give our layer new connections, and return it; it may be another object then.

    Raises:
        PublishFailed: the old connections did not end within *seconds*.
    """
    if not backends.must_be_replaced(deaf):
        async with answering(seconds):
            await backends.drop_connections(deaf)
        return deaf
    # Not flush() in place: a call that hangs on a half-open link holds the lock it needs.
    alias = conf.get().layer
    _layers[alias] = _make_layer(alias)
    loops.spawn(_close(deaf), "layer close")
    return _layers[alias]


async def _close(replaced: BaseChannelLayer) -> None:
    try:
        async with answering():
            await backends.close(replaced)
    except PublishFailed as error:
        logger.warning("connections of the old channel layer may stay open: %s", error)


def refuse_to_publish(reason: str | None) -> None:
    """Make ``publish`` fail at once, with *reason*, until it is called with ``None``."""
    global _refusal
    _refusal = reason


async def publish(envelopes: Sequence[Envelope], *, source: str = "trigger") -> None:
    """Hand *envelopes* to the layer, in order.

    Args:
        source: what ``realtime_events_published_total`` calls the one who asked for it.

    Raises:
        PublishFailed: the layer did not take one of them; those before it are on their way.
    """
    taken = 0

    async def send_all() -> None:
        nonlocal taken
        for bundle in _bundles(envelopes):
            events = [{**envelope.message(), SENT_AT: time.time()} for envelope in bundle]
            message = events[0] if len(events) == 1 else {"type": EVENTS, "events": events}
            await send(layer_group(bundle[0].app_id, bundle[0].channel), message)
            taken += len(bundle)

    try:
        if _refusal is not None:
            raise PublishFailed(_refusal)
        await loops.at_home(send_all)
    except PublishFailed:
        metrics.count("publishes_refused", len(envelopes) - taken)
        raise
    finally:
        metrics.count("events_published", taken, source=source)


def _bundles(envelopes: Sequence[Envelope]) -> Iterator[list[Envelope]]:
    """Neighbours for one channel together, as many as one message may have."""
    bundle: list[Envelope] = []
    chars = 0
    for envelope in envelopes:
        chars += len(envelope.text)
        if bundle and (
            (envelope.app_id, envelope.channel) != (bundle[0].app_id, bundle[0].channel)
            or len(bundle) == BUNDLE_EVENTS
            or chars > BUNDLE_CHARS
        ):
            yield bundle
            bundle, chars = [], len(envelope.text)
        bundle.append(envelope)
    if bundle:
        yield bundle


async def publish_termination(app_id: str, user_id: str, *, members: bool) -> None:
    """Ask every process to close the connections of a user.

    Args:
        members: also those that only show the user in a presence channel, without sign-in.

    Raises:
        PublishFailed: the layer did not take the message.
    """
    message = {"type": TERMINATE, "app": app_id, "user": user_id, "members": members}
    await loops.at_home(functools.partial(send, CONTROL_GROUP, message))


async def send(group: str, message: dict[str, Any]) -> None:
    """Send one message to one group of the layer.

    Raises:
        PublishFailed: it was not taken, or not in time.
    """
    async with answering():
        await channel_layer().group_send(group, message)


@contextlib.asynccontextmanager
async def answering(seconds: float | None = None) -> AsyncIterator[None]:
    """Around a call of the layer: whatever goes wrong becomes ``PublishFailed``.

    Args:
        seconds: what the call may take; by default ``PUBLISH_TIMEOUT_SECONDS``.
    """
    try:
        async with asyncio.timeout(seconds or conf.get().publish_timeout_seconds):
            yield
    except PublishFailed:
        raise
    except Exception as error:  # each layer raises errors of its own
        raise PublishFailed(f"the channel layer does not answer: {error!r}") from error


def _make_layer(alias: str) -> BaseChannelLayer:
    if alias in channel_layers.configs:
        made: BaseChannelLayer = channel_layers.make_backend(alias)
        return made
    return backends.InMemoryLayer(capacity=IN_MEMORY_CAPACITY, group_expiry=NEVER)


@receiver(setting_changed)
def _forget(*, setting: str, **_: object) -> None:
    if setting == "CHANNEL_LAYERS":
        _layers.clear()
