"""What Django leaves open about databases: a thread for event loops, and row locks."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, connection, connections
from django.db.models import Model, QuerySet

T = TypeVar("T")
Row = TypeVar("Row", bound=Model)


class DatabaseThread:
    """Runs synchronous work one piece at a time; what is slow here delays nobody else.

    Args:
        name: of the thread, for people who look at a process.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """What *work* returns; the loop goes on meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, _with_healthy_connection, work
        )

    async def close(self) -> None:
        """Close the connection and end the thread."""
        await self.run(connections.close_all)
        self._executor.shutdown(wait=False)


def _with_healthy_connection(work: Callable[[], T]) -> T:
    """Run *work*; a connection that failed is closed, so the next piece gets a new one."""
    try:
        return work()
    except (DatabaseError, InterfaceError):
        connections.close_all()
        raise


def lock(rows: QuerySet[Row], *, skip_locked: bool = False) -> QuerySet[Row]:
    """Lock *rows* where the database can; SQLite has one writer at a time anyway."""
    if not connection.features.has_select_for_update:
        return rows
    return rows.select_for_update(skip_locked=skip_locked, of=("self",))
