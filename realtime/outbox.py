"""Durable events: rows of the caller's transaction, sent when it has committed.

No transaction spans a call of the channel layer.  An event is written with the caller's data
(``add``); a channel with unsent events is claimed for a few seconds, and they get their
positions (``claim``); after the layer took them they are marked (``settle``).  A crash on the
way leaves them unsent, the claim runs out, and whoever looks next sends them once more, with
the same text and so with the same id.

One process at a time sends the events of one channel, so they keep their order.
"""

import asyncio
import functools
import itertools
import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from typing import Final

from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import Exists, F, Max, OuterRef
from django.db.models.functions import Now

from realtime import conf, faults, layer, loops
from realtime.database import DatabaseThread, lock
from realtime.layer import Envelope, PublishFailed
from realtime.models import OutboxChannel, OutboxEntry

logger = logging.getLogger(__name__)

ENTRIES: Final = 500
"""Ours: events claimed or purged at a time."""

SENDING_SECONDS: Final = 2.0
"""Ours: how long one claim is worked on; a publish begun in that time still ends in it."""

PURGE_SECONDS: Final = 60.0
"""Ours: how often a server process looks for events that were kept long enough."""

FORGET_CHANNEL_AFTER: Final = timedelta(days=1)
"""Ours: far longer than clocks differ, from which the positions of a new row start."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Channels that nobody else sends to now, and their unsent events in order."""

    token: uuid.UUID
    entries: tuple[OutboxEntry, ...]
    until: float
    """On the clock of ``time.monotonic()``: when to stop, since others may soon claim."""


def add(envelopes: Sequence[Envelope]) -> None:
    """Write events into the current transaction, and have them sent when it commits."""
    OutboxEntry.objects.bulk_create(
        [
            OutboxEntry(
                stream_id=OutboxChannel.key_of(envelope.app_id, envelope.channel),
                app_id=envelope.app_id,
                channel=envelope.channel,
                text=envelope.text,
                except_socket_id=envelope.except_socket_id or "",
            )
            for envelope in envelopes
        ]
    )
    transaction.on_commit(_after_commit, robust=True)


def claim() -> Claim | None:
    """Take channels with unsent events that nobody has taken, and number their events.

    Returns:
        ``None`` where nothing is to be done.
    """
    until = time.monotonic() + SENDING_SECONDS
    unsent = OutboxEntry.objects.unsent()
    taken = OutboxChannel.objects.filter(pk=OuterRef("stream"), claimed_until__gt=Now())
    first = unsent.exclude(Exists(taken)).order_by("pk").values_list("stream", flat=True)[:ENTRIES]
    keys = sorted(set(first))
    if not keys:
        return None
    token = uuid.uuid4()
    with transaction.atomic():
        # First a write: SQLite takes its one write lock here, and waits for it.
        _make_channels(keys)
        channels = {channel.pk: channel for channel in _lock_free(keys)}
        entries = list(
            unsent.filter(stream__in=list(channels)).order_by(
                F("position").asc(nulls_last=True), "pk"
            )[:ENTRIES]
        )
        _number(entries, channels)
        OutboxChannel.objects.filter(pk__in=list(channels)).update(
            claimed_by=token,
            claimed_until=Now()
            + timedelta(seconds=SENDING_SECONDS + conf.get().publish_timeout_seconds),
        )
    return Claim(token, tuple(entries), until) if entries else None


def settle(claimed: Claim, sent: Iterable[int]) -> None:
    """Mark the events with the keys *sent*, and let go of the channels."""
    streams = {entry.stream_id for entry in claimed.entries}
    with transaction.atomic():
        OutboxEntry.objects.filter(pk__in=list(sent)).update(sent_at=Now())
        # Not those whose claim ran out and that somebody else has taken meanwhile.
        OutboxChannel.objects.filter(pk__in=streams, claimed_by=claimed.token).update(
            claimed_by=None, claimed_until=Now()
        )


def purge() -> int:
    """Delete events that were sent long enough ago; return how many."""
    kept = timedelta(seconds=conf.get().outbox_retention_seconds)
    old = OutboxEntry.objects.filter(sent_at__lt=Now() - kept).order_by("pk")
    keys = list(old.values_list("pk", flat=True)[:ENTRIES])
    with transaction.atomic():
        doomed = OutboxEntry.objects.filter(pk__in=keys)
        purged = dict(doomed.values_list("stream").annotate(position=Max("position")))
        channels = list(lock(OutboxChannel.objects.filter(pk__in=list(purged)).order_by("pk")))
        for channel in channels:
            channel.purged_position = max(channel.purged_position, purged[channel.pk])
        OutboxChannel.objects.bulk_update(channels, ["purged_position"])
        doomed.delete()
        OutboxChannel.objects.filter(
            ~Exists(OutboxEntry.objects.filter(stream=OuterRef("pk"))),
            claimed_until__lt=Now() - FORGET_CHANNEL_AFTER,
        ).delete()
    return len(keys)


def drain() -> int:
    """Send what waits, from synchronous code; return how many the layer took.

    Raises:
        PublishFailed: the layer does not take them; they stay.
    """
    total = 0
    while (claimed := claim()) is not None:
        sent = loops.from_sync(functools.partial(_send, claimed))
        settle(claimed, sent)
        total += len(sent)
        if len(sent) < len(claimed.entries):
            raise PublishFailed("the channel layer did not take all durable events")
    return total


class Outbox:
    """Sends what waits, as long as this process runs; made by ``current()``."""

    def __init__(self) -> None:
        self._thread = DatabaseThread("realtime-outbox")
        self._woken = asyncio.Event()
        self._sweeper: asyncio.Task[object] | None = None
        self._busy = asyncio.Lock()
        self._purge_at = 0.0
        self._failing = False
        self._stopped = False

    def start(self) -> None:
        """Look for unsent events from now on; once, however often it is called."""
        if self._sweeper is None and not self._stopped:
            self._sweeper = loops.supervise(self._sweep, "outbox sweeper")

    def wake(self) -> None:
        """Something was committed here just now."""
        self._woken.set()

    async def stop(self) -> None:
        """Look no more; what is unsent is left to the other processes."""
        if self._stopped:
            return
        self._stopped = True
        if self._sweeper is not None:
            with suppress(TimeoutError):  # a claim that is cut off holds the others up
                async with asyncio.timeout(SENDING_SECONDS):
                    await self._busy.acquire()
            await loops.cancel(self._sweeper)
        await self._thread.close()

    async def _sweep(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(conf.get().outbox_sweep_seconds):
                    await self._woken.wait()
            self._woken.clear()
            try:
                async with self._busy:
                    await self._drain()
                await self._purge()
                self._failing = False
            except (DatabaseError, InterfaceError) as error:
                if not self._failing:
                    logger.warning("the outbox cannot be read, trying again: %s", error)
                self._failing = True

    async def _drain(self) -> None:
        while (claimed := await self._thread.run(claim)) is not None:
            sent = await _send(claimed)
            await self._thread.run(functools.partial(settle, claimed, sent))
            if len(sent) < len(claimed.entries):
                return  # the layer is away: next time

    async def _purge(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._purge_at:
            return
        self._purge_at = now + PURGE_SECONDS
        while await self._thread.run(purge) == ENTRIES:
            pass


async def _send(claimed: Claim) -> list[int]:
    """Hand the events to the layer; return the keys of those it took.

    Channels go side by side, the events of each one after the other: behind one that was not
    taken the rest of its channel waits.
    """
    sent: list[int] = []
    errors: list[PublishFailed] = []

    async def send_in_order(entries: list[OutboxEntry]) -> None:
        for entry in entries:
            if time.monotonic() > claimed.until:
                return
            try:
                await layer.publish([_envelope(entry)])
            except PublishFailed as error:
                errors.append(error)
                return
            sent.append(entry.pk)

    by_stream = sorted(claimed.entries, key=attrgetter("stream_id", "position"))
    await asyncio.gather(
        *(
            send_in_order(list(entries))
            for _, entries in itertools.groupby(by_stream, key=attrgetter("stream_id"))
        )
    )
    if errors:
        logger.warning("durable events wait: %s", errors[0])
    faults.point("outbox.after_publish")
    return sent


def _after_commit() -> None:
    faults.point("outbox.after_commit")
    home = loops.home()
    if home is not None:
        home.call_soon_threadsafe(lambda: current().wake())
    elif not layer.is_in_memory():
        with suppress(PublishFailed):  # logged; every server process will try again
            drain()
    # Else nobody listens in this process: a server process with the same database sends it.


def _make_channels(keys: Sequence[uuid.UUID]) -> None:
    start = time.time_ns() // 1_000
    OutboxChannel.objects.bulk_create(
        [OutboxChannel(id=key, last_position=start, purged_position=start) for key in keys],
        ignore_conflicts=True,
    )


def _lock_free(keys: Sequence[uuid.UUID]) -> "list[OutboxChannel]":
    channels = OutboxChannel.objects.filter(pk__in=keys).exclude(claimed_until__gt=Now())
    return list(lock(channels.order_by("pk"), skip_locked=True))


def _number(entries: Iterable[OutboxEntry], channels: dict[uuid.UUID, OutboxChannel]) -> None:
    """Give positions to those that have none yet; a repeat keeps the one it has."""
    new = [entry for entry in entries if entry.position is None]
    for entry in new:
        channel = channels[entry.stream_id]
        channel.last_position += 1
        entry.position = channel.last_position
    OutboxEntry.objects.bulk_update(new, ["position"])
    touched = {entry.stream_id for entry in new}
    OutboxChannel.objects.bulk_update([channels[key] for key in touched], ["last_position"])


def _envelope(entry: OutboxEntry) -> Envelope:
    return Envelope(entry.app_id, entry.channel, entry.text, entry.except_socket_id or None)


_outboxes: loops.PerLoop[Outbox] = loops.PerLoop(Outbox)
current = _outboxes.current
peek = _outboxes.peek
