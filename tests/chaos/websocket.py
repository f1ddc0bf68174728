"""WebSocket connections of the driver, and what a hostile peer may do with one.

Written out here: a library would hide it, and cost ten times as much per message.
"""

import asyncio
import base64
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

PATIENCE = 15.0
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

_live: dict[asyncio.AbstractEventLoop, set[Any]] = {}
"""Transports that are open, by the loop of their row."""


async def abort_all() -> None:
    """End what the row of this loop left open, and let the loop notice."""
    for transport in _live.pop(asyncio.get_running_loop(), set()):
        transport.abort()
    for _ in range(3):
        # A turn of the loop each for the abort, the callback and the close.
        await asyncio.sleep(0)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A masked WebSocket frame.  The mask is zero, which is allowed and costs nothing."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += b"\xfe" + struct.pack("!H", size)
    else:
        head += b"\xff" + struct.pack("!Q", size)
    return head + b"\0\0\0\0" + payload


def upgrade(path: str, *lines: str) -> bytes:
    """The request that opens a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    head = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *lines,
    ]
    return ("\r\n".join(head) + "\r\n\r\n").encode()


def _opened(transport: Any) -> None:
    _live.setdefault(asyncio.get_running_loop(), set()).add(transport)


def _closed(transport: Any) -> None:
    _live.get(asyncio.get_running_loop(), set()).discard(transport)


class Socket(asyncio.Protocol):
    """One WebSocket: bytes in, messages out.  Answers control pings."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.close_code: int | None = None
        self.close_reason = ""
        self.head = b""
        self.answers_control_pings = True
        self._buffer = b""
        self._fragments = b""
        self._ended = False

    # ---- asyncio --------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        _opened(transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        if not self.head:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = buffer
                return
            self.head, buffer = buffer[:end], buffer[end + 4 :]
            if self.status != 101:
                if not self.opened.done():
                    self.opened.set_exception(ConnectionError(f"refused with {self.status}"))
                self.transport.close()
                return
            if not self.opened.done():
                self.opened.set_result(None)
        position, size = 0, len(buffer)
        while size - position >= 2:
            first, length = buffer[position], buffer[position + 1]
            start = position + 2
            if length == 126:
                if size - start < 2:
                    break
                length = int.from_bytes(buffer[start : start + 2], "big")
                start += 2
            elif length == 127:
                if size - start < 8:
                    break
                length = int.from_bytes(buffer[start : start + 8], "big")
                start += 8
            if size - start < length:
                break
            position = start + length
            self._frame(first, buffer[start:position])
        self._buffer = buffer[position:]

    def connection_lost(self, error: Exception | None) -> None:
        _closed(self.transport)
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionError("closed during the handshake"))
            self.opened.exception()  # whoever does not wait for it does not miss it
        self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            if not self.closed.done():
                self.closed.set_result(None)
            self.ended()

    def _frame(self, first: int, payload: bytes) -> None:
        opcode = first & 0x0F
        if opcode == TEXT and first & 0x80:
            self.message(payload)
        elif opcode in (TEXT, 0):
            self._fragments += payload
            if first & 0x80:
                whole, self._fragments = self._fragments, b""
                self.message(whole)
        elif opcode == PING:
            if self.answers_control_pings:
                self.write(frame(PONG, payload))
        elif opcode == CLOSE:
            if len(payload) >= 2:
                self.close_code = int.from_bytes(payload[:2], "big")
                self.close_reason = payload[2:].decode(errors="replace")
            self.write(frame(CLOSE, payload[:2]))
            self._end()
            self.transport.close()

    # ---- for users ------------------------------------------------------------------

    @property
    def status(self) -> int:
        """The HTTP status of the handshake; 0 while there is none."""
        parts = self.head.split(b" ", 2)
        return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0

    @property
    def is_open(self) -> bool:
        return self.opened.done() and not self._ended

    def message(self, payload: bytes) -> None:
        """One message came."""

    def ended(self) -> None:
        """The connection is over."""

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def abort(self) -> None:
        """End the TCP connection with a reset, as a crashed peer does."""
        if self.transport.is_closing():
            return
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


async def dial(
    make: Callable[[], Socket],
    port: int,
    path: str,
    *lines: str,
    source: str | None = None,
    receive_buffer: int | None = None,
    patience: float = PATIENCE,
) -> Any:
    """Open a WebSocket to a port of this machine.

    Args:
        source: the local address, where the ports of one are too few.
        receive_buffer: bytes the kernel may hold for a client that does not read.

    Raises:
        OSError: refused, or closed in the handshake.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(patience):
        if receive_buffer is None:
            local = (source, 0) if source else None
            _, client = await loop.create_connection(make, "127.0.0.1", port, local_addr=local)
        else:
            bare = socket.socket()
            bare.setblocking(False)
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await loop.sock_connect(bare, ("127.0.0.1", port))
            _, client = await loop.create_connection(make, sock=bare)
        client.write(upgrade(path, *lines))
        await client.opened
    return client


class Raw(asyncio.Protocol):
    """A TCP connection that sends what it is told to, and what came back."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.received = b""
        self.opened_at = 0.0
        self.closed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.opened_at = time.monotonic()
        _opened(transport)

    def data_received(self, data: bytes) -> None:
        if len(self.received) < 65_536:
            self.received += data
        self._changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        _closed(self.transport)
        if not self.closed.done():
            self.closed.set_result(time.monotonic())
        self._changed.set()

    async def until(self, condition: Callable[[], Any], seconds: float) -> None:
        """Wait until *condition*, the end of the connection, or the end of patience."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition() and not self.closed.done():
                    self._changed.clear()
                    await self._changed.wait()

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    @property
    def status(self) -> int:
        """The HTTP status that came back; 0 for none."""
        parts = self.received[:40].split(b" ", 2)
        return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0

    @property
    def close_code(self) -> int | None:
        """The code of the close frame that came back after a handshake."""
        _, _, rest = self.received.partition(b"\r\n\r\n")
        while len(rest) >= 2:
            size, start = rest[1], 2
            if size == 126:
                size, start = int.from_bytes(rest[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(rest[2:10], "big"), 10
            if rest[0] & 0x0F == CLOSE and size >= 2:
                return int.from_bytes(rest[start : start + 2], "big")
            rest = rest[start + size :]
        return None

    @classmethod
    async def open(cls, port: int, source: str | None = None) -> "Raw":
        """A connection on which nothing was sent yet."""
        loop = asyncio.get_running_loop()
        local = (source, 0) if source else None
        _, made = await loop.create_connection(cls, "127.0.0.1", port, local_addr=local)
        return made
