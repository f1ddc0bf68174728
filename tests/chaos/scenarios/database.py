"""Rows A about the database: away for a while, or not there yet."""

import asyncio
import time

from tests.chaos.backing import SQLiteLock
from tests.chaos.client import Gone, Pusher, Refused
from tests.chaos.cluster import Cluster, Node
from tests.chaos.crowd import everybody_present, members, observers
from tests.chaos.publisher import Answer, Http, Load, Publisher
from tests.chaos.rows import Run, percentile, row

ROOM = "presence-room"

AT_ONCE = 12
"""Auth requests in an outage: more than a process works on, so that some stand in line."""


@row(
    "A8",
    inject="database away for 30 s: PostgreSQL stopped under two nodes; SQLite write lock held",
    hold="broadcasts unaffected (p99 ≤ 1.5 × before); joins refused with 4100 to 4299; of 12 auth"
    " requests at once to one node the first is answered ≤ 10 s, the last ≤ 25 s, with 500, or with"
    " 200 where the database can be read; 200 again ≤ 10 s after the return; 0 living members"
    " announced as gone then; joins work ≤ 10 s after it",
    limit=240,
)
async def database_goes_away(run: Run) -> None:
    cluster = await run.cluster(2)

    async def stop() -> None:
        await cluster.postgres.stop()

    async def start() -> None:
        cluster.postgres.spawn()
        await run.until(cluster.postgres.answers, 20, "PostgreSQL answers again")

    await _without_database(run, cluster, "PostgreSQL", stop, start, 500)
    alone = await run.cluster(1)
    lock = SQLiteLock(alone.sqlite)

    async def take() -> None:
        lock.take()

    async def release() -> None:
        lock.release()

    # What only writers wait for: an auth view that does not write notices nothing.
    await _without_database(run, alone, "SQLite", take, release, 200)


async def _without_database(
    run: Run, cluster: Cluster, label: str, take_away, give_back, meanwhile: int
) -> None:
    """Look at everything before, during and after.

    Args:
        meanwhile: the status that the auth view gives without the database.
    """
    outage = run.n(30, least=14)
    room = f"presence-{label}"
    users = [f"u{number}" for number in range(run.n(100, least=5))]
    watching = await observers(run, cluster[0], room, 2)
    settled: list[Pusher] = []
    for number, node in enumerate(cluster.nodes):
        settled += await members(node, room, users[number :: len(cluster.nodes)])
    await everybody_present(run, watching, set(users))
    subscribers = []
    for number in range(20):
        node = cluster[number % len(cluster.nodes)]
        subscribers.append(await Pusher.open(node.port, history=run.history))
        await subscribers[-1].subscribe(f"news-{label}")
    load = Load(cluster.ports, [f"news-{label}"], run.history, f"{label}-")
    await load.run_for(20, 3)  # a rehearsal: first calls are slow and prove nothing
    measured_from = time.monotonic()
    await load.run_for(20, run.n(30, least=4))  # as long as the outage: p99 is about the worst
    away_at = run.fault(f"{label} away")
    await take_away()
    publishing = asyncio.create_task(load.run_for(20, outage))
    refusals, authorized = await asyncio.gather(
        asyncio.gather(
            *(_try_to_join(cluster[0], room, f"late{n}", patience=outage) for n in range(3))
        ),
        asyncio.gather(*(_authorize(cluster, patience=60) for _ in range(AT_ONCE))),
    )
    await publishing
    await give_back()
    back_at = run.fault(f"{label} back")

    async def joined() -> bool:
        return await _try_to_join(cluster[0], room, "returner", patience=5) == "joined"

    async def is_authorized() -> bool:
        return (await _authorize(cluster, patience=20)).status == 200

    again, authorized_again = await asyncio.gather(
        run.until_async(joined, 20, "a join", must=False),
        run.until_async(is_authorized, 20, "the auth view", must=False),
    )
    await run.lasting(run.n(12, least=8))  # twice the lease: whoever would be reaped is by then
    before, during = (
        _latencies(run, label, measured_from, away_at),
        _latencies(run, label, away_at, back_at),
    )
    p99, quiet = percentile(during, 0.99), percentile(before, 0.99)
    removed = [
        item
        for item in run.history.of("member_removed", since=away_at)
        if item["channel"] == room and item["user"] in users
    ]
    statuses = [status for at, status, _ in load.answers if at >= away_at]
    run.check(f"{label}: broadcast p99", p99 * 1000, at_most=1.5 * quiet * 1000, unit="ms")
    run.check(f"{label}: publishes not accepted", sum(s != 200 for s in statuses), equals=0)
    run.check(f"{label}: events delivered in the outage", len(during) > 0, equals=True)
    fine = [text for text in refusals if text.isdigit() and 4100 <= int(text) <= 4299]
    run.check(f"{label}: joins refused with 4100 to 4299", len(fine), equals=len(refusals))
    if len(fine) != len(refusals):
        run.note(f"{label}: joins got {', '.join(refusals)}")
    run.check(f"{label}: joins work again after", again, at_most=10.0, unit="s")
    odd = sum(answer.status != meanwhile for answer in authorized)
    times = [answer.seconds for answer in authorized]
    run.check(f"{label}: auth requests answered otherwise, or not", odd, equals=0)
    run.check(f"{label}: first answer of the auth view", min(times), at_most=10.0, unit="s")
    run.check(f"{label}: last answer of the auth view", max(times), at_most=25.0, unit="s")
    run.check(f"{label}: authorized again after", authorized_again, at_most=10.0, unit="s")
    run.check(f"{label}: living members announced as gone", len(removed), equals=0)
    lost_sockets = sum(not client.is_open for client in settled + subscribers)
    run.check(f"{label}: sockets lost", lost_sockets, equals=0)


async def _authorize(cluster: Cluster, patience: float) -> Answer:
    """What the site answers to a page that asks for a signature."""
    http = Http(cluster.ports[0])
    answer = await http.ask_site(cluster.users[0].token, "1.1", "private-room", patience)
    http.close()
    return answer


async def _try_to_join(node: Node, channel: str, user: str, patience: float = 10) -> str:
    """What became of a join: ``joined``, the status or close code of its refusal, or words."""
    client = None
    try:
        client = await Pusher.open(node.port, patience=patience)
        await client.subscribe(channel, user, patience=patience)
    except Refused as error:
        return str(error.status)
    except Gone:
        return str(client.close_code) if client else "turned away"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return repr(error)
    else:
        return "joined"
    finally:
        if client is not None:
            client.abort()


def _latencies(run: Run, label: str, since: float, until: float) -> list[float]:
    """Seconds from publish to arrival of the events sent in a time."""
    return [
        item["at"] - item["sent"]
        for item in run.history.of("received")
        if item["channel"] == f"news-{label}" and since <= item["sent"] < until
    ]


@row(
    "A15",
    inject="start with Redis and the database down; start them 5 s later",
    hold="process up, not ready; ready ≤ 2 s after both answer; then joins and events work;"
    " on uvicorn and on Daphne",
    limit=180,
)
async def start_before_everything_else(run: Run) -> None:
    for server in ("uvicorn", "daphne"):
        options = {"server": server, "database": "postgres", "bus": "pubsub"}
        cluster = await run.cluster(1, **options, start=False)
        node = cluster[0]
        await cluster.postgres.stop()
        cluster.valkey.kill()
        run.fault(f"{server}: PostgreSQL and Valkey are down")
        node.spawn()
        up = await run.until_async(lambda n=node: _is(n, "up", 200), 10, "up", must=False)
        seen: set[int] = set()

        async def odd(node: Node = node, seen: set[int] = seen) -> set[int]:
            seen.add(await node.health("ready"))
            return seen - {503}

        # To the end of the outage; nothing else is expected.
        await run.until_async(odd, 5, "another status than 503", must=False)
        run.check(f"{server}: up after", up, at_most=10.0, unit="s")
        run.check(f"{server}: statuses of ready while they are down", sorted(seen), equals=[503])
        run.check(f"{server}: the process lives", node.alive, equals=True)
        cluster.valkey.spawn()
        cluster.postgres.spawn()
        await run.until(cluster.valkey.answers, 20, "Valkey answers")
        await run.until(cluster.postgres.answers, 20, "PostgreSQL answers")
        run.fault(f"{server}: both answer")
        ready = await run.until_async(lambda n=node: _is(n, "ready", 200), 10, "ready", must=False)
        run.check(f"{server}: ready after both answer", ready, at_most=2.0, unit="s")
        outcome = await _try_to_join(node, ROOM, "first")
        run.check(f"{server}: a join", outcome, equals="joined")
        client = await Pusher.open(node.port)
        await client.subscribe("news")
        status = (await Publisher(node.port).publish("news")).status
        run.check(f"{server}: status of a publish", status, equals=200)
        came = await run.until(lambda c=client: c.received, 5, "the event", must=False)
        run.check(f"{server}: its event came after", came, at_most=1.0, unit="s")


async def _is(node: Node, which: str, status: int) -> bool:
    return await node.health(which) == status
