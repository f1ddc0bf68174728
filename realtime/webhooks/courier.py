"""Keeps facts moving in a server process: collects, sends, tells and forgets.

Every process does all of it; claims in the database keep them apart.  Each endpoint has a task
of its own, so one that hangs delays nobody else, and receivers of signals have a thread of
their own, so one that is slow delays other signals only.
"""

import asyncio
import importlib.util
import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from django.db import DatabaseError, InterfaceError

from realtime import applications, loops, signals
from realtime.database import DatabaseThread
from realtime.logs import OncePerSecond
from realtime.models import WebhookQueue
from realtime.webhooks import claims, deliveries, telling
from realtime.webhooks.deliveries import Answer

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

SWEEP_SECONDS: Final = 0.25
"""Pusher support: how long facts gather for one request."""

IDLE_SECONDS: Final = 5.0
"""Ours: the same while nobody wants to know anything, to notice when somebody does."""

AT_ONCE: Final = 50
"""Ours: endpoints that one process sends to at the same moment."""

PURGE_SECONDS: Final = 60.0
"""Ours: how often a process looks for rows that were kept long enough."""

STOP_SECONDS: Final = 5.0
"""Ours: how long a stop waits for requests under way; they are made again elsewhere."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What there was to see in the database."""

    wanted: bool
    """Whether anybody wants to know anything."""
    queues: list[uuid.UUID]
    news: bool


class Courier:
    """Delivers webhooks and signals as long as this process runs; made by ``current()``."""

    def __init__(self) -> None:
        self._thread = DatabaseThread("realtime-webhooks")
        self._telling_thread = DatabaseThread("realtime-signals")
        self._sweeper: asyncio.Task[object] | None = None
        self._senders: dict[uuid.UUID, asyncio.Task[object]] = {}
        self._teller: asyncio.Task[object] | None = None
        self._purge_at = 0.0
        self._can_send = importlib.util.find_spec("httpx2") is not None
        self._failing = False
        self._troubles: set[str] = set()
        self._stopped = False

    def start(self) -> None:
        """Deliver from now on; once, however often it is called."""
        if self._sweeper is None and not self._stopped:
            self._sweeper = loops.supervise(self._sweep, "webhook sweeper")

    async def stop(self) -> None:
        """Deliver no more; what is left is for the other processes."""
        if self._stopped:
            return
        self._stopped = True
        if self._sweeper is not None:
            await loops.cancel(self._sweeper)
        working = [*self._senders.values(), *([self._teller] if self._teller else [])]
        if working:
            await asyncio.wait(working, timeout=STOP_SECONDS)
        clock = asyncio.get_running_loop().time
        end = clock() + STOP_SECONDS
        if senders := [*self._senders.values()]:
            for task in senders:
                task.cancel()
            await asyncio.wait(senders, timeout=STOP_SECONDS)
        # Both are told to end in any case.  The database, or a receiver of a signal, may hang:
        # nobody waits for that, and the threads are daemons.
        closing = asyncio.gather(
            self._thread.close(), self._telling_thread.close(), return_exceptions=True
        )
        await asyncio.wait([closing], timeout=max(0.0, end - clock()))
        closing.cancel()

    async def _sweep(self) -> None:
        while True:
            pause = SWEEP_SECONDS
            try:
                found = await self._thread.run(self._look)
                pause = SWEEP_SECONDS if found.wanted else IDLE_SECONDS
                self._send_to(found.queues)
                if found.news and self._teller is None:
                    self._teller = loops.spawn(self._tell(), "signal sender")
                self._failing = False
            except (DatabaseError, InterfaceError, OSError) as error:  # OSError: no descriptors
                if not self._failing:
                    logger.warning("webhooks cannot be read, trying again: %s", error)
                self._failing = True
            await asyncio.sleep(pause)

    def _look(self) -> _Found:
        """Collect what is due, and see what there is to do; in the database's thread."""
        heard = any(signal.has_listeners() for signal in signals.BY_KIND.values())
        wanted = applications.has_webhooks() or heard
        collected = self._tend(deliveries.collect)
        if time.monotonic() > self._purge_at:
            done = self._tend(deliveries.give_up) + self._tend(deliveries.purge)
            if done < deliveries.FACTS:
                self._purge_at = time.monotonic() + PURGE_SECONDS
        return _Found(wanted or collected > 0, deliveries.ready(), telling.has_news())

    def _tend(self, work: Callable[[], int]) -> int:
        """What *work* returns; 0 if it fails, for what waits is sent all the same.

        Where the whole database is away, the next query says so.
        """
        name = work.__name__
        try:
            done = work()
            self._troubles.discard(name)
            return done
        except Exception as error:  # its text may hold what was in a row
            if name not in self._troubles:
                logger.error("webhooks: %s failed: %s", name, type(error).__name__)
            self._troubles.add(name)
            return 0

    def _send_to(self, queues: Sequence[uuid.UUID]) -> None:
        if queues and not self._can_send:
            logger.error("webhooks wait: install httpx2, or the extra 'webhooks' of this package")
            return
        for queue in queues:
            if len(self._senders) < AT_ONCE and queue not in self._senders:
                self._senders[queue] = loops.spawn(self._send(queue), "webhook sender")

    async def _send(self, queue: uuid.UUID) -> None:
        """Send what waits in one queue, one request after the other."""
        from realtime.webhooks import sending  # needs an extra

        token = uuid.uuid4()
        try:
            if not await self._thread.run(partial(claims.take, queue, token)):
                return
            try:
                async with sending.sender() as sender:
                    while (attempt := await self._next(queue, token)) is not None:
                        answer = Answer(error="there is no such app any more")
                        if attempt.token is not None:
                            answer = await sender.post(attempt.url, attempt.body, attempt.token)
                        await self._thread.run(partial(deliveries.settle, attempt.pk, answer))
                        if answer.unreachable:
                            break  # the queue is paused, and others need the slot
            finally:
                await self._thread.run(partial(claims.release, queue, token))
        except (DatabaseError, InterfaceError) as error:
            logger.warning("webhooks wait for the database: %s", error)
        finally:
            del self._senders[queue]

    async def _next(self, queue: uuid.UUID, token: uuid.UUID) -> deliveries.Attempt | None:
        if self._stopped:
            return None
        return await self._thread.run(partial(deliveries.next_attempt, queue, token))

    async def _tell(self) -> None:
        """Send signals until there are no more facts, one process at a time."""
        token, queue = uuid.uuid4(), WebhookQueue.SIGNALS
        thread = self._telling_thread
        try:
            if not await thread.run(partial(claims.take, queue, token)):
                return
            try:
                told = 1
                while told and not self._stopped:
                    told = await thread.run(partial(telling.tell_some, token))
            finally:
                await thread.run(partial(claims.release, queue, token))
        except (DatabaseError, InterfaceError, RuntimeError) as error:  # RuntimeError: closed
            logger.warning("signals wait for the database: %s", error)
        finally:
            self._teller = None


_couriers: loops.PerLoop[Courier] = loops.PerLoop(Courier)
current = _couriers.current
peek = _couriers.peek
