"""Rows B about peers that are slow, silent or too many."""

import asyncio
import time

from tests.chaos import procfs
from tests.chaos.checkers import lost
from tests.chaos.client import Drain, Gone, Pusher, path_of
from tests.chaos.cluster import Node
from tests.chaos.procfs import MIB
from tests.chaos.publisher import Load, Publisher
from tests.chaos.rows import DriverLag, Run, percentile, row
from tests.chaos.scenarios.bus import subscribers
from tests.chaos.websocket import Raw, dial, upgrade

BATCH = 10
"""Events of one call."""


@row(
    "B1",
    inject="1, then 100 of 1,000 clients stop reading a flood of 500 × 1 KiB a second, which 10"
    " others go on to read; the rest subscribe to calm channels",
    hold="the first dropped ≤ 10 s after it stopped, all dropped and gone ≤ 5 s after that, each"
    " descriptor ≤ 10 s after the flood; memory ≤ 2 MiB per slow socket (≤ 8 MiB for a single one,"
    " which cannot be told from the rest), and ≤ 10 s after back to within 8 MiB, or 0.1 MiB per"
    " slow socket; p99 of the others ≤ 1.2 × undisturbed, or 10 ms more; nothing lost by others",
    limit=300,
)
async def slow_readers_are_dropped(run: Run) -> None:
    cluster = await run.cluster(1)
    node = cluster[0]
    channels = [f"calm-{number}" for number in range(90)]
    calm = await subscribers(run, cluster, run.n(890, least=45), channels)
    fast = [await Reader.open(node.port) for _ in range(10)]
    for client in fast:
        await client.subscribe("flood")
    _, accepted = await _flood(run, node, channels, [], 4, "rehearsal")
    quiet, more = await _flood(run, node, channels, [], run.n(20, least=8), "undisturbed")
    accepted += more
    for count in (1, run.n(100, least=5)):
        descriptors = node.look().fds
        slow = [
            await Pusher.open(node.port, dialling={"receive_buffer": 4_096}) for _ in range(count)
        ]
        for client in slow:
            await client.subscribe("flood")
            client.transport.pause_reading()
        label = f"{count} slow"
        p99, more = await _flood(run, node, channels, slow, run.n(60, least=15), label)
        accepted += more
        run.check(f"{label}: p99 of others", p99, at_most=max(1.2 * quiet, quiet + 10), unit="ms")

        def as_before(descriptors: int = descriptors) -> bool:
            return node.look().fds <= descriptors

        free = await run.until(as_before, 15, "descriptors", must=False)
        run.check(f"{label}: descriptors free after", free, at_most=10.0, unit="s")
        for client in slow:
            client.abort()
    run.check("others lost", sum(not client.is_open for client in calm + fast), equals=0)
    run.check_none("events lost by others", lost(run.history.records))
    await asyncio.gather(*(client.round_trip() for client in fast))
    unlike = [client.events for client in fast if client.events != accepted]
    run.check("events of the flood", accepted, at_least=1)
    run.check("readers of the flood that got another number", unlike, equals=[])


class Reader(Drain):
    """Counts events, which it does not look into."""

    events = 0

    def message(self, payload: bytes) -> None:
        self.events += payload.startswith(b'{"event":"event"')
        super().message(payload)


async def _flood(
    run: Run, node: Node, channels: list[str], slow: list[Pusher], seconds: float, label: str
) -> tuple[float, int]:
    """Flood for some seconds; the p99 of the calm channels in milliseconds, and the events."""
    offset, before = node.log_size(), node.look()
    procfs.reset_peak(node.pid)
    started = time.monotonic()
    flood = Load([node.port], ["flood"], None, f"flood-{label}-", size=1_024)
    calm = Load([node.port], channels, run.history, f"calm-{label}-")
    dropping = asyncio.create_task(_dropped(run, node, slow, offset, seconds))
    lag = DriverLag()
    await asyncio.gather(flood.run_for(500, seconds, batch=BATCH), calm.run_for(20, seconds))
    late = lag.stop()
    noticed, worst = await dropping
    if slow:
        # Two seconds of the flood are more than the limit; the kernel holds some before.
        run.check(f"{label}: first dropped after", noticed, at_most=10.0, unit="s")
        run.check(f"{label}: dropped and free after", worst, at_most=5.0, unit="s")
        growth = (procfs.peak(node.pid) - before.rss) / MIB / len(slow)
        # A single socket cannot be told from the rest of the process below a few MiB.
        bound = max(2.0, 8 / len(slow))
        run.check(f"{label}: memory per slow socket", growth, at_most=bound, unit="MiB")

        def back() -> bool:
            return node.look().rss <= before.rss + max(8.0, 0.1 * len(slow)) * MIB

        again = await run.until(back, 10, "memory back", must=False)
        left = (node.look().rss - before.rss) / MIB
        run.note(f"{label}: {left:.1f} MiB more than before")
        run.check(f"{label}: memory back after", again, at_most=10.0, unit="s")
    latencies = [
        item["at"] - item["sent"]
        for item in run.history.of("received", since=started)
        if item["publisher"].startswith(f"calm-{label}-")
    ]
    flood.close()
    calm.close()
    p99 = percentile(latencies, 0.99) * 1000
    run.note(f"{label}: p99 {p99:.1f} ms, of which the driver {late:.1f} ms")
    return p99, BATCH * sum(status == 200 for _, status, _ in flood.answers)


async def _dropped(
    run: Run, node: Node, slow: list[Pusher], offset: int, seconds: float
) -> tuple[float, float]:
    """The time until the first line about a dropped peer, and from there to the end of all.

    They get the same flood, so they are too slow at the same moment; the log says it once a second.
    """
    if not slow:
        return 0.0, 0.0
    ports = {client.transport.get_extra_info("sockname")[1] for client in slow}

    def told() -> bool:
        return bool(node.lines("dropped slow socket", offset))

    noticed = await run.until(told, seconds + 10, "drops", must=False)
    if noticed > seconds:
        run.note("nobody was dropped")
        return float("inf"), float("inf")

    def gone() -> bool:
        return procfs.established(node.port, ports) == 0

    free = await run.until(gone, 10, "closed", must=False)
    if free == float("inf"):
        run.note(f"{procfs.established(node.port, ports)} of {len(slow)} are still open")
    return noticed, free


@row(
    "B7",
    inject="500 connections that send nothing, and 500 that send one byte of a request per second",
    hold="all closed ≤ 10 s; legitimate connects p99 ≤ 250 ms meanwhile",
    limit=90,
)
async def silent_connections_are_closed(run: Run) -> None:
    cluster = await run.cluster(1)
    port = cluster[0].port
    count = run.n(500, least=20)
    started = time.monotonic()
    silent = [await Raw.open(port) for _ in range(count)]
    dripping = [await Raw.open(port) for _ in range(count)]
    head = upgrade(path_of())
    drip = asyncio.create_task(_drip(dripping, head))
    connects = []
    while time.monotonic() - started < 12:
        at = time.monotonic()
        client = await Pusher.open(port)
        connects.append(time.monotonic() - at)
        client.abort()
        # Pacing: ten legitimate clients a second.
        await asyncio.sleep(0.1)
    drip.cancel()
    for label, listed in (("silent", silent), ("dripping", dripping)):
        still = sum(not raw.closed.done() for raw in listed)
        run.check(f"{label} connections still open after 12 s", still, equals=0)
        ends = [raw.closed.result() - raw.opened_at for raw in listed if raw.closed.done()]
        if ends:
            run.check(f"{label}: last closed after", max(ends), at_most=10.0, unit="s")
    run.check("legitimate connects, p99", percentile(connects, 0.99) * 1000, at_most=250, unit="ms")
    for raw in silent + dripping:
        raw.transport.abort()


async def _drip(listed: list[Raw], head: bytes) -> None:
    for position in range(len(head) - 1):
        for raw in listed:
            raw.write(head[position : position + 1])
        # The attack: a byte a second.
        await asyncio.sleep(1)


@row(
    "B8",
    inject="200 connects a second with a wrong key, for 60 s",
    hold="each closed with 4001; memory ± 4 MiB; ≤ 1 log line a second",
    limit=120,
)
async def wrong_keys_cost_nothing(run: Run) -> None:
    cluster = await run.cluster(1)
    node = cluster[0]
    await _wrong_keys(node, 200, 3)  # warm
    seconds = run.n(60, least=5)
    offset, before = node.log_size(), node.look()
    codes = await _wrong_keys(node, 200, seconds)
    after = node.look()
    lines = node.log_since(offset).count("\n")
    run.check("connects a second", len(codes) / seconds, at_least=180)
    run.check("not closed with 4001", sum(code != 4001 for code in codes), equals=0)
    run.check("memory", abs(after.rss - before.rss) / MIB, at_most=4.0, unit="MiB")
    run.check("log lines a second", lines / seconds, at_most=1.0)


async def _wrong_keys(node: Node, rate: float, seconds: float) -> list[int | None]:
    codes: list[int | None] = []
    running: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        try:
            client = await dial(
                Pusher, node.port, path_of(f"wrong-{number}"), source=f"127.0.0.{2 + number % 8}"
            )
            await asyncio.wait([client.closed], timeout=10)
            codes.append(client.close_code)
        except (OSError, TimeoutError):
            codes.append(None)

    due = time.monotonic()
    for number in range(int(rate * seconds)):
        task = asyncio.create_task(one(number))
        running.add(task)
        task.add_done_callback(running.discard)
        due += 1 / rate
        # Pacing: the rate of the attack.
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    if running:
        await asyncio.wait(running)
    return codes


@row(
    "B12",
    inject="5,000 sockets, 100 of them members, that never answer pusher:ping",
    hold="all gone ≤ ping + pong + 5 s, with 4201; members removed; one who answers stays",
    limit=120,
)
async def dead_peers_are_noticed(run: Run) -> None:
    ping, pong = 10, 5
    cluster = await run.cluster(1, settings={"PING_SECONDS": ping, "PONG_SECONDS": pong})
    node = cluster[0]
    alive = await Pusher.open(node.port, client="js", history=run.history, name="alive")
    await alive.subscribe("presence-room", "alive")
    gate = asyncio.Semaphore(100)
    total, shown = run.n(5_000, least=100), run.n(100, least=5)

    async def dead(number: int) -> Pusher:
        async with gate:
            client = await Pusher.open(node.port, client="js", answers_pings=False)
            if number < shown:
                await client.subscribe("presence-room", f"u{number}")
            client.answers_control_pings = False
            return client

    clients = await asyncio.gather(*(dead(number) for number in range(total)))
    started = time.monotonic()
    await run.until(
        lambda: all(client.closed.done() for client in clients), ping + pong + 15, "end", must=False
    )
    still = [client for client in clients if not client.closed.done()]
    run.check("still there", len(still), equals=0)
    run.check("gone after", time.monotonic() - started, at_most=ping + pong + 5, unit="s")
    codes = [client.close_code for client in clients]
    run.check("closed with another code than 4201", sum(code != 4201 for code in codes), equals=0)
    publisher = Publisher(node.port)

    async def alone() -> bool:
        return await publisher.members("presence-room") == ["alive"]

    removed = await run.until_async(alone, 10, "members removed", must=False)
    run.check("members removed after", removed, at_most=5.0, unit="s")
    run.check("the one who answers stays", alive.is_open, equals=True)


@row(
    "B13",
    inject="400 connections to a process that may open 256 files",
    hold="no busy loop (≤ half a core); ≤ 1 log line a second; service resumes ≤ 5 s after they"
    " left",
    limit=90,
)
async def descriptors_run_out(run: Run) -> None:
    cluster = await run.cluster(1, prefix=("prlimit", "--nofile=256:256"))
    node = cluster[0]
    await (await Pusher.open(node.port)).leave()
    held = [await Raw.open(node.port) for _ in range(400)]
    for raw in held:
        raw.write(upgrade(path_of()))
    offset, before = node.log_size(), node.look()
    seconds = 8
    await run.lasting(seconds)
    after = node.look()
    lines = node.log_since(offset).count("\n")
    run.check("descriptors open", after.fds, at_least=250)
    run.check("CPU", (after.cpu - before.cpu) / seconds, at_most=0.5, unit="cores")
    run.check("log lines a second", lines / seconds, at_most=1.0)
    run.check("the process lives", node.alive, equals=True)
    for raw in held:
        raw.transport.abort()

    async def serves() -> bool:
        try:
            client = await Pusher.open(node.port, patience=1)
        except (OSError, Gone, TimeoutError):
            return False
        client.abort()
        return True

    again = await run.until_async(serves, 15, "service again", must=False)
    run.check("service resumes after", again, at_most=5.0, unit="s")
