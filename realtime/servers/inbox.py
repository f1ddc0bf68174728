"""What waits between a connection and its application, in little memory.

An idle connection has nothing that waits.  A queue and an event of asyncio keep five deques for
that all the same, of 760 bytes each.
"""

import asyncio
from typing import Any


class Inbox:
    """What uvicorn needs of ``asyncio.Queue``; never full."""

    __slots__ = ("_messages", "_readers")

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._readers: list[asyncio.Future[None]] = []

    def put_nowait(self, message: Any) -> None:  # Any: ASGI
        """Add *message* behind the others."""
        self._messages.append(message)
        self._wake()

    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._messages

    async def get(self) -> Any:
        """Take the oldest message, once there is one."""
        while not self._messages:
            reader = asyncio.get_running_loop().create_future()
            self._readers.append(reader)
            try:
                await reader
            except asyncio.CancelledError:
                if not reader.cancelled() and self._messages:  # woken, and then cancelled
                    self._wake()
                raise
            finally:
                if reader in self._readers:
                    self._readers.remove(reader)
        return self._messages.pop(0)

    def _wake(self) -> None:
        while self._readers:
            reader = self._readers.pop(0)
            if not reader.done():
                reader.set_result(None)
                return


class Gate(asyncio.Event):
    """An event that is set at first, with a list of those who wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self._waiters: Any = []
        self.set()
