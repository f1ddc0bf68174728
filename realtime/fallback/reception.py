"""A receive request: what a virtual WebSocket has for its client, in lines."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from realtime.fallback import framing

if TYPE_CHECKING:
    from realtime.fallback.virtual import VirtualWebSocket

HEARTBEAT_SECONDS: Final = 25
"""SockJS: silence after which a heartbeat is sent; proxies cut what is silent for a minute."""

RESPONSE_CHARS: Final = 262_144
"""pusher-js: a client that has read more breaks the response off and asks for another one."""

SWITCH_SECONDS: Final = 5
"""Ours: how long that may take before this client counts as one that does not."""


class Reception:
    """The newest receive request of a virtual WebSocket; made by its ``attach``.

    A response that is as long as pusher-js reads gets nothing more: what was on its way while
    the client breaks it off would be lost.
    """

    def __init__(
        self, socket: "VirtualWebSocket", *, streams: bool, abort: Callable[[], object]
    ) -> None:
        self._socket = socket
        self._streams = streams
        self._room = RESPONSE_CHARS
        self._woken = asyncio.Event()
        self._replaced = False
        self._over = False
        self.abort = abort

    async def take(self) -> str:
        """The next lines; empty once there are none any more.

        Waits for them, but not longer than a heartbeat allows.
        """
        if self._room < 0:
            await self._wait(SWITCH_SECONDS, lambda: self._socket.over)
            self._room = RESPONSE_CHARS
        lines = ""

        def find() -> bool:
            nonlocal lines
            lines = self._socket.lines(streams=self._streams)
            return bool(lines) or self._socket.over

        if not await self._wait(HEARTBEAT_SECONDS, find):
            return self._socket.beat(streams=self._streams)
        if self._replaced:
            self._replaced = False
            return framing.REPLACED
        self._room -= len(lines)
        return lines

    async def _wait(self, seconds: float, condition: Callable[[], bool]) -> bool:
        """Wait until *condition* holds, or this is over; whether that was so in time."""
        try:
            async with asyncio.timeout(seconds):
                while not (self._over or condition()):
                    self._woken.clear()
                    await self._woken.wait()
        except TimeoutError:
            return False
        return True

    def wake(self) -> None:
        """There may be something to take."""
        self._woken.set()

    def replace(self) -> None:
        """Another receive request takes over: say so, and end."""
        self._over = self._replaced = True
        self.wake()

    def end(self, *, broken_off: bool) -> None:
        """The request has ended; *broken_off* by its client, or in an orderly way."""
        self._over = True
        self.wake()
        self._socket.detach(self, broken_off=broken_off)
