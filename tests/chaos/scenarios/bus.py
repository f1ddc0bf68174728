"""Rows A about the bus: deaf, dead, emptied, full, and a crash between commit and publish."""

import ast
import asyncio
import itertools
import time

import redis

from tests.chaos.checkers import lost
from tests.chaos.client import Pusher
from tests.chaos.cluster import Cluster, Node
from tests.chaos.publisher import Load, Publisher
from tests.chaos.rows import Browser, Missing, Run, percentile, row
from tests.chaos.scenarios.crash import everybody_present, members, observers
from tests.e2e.sites import ROOT

ROOM = "presence-room"
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
        # Pacing: ten rounds a second are enough to see a second.
        await asyncio.sleep(0.05)
    return time.monotonic() - started


def count_lines(node: Node, level: str, logger: str, offset: int) -> int:
    return len(node.lines(rf"^\S+ \S+ {level} realtime\.{logger}", offset))


@row(
    "A4",
    inject="half-open Redis link on one node: a black hole without a reset, for 15 s",
    hold="not ready ≤ 10 s; publishes through that node 503, none accepted and lost;"
    " heard again ≤ 5 s after healing; 0 sockets lost",
    limit=120,
)
async def half_open_link_is_noticed(run: Run) -> None:
    cluster = await run.cluster(2, redis_proxies=True)
    deaf, well = cluster[0], cluster[1]
    channels = [f"news-{number}" for number in range(10)]
    clients = await subscribers(run, cluster, run.n(200, least=20), channels)
    before = await deaf.health("ready")
    dark_at = run.fault("black hole between node a and Redis")
    deaf.redis.black_hole()
    through_deaf = Load([deaf.port], channels, run.history, "deaf")
    publishing = asyncio.create_task(through_deaf.run_for(10, 15))
    flagged = await run.until_async(lambda: _status(deaf, 503), 12, "not ready", must=False)
    await publishing
    other = await well.health("ready")
    healed_at = run.fault("healed")
    await asyncio.to_thread(deaf.redis.heal)
    heard = await heard_everywhere(run, cluster, clients, channels, 15)
    ready = await run.until_async(lambda: _status(deaf, 200), 5, "ready", must=False)
    statuses = [status for at, status, _ in through_deaf.answers if dark_at <= at < healed_at]
    run.check("ready before", before, equals=200)
    run.check("not ready after", flagged, at_most=10.0, unit="s")
    run.check("the other node meanwhile", other, equals=200)
    run.check("publishes not answered 503", sum(s != 503 for s in statuses), equals=0)
    slowest = max((seconds for _, _, seconds in through_deaf.answers), default=0.0)
    run.note(f"slowest answer {slowest:.1f} s")
    run.check_none("accepted and lost", lost(run.history.records))
    run.check("heard again after healing", heard, at_most=5.0, unit="s")
    run.check("ready again after healing", ready, at_most=5.0, unit="s")
    run.check("sockets lost", sum(not client.is_open for client in clients), equals=0)


async def _status(node: Node, wanted: int) -> bool:
    return await node.health("ready") == wanted


@row(
    "A5",
    inject="receive task of the layer cancelled, and ended by an exception",
    hold="heard again ≤ 2 s; one ERROR line; counted; 0 sockets lost",
    limit=90,
    short=True,
)
async def dead_receiver_is_replaced(run: Run) -> None:
    cluster = await run.cluster(2)
    channels = [f"news-{number}" for number in range(20)]
    clients = await subscribers(run, cluster, 80, channels)
    run.check(
        "heard before", await heard_everywhere(run, cluster, clients, channels, 10), at_most=2.0
    )
    for how in ("cancel", "error"):
        offset = cluster[0].log_size()
        counted = (await cluster[0].ask("state"))["recoveries"]
        run.fault(f"receive task ended by {how}")
        answer = await cluster[0].ask("end-receiver", how=how)
        if not answer["ended"]:
            run.note("there was no receive task to end")
        seconds = await heard_everywhere(run, cluster, clients, channels, 15)
        run.check(f"{how}: heard again after", seconds, at_most=2.0, unit="s")
        errors = count_lines(cluster[0], "ERROR", r"(bus|hub|layer)\b", offset)
        run.check(f"{how}: ERROR lines about the bus", errors, equals=1)
        others = count_lines(cluster[0], "ERROR", "", offset) - errors
        run.note(f"{how}: {others} ERROR lines about calls that were refused meanwhile")
        after = (await cluster[0].ask("state"))["recoveries"]
        if after is None:
            run.lacks(f"{how}: counted", "there is no counter of recoveries")
        else:
            run.check(f"{how}: counted", after - counted, equals=1)
    run.check("sockets lost", sum(not client.is_open for client in clients), equals=0)


@row(
    "A6",
    inject="Redis killed for 5 s under 200 publishes a second and 2,000 sockets",
    hold="0 sockets lost; publishes in the outage 503 ≤ 1 s each; none accepted and lost; durable"
    " ones all delivered; first delivery ≤ 3 s after Redis answers",
    limit=180,
)
async def redis_dies_under_load(run: Run) -> None:
    cluster = await run.cluster(2)
    channels = [f"news-{number}" for number in range(run.n(100, least=5))]
    clients = await subscribers(run, cluster, run.n(2_000, least=40), channels)
    browser = Browser(run.node_js(), "witness")
    await browser.connect(cluster[0].server.url, "e2e-key")
    await browser.subscribe(channels[0])
    load = Load(cluster.ports, channels, run.history, "p")
    load_on = asyncio.Event()
    rate = 200 * min(1.0, run.scale * 2)
    publishing = asyncio.create_task(load.run(rate, lambda: not load_on.is_set()))
    durable = asyncio.create_task(_durable_stream(run, cluster, channels, load_on))
    await run.lasting(5)
    killed_at = run.fault("kill -9 Valkey")
    cluster.valkey.kill()
    await run.lasting(5)
    cluster.valkey.spawn()
    await run.until(cluster.valkey.answers, 10, "Valkey answers again")
    back_at = run.fault("Valkey answers, empty")
    first = await run.until(
        lambda: any(True for _ in _received(run, back_at)), 15, "a delivery", must=False
    )
    await run.lasting(8)
    load_on.set()
    await publishing
    accepted = await durable
    probe = await heard_everywhere(run, cluster, clients, channels, 10)

    outage = [
        (status, seconds)
        for at, status, seconds in load.answers
        if killed_at + 0.05 <= at and at + seconds < back_at
    ]
    run.check("publishes in the outage", len(outage), at_least=1)
    run.check("not answered 503", sum(status != 503 for status, _ in outage), equals=0)
    worst = percentile([seconds for _, seconds in outage], 1.0)
    run.check("slowest answer in the outage", worst, at_most=1.0, unit="s")
    silent = [
        item
        for item in run.history.of("publish")
        if item["status"] == 200 and item["at"] > killed_at
    ]
    run.note(f"{len(silent):,} publishes accepted after the kill")
    run.check_none(
        "accepted and lost",
        lost(
            run.history.records, excused=lambda item: item["at"] <= killed_at <= item["until"] + 0.1
        ),
    )
    run.check("first delivery after Redis answers", first, at_most=3.0, unit="s")
    run.check("all channels heard", probe, at_most=3.0, unit="s")
    run.check("sockets lost", sum(not client.is_open for client in clients), equals=0)
    run.check("pusher-js states", browser.states().count("connected"), equals=1)
    if accepted is None:
        run.lacks("durable triggers", "trigger() has no parameter durable")
    else:
        run.check("durable triggers accepted", len(accepted), at_least=1)
        run.check("durable triggers not delivered", len(_undelivered(run, accepted)), equals=0)


def _received(run: Run, since: float):
    return (item for item in run.history.of("received", since=since) if item["sent"] > since)


def durable_exists() -> bool:
    """Whether ``trigger()`` has a durable form."""
    # Read, not imported: the driver is no Django process.
    tree = ast.parse((ROOT / "realtime" / "triggers.py").read_text())
    return any(
        isinstance(node, ast.FunctionDef)
        and node.name == "trigger"
        and "durable" in {argument.arg for argument in node.args.kwonlyargs}
        for node in ast.walk(tree)
    )


async def _durable_stream(
    run: Run, cluster: Cluster, channels: list[str], over: asyncio.Event
) -> list[tuple[str, int]] | None:
    """Five durable triggers a second; channel and number of those that were committed."""
    if not durable_exists():
        return None
    accepted = []
    number = 0
    while not over.is_set():
        channel = channels[number % len(channels)]
        if await durable_trigger(cluster[number % len(cluster.nodes)], channel, "durable", number):
            accepted.append((channel, number))
        number += 1
        # Pacing of the load.
        await asyncio.sleep(0.2)
    return accepted


async def durable_trigger(
    node: Node, channel: str, publisher: str, number: int, *, rollback: bool = False
) -> bool:
    """A durable trigger in a transaction of *node*; whether it committed."""
    data = f'{{"p":"{publisher}","n":{number},"t":{time.monotonic()}}}'
    status, _ = await node.knock(
        "durable", channel=channel, name="event", data=data, rollback=int(rollback)
    )
    return status == 200


def _undelivered(run: Run, accepted: list[tuple[str, int]]) -> list[tuple[str, int]]:
    got = {
        (item["channel"], item["number"])
        for item in run.history.of("received")
        if item["publisher"] == "durable"
    }
    return [item for item in accepted if item not in got]


@row(
    "A7",
    inject="Redis restarted empty, FLUSHALL, every pub/sub connection killed",
    hold="0 departures announced; all channels heard ≤ 3 s after Redis answers; 0 sockets lost",
    limit=120,
)
async def redis_forgets(run: Run) -> None:
    cluster = await run.cluster(2)
    channels = [f"news-{number}" for number in range(run.n(50, least=5))]
    clients = await subscribers(run, cluster, run.n(200, least=20), channels)
    watching = await observers(run, cluster[1], ROOM, 2)
    users = [f"u{number}" for number in range(run.n(100, least=5))]
    settled = await members(run, cluster[0], ROOM, users)
    await everybody_present(run, watching, set(users))

    async def restart() -> None:
        cluster.valkey.kill()
        cluster.valkey.spawn()
        await run.until(cluster.valkey.answers, 10, "Valkey answers again")

    async def flush() -> None:
        cluster.valkey.call("FLUSHALL")

    async def cut() -> None:
        cluster.valkey.call("CLIENT", "KILL", "TYPE", "pubsub")

    for label, work in (("restart", restart), ("FLUSHALL", flush), ("CLIENT KILL", cut)):
        began = run.fault(label)
        await work()
        seconds = await heard_everywhere(run, cluster, clients, channels, 15)
        run.check(f"{label}: all channels heard after", seconds, at_most=3.0, unit="s")
        await run.lasting(run.n(8, least=8))  # longer than the lease
        removed = list(run.history.of("member_removed", since=began))
        run.check(f"{label}: departures announced", len(removed), equals=0)
    run.check("sockets lost", sum(not c.is_open for c in clients + settled), equals=0)


@row(
    "A11",
    inject="process exits between commit and publish (injection point outbox.after_commit)",
    hold="a durable trigger is delivered by the sweep of another process ≤ 10 s;"
    " a transaction that was rolled back sends nothing",
    limit=90,
    short=True,
)
async def commit_survives_a_crash(run: Run) -> None:
    if not durable_exists():
        raise Missing("trigger() has no parameter durable")
    cluster = await run.cluster(2, start=False)
    cluster[0].spawn(REALTIME_FAULTS="outbox.after_commit=exit")
    cluster[1].spawn()
    for node in cluster.nodes:
        await node.ready()
    client = await Pusher.open(cluster[1].port, history=run.history)
    await client.subscribe("orders")
    await durable_trigger(cluster[1], "orders", "rolled-back", 0, rollback=True)
    run.fault("node a exits between commit and publish")
    await durable_trigger(cluster[0], "orders", "crashed", 0)
    died = await run.until(lambda: not cluster[0].alive, 5, "the crash", must=False)
    run.check("the process exited after", died, at_most=5.0, unit="s")

    def delivered() -> bool:
        return any(item["publisher"] == "crashed" for item in run.history.of("received"))

    seconds = await run.until(delivered, 15, "the event", must=False)
    run.check("delivered by the sweep after", seconds, at_most=10.0, unit="s")
    rolled_back = [i for i in run.history.of("received") if i["publisher"] == "rolled-back"]
    run.check("events of the transaction that was rolled back", len(rolled_back), equals=0)
    marks = [item.get("id") for item in run.history.of("received")]
    run.check("events without an id", sum(mark is None for mark in marks), equals=0)


@row(
    "A13",
    inject="Redis out of memory (noeviction), on the pub/sub and on the queue layer",
    hold="each publish 503, or 200 and delivered; 0 sockets lost; all channels heard ≤ 3 s"
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
        run.note(f"{bus}: {statuses.count(503)} of {len(statuses)} answered 503 while full")
        odd = [status for status in statuses if status not in (200, 503)]
        run.check(f"{bus}: other answers", len(odd), equals=0)
        run.check(f"{bus}: heard after", heard, at_most=3.0, unit="s")
        run.check(f"{bus}: sockets lost", sum(not c.is_open for c in clients), equals=0)
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
