"""What Django leaves open about databases: a thread for event loops, and row locks."""

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError, connection, connections
from django.db.models import Model, Q, QuerySet
from django.db.models.functions import Now

T = TypeVar("T")
Row = TypeVar("Row", bound=Model)

Piece = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]
"""Work, and where its result is waited for."""


class DatabaseThread:
    """Runs synchronous work one piece at a time, in order; what is slow here delays nobody else.

    One thread, so one connection, kept until ``close`` and outside of Django's pools: what
    keeps presence alive must not wait for requests to give theirs back.  The thread is a
    daemon: a query that hangs must not keep a process from ending, as the threads of an
    executor would.

    Args:
        name: of the thread, for people who look at a process.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._pieces: queue.SimpleQueue[Piece | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """What *work* returns; the loop goes on meanwhile.

        Raises:
            RuntimeError: the thread was closed.
        """
        if self._closed:
            raise RuntimeError(f"{self._name} is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        return await self._put(work)

    async def close(self) -> None:
        """Close the connection and end the thread, once what was asked for before is done.

        It ends so even if the caller does not wait for it.
        """
        already, self._closed = self._closed, True
        if self._thread is not None and not already:
            closing = self._put(connections.close_all)
            self._pieces.put(None)
            await closing

    def _put(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._pieces.put((work, loop, answer))
        return answer

    def _work(self) -> None:
        apart = False
        while (piece := self._pieces.get()) is not None:
            work, loop, answer = piece
            result, error = None, None
            try:
                if not apart:
                    _leave_pools()
                    apart = True
                result = _with_healthy_connection(work)
            except Exception as raised:
                error = raised
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(_resolve, answer, result, error)


def _leave_pools() -> None:
    """Let this thread connect by itself, whatever the site has its requests do."""
    for alias, settings in connections.settings.items():
        options = {**settings.get("OPTIONS", {})}
        if options.pop("pool", None):
            wrapper = connections[alias]
            wrapper.settings_dict = {**wrapper.settings_dict, "OPTIONS": options}


def _resolve(answer: "asyncio.Future[Any]", result: object, error: Exception | None) -> None:
    if answer.done():
        return  # nobody waits any more
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


def _with_healthy_connection(work: Callable[[], T]) -> T:
    """Run *work*; a connection that failed is closed, so the next piece gets a new one."""
    try:
        return work()
    except (DatabaseError, InterfaceError):
        connections.close_all()
        raise


def holds(field: str, most: timedelta) -> Q:
    """Whether the time in *field* is ahead, and no further than it is ever set.

    One from further ahead was written before the clock of the database was put back.
    """
    # The first condition keeps NOT from meaning NULL.
    return Q((f"{field}__isnull", False), (f"{field}__gt", Now()), (f"{field}__lte", Now() + most))


def lock(rows: QuerySet[Row], *, skip_locked: bool = False) -> QuerySet[Row]:
    """Lock *rows* where the database can; SQLite has one writer at a time anyway."""
    if not connection.features.has_select_for_update:
        return rows
    return rows.select_for_update(skip_locked=skip_locked, of=("self",))
