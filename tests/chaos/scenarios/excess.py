"""Rows B about too much of what is allowed: subscriptions, churn, client events."""

import asyncio
import time

from tests.chaos.checkers import ghosts
from tests.chaos.client import Drain, Gone, Pusher, Refused
from tests.chaos.cluster import Cluster
from tests.chaos.crowd import observers
from tests.chaos.publisher import Load, Publisher
from tests.chaos.rows import DriverLag, Run, percentile, row
from tests.chaos.scenarios.bus import subscribers
from tests.chaos.stayers import Stayers


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
    before = _listened_to(cluster)
    answers = [client.ask(f"many-{number}") for number in range(10_000)]
    await asyncio.wait(answers, timeout=60)
    done = [answer for answer in answers if answer.done()]
    refused = [answer for answer in done if isinstance(answer.exception(), Refused)]
    run.check("answered", len(done), equals=len(answers))
    run.check("confirmed", len(done) - len(refused), equals=limit)
    run.check("refused", len(refused), equals=len(answers) - limit)
    run.check("the socket stays", client.is_open and await client.round_trip() < 5, equals=True)
    run.check("channels of Redis more", len(_listened_to(cluster) - before), equals=limit)
    counted = 0

    async def written() -> bool:
        nonlocal counted
        counted = (await cluster[0].ask("rows"))["Occupancy"]
        return counted >= limit

    await run.until_async(written, 10, "rows of channels", must=False)
    await client.round_trip()
    run.check("rows of channels", counted, equals=limit)


def _listened_to(cluster: Cluster) -> set[bytes]:
    """The channels of Redis that somebody listens to."""
    return set(cluster.valkey.call("PUBSUB", "CHANNELS"))


@row(
    "B10",
    inject="presence churn of 100 joins and leaves a second in a channel of 1,000",
    hold="p99 of other channels ≤ 2 × undisturbed, and nothing lost there; ≤ 50 commits a second;"
    " an observer on each node sees every guest come and go once; members = users with a live"
    " socket at the end",
    limit=240,
)
async def churn_is_grouped(run: Run) -> None:
    cluster = await run.cluster(2)
    room = "presence-churn"
    count = run.n(1_000, least=50)
    users = [f"u{number}" for number in range(count)]
    stayers = Stayers(run)
    await stayers.join(room, {cluster.ports[number]: users[number::2] for number in range(2)})
    watching = [client for node in cluster.nodes for client in await observers(run, node, room, 1)]
    users += [client.name for client in watching]
    channels = [f"calm-{number}" for number in range(10)]
    # The same number on each channel, so that the deliveries can be told beforehand.
    calm = await subscribers(run, cluster, 6 * len(channels), channels)
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
    began = due
    while time.monotonic() < over:
        task = asyncio.create_task(_come_and_go(cluster, room, churned))
        tasks.add(task)
        churned += 1
        due += 1 / 50  # a join and a leave each
        # Pacing of the churn.
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    churn_seconds = time.monotonic() - began
    await running
    done = await asyncio.gather(*tasks)
    late = lag.stop()
    lags = [await node.ask("lag") for node in cluster.nodes]
    said = ", ".join(f"{lag['p99']:.0f} ({lag['max']:.0f} at most)" for lag in lags)
    run.note(f"p99 of lag: servers {said} ms, driver {late:.0f} ms")
    took = time.monotonic() - started
    rate = (cluster.postgres.commits(cluster.database) - commits) / took
    quiet, busy = _p99(run, "quiet-"), _p99(run, "churn-")
    run.check("joins that worked", sum(done), equals=churned)
    # The driver may be a little late with the last of them.
    run.check("joins and leaves a second", 2 * churned / churn_seconds, at_least=95)
    each = len(calm) // len(channels)
    for label, sent in (("quiet", load), ("churn", load_on)):
        accepted = sum(status == 200 for _, status, _ in sent.answers)
        heard = len(_latencies(run, f"{label}-"))
        run.check(f"deliveries of other channels, {label}", heard, equals=each * accepted)
        run.check(f"published there, {label}", accepted, at_least=0.9 * 20 * seconds)
    run.check("p99 of other channels", busy, at_most=2 * quiet, unit="ms")
    run.check("commits a second", rate, at_most=50)
    publisher = Publisher(cluster[0].port)

    async def settled() -> bool:
        return set(await publisher.members(room)) == set(users)

    agreed = await run.until_async(settled, 15, "members", must=False)
    run.check("members agree after", agreed, at_most=10.0, unit="s")
    run.check_none("divergence", ghosts(await publisher.members(room), users, "the API")[:20])

    def told() -> bool:
        return all(client.present[room] == set(users) for client in watching)

    await run.until(told, 10, "the observers know", must=False)
    guests = {f"guest{number}" for number in range(churned)}
    for client in watching:
        faults = ghosts(client.present[room], users, client.name)
        for kind in ("member_added", "member_removed"):
            seen = [i["user"] for i in run.history.of(kind) if i["client"] == client.name]
            guests_seen = [user for user in seen if user in guests]
            faults += ghosts(guests_seen, guests, f"{client.name}, {kind}:")
        run.check_none(f"{client.name}: wrong in what it saw", faults)
    lost = await stayers.lost() + sum(not client.is_open for client in calm)
    run.check("sockets lost", lost, equals=0)


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
    return percentile(_latencies(run, prefix), 0.99) * 1000


def _latencies(run: Run, prefix: str) -> list[float]:
    return [
        item["at"] - item["sent"]
        for item in run.history.of("received")
        if item["publisher"].startswith(prefix)
    ]


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
    await sender.round_trip()
    took = time.monotonic() - started
    refused = sum(error.get("code") == 4301 for error in sender.errors)
    await run.until(lambda: listener.received + refused >= count, 5, "all events", must=False)
    run.check("delivered", listener.received, at_most=10 * took + 11)
    run.check("delivered at least", listener.received, at_least=10 * seconds - 1)
    run.check("delivered or refused", listener.received + refused, equals=count)
    run.check("the socket stays", sender.is_open, equals=True)
