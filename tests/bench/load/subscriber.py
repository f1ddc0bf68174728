"""One WebSocket connection of the load generator."""

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Final

from tests.bench.load.frames import CLOSE, PING, FrameCounter, split
from tests.bench.load.tally import Tally
from tests.chaos.websocket import PONG, frame, upgrade

GREETING: Final = b"pusher:connection_established"
CONFIRMED: Final = b"pusher_internal:subscription_succeeded"
REFUSED: Final = (b"pusher:error", b"pusher:subscription_error")
SOCKET_ID: Final = re.compile(rb"(\d+\.\d+)")
STAMP: Final = re.compile(rb"t=(\d{19})")
"""When the event was published: nanoseconds on the monotonic clock of the machine."""


class Subscriber(asyncio.Protocol):
    """Speaks until everything it asked for is confirmed; after that it only counts.

    Args:
        path: of the WebSocket.
        greets: whether the server says who we are before it takes subscriptions.
        sampled: whether to look when its events were published.
    """

    def __init__(self, tally: Tally, path: str, *, greets: bool, sampled: bool = False) -> None:
        self.socket_id = ""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when all that was asked for is confirmed."""
        self._tally = tally
        self._path = path
        self._sampled = sampled
        self._counter = FrameCounter()
        self._talk = b""
        """What came of the conversation and is not understood yet."""
        self._upgraded = False
        self._waits_for = int(greets)
        """Answers that are due; with none due, frames are counted only."""
        self._transport: asyncio.Transport | None = None

    # ---- asyncio --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the WebSocket."""
        self._transport = transport  # type: ignore[assignment]
        self.write(upgrade(self._path))

    def data_received(self, data: bytes) -> None:
        """Count; until all is confirmed, read."""
        if self._waits_for or not self._upgraded:
            self._converse(data)
            return
        tally, counter = self._tally, self._counter
        tally.frames += counter.count(data)
        if self._sampled:
            now = time.monotonic_ns()
            tally.samples += [now - int(stamp) for stamp in STAMP.findall(data)]
        if tally.frames >= tally.target:
            tally.reached()
        if counter.pings:
            self._pong(counter.pings)

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever waits is told."""
        self._transport = None
        self._fail(f"the server closed the connection: {error}")

    # ---- what the load does ---------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether the server has not closed it."""
        return self._transport is not None and not self._counter.closed

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._transport is not None:
            self._transport.write(data)

    def ask(self, messages: Sequence[str]) -> "asyncio.Future[None]":
        """Send *messages*, each of which is confirmed; the future is done when all are.

        Raises:
            RuntimeError: half a frame has been counted, so the stream cannot be read now.
        """
        if not self._counter.at_border:
            raise RuntimeError("events are still arriving")
        if self.ready.done():
            self.ready = asyncio.get_running_loop().create_future()
        self._waits_for += len(messages)
        self.write(b"".join(frame(1, message.encode()) for message in messages))
        return self.ready

    def end(self) -> None:
        """Leave without a word."""
        if self._transport is not None:
            self._transport.abort()

    # ---- the conversation -----------------------------------------------------------

    def _converse(self, data: bytes) -> None:
        self._talk += data
        if not self._upgraded:
            head, found, rest = self._talk.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._fail(f"no WebSocket: {head[:60]!r}")
                return
            self._upgraded, self._talk = True, rest
        frames, self._talk = split(self._talk)
        for number, (first, payload) in enumerate(frames):
            if not self._waits_for:  # somebody published meanwhile
                self._tally.frames += len(frames) - number
                break
            self._read(first, payload)
        if not self._waits_for:
            self._tally.frames += self._counter.count(self._talk)
            self._talk = b""
            if not self.ready.done():
                self.ready.set_result(None)

    def _read(self, first: int, payload: bytes) -> None:
        start = payload[:400]
        if first == PING:
            self._pong([payload])
        elif first == CLOSE or any(word in start for word in REFUSED):
            self._fail(f"refused: {start!r}")
        elif GREETING in start:
            found = SOCKET_ID.search(start)
            self.socket_id = found[1].decode() if found else ""
            self._waits_for -= 1
        elif CONFIRMED in start:
            self._waits_for -= 1

    def _pong(self, payloads: list[bytes]) -> None:
        for payload in payloads:
            self.write(frame(PONG, payload))
        payloads.clear()

    def _fail(self, why: str) -> None:
        if not self.ready.done():
            self.ready.set_exception(RuntimeError(why))
