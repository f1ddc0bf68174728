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
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from operator import attrgetter
from typing import Final

from django.db import DatabaseError, InterfaceError, transaction
from django.db.models import Exists, Max, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from realtime import conf, faults, last_events, layer, loops
from realtime.database import DatabaseThread, holds, lock
from realtime.layer import Envelope, PublishFailed
from realtime.logs import OncePerSecond
from realtime.models import OutboxChannel, OutboxEntry

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

ENTRIES: Final = 500
"""Ours: events claimed or purged at a time."""

NEWEST: Final = 100
"""Ours: of the newest events, looked at so that a long queue of one channel stops no other."""

AT_ONCE: Final = 50
"""Ours: channels sent to at the same moment; redis-py opens 100 connections at most."""

SENDING_SECONDS: Final = 2.0
"""Ours: how long one claim is worked on; a publish begun in that time still ends in it."""

REQUEST_SECONDS: Final = 0.5
"""Ours: how long a request of the site may be held up after its commit."""

PAUSE_SECONDS: Final = 0.5
"""Ours: how long a channel is left alone after the layer refused one of its events."""

PURGE_SECONDS: Final = 60.0
"""Ours: how often a server process looks for events that were kept long enough."""

FORGET_CHANNEL_AFTER: Final = timedelta(days=1)
"""Ours: far longer than clocks differ, from which the positions of a new row start."""


@dataclass(slots=True)
class Claim:
    """Channels that nobody else sends to now, and their unsent events in order."""

    token: uuid.UUID
    entries: tuple[OutboxEntry, ...]
    until: float
    """On the clock of ``time.monotonic()``: when to stop, since others may soon claim."""
    sent: list[int] = field(default_factory=list)
    """The keys of the events that the layer took."""
    refused: set[uuid.UUID] = field(default_factory=set)
    """The channels of which it did not take one."""


def add(envelopes: Sequence[Envelope]) -> None:
    """Write events into the current transaction, and have them sent when it commits."""
    entries = [
        OutboxEntry(
            stream_id=OutboxChannel.key_of(envelope.app_id, envelope.channel),
            app_id=envelope.app_id,
            channel=envelope.channel,
            text=envelope.text,
            except_socket_id=envelope.except_socket_id or "",
        )
        for envelope in envelopes
    ]
    OutboxEntry.objects.bulk_create(entries)
    streams = {entry.stream_id for entry in entries}
    transaction.on_commit(functools.partial(_after_commit, streams), robust=True)


def claim(
    streams: Collection[uuid.UUID] | None = None, *, seconds: float = SENDING_SECONDS
) -> Claim | None:
    """Take channels with unsent events that nobody has taken, and number their events.

    Args:
        streams: the channels to look at; without it those that have waited longest, and those
            of the newest events.
        seconds: how long the claim will be worked on.

    Returns:
        ``None`` where nothing is to be done.
    """
    unsent = OutboxEntry.objects.unsent()
    oldest, newest = (streams, ()) if streams is not None else _waiting_streams(unsent)
    keys = sorted({*oldest, *newest})
    if not keys:
        return None
    token = uuid.uuid4()
    with transaction.atomic():
        # First a write: SQLite takes its one write lock here, and waits for it.
        _make_channels(keys)
        channels = {channel.pk: channel for channel in _lock_free(keys)}
        entries = _next_entries(unsent.filter(stream__in=list(channels)), newest)
        if not entries:
            return None
        _number(entries, channels)
        until = time.monotonic() + seconds
        OutboxChannel.objects.filter(pk__in={entry.stream_id for entry in entries}).update(
            claimed_by=token, claimed_until=Now() + longest_claim()
        )
    return Claim(token, tuple(entries), until)


def settle(claimed: Claim) -> None:
    """Mark what was sent, and let go of the channels: soon, where the layer refused."""
    streams = {entry.stream_id for entry in claimed.entries}
    with transaction.atomic():
        OutboxEntry.objects.filter(pk__in=claimed.sent).update(sent_at=Now())
        # Not those whose claim ran out and that somebody else has taken meanwhile.
        ours = OutboxChannel.objects.filter(pk__in=streams, claimed_by=claimed.token)
        held = [channel.pk for channel in lock(ours.order_by("pk"))]
        pause = Now() + timedelta(seconds=PAUSE_SECONDS)
        for keys, until in (
            (claimed.refused.intersection(held), pause),
            (set(held) - claimed.refused, Now()),
        ):
            OutboxChannel.objects.filter(pk__in=keys).update(claimed_by=None, claimed_until=until)


def purge() -> int:
    """Delete events that were sent long enough ago, a portion of them; return how many."""
    kept = timedelta(seconds=conf.get().outbox_retention_seconds)
    old = OutboxEntry.objects.filter(sent_at__lt=Now() - kept).order_by("pk")
    keys = list(old.values_list("pk", flat=True)[:ENTRIES])
    doomed = OutboxEntry.objects.filter(pk__in=keys)
    purged = dict(doomed.values_list("stream").annotate(position=Max("position")))
    with transaction.atomic():
        doomed.delete()
        channels = list(lock(OutboxChannel.objects.filter(pk__in=list(purged)).order_by("pk")))
        for channel in channels:
            channel.purged_position = max(channel.purged_position, purged[channel.pk])
        OutboxChannel.objects.bulk_update(channels, ["purged_position"], batch_size=100)
        OutboxChannel.objects.filter(
            ~Exists(OutboxEntry.objects.filter(stream=OuterRef("pk"))),
            claimed_until__lt=Now() - FORGET_CHANNEL_AFTER,
        ).delete()
    return len(keys)


def drain() -> int:
    """Send what waits, from synchronous code; return how many the layer took.

    Raises:
        PublishFailed: the layer did not take all of them; the rest stays.
    """
    total, refused = 0, False
    while (claimed := claim()) is not None:
        _send_and_settle(claimed)
        total += len(claimed.sent)
        refused = refused or bool(claimed.refused)
        if not claimed.sent:
            break
    if refused:
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
        self._purging = False
        """Whether more is to be deleted than one portion."""
        self._claimed: Claim | None = None
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
        if self._claimed is not None:
            self._claimed.until = 0.0  # a claim that is cut off holds the others up
        if self._sweeper is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(conf.get().publish_timeout_seconds):
                    await self._busy.acquire()
            await loops.cancel(self._sweeper)
        await self._thread.close()

    async def _sweep(self) -> None:
        while True:
            with suppress(TimeoutError):
                seconds = 0 if self._purging else conf.get().outbox_sweep_seconds
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            self._woken.clear()
            try:
                async with self._busy:
                    await self._drain()
                    await self._purge()
                self._failing = False
            except (DatabaseError, InterfaceError, OSError) as error:  # OSError: no descriptors
                if not self._failing:
                    logger.warning("the outbox cannot be read, trying again: %s", error)
                self._failing, self._purging = True, False

    async def _drain(self) -> None:
        while not self._stopped:
            self._claimed = claimed = await self._thread.run(claim)
            if claimed is None:
                return
            try:
                await _send(claimed)
            finally:
                self._claimed = None
                await self._thread.run(functools.partial(settle, claimed))
            if not claimed.sent:
                return  # the layer is away: next time

    async def _purge(self) -> None:
        """Delete one portion if it is time; events that wait come before the next."""
        now = asyncio.get_running_loop().time()
        if self._stopped or now < self._purge_at:
            return
        self._purging = await self._thread.run(purge) == ENTRIES
        if not self._purging:
            self._purge_at = now + PURGE_SECONDS


async def _send(claimed: Claim) -> None:
    """Hand the events to the layer, and note in *claimed* what it took.

    Channels go side by side, the events of each one after the other: behind one that was not
    taken the rest of its channel waits.
    """
    errors: list[PublishFailed] = []
    turns = asyncio.Semaphore(AT_ONCE)

    async def send_in_order(entries: list[OutboxEntry]) -> None:
        for entry in entries:
            async with turns:
                if time.monotonic() > claimed.until:
                    return
                [envelope] = last_events.stamped([_envelope(entry)])
                await last_events.akeep([envelope])
                if time.monotonic() > claimed.until:
                    return
                try:
                    await layer.publish([envelope], source="durable")
                except PublishFailed as error:
                    errors.append(error)
                    claimed.refused.add(entry.stream_id)
                    return
            claimed.sent.append(entry.pk)

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


def _send_and_settle(claimed: Claim) -> None:
    loops.from_sync(functools.partial(_send, claimed))
    settle(claimed)


def _after_commit(streams: Collection[uuid.UUID]) -> None:
    faults.point("outbox.after_commit")
    home = loops.home()
    if home is not None:
        home.call_soon_threadsafe(lambda: current().wake())
    elif not layer.is_in_memory():
        # These channels only, and not for long: a request of the site may be waiting.  What is
        # left is for the server processes.
        claimed = claim(streams, seconds=REQUEST_SECONDS)
        if claimed is not None:
            _send_and_settle(claimed)
    # Else nobody listens in this process: a server process with the same database sends it.


def _waiting_streams(
    unsent: QuerySet[OutboxEntry],
) -> tuple[set[uuid.UUID], set[uuid.UUID]]:
    """The channels of the oldest and of the newest events that nobody has claimed."""
    taken = OutboxChannel.objects.filter(_claimed(), pk=OuterRef("stream"))
    free = unsent.exclude(Exists(taken)).values_list("stream", flat=True)
    oldest = set(free.order_by("pk")[:ENTRIES])
    newest = set(free.order_by("-pk")[:NEWEST]) if oldest else set()
    return oldest, newest - oldest


def _next_entries(
    unsent: QuerySet[OutboxEntry], newest: Collection[uuid.UUID]
) -> list[OutboxEntry]:
    """What is to be sent next, each channel in order: repeats first, with their positions."""
    repeats = list(unsent.exclude(position=None).order_by("position")[:ENTRIES])
    if len(repeats) == ENTRIES:
        return repeats
    new = unsent.filter(position=None).order_by("pk")
    found = {entry.pk: entry for entry in new[:ENTRIES]}
    if newest:
        found |= {entry.pk: entry for entry in new.filter(stream__in=newest)[:NEWEST]}
    return repeats + [found[key] for key in sorted(found)]


def longest_claim() -> timedelta:
    """For how long a channel may be claimed by a process that died."""
    return timedelta(seconds=SENDING_SECONDS + conf.get().publish_timeout_seconds)


def _claimed() -> Q:
    """Whether somebody's claim on a channel holds."""
    return holds("claimed_until", longest_claim())


def _make_channels(keys: Sequence[uuid.UUID]) -> None:
    start = time.time_ns() // 1_000
    OutboxChannel.objects.bulk_create(
        [OutboxChannel(id=key, last_position=start, purged_position=start) for key in keys],
        ignore_conflicts=True,
    )


def _lock_free(keys: Sequence[uuid.UUID]) -> list[OutboxChannel]:
    channels = OutboxChannel.objects.filter(pk__in=keys).exclude(_claimed())
    return list(lock(channels.order_by("pk"), skip_locked=True))


def _number(entries: Iterable[OutboxEntry], channels: dict[uuid.UUID, OutboxChannel]) -> None:
    """Give positions to those that have none yet; a repeat keeps the one it has."""
    new = [entry for entry in entries if entry.position is None]
    for entry in new:
        channel = channels[entry.stream_id]
        channel.last_position += 1
        entry.position = channel.last_position
    OutboxEntry.objects.bulk_update(new, ["position"], batch_size=100)
    touched = {entry.stream_id for entry in new}
    OutboxChannel.objects.bulk_update(
        [channels[key] for key in touched], ["last_position"], batch_size=100
    )


def _envelope(entry: OutboxEntry) -> Envelope:
    return Envelope(entry.app_id, entry.channel, entry.text, entry.except_socket_id or None)


_outboxes: loops.PerLoop[Outbox] = loops.PerLoop(Outbox)
current = _outboxes.current
peek = _outboxes.peek
