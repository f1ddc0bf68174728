"""A load balancer that knows nothing: every TCP connection goes to the next server."""

import asyncio
import itertools
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.e2e.sites import Server

PIECE_BYTES = 65_536
START_SECONDS = 30


@dataclass(frozen=True)
class Balancer:
    """Looks like a server to its clients."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


async def _turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@contextmanager
def balancing(servers: Sequence[Server]) -> Iterator[Balancer]:
    """A balancer in front of *servers*, in a thread with a loop of its own."""
    turns = itertools.cycle(servers)
    started: Future[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(OSError, asyncio.CancelledError):  # asyncio would log a task that ends so
            there = await asyncio.open_connection("127.0.0.1", next(turns).port)
            writers.append(there[1])
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
        writer.close()

    async def run() -> None:
        listener = await asyncio.start_server(serve, "127.0.0.1", 0)
        stop, port = asyncio.Event(), listener.sockets[0].getsockname()[1]
        started.set_result((port, asyncio.get_running_loop(), stop))
        await stop.wait()
        listener.close()
        # asyncio leaves open what it has just accepted, and what still has something to send.
        await _turns()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await _turns()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    port, loop, stop = started.result(START_SECONDS)
    try:
        yield Balancer(port)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
