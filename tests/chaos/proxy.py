"""A TCP proxy that does to a connection what networks do, and a balancer in front of servers.

It runs in a thread with a loop of its own, so a busy driver does not slow it down.
"""

import asyncio
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

CHUNK = 65_536

Address = str | tuple[str, int]
"""A path of a unix socket, or host and port."""


@dataclass
class Faults:
    """What happens to bytes; each may be changed while connections are open."""

    latency: float = 0.0
    """Seconds each chunk is held up."""
    jitter: float = 0.0
    """Seconds added at random on top."""
    rate: float = 0.0
    """Bytes a second in each direction; 0 for as many as there are."""
    swallow_up: bool = False
    """Drop what clients send, and keep the connection: half of a half-open link."""
    swallow_down: bool = False
    """Drop what servers send."""
    refuse: bool = False
    """End new connections at once, with a reset."""
    slice_bytes: int = 0
    """Pass on pieces of this size; 0 for chunks as they come."""
    cut_after: int = 0
    """Reset a connection once so many bytes went down; 0 for never."""


@dataclass(eq=False)
class _Link:
    """One client's connection and the server's behind it."""

    up: asyncio.StreamWriter
    down: asyncio.StreamWriter
    tasks: list["asyncio.Task[None]"] = field(default_factory=list)
    passed_down: int = 0
    half_closed: bool = False
    """Whether the client was told that nothing more comes."""


class Proxy:
    """Listens on a port of the system's choice and passes on to one of some servers.

    Args:
        upstreams: tried in turn for each connection; the first that accepts gets it.
        seed: for the jitter.
    """

    def __init__(self, upstreams: Sequence[Address], *, seed: int = 0) -> None:
        self.upstreams = list(upstreams)
        self.faults = Faults()
        self.accepted: list[float] = []
        """When each connection came."""
        self.swallowed = 0
        """Bytes that were dropped without a word."""
        self._random = random.Random(seed)
        self._links: set[_Link] = set()
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port: int = self._listener.getsockname()[1]
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=[started], daemon=True)
        self._thread.start()
        started.wait()

    # ---- for scenarios, from any thread ---------------------------------------------

    def black_hole(self, *, up: bool = True, down: bool = True) -> None:
        """Let nothing through in one or both directions, without a word."""
        self.faults.swallow_up, self.faults.swallow_down = up, down

    def heal(self) -> None:
        """Take every fault away.  Connections whose bytes were swallowed stay broken."""
        self.faults = Faults()

    def reset_all(self) -> int:
        """Reset every connection on both sides, as a machine that lost its memory does."""
        return int(self._call(self._reset_all))

    def half_close_all(self) -> None:
        """Send an end of file to every client and go on reading from them."""
        self._call(self._half_close_all)

    @property
    def connections(self) -> int:
        return len(self._links)

    def close(self) -> None:
        """End all connections and the thread."""
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ---- inside the thread ----------------------------------------------------------

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, sock=self._listener, backlog=4096)
        )
        started.set()
        self._loop.run_forever()

    def _call(self, work: Callable[[], Any]) -> Any:
        async def run() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    async def _stop(self) -> None:
        self._server.close()
        self._reset_all()
        for link in self._links:
            for task in link.tasks:
                task.cancel()
        serving = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(time.monotonic())
        if self.faults.refuse:
            _reset(writer)
            return
        server = await self._reach()
        if server is None:
            _reset(writer)
            return
        link = _Link(up=server[1], down=writer)
        self._links.add(link)
        link.tasks = [
            self._loop.create_task(self._pass(link, reader, link.up, up=True)),
            self._loop.create_task(self._pass(link, server[0], link.down, up=False)),
        ]
        await asyncio.wait(link.tasks)
        self._links.discard(link)
        link.up.close()
        link.down.close()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        candidates = list(self.upstreams)
        self._turn += 1
        for offset in range(len(candidates)):
            address = candidates[(self._turn + offset) % len(candidates)]
            with suppress(OSError):
                if isinstance(address, str):
                    return await asyncio.open_unix_connection(address)
                return await asyncio.open_connection(*address)
        return None

    async def _pass(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                faults = self.faults
                if faults.swallow_up if up else faults.swallow_down or link.half_closed:
                    self.swallowed += len(data)
                    continue
                await self._hold_up(len(data))
                await self._write(writer, data)
                if not up:
                    link.passed_down += len(data)
                    if faults.cut_after and link.passed_down >= faults.cut_after:
                        _reset(link.up)
                        _reset(link.down)
                        return
            if writer.can_write_eof() and not (
                self.faults.swallow_up if up else self.faults.swallow_down
            ):
                writer.write_eof()

    async def _hold_up(self, size: int) -> None:
        faults = self.faults
        pause = faults.latency + (self._random.random() * faults.jitter if faults.jitter else 0.0)
        if faults.rate:
            pause += size / faults.rate
        if pause:
            # The fault itself: a slow network.
            await asyncio.sleep(pause)

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        size = self.faults.slice_bytes or len(data)
        for start in range(0, len(data), size):
            writer.write(data[start : start + size])
            await writer.drain()

    def _reset_all(self) -> int:
        links = list(self._links)
        for link in links:
            _reset(link.down)
            _reset(link.up)
        return len(links)

    def _half_close_all(self) -> None:
        for link in self._links:
            link.half_closed = True
            with suppress(OSError):
                link.down.write_eof()


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run a call of a proxy without stopping the loop of the driver."""
    return await asyncio.to_thread(work)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
