"""Rows A about processes: killed, paused, or away from their database."""

import asyncio
import time
from collections import Counter

from tests.chaos.backing import SQLiteLock
from tests.chaos.checkers import flapping, ghosts
from tests.chaos.client import Gone, Pusher, Refused
from tests.chaos.cluster import Cluster, Node
from tests.chaos.crowd import everybody_present, members, observers, removals
from tests.chaos.publisher import Load, Publisher
from tests.chaos.rows import Browser, Run, percentile, row

GONE_SECONDS = 10.0
ROOM = "presence-own-data-room"
"""A channel that pusher-js may join through the auth endpoint of the site."""


@row(
    "A1",
    inject="kill -9 a node with 1,000 presence members: one channel of 1,000, then 100 of 10;"
    " then a crash between a commit of presence and its announcement (injection point"
    " ledger.after_commit)",
    hold="each observer sees each user leave once, the last ≤ 10 s after the kill; 0 ghosts by API"
    " after 10 s; 0 removals of users who also sit on the other node",
    limit=240,
)
async def killed_node_leaves_no_ghosts(run: Run) -> None:
    cluster = await run.cluster(2)
    browser = Browser(run.node_js(), "witness")
    await browser.connect(cluster[1].server.url, "e2e-key", cluster.users[0])
    await _kill_with_members(run, cluster, {ROOM: run.n(1_000, least=20)}, browser)
    cluster[0].spawn()
    await cluster[0].ready()
    many = {f"presence-small-{number}": 10 for number in range(run.n(100, least=3))}
    await _kill_with_members(run, cluster, many, None)
    cluster[0].spawn()
    await cluster[0].ready()
    await _die_unannounced(run, cluster)


async def _kill_with_members(
    run: Run, cluster: Cluster, sizes: dict[str, int], browser: Browser | None
) -> None:
    label = f"{len(sizes)} channel{'s' * (len(sizes) > 1)}"
    victim, survivor = cluster[0], cluster[1]
    watching: dict[str, list[Pusher]] = {}
    expected: dict[str, set[str]] = {}
    both: dict[str, set[str]] = {}
    for channel, size in sizes.items():
        watching[channel] = await observers(run, survivor, channel, 3 if len(sizes) == 1 else 1)
        if browser is not None:
            await browser.subscribe(channel)
        users = [f"u{number}-{channel}" for number in range(size)]
        shared = users[: max(1, size // 10)]
        extra = [f"{user}-both" for user in shared]
        await members(victim, channel, users + extra)
        await members(survivor, channel, extra)
        expected[channel], both[channel] = set(users), set(extra)
    for channel, clients in watching.items():
        await everybody_present(run, clients, expected[channel] | both[channel])

    killed_at = run.fault(f"kill -9 node {victim.name}")
    victim.kill()

    def all_gone() -> bool:
        count = sum(1 for _ in run.history.of("member_removed", since=killed_at))
        return count >= sum(len(expected[name]) * len(watching[name]) for name in sizes)

    await run.until(all_gone, GONE_SECONDS + 5, "the departures", must=False)
    await run.lasting(max(0.0, killed_at + GONE_SECONDS - time.monotonic()))
    publisher = Publisher(survivor.port)
    wrong, twice, last, ghostly, both_removed = 0, 0, 0.0, [], 0
    for channel in sizes:
        live = both[channel] | {client.name for client in watching[channel]}
        if browser is not None:
            live.add(cluster.users[0].id)
        shown = await publisher.members(channel)
        ghostly += ghosts(shown, live, f"the API for {channel}")
        for client in watching[channel]:
            seen = Counter(user for _, user in removals(run, client, killed_at))
            wrong += len(set(seen) ^ expected[channel])
            both_removed += len(set(seen) & both[channel])
            twice += sum(count > 1 for count in seen.values())
            last = max([last, *(at - killed_at for at, _ in removals(run, client, killed_at))])
    run.check(f"{label}: users not seen leaving, or wrongly", wrong, equals=0)
    run.check(f"{label}: seen leaving twice", twice, equals=0)
    run.check(f"{label}: last departure", last, at_most=GONE_SECONDS, unit="s")
    run.check_none(f"{label}: ghosts by API", ghostly)
    run.check(f"{label}: removals of users who are still there", both_removed, equals=0)
    if browser is not None:
        (channel,) = sizes
        left = [event.data["id"] for event in browser.events(channel, "pusher:member_removed")]
        run.check("departures seen by pusher-js", len(left), equals=len(expected[channel]))
        run.check_none("pusher-js: out of turn", browser.flapping(channel))


async def _die_unannounced(run: Run, cluster: Cluster) -> None:
    """Crash a node twice between a commit of its ledger and the announcement of it."""
    victim, survivor = cluster[0], cluster[1]
    channel = "presence-unannounced"
    watching = await observers(run, survivor, channel, 2)
    stayers = {client.name for client in watching}
    leaver, _ = await members(victim, channel, ["leaver", "other"])
    await everybody_present(run, watching, {*stayers, "leaver", "other"})
    await run.until_async(lambda: _idle(victim), 10, "the ledger has written everything")
    await victim.arm("ledger.after_commit", "exit")
    leaver.unsubscribe(channel)
    await _hold_convergence(run, cluster, watching, stayers, "crash before a departure was told")

    victim.spawn()
    await victim.ready()
    newcomer = await Pusher.open(victim.port)
    await newcomer.subscribe("news")  # so that the join is not the first commit of the process
    await run.until_async(lambda: _idle(victim), 10, "the ledger has written everything")
    await victim.arm("ledger.after_commit", "exit")
    newcomer.ask(channel, "newcomer")
    await _hold_convergence(run, cluster, watching, stayers, "crash before a join was told")


async def _idle(node: Node) -> bool:
    return not (await node.ask("state"))["writing"]


async def _hold_convergence(
    run: Run, cluster: Cluster, watching: list[Pusher], expected: set[str], label: str
) -> None:
    died_at = run.fault(label)
    died = await run.until(lambda: not cluster[0].alive, 5, label, must=False)
    run.check(f"{label}: the process exited after", died, at_most=5.0, unit="s")
    # To the end, since a late announcement could also make wrong what was right.
    await run.lasting(max(0.0, died_at + GONE_SECONDS - time.monotonic()))
    (channel,) = watching[0].present
    wrong = ghosts(await Publisher(cluster[1].port).members(channel), expected, "the API")
    for client in watching:
        wrong += ghosts(client.present[channel], expected, client.name)
    run.check_none(f"{label}: wrong members after {GONE_SECONDS:g} s", wrong)


@row(
    "A2",
    inject="kill both nodes, start one 30 s later",
    hold="0 ghosts ≤ 8 s after the start; nobody announced who was never seen",
    limit=120,
)
async def everybody_is_gone_after_a_power_cut(run: Run) -> None:
    cluster = await run.cluster(2)
    for node in cluster.nodes:
        await members(node, ROOM, [f"{node.name}{n}" for n in range(run.n(100, least=5))])
    run.fault("kill -9 both nodes")
    for node in cluster.nodes:
        node.kill()
    await run.lasting(30)
    started = run.fault("start one node")
    cluster[1].spawn()
    await cluster[1].ready()
    ready = time.monotonic()
    (witness,) = await observers(run, cluster[1], ROOM, 1)
    publisher = Publisher(cluster[1].port)

    async def clean() -> bool:
        return await publisher.members(ROOM) == [witness.name]

    seconds = await run.until_async(clean, 12, "an empty member list", must=False)
    run.check("0 ghosts after", ready - started + seconds, at_most=8.0, unit="s")
    faults = flapping(run.history.records)
    run.check_none("departures of users the observer was never shown", faults)


@row(
    "A3",
    inject="SIGSTOP a node with 100 members for 15 s, then SIGCONT",
    hold="members gone elsewhere ≤ 10 s; back once each after it woke; joins and departures"
    " alternate; both nodes agree ≤ 10 s after it woke; 0 sockets lost",
    limit=120,
)
async def paused_node_comes_back(run: Run) -> None:
    cluster = await run.cluster(2)
    victim, survivor = cluster[0], cluster[1]
    watching = await observers(run, survivor, ROOM, 3)
    browser = Browser(run.node_js(), "witness")
    await browser.connect(survivor.server.url, "e2e-key", cluster.users[0])
    await browser.subscribe(ROOM)
    users = [f"u{number}" for number in range(run.n(100, least=5))]
    sleepers = await members(victim, ROOM, users)
    await everybody_present(run, watching, set(users))
    offset = victim.log_size()

    paused_at = run.fault("SIGSTOP node a")
    victim.pause()
    due = len(users) * len(watching)

    def count(kind: str, since: float) -> int:
        return sum(1 for _ in run.history.of(kind, since=since))

    gone = await run.until(
        lambda: count("member_removed", paused_at) >= due, GONE_SECONDS + 3, "gone", must=False
    )
    await run.lasting(max(0.0, paused_at + 15 - time.monotonic()))
    woken_at = run.fault("SIGCONT node a")
    victim.resume()
    back = await run.until(
        lambda: count("member_added", woken_at) >= due, GONE_SECONDS + 3, "back", must=False
    )
    here, there = Publisher(victim.port), Publisher(survivor.port)
    live = {*users, *(client.name for client in watching), cluster.users[0].id}

    async def agree() -> bool:
        return set(await here.members(ROOM)) == set(await there.members(ROOM)) == live

    agreed = await run.until_async(agree, GONE_SECONDS + 3, "agreement", must=False)
    agreed_after = agreed if agreed == float("inf") else time.monotonic() - woken_at
    run.check("gone elsewhere after", gone, at_most=GONE_SECONDS, unit="s")
    run.check("back after waking", back, at_most=GONE_SECONDS, unit="s")
    run.check("returns seen per observer", count("member_added", woken_at), equals=due)
    run.check("both nodes agree after", agreed_after, at_most=GONE_SECONDS, unit="s")
    run.check("sockets lost", sum(not client.is_open for client in sleepers), equals=0)
    noticed = len(victim.lines("lease lost", offset))
    run.check("log lines about the lost lease", noticed, at_least=1)
    run.check_none("pusher-js: out of turn", browser.flapping(ROOM))
    returned = [event.data["id"] for event in browser.events(ROOM, "pusher:member_added")]
    run.check("pusher-js: users who came twice in all", _twice(returned, users), equals=len(users))


def _twice(seen: list[str], users: list[str]) -> int:
    """How many users were seen coming exactly twice: at first, and after the pause."""
    counts = Counter(seen)
    return sum(counts[user] == 2 for user in users)


@row(
    "A8",
    inject="database away for 30 s: PostgreSQL stopped under two nodes; SQLite write lock held",
    hold="broadcasts unaffected (p99 ≤ 1.5 × before); joins refused with 4100 to 4299;"
    " on return 0 living members announced as gone; joins work ≤ 10 s after it",
    limit=240,
)
async def database_goes_away(run: Run) -> None:
    cluster = await run.cluster(2)

    async def stop() -> None:
        await cluster.postgres.stop()

    async def start() -> None:
        cluster.postgres.spawn()
        await run.until(cluster.postgres.answers, 20, "PostgreSQL answers again")

    await _without_database(run, cluster, "PostgreSQL", stop, start)
    alone = await run.cluster(1)
    lock = SQLiteLock(alone.sqlite)

    async def take() -> None:
        lock.take()

    async def release() -> None:
        lock.release()

    await _without_database(run, alone, "SQLite", take, release)


async def _without_database(run: Run, cluster: Cluster, label: str, take_away, give_back) -> None:
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
    refusals = await asyncio.gather(
        *(_try_to_join(cluster[0], room, f"late{n}", patience=outage) for n in range(3))
    )
    await publishing
    await give_back()
    back_at = run.fault(f"{label} back")

    async def joined() -> bool:
        return await _try_to_join(cluster[0], room, "returner", patience=5) == "joined"

    again = await run.until_async(joined, 20, "a join", must=False)
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
    run.check(f"{label}: living members announced as gone", len(removed), equals=0)
    lost_sockets = sum(not client.is_open for client in settled + subscribers)
    run.check(f"{label}: sockets lost", lost_sockets, equals=0)


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
        status = await node.health("ready")
        run.check(f"{server}: up after", up, at_most=10.0, unit="s")
        run.check(f"{server}: status of ready while they are down", status, equals=503)
        run.check(f"{server}: the process lives", node.alive, equals=True)
        await run.lasting(5)
        cluster.valkey.spawn()
        cluster.postgres.spawn()
        await run.until(cluster.valkey.answers, 20, "Valkey answers")
        await run.until(cluster.postgres.answers, 20, "PostgreSQL answers")
        run.fault(f"{server}: both answer")
        ready = await run.until_async(lambda n=node: _is(n, "ready", 200), 10, "ready", must=False)
        run.check(f"{server}: ready after both answer", ready, at_most=2.0, unit="s")
        outcome = await _try_to_join(node, ROOM, "first")
        run.check(f"{server}: a join", outcome, equals="joined")


async def _is(node: Node, which: str, status: int) -> bool:
    return await node.health(which) == status
