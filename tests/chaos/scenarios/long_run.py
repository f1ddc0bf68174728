"""Rows D: what adds up over time, and whether it goes away again."""

import asyncio
import os
import time
from urllib.parse import urlencode

from tests.chaos import procfs
from tests.chaos.client import Gone, Pusher, Refused, path_of
from tests.chaos.cluster import Cluster, Node
from tests.chaos.procfs import MIB, Sampler
from tests.chaos.publisher import Http, Load, Publisher
from tests.chaos.rows import Run, percentile, row
from tests.chaos.websocket import dial
from tests.e2e.sites import BIN, UVICORN_FLAGS, environment, serving

SOAK_MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
NAMES = 100
"""Users that visit, again and again; there are fewer channels."""
DURABLE = {"channel": "news-0", "name": "durable", "data": "{}"}
"""What a piece of Django code triggers, sure that it arrives."""
THREADS = 64
"""Twice as many as any pool of threads has by default."""
OF_THE_PRESENT = ("Membership", "Occupancy", "Member present")
"""Rows that are there while somebody is."""
SOURCES = tuple(f"127.0.0.{number}" for number in range(2, 18))
"""Local addresses: the ports of one are too few for a hundred thousand connections."""


@row(
    "D1",
    inject=f"soak of {SOAK_MINUTES:g} minutes: 2,000 sockets, 100 events a second, 5 % of the"
    " sockets replaced a minute",
    hold="memory slope ≤ 1 MiB per 10 min after a warm-up; loop lag p99 ≤ 50 ms; latency p99"
    " ≤ 100 ms; 0 sockets lost; 0 publishes refused, and 99 % of their deliveries seen (a socket"
    " that is being replaced misses some)",
    limit=SOAK_MINUTES * 60 + 180,
)
async def soak(run: Run) -> None:
    cluster = await run.cluster(2)
    seconds = SOAK_MINUTES * 60 * min(1.0, run.scale)
    count = run.n(2_000, least=40)
    channels = [f"news-{number}" for number in range(100)]
    latencies: list[float] = []

    def heard(client: Pusher, message: dict) -> None:
        if message["event"] == "event":
            sent = float(message["data"].rpartition('"t": ')[2].rstrip("}"))
            latencies.append(time.monotonic() - sent)

    async def one(number: int) -> Pusher:
        client = await Pusher.open(cluster[number % 2].port, on_event=heard)
        await client.subscribe(channels[number // 2 % len(channels)], patience=60)
        return client

    clients = [await one(number) for number in range(count)]
    for node in cluster.nodes:
        await node.ask("lag")
    load = Load(cluster.ports, channels, None, "p")
    end = time.monotonic() + seconds
    publishing = asyncio.create_task(load.run(100, lambda: time.monotonic() < end))
    warm_until = time.monotonic() + seconds / 4
    samplers: list[Sampler] = []
    number = lost = 0
    warm_at = end
    while time.monotonic() < end:
        if not samplers and time.monotonic() > warm_until:
            samplers = [Sampler(node.pid, every=1.0) for node in cluster.nodes]
            latencies.clear()
            warm_at = time.monotonic()
            for node in cluster.nodes:
                await node.ask("lag")
        # Pacing: 5 % of the sockets a minute.
        await asyncio.sleep(60 / (0.05 * count))
        old = clients[number % count]
        lost += not old.is_open
        await old.leave()
        clients[number % count] = await one(number)
        number += 1
    await publishing
    lags = [await node.ask("lag") for node in cluster.nodes]
    slopes = [procfs.slope(sampler.stop()) * 600 / MIB for sampler in samplers]
    lost += sum(not client.is_open for client in clients)
    run.check("memory slope per 10 min", max(slopes), at_most=1.0, unit="MiB")
    run.check("loop lag p99", max(lag["p99"] for lag in lags), at_most=50, unit="ms")
    run.check("latency p99", percentile(latencies, 0.99) * 1000, at_most=100, unit="ms")
    run.check("sockets lost", lost, equals=0)
    run.check("publishes refused", sum(s != 200 for _, s, _ in load.answers), equals=0)
    run.check("published a second", len(load.answers) / seconds, at_least=95)
    published = sum(at >= warm_at for at, _, _ in load.answers)
    due = published * count / len(channels)
    run.check("deliveries", len(latencies), at_least=int(0.99 * due))
    run.note(f"{len(latencies):,} deliveries, median {percentile(latencies, 0.5) * 1000:.1f} ms")


@row(
    "D2",
    inject="500 clients join, sign in, publish and leave in every way, and the back end publishes"
    " and triggers, on two uvicorn nodes with PostgreSQL and Redis (pub/sub, then queue layer),"
    " and on Daphne with SQLite",
    hold="afterwards 0 more tasks, sockets, hub entries, rows, Redis keys and channels, and"
    " descriptors, but for pools of connections to Redis; durable events stay for an hour, one row"
    " each",
    limit=180,
)
async def nothing_stays_behind(run: Run) -> None:
    for label, options in (
        ("uvicorn, pub/sub", {"nodes": 2, "bus": "pubsub"}),
        ("uvicorn, queue", {"nodes": 2, "bus": "queue"}),
        ("Daphne", {"nodes": 1, "server": "daphne"}),
    ):
        cluster = await run.cluster(**options)
        # Opens what stays open for good, and makes the rows by name: of users, of channels.
        await _visit(cluster, NAMES)
        await fill_threads(cluster, "durable", **DURABLE)
        await _empty(run, cluster)
        before = await _everything(cluster)
        visits = run.n(500, least=20)
        durable = await _visit(cluster, visits)
        run.check(f"{label}: durable events", durable, equals=visits)
        # The one thing that is kept, for those who were away.
        before["database"]["OutboxEntry"] += durable
        grown: dict[str, dict] = {}

        async def as_before(cluster=cluster, before=before, grown=grown) -> bool:
            after = await _everything(cluster)
            found = {place: _grown(before[place], after[place]) for place in after}
            grown.clear()
            grown.update({place: more for place, more in found.items() if more})
            return not grown

        seconds = await run.until_async(as_before, 15, "as before", must=False)
        run.check(f"{label}: what stayed", grown, equals={})
        run.check(f"{label}: clean after", seconds, at_most=15.0, unit="s")
        left = {name: before["database"][name] for name in OF_THE_PRESENT}
        run.check(f"{label}: rows of those who are there", sum(left.values()), equals=0)


async def _everything(cluster: Cluster) -> dict[str, dict]:
    """What there is of each kind: in each process, in the database, and in Redis."""
    found = {f"node {node.name}": await _inside(node) for node in cluster.nodes}
    found["database"] = await cluster[0].ask("rows")
    if cluster.valkey is not None:
        connections = len(cluster.valkey.call("CLIENT", "LIST").splitlines())
        found["Redis"] = {
            "keys": cluster.valkey.call("DBSIZE"),
            "channels": len(cluster.valkey.call("PUBSUB", "CHANNELS")),
        }
        # A layer and a cache keep as many connections as they ever needed at once; when the
        # next one is made, and in which process, is chance.
        descriptors = sum(found[f"node {node.name}"].pop("descriptors") for node in cluster.nodes)
        found["all nodes"] = {"descriptors besides those of Redis": descriptors - connections}
    return found


async def _inside(node: Node) -> dict:
    state = await node.ask("state")
    names: dict[str, int] = {}
    for name in state["tasks"]:
        names[name] = names.get(name, 0) + 1
    kept = {name: state[name] for name in ("connections", "channels", "users", "threads")}
    return {**kept, "descriptors": node.look().fds, **{f"task {n}": c for n, c in names.items()}}


def _grown(before: dict, after: dict) -> dict[str, int]:
    return {
        name: value - before.get(name, 0)
        for name, value in after.items()
        if value > before.get(name, 0)
    }


async def _visit(cluster: Cluster, count: int) -> int:
    """Clients that come, do everything, and go in three ways; how many durable events were made."""
    gate = asyncio.Semaphore(50)
    backends = [Publisher(port, name=f"p{port}") for port in cluster.ports]
    durable = 0

    async def one(number: int) -> None:
        nonlocal durable
        async with gate:
            node = cluster[number % len(cluster.nodes)]
            client = await Pusher.open(node.port)
            await client.subscribe(f"news-{number % 50}")
            await client.subscribe(f"private-{number % 50}")
            await client.subscribe(f"presence-{number % 20}", f"u{number % NAMES}")
            await client.sign_in(f"u{number % NAMES}")
            client.send("client-x", {"a": 1}, channel=f"private-{number % 50}")
            await backends[number % len(backends)].publish(f"news-{number % 50}")
            made = await _knock(node, "durable", **DURABLE)
            durable += made  # not in one statement: others add to it meanwhile
            await client.round_trip()
            if number % 3 == 0:
                client.abort()
            elif number % 3 == 1:
                await client.leave()
            else:
                client.transport.close()

    await asyncio.gather(*(one(number) for number in range(count)))
    for backend in backends:
        backend.close()
    return durable


async def _knock(node: Node, door: str, **arguments: str) -> bool:
    """Whether a door of the harness answers, on a connection that takes no thread of ours."""
    http = Http(node.port)
    answer = await http.request("GET", f"/chaos/{door}?{urlencode(arguments)}")
    http.close()
    return answer.status == 200


async def fill_threads(cluster: Cluster, door: str, **arguments: str) -> None:
    """Let the pool for blocking code reach its size, which is bounded, in each process."""
    for node in cluster.nodes:
        await asyncio.gather(*(_knock(node, door, **arguments) for _ in range(THREADS)))


async def _empty(run: Run, cluster: Cluster) -> None:
    """Wait until every process has noticed that all are gone, and parted from the channels."""

    async def empty() -> bool:
        states = [await node.ask("state") for node in cluster.nodes]
        return all(state["connections"] == state["channels"] == 0 for state in states)

    await run.until_async(empty, 20, "the process is empty")


@row(
    "D3",
    inject="100,000 connects and disconnects, one in five with a subscription",
    hold="memory growth ≤ 8 MiB after the first 5,000; 0 tasks more",
    limit=360,
)
async def connections_leave_no_trace(run: Run) -> None:
    cluster = await run.cluster(1)
    node = cluster[0]
    count = run.n(100_000, least=2_000)
    await _cycles(node, min(5_000, count // 2))
    await _empty(run, cluster)
    before, inside = node.look(), await _inside(node)
    started = time.monotonic()
    failed = await _cycles(node, count)
    seconds = time.monotonic() - started
    await _empty(run, cluster)
    growth = (node.look().rss - before.rss) / MIB
    grown = _grown(inside, await _inside(node))
    run.check("cycles that failed", failed, equals=0)
    run.check("memory growth", growth, at_most=8.0, unit="MiB")
    run.check("what stayed", grown, equals={})
    run.note(f"{count / seconds:,.0f} cycles a second")


async def _cycles(node: Node, count: int) -> int:
    """Connect and disconnect; how many failed."""
    numbers = iter(range(count))
    failed = 0

    async def worker() -> None:
        nonlocal failed
        for number in numbers:
            try:
                client = await dial(
                    Pusher, node.port, path_of(), source=SOURCES[number % len(SOURCES)]
                )
                await client.greeted
                if number % 5 == 0:
                    await client.subscribe(f"news-{number % 100}")
                client.abort()
            except (OSError, Gone, TimeoutError, Refused):
                failed += 1

    await asyncio.gather(*(worker() for _ in range(32)))
    return failed


@row(
    "D4",
    inject="15,000 idle sockets on one process",
    hold="≤ 20 KiB per socket above those of the bare server; ≤ 20 % of a core while each is pinged"
    " by us once and by the server three times; 0 lost",
    limit=240,
)
async def idle_sockets_are_cheap(run: Run) -> None:
    count = run.n(15_000, least=500)
    echo = (str(BIN / "uvicorn"), "tests.e2e.echo:application", *UVICORN_FLAGS, "--fd")
    bare_count = min(count, 5_000)
    with serving(echo, environment(), run.ground.home / "echo.log") as server:
        before = procfs.look(server.process.pid)
        bare = await _hold(server.port, bare_count, greeted=False)
        bare_bytes = (procfs.look(server.process.pid).rss - before.rss) / bare_count
        for client in bare:
            client.abort()
    cluster = await run.cluster(1)
    node = cluster[0]
    warm = await Pusher.open(node.port)
    await warm.leave()
    start = node.look()
    pinged: set[Pusher] = set()

    def heard(client: Pusher, message: dict) -> None:
        if message["event"] == "pusher:ping":
            pinged.add(client)

    clients = await _hold(node.port, count, greeted=True, on_event=heard)
    own = (node.look().rss - start.rss) / count
    pinged.clear()
    cpu, seconds = node.look().cpu, 75  # longer than the minute between two pings
    await run.lasting(seconds)
    busy = (node.look().cpu - cpu) / seconds
    run.check("memory per socket", (own - bare_bytes) / 1024, at_most=20, unit="KiB")
    run.note(f"bare server {bare_bytes / 1024:.1f} KiB, with the app {own / 1024:.1f} KiB a socket")
    # A thousand a second: ours every minute, and those of the server every twenty seconds, by
    # which it knows in forty that a peer is gone.
    run.check("CPU of pings", busy, at_most=0.2, unit="cores")
    run.check("sockets that were pinged", len(pinged), equals=count)
    run.check("sockets lost", sum(not client.is_open for client in clients), equals=0)
    for client in clients:
        client.abort()


async def _hold(port: int, count: int, *, greeted: bool, on_event=None) -> list[Pusher]:
    gate = asyncio.Semaphore(64)

    async def one(number: int) -> Pusher:
        async with gate:
            source = SOURCES[number % len(SOURCES)]
            client: Pusher = await dial(
                lambda: Pusher(on_event=on_event), port, path_of(client="js"), source=source
            )
            if greeted:
                await client.greeted
            return client

    return list(await asyncio.gather(*(one(number) for number in range(count))))
