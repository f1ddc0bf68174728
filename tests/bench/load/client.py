"""HTTP/1.1 as back ends speak it: one request after the other on a connection that is kept."""

import asyncio
import re
from typing import Final

PATIENCE: Final = 60.0
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
CLOSES: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)


class Client:
    """Posts to a port of this machine; opens another connection when the server ended one."""

    def __init__(self, port: int) -> None:
        self.connections = 0
        """How many it took."""
        self._port = port
        self._wire: _Wire | None = None

    async def post(self, path: str, body: bytes) -> None:
        """Send one request and wait for its answer.

        Raises:
            RuntimeError: the answer is no 200.
            ConnectionError: there is none.
        """
        idle = self._wire is not None
        try:
            status = await self._exchange(path, body)
        except ConnectionError:
            if not idle:
                raise
            status = await self._exchange(path, body)  # it was closed while it lay idle
        if status != 200:
            got = self._wire.got[:300] if self._wire else b""
            raise RuntimeError(f"{path} answers {status}: {got!r}")

    def end(self) -> None:
        """End the connection; the next request opens another."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    async def _exchange(self, path: str, body: bytes) -> int:
        async with asyncio.timeout(PATIENCE):
            if self._wire is None or not self._wire.is_open:
                loop = asyncio.get_running_loop()
                _, self._wire = await loop.create_connection(_Wire, "127.0.0.1", self._port)
                self.connections += 1
            return await self._wire.exchange(
                b"POST %b HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
            )


class _Wire(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.got = b""
        """What has come of the answer."""
        self.is_open = False
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[int] | None = None

    def exchange(self, request: bytes) -> "asyncio.Future[int]":
        """Send *request*; the status of its answer."""
        assert self._transport is not None
        self.got, self._answer = b"", asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def close(self) -> None:
        self.is_open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self._answer is not None and not self._answer.done() and is_whole(self.got):
            if CLOSES.search(self.got):
                self.close()
            self._answer.set_result(int(self.got[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"the server hung up: {error}"))


def is_whole(answer: bytes) -> bool:
    """Whether all of an HTTP answer has come."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    if CHUNKED.search(head):
        return body.endswith(b"0\r\n\r\n")
    length = LENGTH.search(head)
    return len(body) >= (int(length[1]) if length else 0)
