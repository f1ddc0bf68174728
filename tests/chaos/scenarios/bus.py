"""Rows A about the bus: deaf, emptied, and full."""

import asyncio
import itertools
import time
from collections.abc import Callable

import redis

from tests.chaos.checkers import lost
from tests.chaos.client import Gone, Pusher, Refused
from tests.chaos.cluster import Cluster, Node
from tests.chaos.crowd import Passage, everybody_present, members, observers
from tests.chaos.history import Record
from tests.chaos.publisher import Load, Publisher
from tests.chaos.rows import Run, row

ROOM = "presence-room"
PASSAGE = "presence-passage"
_probes = itertools.count(1)


async def subscribers(
    run: Run, cluster: Cluster, count: int, channels: list[str], *, recorded: bool = True
) -> list[Pusher]:
    """Clients spread over nodes and channels."""
    gate = asyncio.Semaphore(50)

    async def one(number: int) -> Pusher:
        async with gate:
            node = cluster[number % len(cluster.nodes)]
            client = await Pusher.open(node.port, history=run.history if recorded else None)
            channel = channels[number // len(cluster.nodes) % len(channels)]
            await client.subscribe(channel, patience=60)
            return client

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def heard_everywhere(
    run: Run, cluster: Cluster, clients: list[Pusher], channels: list[str], seconds: float
) -> float:
    """Publish to all channels through each node until each client got one; how long it took."""
    started = time.monotonic()
    before = {client: client.received for client in clients}
    publishers = [Publisher(port, name=f"probe-{next(_probes)}") for port in cluster.ports]

    def all_heard() -> bool:
        return all(client.received > before[client] for client in clients if client.is_open)

    while not all_heard():
        if time.monotonic() - started > seconds:
            return float("inf")
        for start in range(0, len(channels), 10):
            batch = channels[start : start + 10]
            await asyncio.gather(*(item.publish_batch(batch) for item in publishers))
        await run.until(all_heard, 0.05, "everybody heard this round", must=False)
    return time.monotonic() - started


async def last_ones_arrive(
    run: Run, since: float, *, excused: Callable[[Record], bool] | None = None
) -> None:
    """Wait until nothing that was published after *since* is on its way, but not for long."""

    def arrived() -> bool:
        late = ("publish", "received")
        recent = [r for r in run.history.records if r["kind"] not in late or r["at"] >= since]
        return not lost(recent, excused=excused)

    await run.until(arrived, 10, "the last ones", must=False)


def count_lines(node: Node, level: str, logger: str, offset: int) -> int:
    return len(node.lines(rf"^\S+ \S+ {level} realtime\.{logger}", offset))


@row(
    "A4",
    inject="half-open Redis link on one node: a black hole without a reset, for 15 s, while both"
    " nodes publish from 3 s before it to 3 s after it",
    hold="not ready ≤ 10 s; publishes through that node 503, none accepted and lost; the other node"
    " publishes on, to its own clients without a loss; heard again ≤ 5 s after healing; who left or"
    " came meanwhile is known everywhere ≤ 10 s after it; 0 sockets lost",
    limit=120,
)
async def half_open_link_is_noticed(run: Run) -> None:
    cluster = await run.cluster(2, redis_proxies=True)
    deaf, well = cluster[0], cluster[1]
    channels = [f"news-{number}" for number in range(10)]
    clients = await subscribers(run, cluster, run.n(200, least=20), channels)
    passage = Passage(run, cluster, PASSAGE, run.n(30, least=6))
    await passage.begin()
    before = await deaf.health("ready")
    through_deaf = Load([deaf.port], channels, run.history, "deaf")
    through_well = Load([well.port], channels, run.history, "well")
    over = asyncio.Event()
    publishing = [
        asyncio.create_task(load.run(10, lambda: not over.is_set()))
        for load in (through_deaf, through_well)
    ]
    await run.lasting(3)
    dark_at = run.fault("black hole between node a and Redis")
    deaf.redis.black_hole()
    flagged = await run.until_async(lambda: _status(deaf, 503), 12, "not ready", must=False)
    await passage.change()
    await run.lasting(max(0.0, dark_at + 15 - time.monotonic()))
    other = await well.health("ready")
    healed_at = run.fault("healed")
    await asyncio.to_thread(deaf.redis.heal)
    heard = await heard_everywhere(run, cluster, clients, channels, 15)
    ready = await run.until_async(lambda: _status(deaf, 200), 5, "ready", must=False)
    recovered_at = time.monotonic()
    await run.lasting(3)
    over.set()
    await asyncio.gather(*publishing)
    await last_ones_arrive(run, recovered_at)

    run.check("ready before", before, equals=200)
    run.check("not ready after", flagged, at_most=10.0, unit="s")
    run.check("the other node meanwhile", other, equals=200)
    dark = [status for at, status, _ in through_deaf.answers if dark_at <= at < healed_at]
    run.check("publishes through the deaf node", len(dark), at_least=100)
    run.check("publishes not answered 503", sum(status != 503 for status in dark), equals=0)
    bright = [s for at, s, _ in through_deaf.answers if at < dark_at - 0.1 or at > recovered_at]
    bright += [status for _, status, _ in through_well.answers]
    run.check("publishes refused before, after, or elsewhere", _refused(bright), equals=0)
    slowest = max((seconds for _, _, seconds in through_deaf.answers), default=0.0)
    run.note(f"slowest answer {slowest:.1f} s")
    _check_losses(run, clients[:: len(cluster.nodes)], dark_at, recovered_at)
    run.check("heard again after healing", heard, at_most=5.0, unit="s")
    run.check("ready again after healing", ready, at_most=5.0, unit="s")
    await passage.check("presence", healed_at)
    run.check("sockets lost", sum(not client.is_open for client in clients), equals=0)


def _refused(statuses: list[int]) -> int:
    return sum(status != 200 for status in statuses)


def _check_losses(run: Run, cut_off: list[Pusher], since: float, until: float) -> None:
    """Hold that only clients of a deaf node miss events, and only those of other nodes."""
    names = {client.name for client in cut_off}
    theirs, others = (
        [
            item
            for item in run.history.records
            if item["kind"] == "publish" or (item["client"] in names) == at_deaf
        ]
        for at_deaf in (True, False)
    )

    def from_elsewhere(item: Record) -> bool:
        under_way = item["at"] < until and item["until"] > since - 0.1
        return under_way and item["publisher"].startswith("well")

    run.check_none("accepted and lost by clients of the other node", lost(others))
    mine = lost(theirs, excused=from_elsewhere)
    run.check_none("accepted and lost by clients of the deaf node", mine)
    missed = len(lost(theirs)) - len(mine)
    run.note(f"clients of the deaf node missed {missed} deliveries from the other node meanwhile")


async def _status(node: Node, wanted: int) -> bool:
    return await node.health("ready") == wanted


@row(
    "A5",
    inject="receive task of the layer cancelled, and ended by an exception; our own ended by one"
    " (injection point bus.receive)",
    hold="heard again ≤ 2 s; one ERROR line; counted; 0 sockets lost",
    limit=90,
    short=True,
)
async def dead_receiver_is_replaced(run: Run) -> None:
    cluster = await run.cluster(2)
    channels = [f"news-{number}" for number in range(20)]
    clients = await subscribers(run, cluster, 80, channels)
    quiet = await heard_everywhere(run, cluster, clients, channels, 10)
    run.check("heard before", quiet, at_most=2.0, unit="s")
    for how in ("cancel", "error", "raise"):
        offset = cluster[0].log_size()
        counted = (await cluster[0].ask("state"))["recoveries"]
        run.fault(f"receive task ended by {how}")
        if how == "raise":
            await cluster[0].arm("bus.receive", "raise")
        elif not (await cluster[0].ask("end-receiver", how=how))["ended"]:
            run.note("there was no receive task to end")
        seconds = await heard_everywhere(run, cluster, clients, channels, 15)
        run.check(f"{how}: heard again after", seconds, at_most=2.0, unit="s")
        errors = count_lines(cluster[0], "ERROR", r"(bus|hub|layer)\b", offset)
        run.check(f"{how}: ERROR lines about the bus", errors, equals=1)
        others = count_lines(cluster[0], "ERROR", "", offset) - errors
        run.note(f"{how}: {others} ERROR lines about calls that were refused meanwhile")

        async def is_counted(before: int = counted) -> bool:
            return (await cluster[0].ask("state"))["recoveries"] > before

        # A receiver that was started again is heard before the watch has found it so.
        await run.until_async(is_counted, 2, "the count", must=False)
        after = (await cluster[0].ask("state"))["recoveries"]
        run.check(f"{how}: counted", after - counted, equals=1)
    run.check("sockets lost", sum(not client.is_open for client in clients), equals=0)


@row(
    "A7",
    inject="on the pub/sub and on the queue layer: Redis restarted empty; FLUSHALL, which takes"
    " the groups of the queue layer and of the pub/sub layer nothing; every connection that"
    " listens killed; new channels are joined all the while",
    hold="0 false departures announced; all channels heard ≤ 3 s after Redis answers; who left or"
    " came meanwhile is known everywhere ≤ 10 s after it; 0 sockets lost",
    limit=240,
)
async def redis_forgets(run: Run) -> None:
    # With the queue layer any connection may be one that listens.
    for bus, kind in (("pubsub", "pubsub"), ("queue", "normal")):
        await _forget_and_be_cut_off(run, bus, kind)


async def _forget_and_be_cut_off(run: Run, bus: str, kind: str) -> None:
    cluster = await run.cluster(2, bus=bus)
    room = f"{ROOM}-{bus}"
    channels = [f"{bus}-{number}" for number in range(run.n(50, least=5))]
    clients = await subscribers(run, cluster, run.n(200, least=20), channels)
    watching = await observers(run, cluster[1], room, 2)
    users = [f"u{number}" for number in range(run.n(100, least=5))]
    settled = await members(cluster[0], room, users)
    await everybody_present(run, watching, set(users))
    passage = Passage(run, cluster, f"{PASSAGE}-{bus}", run.n(30, least=6))
    await passage.begin()

    async def restart() -> None:
        cluster.valkey.kill()
        await passage.change()
        cluster.valkey.spawn()
        await run.until(cluster.valkey.answers, 10, "Valkey answers again")

    async def flush() -> None:
        cluster.valkey.call("FLUSHALL")

    async def cut() -> None:
        killed = cluster.valkey.call("CLIENT", "KILL", "TYPE", kind)
        run.check(f"{bus}, CLIENT KILL: connections killed", killed, at_least=2)

    over = asyncio.Event()
    joining = [asyncio.create_task(_join_new_channels(node, over)) for node in cluster.nodes]
    for name, work in (("restart", restart), ("FLUSHALL", flush), ("CLIENT KILL", cut)):
        label = f"{bus}, {name}"
        began = run.fault(label)
        await work()
        answers_at = time.monotonic()
        hearing = asyncio.create_task(heard_everywhere(run, cluster, clients, channels, 15))
        if work is not restart:
            await passage.change()
        seconds = await hearing
        run.check(f"{label}: all channels heard after", seconds, at_most=3.0, unit="s")
        await passage.check(label, answers_at)
        # Longer than the lease: whoever would be reaped is by then.
        await run.lasting(max(0.0, answers_at + 8 - time.monotonic()))
        removed = [
            item
            for item in run.history.of("member_removed", since=began)
            if item["channel"] == room
        ]
        run.check(f"{label}: false departures announced", len(removed), equals=0)
    over.set()
    joined = await asyncio.gather(*joining)
    run.check(f"{bus}: new channels joined meanwhile", sum(joined), at_least=20)
    lost_sockets = sum(not client.is_open for client in clients + settled)
    run.check(f"{bus}: sockets lost", lost_sockets, equals=0)


async def _join_new_channels(node: Node, over: asyncio.Event) -> int:
    """One more channel ten times a second, as on a busy site; how many were joined."""
    joined = 0
    while not over.is_set():
        client = None
        try:
            client = await Pusher.open(node.port)
            while not over.is_set():
                await client.subscribe(f"new-{node.name}-{joined}")
                joined += 1
                # Pacing of the joins.
                await asyncio.sleep(0.1)
        except (Gone, Refused, OSError, TimeoutError):
            # A moment, as pusher-js takes it; the bus may be away.
            await asyncio.sleep(0.1)
        finally:
            if client is not None:
                client.abort()
    return joined


@row(
    "A13",
    inject="Redis out of memory (noeviction), on the pub/sub and on the queue layer",
    hold="each publish 503, or 200 and delivered; some 503 on the queue layer, which needs memory"
    " (the pub/sub layer needs none); 0 sockets lost; all channels heard ≤ 3 s"
    " after there is memory again",
    limit=120,
)
async def redis_is_full(run: Run) -> None:
    for bus in ("pubsub", "queue"):
        cluster = await run.cluster(2, bus=bus)
        channels = [f"{bus}-{number}" for number in range(10)]
        clients = await subscribers(run, cluster, run.n(100, least=20), channels)
        _fill(cluster)
        full_at = run.fault(f"{bus}: Redis is full")
        load = Load(cluster.ports, channels, run.history, f"{bus}-p")
        await load.run_for(20, 5)
        free_at = run.fault(f"{bus}: memory again")
        cluster.valkey.call("CONFIG", "SET", "maxmemory", "0")
        heard = await heard_everywhere(run, cluster, clients, channels, 15)
        statuses = [status for at, status, _ in load.answers if full_at <= at < free_at]
        # To publish with PUBLISH needs no memory: the pub/sub layer goes on.
        refused = statuses.count(503)
        run.check(f"{bus}: publishes while full", len(statuses), at_least=50)
        if bus == "queue":
            run.check(f"{bus}: of these answered 503", refused, at_least=1)
        else:
            run.note(f"{bus}: {refused} of {len(statuses)} answered 503 while full")
        odd = [status for status in statuses if status not in (200, 503)]
        run.check(f"{bus}: other answers", len(odd), equals=0)
        run.check(f"{bus}: heard after", heard, at_most=3.0, unit="s")
        run.check(f"{bus}: sockets lost", sum(not c.is_open for c in clients), equals=0)
        await last_ones_arrive(run, full_at)
    run.check_none("accepted and lost", lost(run.history.records))


def _fill(cluster: Cluster) -> None:
    """Leave Redis no memory: it refuses every command that could need some.

    Raises:
        RuntimeError: it does not.
    """
    with cluster.valkey.connect() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        try:
            client.set("filler", "x")
        except redis.ResponseError:
            return
    raise RuntimeError("Redis still takes what is written")
