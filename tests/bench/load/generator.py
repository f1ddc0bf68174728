"""What one load process can do; each method is a command of ``driver.Load``."""

import asyncio
import itertools
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from tests.bench.load.client import Client
from tests.bench.load.subscriber import Subscriber
from tests.bench.load.tally import Tally
from tests.bench.load.target import Target, stamped
from tests.chaos.websocket import frame

ADDRESSES: Final = 8
"""Of this machine that connections come from: one has ports for 28,000 of them only."""
AT_ONCE: Final = 32
"""Connections that are being opened at a time."""
PATIENCE: Final = 120.0
QUIET_SECONDS: Final = 1.0
"""After so long without an announcement, all have been made."""
WINDOW: Final = 32
"""Events that may be under way.  A publisher waits beyond, so that no server has to drop any."""
WINDOW_DELIVERIES: Final = 16_000
"""The same in deliveries, for channels of more than 500 subscribers; two events at least."""
PACED_CLIENTS: Final = 32
"""HTTP connections that publish at a rate; an event that finds none free is sent late."""


class Meter:
    """The time that passed, and how much of it this process worked."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self, until: float | None = None) -> dict[str, float]:
        """``seconds`` up to *until*, or now, and the share ``busy``, one for a whole core."""
        now = time.perf_counter()
        busy = (time.process_time() - self._cpu) / (now - self._wall)
        return {"seconds": (until or now) - self._wall, "busy": busy}


class Generator:
    """Subscribers and publishers against one server."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tally = Tally()
        self._subscribers: list[Subscriber] = []
        self._clients: list[Client] = []

    # ---- subscribers ----------------------------------------------------------------

    async def connect(
        self, count: int, groups: Sequence[tuple[str, int]] = (), sampled: int = 0
    ) -> dict[str, float]:
        """Open *count* more connections.

        Args:
            groups: channels, each with the number of connections that subscribe to it: those
                that were opened first.
            sampled: how many of them look when events were published.
        """
        first = len(self._subscribers)
        numbers = iter(range(first, first + count))
        every = max(1, count // sampled) if sampled else count + 1
        meter = Meter()

        async def open_some() -> None:
            for number in numbers:
                is_sampled = (number - first) % every == every // 2 and sampled > 0
                await self._open(number, groups, is_sampled)

        async with asyncio.timeout(PATIENCE):
            await _all([open_some() for _ in range(AT_ONCE)])
        return meter.read()

    async def _open(self, number: int, groups: Sequence[tuple[str, int]], sampled: bool) -> None:
        target = self._target
        channels = [channel for channel, upto in groups if number < upto]
        path = target.socket_path(channels[0] if channels else "none")
        made = Subscriber(self._tally, path, greets=target.pusher, sampled=sampled)
        await asyncio.get_running_loop().create_connection(
            lambda: made,
            "127.0.0.1",
            target.ports[number % len(target.ports)],
            local_addr=(f"127.0.0.{2 + number % ADDRESSES}", 0),
        )
        await made.ready
        if target.pusher and channels:
            await made.ask([target.subscription(channel) for channel in channels])
        self._subscribers.append(made)

    async def subscribe_own(self, each: int) -> dict[str, float]:
        """Subscribe every connection to *each* channels that nobody else has."""
        meter = Meter()
        async with asyncio.timeout(PATIENCE):
            for start in range(0, len(self._subscribers), AT_ONCE):
                some = enumerate(self._subscribers[start : start + AT_ONCE], start)
                await asyncio.gather(
                    *(
                        item.ask(
                            [self._target.subscription(f"own-{n}-{more}") for more in range(each)]
                        )
                        for n, item in some
                    )
                )
        return meter.read()

    async def join(self, channel: str) -> dict[str, float]:
        """Let all connections join a presence channel at once, each as a user of its own.

        Returns:
            ``seconds`` until the last was confirmed, and ``announced``, how many members
            were announced to others until it was quiet.
        """
        before = self._tally.frames
        messages = [
            self._target.subscription(channel, item.socket_id, f"u{number}")
            for number, item in enumerate(self._subscribers)
        ]
        meter = Meter()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(
                *(item.ask([m]) for item, m in zip(self._subscribers, messages, strict=True))
            )
        joined = meter.read()
        size = len(messages)
        # Everybody hears of whoever came later, or finds them in the list of its confirmation.
        await self._tally.until(before + size * (size - 1) // 2, stall=QUIET_SECONDS)
        return {**joined, "announced": self._tally.frames - before}

    async def keep(self) -> dict[str, float]:
        """Show that every client is alive, as Pusher clients do after silence."""
        self._expect_open()
        if self._target.pusher:
            wanted = self._tally.frames + len(self._subscribers)
            for item in self._subscribers:
                item.write(frame(1, b'{"event":"pusher:ping","data":{}}'))
            if not await self._tally.until(wanted):
                raise RuntimeError(f"{wanted - self._tally.frames} pings were not answered")
        return self._expect_open()

    def _expect_open(self) -> dict[str, float]:
        if gone := sum(not item.is_open for item in self._subscribers):
            raise RuntimeError(f"the server closed {gone} connections")
        return {"open": len(self._subscribers)}

    async def drop(self) -> dict[str, float]:
        """End all connections."""
        for item in (*self._subscribers, *self._clients):
            item.end()
        dropped = len(self._subscribers)
        self._subscribers, self._clients = [], []
        return {"dropped": dropped}

    # ---- publishers -----------------------------------------------------------------

    async def publish(
        self,
        channel: str,
        receivers: int,
        seconds: float,
        publishers: int = 1,
        rate: float = 0,
        size: int = 100,
        window: int = 0,
    ) -> dict[str, float]:
        """Publish for a while, and wait until everything has arrived.

        Args:
            receivers: how many connections get each event.
            publishers: how many do so beside each other, each one event after the other.
            rate: events per second; then nobody waits for an answer before the next is sent.
            window: how many may be under way; else fewer where many connections get each.

        Returns:
            ``seconds`` until the last receipt; ``events`` and ``deliveries``; ``lost``, those
            that never came; ``p50``, ``p95`` and ``p99`` in milliseconds, of sampled subscribers.
        """
        tally = self._tally
        tally.samples.clear()
        start, sent = tally.frames, 0
        ports = itertools.cycle(self._target.ports)
        wanted = PACED_CLIENTS if rate else publishers
        while len(self._clients) < wanted:
            self._clients.append(Client(next(ports)))
        window = window or max(2, min(WINDOW, WINDOW_DELIVERIES // max(1, receivers)))
        opened = self._opened()
        meter = Meter()
        end = time.perf_counter() + seconds

        async def post(client: Client) -> None:
            nonlocal sent
            sent += 1
            await client.post(*self._target.publication(channel, stamped(size)))

        async def in_sequence(client: Client) -> None:
            while time.perf_counter() < end:
                await post(client)
                await tally.until(start + (sent - window) * receivers)

        if rate:
            await self._paced(rate, end, post)
        else:
            await _all([in_sequence(client) for client in self._clients[:publishers]])
        everything = await tally.until(start + sent * receivers)
        used = meter.read(tally.reached_at if everything and receivers else None)
        self._expect_open()
        got = tally.frames - start
        return {
            **used,
            "events": sent,
            "deliveries": got,
            "lost": sent * receivers - got,
            "requests_per_connection": sent / max(1, self._opened() - opened),
            **percentiles(tally.samples),
        }

    def _opened(self) -> int:
        return sum(client.connections for client in self._clients)

    async def _paced(
        self, rate: float, end: float, post: Callable[[Client], Coroutine[Any, Any, None]]
    ) -> None:
        free = asyncio.Queue[Client]()
        for client in self._clients:
            free.put_nowait(client)

        async def one(client: Client) -> None:
            await post(client)
            free.put_nowait(client)

        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            while due < end:
                # Pacing: the rate is what is asked for.
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(one(await free.get()))
                due += 1 / rate


def percentiles(nanoseconds: Sequence[int]) -> dict[str, float]:
    """The 50th, 95th and 99th percentile in milliseconds; nothing where nobody looked."""
    if not nanoseconds:
        return {}
    ordered = sorted(nanoseconds)
    last = len(ordered) - 1
    return {f"p{part}": ordered[round(last * part / 100)] / 1e6 for part in (50, 95, 99)}


async def _all(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Do all of *work* side by side; the first failure ends it."""
    async with asyncio.TaskGroup() as group:
        for item in work:
            group.create_task(item)
