"""Rows A about processes: killed, or paused."""

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field

import psycopg

from tests.chaos.checkers import flapping, ghosts
from tests.chaos.client import Pusher
from tests.chaos.cluster import Cluster, Node
from tests.chaos.crowd import everybody_present, members, observers, removals
from tests.chaos.publisher import Publisher
from tests.chaos.rows import Browser, Run, row
from tests.chaos.scenarios.webhooks import Endpoint

GONE_SECONDS = 10.0
ROOM = "presence-own-data-room"
"""A channel that pusher-js may join through the auth endpoint of the site."""
TOLD_SECONDS = 30.0
"""From a departure to its webhook: it is held back for three, and may meet a claim of the dead."""


@dataclass
class Departures(Endpoint):
    """An endpoint of webhooks that counts how often it was told of each departure."""

    name: str = "departures"
    told: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By channel and user."""

    def _note(self, body: bytes) -> None:
        for event in json.loads(body)["events"]:
            self.told[event["channel"], event["user_id"]] += 1


@row(
    "A1",
    inject="kill -9 a node with 1,000 presence members: one channel of 1,000, then 100 of 10;"
    " then a crash between a commit of presence and its announcement (injection point"
    " ledger.after_commit)",
    hold="each observer sees each user leave once, the last ≤ 10 s after the kill; 0 ghosts by API"
    " after 10 s; 0 removals of users who also sit on the other node; a webhook for each departure,"
    " once",
    limit=240,
)
async def killed_node_leaves_no_ghosts(run: Run) -> None:
    departures = Departures()
    run.stack.callback(departures.stop)
    await departures.start()
    webhooks = [{"URL": departures.url, "KINDS": ["member_removed"]}]
    cluster = await run.cluster(2, settings={"WEBHOOKS": webhooks})
    browser = Browser(run.node_js(), "witness")
    await browser.connect(cluster[1].server.url, "e2e-key", cluster.users[0])
    await _kill_with_members(run, cluster, {ROOM: run.n(1_000, least=20)}, browser, departures)
    cluster[0].spawn()
    await cluster[0].ready()
    many = {f"presence-small-{number}": 10 for number in range(run.n(100, least=3))}
    await _kill_with_members(run, cluster, many, None, departures)
    cluster[0].spawn()
    await cluster[0].ready()
    await _die_unannounced(run, cluster)


async def _kill_with_members(
    run: Run,
    cluster: Cluster,
    sizes: dict[str, int],
    browser: Browser | None,
    departures: Departures,
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
    due = {(channel, user) for channel in sizes for user in expected[channel]}
    told = await run.until(
        lambda: due <= departures.told.keys(), TOLD_SECONDS, "the webhooks", must=False
    )
    run.note(f"{label}: the last webhook {time.monotonic() - killed_at:.0f} s after the kill")
    counts = {key: count for key, count in departures.told.items() if key[0] in sizes}
    run.check(f"{label}: all webhooks came", told < float("inf"), equals=True)
    run.check(f"{label}: departures told once", list(counts.values()).count(1), equals=len(due))
    wrong_ones = sum(count > 1 or key not in due for key, count in counts.items())
    run.check(f"{label}: departures told twice, or of nobody who left", wrong_ones, equals=0)
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
    await _between_renewals(run, cluster, victim)
    present = await _present(survivor)
    await victim.arm("ledger.after_commit", "exit")
    leaver.unsubscribe(channel)
    label = "crash before a departure was told"
    await _hold_convergence(run, cluster, watching, stayers, label, present - 1)

    victim.spawn()
    await victim.ready()
    newcomer = await Pusher.open(victim.port)
    await newcomer.subscribe("news")  # so that the join is not the first commit of the process
    await _between_renewals(run, cluster, victim)
    present = await _present(survivor)
    await victim.arm("ledger.after_commit", "exit")
    newcomer.ask(channel, "newcomer")
    label = "crash before a join was told"
    await _hold_convergence(run, cluster, watching, stayers, label, present + 1)


async def _between_renewals(run: Run, cluster: Cluster, node: Node) -> None:
    """Wait until a renewal of the lease is over, which passes the injection point, too."""

    def expires_at() -> object:
        pattern = f"%:{node.pid}"
        return _select(cluster, "max(expires_at) FROM realtime_server WHERE name LIKE %s", pattern)

    first = expires_at()
    await run.until(lambda: expires_at() != first, 10, "a renewal of the lease")
    await run.until_async(lambda: _idle(node), 10, "the ledger has written everything")


async def _idle(node: Node) -> bool:
    return not (await node.ask("state"))["writing"]


async def _present(node: Node) -> int:
    """How many members are present, by the rows."""
    return int((await node.ask("rows"))["Member present"])


def _select(cluster: Cluster, what: str, *values: object) -> object:
    """The one figure that a query of the database gives, whatever the processes do."""
    with psycopg.connect(cluster.postgres.url(cluster.database)) as connection:
        row = connection.execute(f"SELECT {what}".encode(), values).fetchone()
    return row[0] if row else None


async def _hold_convergence(
    run: Run,
    cluster: Cluster,
    watching: list[Pusher],
    expected: set[str],
    label: str,
    committed: int,
) -> None:
    """Let the process exit; hold that everybody comes to see who is *expected*.

    Args:
        committed: members present by the rows, where the crash came after the commit.
    """
    died_at = run.fault(label)
    died = await run.until(lambda: not cluster[0].alive, 5, label, must=False)
    run.check(f"{label}: the process exited after", died, at_most=5.0, unit="s")
    present = await _present(cluster[1])
    run.check(f"{label}: members present by the rows, just then", present, equals=committed)
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
    hold="0 ghosts ≤ 8 s after the start, and none later; nobody announced who was never seen",
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
    left_behind = _select(cluster, "count(*) FROM realtime_member WHERE present")
    run.check("members left behind in the rows", left_behind, equals=2 * run.n(100, least=5))
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
    await run.lasting(max(0.0, started + 12 - time.monotonic()))
    wrong = ghosts(await publisher.members(ROOM), {witness.name}, "the API")
    wrong += ghosts(witness.present[ROOM], {witness.name}, witness.name)
    run.check_none("ghosts 12 s after the start", wrong)
    faults = flapping(run.history.records)
    run.check_none("departures of users the observer was never shown", faults)


@row(
    "A3",
    inject="SIGSTOP a node with 100 members for 15 s, then SIGCONT; one leaves and one comes while"
    " it sleeps, so that it finds something to write when it wakes",
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
    latecomer = await Pusher.open(victim.port)
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
    leaver, *stayers = users
    sleepers[0].unsubscribe(ROOM)
    coming = latecomer.ask(ROOM, "latecomer")
    woken_at = run.fault("SIGCONT node a")
    victim.resume()
    returning = {*stayers, "latecomer"}
    live = {*returning, *(client.name for client in watching), cluster.users[0].id}

    def all_back() -> bool:
        return all(client.present[ROOM] == live for client in watching)

    back = await run.until(all_back, GONE_SECONDS + 3, "back", must=False)
    here, there = Publisher(victim.port), Publisher(survivor.port)

    async def agree() -> bool:
        return set(await here.members(ROOM)) == set(await there.members(ROOM)) == live

    agreed = await run.until_async(agree, GONE_SECONDS + 3, "agreement", must=False)
    agreed_after = agreed if agreed == float("inf") else time.monotonic() - woken_at
    run.check("gone elsewhere after", gone, at_most=GONE_SECONDS, unit="s")
    run.check("back after waking", back, at_most=GONE_SECONDS, unit="s")
    for client in watching:
        came = Counter(
            item["user"]
            for item in run.history.of("member_added", since=woken_at)
            if item["client"] == client.name and item["user"] != leaver
        )
        once = came == Counter(returning)
        run.check(f"{client.name} saw each return once, and nobody else", once, equals=True)
    run.check("the one who came meanwhile was let in", await _answered(coming), equals=True)
    run.check("both nodes agree after", agreed_after, at_most=GONE_SECONDS, unit="s")
    run.check("sockets lost", sum(not client.is_open for client in sleepers), equals=0)
    noticed = len(victim.lines("lease lost", offset))
    run.check("log lines about the lost lease", noticed, at_least=1)
    run.check_none("pusher-js: out of turn", browser.flapping(ROOM))
    returned = [event.data["id"] for event in browser.events(ROOM, "pusher:member_added")]
    twice = _twice(returned, stayers)
    run.check("pusher-js: users who came twice in all", twice, equals=len(stayers))


async def _answered(confirmation: "asyncio.Future[object]") -> bool:
    """Whether a subscription was confirmed, now or soon."""
    done, _ = await asyncio.wait([confirmation], timeout=GONE_SECONDS)
    return bool(done) and confirmation.exception() is None


def _twice(seen: list[str], users: list[str]) -> int:
    """How many users were seen coming exactly twice: at first, and after the pause."""
    counts = Counter(seen)
    return sum(counts[user] == 2 for user in users)
