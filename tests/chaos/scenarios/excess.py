"""Rows B about too much of what is allowed: subscriptions, churn, client events."""

import asyncio
import time

from tests.chaos.checkers import ghosts
from tests.chaos.client import Drain, Gone, Pusher, Refused
from tests.chaos.cluster import Cluster, Node
from tests.chaos.publisher import Load, Publisher
from tests.chaos.rows import DriverLag, Run, percentile, row
from tests.chaos.scenarios.bus import subscribers


@row(
    "B9",
    inject="10,000 subscribes on one socket",
    hold="refused past the limit of 1,000 with an error frame, the socket stays; Redis and the"
    " database see nothing of the refused",
    limit=90,
    short=True,
)
async def subscriptions_are_limited(run: Run) -> None:
    cluster = await run.cluster(1, database="postgres", bus="pubsub")
    limit = 1_000
    client = await Pusher.open(cluster[0].port)
    before = cluster.valkey.call("INFO", "commandstats")
    answers = [client.ask(f"many-{number}") for number in range(10_000)]
    await asyncio.wait(answers, timeout=60)
    done = [answer for answer in answers if answer.done()]
    refused = [answer for answer in done if isinstance(answer.exception(), Refused)]
    run.check("answered", len(done), equals=len(answers))
    run.check("confirmed", len(done) - len(refused), equals=limit)
    run.check("refused", len(refused), equals=len(answers) - limit)
    run.check("the socket stays", client.is_open and await client.round_trip() < 5, equals=True)
    after = cluster.valkey.call("INFO", "commandstats")
    subscribed = _calls(after, "subscribe") - _calls(before, "subscribe")
    # The channel of the process and the group of all processes come on top.
    run.check("SUBSCRIBE commands", subscribed, at_most=limit + 5)
    await client.round_trip()
    rows = await cluster[0].ask("rows")
    run.check("rows of channels", rows["Occupancy"], at_most=limit)


def _calls(stats: dict, command: str) -> int:
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


@row(
    "B10",
    inject="presence churn of 100 joins and leaves a second in a channel of 1,000",
    hold="p99 of other channels ≤ 2 × undisturbed; ≤ 50 commits a second;"
    " members = users with a live socket at the end",
    limit=240,
)
async def churn_is_grouped(run: Run) -> None:
    cluster = await run.cluster(2)
    room = "presence-churn"
    count = run.n(1_000, least=50)
    users = [f"u{number}" for number in range(count)]
    stayers: list[Pusher] = []
    for number, node in enumerate(cluster.nodes):
        stayers += await _drains(node, room, users[number::2])
    channels = [f"calm-{number}" for number in range(10)]
    calm = await subscribers(run, cluster, 50, channels)
    seconds = run.n(20, least=6)
    await Load(cluster.ports, channels, run.history, "rehearsal-").run_for(20, 3)
    load = Load(cluster.ports, channels, run.history, "quiet-")
    await load.run_for(20, seconds)
    commits, started = cluster.postgres.commits(cluster.database), time.monotonic()
    load_on = Load(cluster.ports, channels, run.history, "churn-")
    over = time.monotonic() + seconds
    running, churned = asyncio.create_task(load_on.run_for(20, seconds)), 0
    tasks: set[asyncio.Task[bool]] = set()
    for node in cluster.nodes:
        await node.ask("lag")
    lag = DriverLag()
    due = time.monotonic()
    while time.monotonic() < over:
        task = asyncio.create_task(_come_and_go(cluster, room, churned))
        tasks.add(task)
        churned += 1
        due += 1 / 50  # a join and a leave each
        # Pacing of the churn.
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await running
    done = await asyncio.gather(*tasks)
    late = lag.stop()
    lags = [(await node.ask("lag"))["p99"] for node in cluster.nodes]
    run.note(f"p99 of lag: servers {', '.join(f'{v:.0f}' for v in lags)} ms, driver {late:.0f} ms")
    took = time.monotonic() - started
    rate = (cluster.postgres.commits(cluster.database) - commits) / took
    quiet, busy = _p99(run, "quiet-"), _p99(run, "churn-")
    run.check("joins that worked", sum(done), equals=churned)
    run.check("joins and leaves a second", 2 * churned / took, at_least=min(80, 80 * run.scale * 5))
    run.check("p99 of other channels", busy, at_most=2 * quiet, unit="ms")
    run.check("commits a second", rate, at_most=50)
    publisher = Publisher(cluster[0].port)

    async def settled() -> bool:
        return set(await publisher.members(room)) == set(users)

    agreed = await run.until_async(settled, 15, "members", must=False)
    run.check("members agree after", agreed, at_most=10.0, unit="s")
    run.check_none("divergence", ghosts(await publisher.members(room), users, "the API")[:20])
    run.check("sockets lost", sum(not c.is_open for c in stayers + calm), equals=0)


async def _drains(node: Node, room: str, users: list[str]) -> list[Pusher]:
    gate = asyncio.Semaphore(50)

    async def one(user: str) -> Pusher:
        async with gate:
            client = await Drain.open(node.port)
            await client.subscribe(room, user, patience=60)
            return client

    return list(await asyncio.gather(*(one(user) for user in users)))


async def _come_and_go(cluster: Cluster, room: str, number: int) -> bool:
    client = None
    try:
        client = await Drain.open(cluster[number % 2].port)
        await client.subscribe(room, f"guest{number}")
    except (OSError, Gone, Refused, TimeoutError):
        return False
    else:
        return True
    finally:
        if client is not None:
            client.abort()


def _p99(run: Run, prefix: str) -> float:
    latencies = [
        item["at"] - item["sent"]
        for item in run.history.of("received")
        if item["publisher"].startswith(prefix)
    ]
    return percentile(latencies, 0.99) * 1000


@row(
    "B11",
    inject="100 client events a second from one socket, for 10 s",
    hold="10 a second delivered (and a burst of 10), the rest answered 4301; the socket stays",
    limit=60,
    short=True,
)
async def client_events_are_limited(run: Run) -> None:
    cluster = await run.cluster(1)
    sender = await Pusher.open(cluster[0].port)
    listener = await Pusher.open(cluster[0].port)
    for client in (sender, listener):
        await client.subscribe("private-typing")
    seconds, count = 10, 1_000
    started = due = time.monotonic()
    for number in range(count):
        sender.send("client-typing", {"n": number}, channel="private-typing")
        due += seconds / count
        # Pacing: the rate of the attack.
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    took = time.monotonic() - started
    await sender.round_trip()
    refused = sum(error.get("code") == 4301 for error in sender.errors)
    await run.until(lambda: listener.received + refused >= count, 5, "all events", must=False)
    run.check("delivered", listener.received, at_most=10 * took + 11)
    run.check("delivered at least", listener.received, at_least=10 * seconds - 1)
    run.check("delivered or refused", listener.received + refused, equals=count)
    run.check("the socket stays", sender.is_open, equals=True)
