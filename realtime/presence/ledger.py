"""What happens in this process on its way into the database, and back to who waits for it.

Groups form by themselves: while one commits, the next one gathers.  An idle system answers
at once, a busy one batches; there is no interval and no size to tune.  Counts of subscriptions
alone may wait, see ``tally``.

All writes of a process go through one thread and one database connection, in order.
"""

import asyncio
import logging
import math
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError

from realtime import conf, faults, loops, metrics
from realtime.database import DatabaseThread
from realtime.presence import audit, entries, lease, store
from realtime.presence.announcer import Announcer, deliver_here, followed
from realtime.presence.audit import Subscription
from realtime.presence.entries import Entry
from realtime.presence.occupancy import Occupy
from realtime.presence.tally import Tally
from realtime.presence.transitions import Join, Leave, Transition
from realtime.protocol.errors import RealtimeError
from realtime.protocol.facts import Fact

logger = logging.getLogger(__name__)

T = TypeVar("T")

TRAVEL_SECONDS: Final = 3
"""Pusher docs, "Webhooks": how long a user may be gone without having left."""

FLUSH_SECONDS: Final = 1.0
"""Ours: how long a question waits for the latest changes before it takes older ones."""

REAP_SECONDS: Final = 1.0
"""Ours: how long the database may take before nobody's silence means anything."""

TOLD: Final = 2_000
"""Ours: facts that may wait for the database; a client event has 10 kB at most."""

COMMIT_SECONDS: Final = 10.0
"""Ours: how long a transaction may take from naming its time until others see it."""

_RETRY_SECONDS = (0.1, 0.2, 0.5, 1, 2)


class PresenceUnavailable(RealtimeError):
    """Presence cannot be written now."""


class Ledger:
    """The one writer of presence and occupancy in a process; made by ``current()``."""

    def __init__(self) -> None:
        self._server_id: uuid.UUID | None = None
        self._pending: list[Entry] = []
        self._in_hand: list[Entry] = []
        """The group that is being committed."""
        self._told = 0
        """Facts among what is pending or in hand."""
        self._tally = Tally(self._write_soon)
        self._held: dict[Subscription, Join] = {}
        """Committed joins by app, channel and socket: what a lost lease makes us repeat."""
        self._writer: asyncio.Task[object] | None = None
        self._beat: asyncio.Task[object] | None = None
        self._groups_taken = 0
        self._awaited: list[tuple[int, asyncio.Future[None]]] = []
        """Who waits for which group to be committed."""
        self._stopped = False
        self._draining = False
        self._lease_until = 0.0
        self._renewal_due = False
        self._renewed = asyncio.Event()
        self._clock = lease.Clock()
        self._late: dict[Subscription, asyncio.TimerHandle] = {}
        """Departures that are recorded a little later, in case the user arrives elsewhere."""
        self._reap_from = asyncio.get_running_loop().time() + conf.get().lease_seconds
        """When the leases of others have had time to be renewed."""
        self._thread = DatabaseThread("realtime-ledger")
        self._announcer = Announcer()
        self._looked_at = asyncio.get_running_loop().time()
        """When the rows were last compared with what the sockets here have heard."""

    # ---- what happened --------------------------------------------------------------

    async def join(self, joining: Join) -> store.Roster | None:
        """Record a join; return who is in the channel once that is committed.

        While the database is away the join waits; short absences are not noticed.

        Raises:
            SubscriptionRefused: the user is banned or the channel full.
            PresenceUnavailable: the database did not take it in time.  It still might, so
                the caller records a leave.
        """
        if self._stopped:
            raise PresenceUnavailable("this server is stopping")
        if late := self._late.pop(joining.subscription, None):
            late.cancel()  # back on the same connection
        answer: asyncio.Future[store.Roster | None] = asyncio.get_running_loop().create_future()
        self._pending.append((joining, answer))
        self._write_soon()
        try:
            async with asyncio.timeout(conf.get().join_seconds):
                return await answer
        except TimeoutError:
            raise PresenceUnavailable("presence could not be written in time") from None

    def leave(self, leaving: Leave) -> None:
        """Record a departure."""
        if self._draining:
            self._late[leaving.subscription] = asyncio.get_running_loop().call_later(
                TRAVEL_SECONDS, self._record_leave, leaving
            )
        else:
            self._record_leave(leaving)

    def _record_leave(self, leaving: Leave) -> None:
        self._late.pop(leaving.subscription, None)
        self.record([leaving])

    def occupy(self, app_id: str, channel: str, subscriptions: int) -> None:
        """Record how many subscriptions a channel has here; only the last number counts."""
        self._tally.set((app_id, channel), subscriptions)

    def tell(self, fact: Fact) -> None:
        """Write *fact* with the next group if it is wanted; see ``webhooks.facts.wanted``."""
        if self._told >= TOLD:  # the database is away
            metrics.count("facts_dropped")
            return
        self._told += 1
        self._pending.append((fact, None))
        self._write_soon()

    async def flushed(self) -> None:
        """Wait until what was recorded so far is committed, but not for long."""
        self._tally.hurry()
        if self._writer is None:
            return
        groups = math.ceil(
            max(len(self._pending), len(self._tally.changed)) / conf.get().group_transitions
        )
        committed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (self._groups_taken + groups, committed)
        self._awaited.append(entry)
        try:
            await asyncio.wait([committed], timeout=FLUSH_SECONDS)
        finally:
            self._awaited.remove(entry)

    def drain(self) -> None:
        """Record departures late from now on: who leaves is on the way to another process."""
        self._draining = True

    @property
    def holds_lease(self) -> bool:
        """Whether the others take this process for alive; true as long as it needs no lease."""
        return self._server_id is None or asyncio.get_running_loop().time() < self._lease_until

    def state(self) -> tuple[int, float]:
        """How many changes are not committed, and the seconds until the lease runs out, if any."""
        waiting = len(self._in_hand) + len(self._pending) + len(self._tally.changed)
        left = self._lease_until - asyncio.get_running_loop().time()
        return waiting, left if self._server_id is not None else math.inf

    async def stop(self) -> None:
        """Write what is left, and let the lease run out once the travellers have arrived."""
        if self._stopped:
            return
        self._tally.hurry()
        if self._writer is not None:
            await asyncio.wait([self._writer], timeout=conf.get().publish_timeout_seconds)
        self._stopped = True
        if self._beat is not None:
            self._beat.cancel()
        await self._announcer.finish(conf.get().publish_timeout_seconds)
        if (server_id := self._server_id) is not None:
            try:
                await self._thread.run(lambda: lease.give_back(server_id, TRAVEL_SECONDS))
            except (DatabaseError, InterfaceError) as error:
                logger.warning("could not give the lease back: %s", error)
        await self._thread.close()

    # ---- what an audit asks ---------------------------------------------------------

    @property
    def held(self) -> Mapping[Subscription, Join]:
        """The joins that are committed."""
        return self._held

    def moving(self) -> tuple[set[Subscription], set[tuple[str, str]]]:
        """The subscriptions and counts that are on their way into the database."""
        subscriptions, channels = set[Subscription](), set(self._tally.changed)
        for move, _ in (*self._in_hand, *self._pending):
            if isinstance(move, Occupy):
                channels.add((move.app_id, move.channel))
            elif not isinstance(move, Fact):
                subscriptions.add(move.subscription)
        if self._draining:  # departures come late, and not from here
            subscriptions |= self._held.keys()
        return subscriptions, channels

    def record(self, moves: Iterable[Join | Leave]) -> None:
        """Write *moves* after everything that was recorded before; nobody waits for them."""
        self._pending += [(move, None) for move in moves]
        self._write_soon()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run *work* in the order of the writes."""
        return await self._thread.run(work)

    # ---- the writer -----------------------------------------------------------------

    def _write_soon(self) -> None:
        if self._stopped:
            return  # whoever reaps this server records what is still to come
        if self._writer is None and self._has_work():
            self._writer = loops.spawn(self._write(), "ledger writer")

    def _has_work(self) -> bool:
        return bool(self._pending or self._tally.due or self._renewal_due)

    async def _write(self) -> None:
        failures = 0
        try:
            while self._has_work():
                group = self._in_hand = self._take_group()
                try:
                    await self._commit(group)
                    failures = 0
                    self._tell_waiting()
                except lease.LeaseLost:
                    self._restore(group)
                    self._record_again()
                except Exception as error:  # whatever it was, no departure may be lost
                    self._after_failure(group, error, failures)
                    pause = _RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)]
                    failures += 1
                    await asyncio.sleep(pause)
                self._in_hand = []
        finally:
            self._writer = None

    def _tell_waiting(self) -> None:
        for group, committed in self._awaited:
            if group <= self._groups_taken and not committed.done():
                committed.set_result(None)

    def _take_group(self) -> list[Entry]:
        limit = conf.get().group_transitions
        self._groups_taken += 1
        # Whoever gave up a join records a leave, which finds nothing then.
        group = [entry for entry in self._pending[:limit] if not entries.given_up(entry)]
        del self._pending[:limit]
        return group + [(count, None) for count in self._tally.take(limit)]

    async def _commit(self, group: list[Entry]) -> None:
        seconds = conf.get().lease_seconds
        if (server_id := self._server_id) is None:
            server_id = uuid.uuid4()
            await self._thread.run(partial(lease.take, server_id, seconds))
            self._server_id = server_id
            if self._beat is None:
                self._beat = loops.supervise(self._keep_lease, "ledger heartbeat")
        moves = [move for move, _ in group]
        self._renewal_due = False
        now = asyncio.get_running_loop().time()
        outcome = await self._thread.run(partial(store.apply, server_id, moves, seconds))
        faults.point("ledger.after_commit")
        self._lease_until = now + seconds
        if outcome.waited_seconds > REAP_SECONDS:
            self._give_others_time()
        self._renewed.set()
        self._told -= entries.facts_in(group)
        for entry in group:
            self._remember(entry[0], outcome)
            entries.answer(entry, outcome)
        self._announcer.announce(outcome.changes)

    def _remember(self, transition: Transition, outcome: store.Outcome) -> None:
        if isinstance(transition, Fact | Occupy):
            return
        key = transition.subscription
        if isinstance(transition, Leave):
            self._held.pop(key, None)
        elif transition not in outcome.banned and transition not in outcome.crowded:
            self._held[key] = transition

    def _after_failure(self, group: list[Entry], error: Exception, failures: int) -> None:
        """Keep everything for the next try, unless it is no matter of time.

        Joins that fail for a reason of their own would stop everybody behind them.
        """
        self._renewal_due = True
        self._give_others_time()
        if not failures:
            logger.error("presence cannot be written, trying again", exc_info=error)
        if not isinstance(error, OperationalError | InterfaceError):
            kept = entries.refuse(group, PresenceUnavailable("presence could not be written"))
            self._told -= entries.facts_in(group) - entries.facts_in(kept)
            group = kept
        self._restore(group)

    def _give_others_time(self) -> None:
        """They could not renew their leases either, and must not count as dead at once."""
        self._reap_from = asyncio.get_running_loop().time() + 2 * conf.get().lease_seconds

    def _restore(self, group: list[Entry]) -> None:
        self._pending[:0] = [item for item in group if not isinstance(item[0], Occupy)]
        self._tally.restore(
            (one.app_id, one.channel) for one, _ in group if isinstance(one, Occupy)
        )

    def _record_again(self) -> None:
        metrics.count("leases_lost")
        logger.error("lease lost: recording all local subscriptions again")
        self._server_id = None
        self._renewal_due = True
        # Whoever was let in stays in, even if the channel has become full meanwhile.
        again = [replace(joining, limit=None) for joining in self._held.values()]
        self._pending[:0] = [(joining, None) for joining in again]
        self._tally.restore()

    # ---- lease ----------------------------------------------------------------------

    async def _keep_lease(self) -> None:
        """At a third of the lease: have it renewed, look for dead servers and for missed news.

        The writer renews, with whatever it has to write: only one place may find the lease lost.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(conf.get().lease_seconds / 3)
            await self._renew()
            try:
                renewed_at = loop.time()
                await self._watch_clock()
                await self._reap(renewed_at)
                await self._catch_up(loop.time())
                if self._server_id is not None:
                    await audit.answer(self, self._server_id)
            except (DatabaseError, InterfaceError) as error:
                logger.warning("the rows of presence cannot be read: %s", error)

    async def _renew(self) -> None:
        """Wait until the writer has renewed the lease, however long that takes."""
        self._renewed.clear()
        self._renewal_due = True
        self._write_soon()
        await self._renewed.wait()

    async def _watch_clock(self) -> None:
        """Notice when the clock of the database was put forward: all leases ran out at once."""
        if (server_id := self._server_id) is None:
            return
        jump = await self._thread.run(partial(self._clock.jump_seconds, server_id))
        if abs(jump) > REAP_SECONDS:
            logger.warning("the clock of the database jumped by %.1f seconds", jump)
            self._give_others_time()

    async def _reap(self, since: float) -> None:
        """Announce whom dead processes left behind, if the database was quick *since* then."""
        loop = asyncio.get_running_loop()
        while loop.time() >= self._reap_from:
            patience = REAP_SECONDS - (loop.time() - since)
            changes = await self._thread.run(partial(store.reap, self._server_id, patience))
            if changes is None:
                return
            self._announcer.announce(changes)
            self._renewal_due = True  # keep our own lease meanwhile
            self._write_soon()
            since = loop.time()

    async def _catch_up(self, now: float) -> None:
        """Tell the sockets here what changed lately and did not reach them through the layer.

        The layer may lose messages, or be away, and whoever has to announce a change may die
        first.  The rows have everything.
        """
        since = now - self._looked_at + COMMIT_SECONDS
        channels = followed(self._held)
        if channels:
            deliver_here(await self._thread.run(lambda: store.changed_within(since, channels)))
        self._looked_at = now


_ledgers: loops.PerLoop[Ledger] = loops.PerLoop(Ledger)
current = _ledgers.current
peek = _ledgers.peek
