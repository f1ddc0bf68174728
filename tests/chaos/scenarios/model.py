"""Row C5: random lives of users on three nodes, and what must be true when it is quiet."""

import asyncio
import random
import time
from dataclasses import dataclass, field

from tests.chaos.checkers import ghosts
from tests.chaos.client import Gone, Pusher, Refused
from tests.chaos.cluster import Cluster, Node
from tests.chaos.publisher import Publisher
from tests.chaos.rows import Browser, Run, row

USERS = ("ann", "bob", "eve")
FAULTS = ("kill", "pause", "both")
STEPS = 12
STEP_SECONDS = 10.0
"""Over which the steps of a sequence are spread."""
SETTLE_SECONDS = 20.0


@dataclass
class Sequence:
    """One channel with the random lives in it."""

    channel: str
    chance: random.Random
    sockets: dict[str, list[Pusher]] = field(default_factory=dict)
    observers: list[Pusher] = field(default_factory=list)
    """Clients that stay and write down what they see, each named after its user."""

    async def live(self, nodes: list[Node]) -> None:
        """Take all steps; a step on a node that is dead or asleep may fail or take long."""
        times = sorted(self.chance.uniform(0, STEP_SECONDS) for _ in range(STEPS))
        started = time.monotonic()
        pending = []
        for at in times:
            # The moment that the seed chose for this step.
            await asyncio.sleep(max(0.0, started + at - time.monotonic()))
            user, node = self.chance.choice(USERS), self.chance.choice(nodes)
            mine = self.sockets.setdefault(user, [])
            kind = self.chance.random()
            if kind < 0.55 or not mine:
                pending.append(asyncio.create_task(self._join(user, node)))
                continue
            client = mine.pop(self.chance.randrange(len(mine)))
            if kind < 0.75:
                client.unsubscribe(self.channel)
            elif kind < 0.9:
                client.abort()
            else:
                pending.append(asyncio.create_task(client.leave()))
        await asyncio.gather(*pending)

    async def _join(self, user: str, node: Node) -> None:
        try:
            client = await Pusher.open(node.port, patience=25)
        except (OSError, Gone, TimeoutError):
            return
        try:
            await client.subscribe(self.channel, user, patience=25)
        except (Gone, Refused, TimeoutError):
            client.abort()
            return
        self.sockets[user].append(client)

    def present(self) -> set[str]:
        """Users with a live socket."""
        users = {user for user, mine in self.sockets.items() if any(c.is_open for c in mine)}
        return users | {client.name.partition("-")[0] for client in self.observers}

    def clients(self) -> list[Pusher]:
        """Whoever is in the channel now, and is told of the others."""
        mine = [client for listed in self.sockets.values() for client in listed if client.is_open]
        return mine + self.observers

    def end(self) -> None:
        for client in self.clients():
            client.abort()


@dataclass(frozen=True)
class Witness:
    """An unmodified pusher-js client in one of the channels."""

    browser: Browser
    user: str
    channel: str

    async def members(self) -> list[str]:
        """The users that it knows of."""
        known = await self.browser.call("members", channel=self.channel)
        return list(known["members"])


@row(
    "C5",
    inject="500 random sequences of joins, leaves and cut connections of users with several sockets"
    " on 3 nodes, while nodes are killed and paused; observers sit on a node that is left in peace,"
    " and where the fault is only a pause on that node too",
    hold="final members = users with a live socket, by API and as told to every observer, to every"
    " client in the channel and to pusher-js; joins and departures alternate for every observer;"
    " user counts right; realtime_presence --verify finds no difference, and at the end a row that"
    " was taken away and one that was put back, which --repair mends",
    limit=360,
)
async def members_are_those_who_are_there(run: Run) -> None:
    cluster = await run.cluster(3)
    per_round, rounds = run.n(100, least=5), 5
    node_js = run.node_js()
    worst, done = 0.0, 0
    # Each kind once, and two more of the seed's choice.
    ways = [*FAULTS, *run.random.choices(FAULTS, k=rounds - len(FAULTS))]
    run.random.shuffle(ways)
    for number, how in enumerate(ways):
        safe = cluster[number % 3]
        victim = cluster[(number + 1 + run.random.randrange(2)) % 3]
        homes = {"observer": safe} | ({"sleeper": victim} if how == "pause" else {})
        where = " and ".join(node.name for node in homes.values())
        run.note(f"round {number + 1}: {how} node {victim.name}, observers on {where}")
        sequences = [
            Sequence(
                f"presence-own-data-{number}-{index}",
                random.Random(f"{run.seed} {number} {index}"),
            )
            for index in range(per_round)
        ]
        for item in sequences:
            for name, node in homes.items():
                item.observers.append(await _observer(run, node, item.channel, name))
        browser = Browser(node_js, f"round-{number}")
        await browser.connect(safe.server.url, "e2e-key", cluster.users[number])
        await browser.subscribe(sequences[0].channel)
        witness = Witness(browser, cluster.users[number].id, sequences[0].channel)
        faults = asyncio.create_task(_faults(run, cluster, victim, how))
        await asyncio.gather(*(item.live(cluster.nodes) for item in sequences))
        await faults
        quiet = time.monotonic()
        wrong = await _settled(run, safe, sequences, witness)
        worst = max(worst, time.monotonic() - quiet)
        status, words = await cluster.presence("--verify")
        if not run.check(f"round {number + 1}: exit status of --verify", status, equals=0):
            run.note(" ".join(words.split()))
        run.check_none(f"round {number + 1}: wrong members", wrong)
        flapping = browser.flapping(sequences[0].channel)
        run.check_none(f"round {number + 1}: pusher-js: out of turn", flapping)
        done += len(sequences)
        if number == rounds - 1:
            await _falsified(run, cluster, safe, sequences, witness)
        for item in sequences:
            item.end()
        await browser.call("disconnect")
    run.check("sequences", done, equals=rounds * per_round)
    run.check("members right after it is quiet", worst, at_most=10.0, unit="s")


FORGET = """
DELETE FROM realtime_membership WHERE id = (
    SELECT realtime_membership.id FROM realtime_membership
    JOIN realtime_member ON realtime_member.id = member_id
    WHERE channel = %s ORDER BY socket_id LIMIT 1
)
"""
REMEMBER = "INSERT INTO remembered SELECT * FROM realtime_membership WHERE socket_id = %s"
RECALL = "INSERT INTO realtime_membership SELECT * FROM remembered"
LOOK = "SELECT 1 FROM realtime_membership WHERE socket_id = %s"


async def _falsified(
    run: Run, cluster: Cluster, safe: Node, sequences: list[Sequence], witness: Witness
) -> None:
    """Take the row of a socket away, and put one back whose socket has gone."""
    channel = witness.channel

    async def execute(statement: str, *values: str) -> int:
        work = cluster.postgres.execute
        return await asyncio.to_thread(work, cluster.database, statement, *values)

    await execute("CREATE TABLE remembered (LIKE realtime_membership)")
    guest = await Pusher.open(safe.port, history=run.history, name="guest")
    await guest.subscribe(channel, "guest")
    run.check("rows remembered", await execute(REMEMBER, guest.socket_id), equals=1)
    guest.abort()

    async def gone() -> bool:
        return not await execute(LOOK, guest.socket_id)

    await run.until_async(gone, SETTLE_SECONDS, "the row of the guest")
    run.check("rows taken away", await execute(FORGET, channel), equals=1)
    run.check("rows put back", await execute(RECALL), equals=1)
    for option, status in (("--verify", 1), ("--repair", 0), ("--verify", 0)):
        found, words = await cluster.presence(option)
        if not run.check(f"exit status of {option} then", found, equals=status):
            run.note(" ".join(words.split()))
    wrong = await _settled(run, safe, sequences, witness)
    run.check_none("wrong members after the repair", wrong)


async def _observer(run: Run, node: Node, channel: str, user: str) -> Pusher:
    client = await Pusher.open(node.port, history=run.history, name=f"{user}-{channel}")
    await client.subscribe(channel, user)
    return client


async def _faults(run: Run, cluster: Cluster, victim: Node, how: str) -> None:
    """Kill or pause *victim* in the middle of the steps, and heal it."""
    await run.lasting(2)
    if how in ("pause", "both"):
        run.fault(f"SIGSTOP node {victim.name}")
        victim.pause()
        # Longer or shorter than the lease, as the seed has it.
        await run.lasting(run.random.choice([3, 9]))
        victim.resume()
        run.fault(f"SIGCONT node {victim.name}")
    if how in ("kill", "both"):
        run.fault(f"kill -9 node {victim.name}")
        victim.kill()
        await run.lasting(2)
        victim.spawn()
        await victim.ready()
        run.fault(f"node {victim.name} is back")


async def _settled(run: Run, node: Node, sequences: list[Sequence], witness: Witness) -> list[str]:
    """What is still wrong once the member lists had time to become right."""
    publisher = Publisher(node.port)
    wrong: list[str] = []

    async def right() -> bool:
        wrong[:] = await _wrong(publisher, sequences, witness)
        return not wrong

    await run.until_async(right, SETTLE_SECONDS, "members", must=False)
    return wrong


async def _wrong(publisher: Publisher, sequences: list[Sequence], witness: Witness) -> list[str]:
    faults = []
    query = {"filter_by_prefix": "presence-", "info": "user_count"}
    answer = await publisher.call("GET", "/channels", query=query)
    counts = {name: item["user_count"] for name, item in answer.json()["channels"].items()}
    for item in sequences:
        live = item.present()
        if item.channel == witness.channel:
            live |= {witness.user}
            faults += ghosts(await witness.members(), live, "pusher-js")
        shown = await publisher.members(item.channel)
        faults += ghosts(shown, live, item.channel)
        for client in item.clients():
            faults += ghosts(client.present[item.channel], live, f"{client.name}, {item.channel},")
        if counts.get(item.channel) != len(live):
            faults.append(f"{item.channel} counts {counts.get(item.channel)}, not {len(live)}")
    return faults
