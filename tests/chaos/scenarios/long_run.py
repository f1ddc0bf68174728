"""Rows D: what adds up over time, and whether it goes away again."""

import asyncio
import os
import time
from urllib.parse import urlencode

from tests.chaos import procfs
from tests.chaos.client import Gone, Pusher, Refused, path_of
from tests.chaos.cluster import Cluster, Node
from tests.chaos.procfs import MIB, Sampler
from tests.chaos.publisher import Http, Load
from tests.chaos.rows import Browser, Run, percentile, row
from tests.chaos.scenarios.restart import residents
from tests.chaos.websocket import dial
from tests.e2e.sites import BIN, UVICORN_FLAGS, environment, serving

SOAK_MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
SOURCES = tuple(f"127.0.0.{number}" for number in range(2, 18))
"""Local addresses: the ports of one are too few for a hundred thousand connections."""


@row(
    "D1",
    inject=f"soak of {SOAK_MINUTES:g} minutes: 2,000 sockets, 100 events a second, 5 % of the"
    " sockets replaced a minute",
    hold="memory slope ≤ 1 MiB per 10 min after a warm-up; loop lag p99 ≤ 50 ms; latency p99"
    " ≤ 100 ms; 0 sockets lost",
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
    while time.monotonic() < end:
        if not samplers and time.monotonic() > warm_until:
            samplers = [Sampler(node.pid, every=1.0) for node in cluster.nodes]
            latencies.clear()
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
    run.note(f"{len(latencies):,} deliveries, median {percentile(latencies, 0.5) * 1000:.1f} ms")


@row(
    "D2",
    inject="500 clients join, sign in, publish and leave in every way, on two uvicorn nodes with"
    " PostgreSQL and Redis, and on Daphne with SQLite",
    hold="afterwards 0 more tasks, sockets, hub entries, rows, Redis keys and descriptors",
    limit=120,
)
async def nothing_stays_behind(run: Run) -> None:
    for label, options in (
        ("uvicorn", {"nodes": 2}),
        ("Daphne", {"nodes": 1, "server": "daphne"}),
    ):
        cluster = await run.cluster(**options)
        await _visit(cluster, 20)  # opens what stays open for good
        await _empty(run, cluster)
        before = [await _inside(node) for node in cluster.nodes]
        keys = cluster.valkey.call("DBSIZE") if cluster.valkey else 0
        await _visit(cluster, run.n(500, least=20))
        after: list[dict] = []

        async def as_before(cluster=cluster, before=before, after=after) -> bool:
            after[:] = [await _inside(node) for node in cluster.nodes]
            return all(not _grown(old, new) for old, new in zip(before, after, strict=True))

        seconds = await run.until_async(as_before, 15, "as before", must=False)
        grown = [_grown(old, new) for old, new in zip(before, after, strict=True)]
        run.check(f"{label}: what stayed", [item for item in grown if item], equals=[])
        run.check(f"{label}: clean after", seconds, at_most=15.0, unit="s")
        rows = await cluster[0].ask("rows")
        left = {name: rows[name] for name in ("Membership", "Occupancy", "Member present")}
        run.check(f"{label}: rows", sum(left.values()), equals=0)
        keys_now = cluster.valkey.call("DBSIZE") if cluster.valkey else 0
        run.check(f"{label}: Redis keys", keys_now - keys, at_most=0)


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


async def _visit(cluster: Cluster, count: int) -> None:
    """Clients that come, do everything, and go in three ways."""
    gate = asyncio.Semaphore(50)

    async def one(number: int) -> None:
        async with gate:
            client = await Pusher.open(cluster[number % len(cluster.nodes)].port)
            await client.subscribe(f"news-{number % 50}")
            await client.subscribe(f"private-{number % 50}")
            await client.subscribe(f"presence-{number % 20}", f"u{number % 100}")
            await client.sign_in(f"u{number % 100}")
            client.send("client-x", {"a": 1}, channel=f"private-{number % 50}")
            await client.round_trip()
            if number % 3 == 0:
                client.abort()
            elif number % 3 == 1:
                await client.leave()
            else:
                client.transport.close()

    await asyncio.gather(*(one(number) for number in range(count)))


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
    hold="≤ 20 KiB per socket above those of the bare server; pings ≤ 10 % of a core; 0 lost",
    limit=180,
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
    clients = await _hold(node.port, count, greeted=True)
    own = (node.look().rss - start.rss) / count
    cpu, seconds = node.look().cpu, 30
    await run.lasting(seconds)
    busy = (node.look().cpu - cpu) / seconds
    run.check("memory per socket", (own - bare_bytes) / 1024, at_most=20, unit="KiB")
    run.note(f"bare server {bare_bytes / 1024:.1f} KiB, with the app {own / 1024:.1f} KiB a socket")
    run.check("CPU of pings", busy, at_most=0.1, unit="cores")
    run.check("sockets lost", sum(not client.is_open for client in clients), equals=0)
    for client in clients:
        client.abort()


async def _hold(port: int, count: int, *, greeted: bool) -> list[Pusher]:
    gate = asyncio.Semaphore(64)

    async def one(number: int) -> Pusher:
        async with gate:
            source = SOURCES[number % len(SOURCES)]
            client: Pusher = await dial(Pusher, port, path_of(client="js"), source=source)
            if greeted:
                await client.greeted
            return client

    return list(await asyncio.gather(*(one(number) for number in range(count))))


@row(
    "D6",
    inject="reconnect storm: 2,000 clients of private channels reset at once",
    hold="all subscribed again ≤ 30 s; the auth view of the site gets ≤ 2,000 requests (one per"
    " client); loop lag p99 ≤ 250 ms",
    limit=240,
)
async def storm_is_weathered(run: Run) -> None:
    cluster = await run.cluster(2)
    balancer = run.proxy(*cluster.ports)
    count, browser_count = run.n(1_900, least=40), run.n(100, least=4)
    authorizer = SiteAuthorizer(cluster)
    channels = [f"private-storm-{number}" for number in range(20)]
    clients = await residents(
        run, balancer.port, count, channels, authorize=lambda n: authorizer.of(n, channels)
    )
    node_js = run.node_js()
    browsers = [Browser(node_js, f"browser-{number}") for number in range(browser_count)]
    for number, browser in enumerate(browsers):
        user = cluster.users[number % len(cluster.users)]
        await browser.connect(f"http://127.0.0.1:{balancer.port}", "e2e-key", user)
        await browser.subscribe(channels[0])
    for node in cluster.nodes:
        await node.ask("lag")
    before = await _auth_requests(cluster)
    run.fault("every connection reset")
    dropped = await asyncio.to_thread(balancer.reset_all)

    def back() -> bool:
        return all(len(item.subscribed) > 1 and item.settled for item in clients)

    seconds = await run.until(back, 60, "all subscribed again", must=False)
    succeeded = "pusher:subscription_succeeded"
    seconds_js = await run.until(
        lambda: all(len(item.events(channels[0], succeeded)) > 1 for item in browsers),
        60,
        "all pusher-js clients subscribed again",
        must=False,
    )
    lags = [await node.ask("lag") for node in cluster.nodes]
    requests = await _auth_requests(cluster) - before
    run.check("connections reset", dropped, at_least=count + browser_count)
    run.check("all subscribed again after", seconds, at_most=30.0, unit="s")
    run.check("pusher-js subscribed again after", seconds + seconds_js, at_most=30.0, unit="s")
    run.check("requests to the auth view", requests, at_most=count + browser_count)
    run.check("loop lag p99", max(lag["p99"] for lag in lags), at_most=250, unit="ms")


class SiteAuthorizer:
    """Asks the auth endpoint of the site, as a page does."""

    def __init__(self, cluster: Cluster) -> None:
        self._users = cluster.users
        self._free: asyncio.Queue[Http] = asyncio.Queue()
        for number in range(64):
            self._free.put_nowait(Http(cluster.ports[number % len(cluster.ports)]))

    def of(self, number: int, channels: list[str]):
        """A function that authorizes the client *number* for its channel."""
        channel = channels[number % len(channels)]
        token = self._users[number % len(self._users)].token

        async def authorize(client: Pusher) -> dict:
            connection = await self._free.get()
            try:
                body = urlencode({"socket_id": client.socket_id, "channel_name": channel})
                headers = {
                    "Authorization": f"Token {token}",
                    "Content-Type": "application/x-www-form-urlencoded",
                }
                answer = await connection.request("POST", "/pusher/auth", body.encode(), headers)
            finally:
                self._free.put_nowait(connection)
            if answer.status != 200:
                raise RuntimeError(f"the auth view answers {answer.status}")
            return dict(answer.json())

        return authorize


async def _auth_requests(cluster: Cluster) -> int:
    total = 0
    for node in cluster.nodes:
        total += (await node.ask("state"))["requests"].get("/pusher/auth", 0)
    return total
