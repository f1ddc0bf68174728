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
        return {user for user, mine in self.sockets.items() if any(c.is_open for c in mine)}

    def end(self) -> None:
        for mine in self.sockets.values():
            for client in mine:
                client.abort()


@row(
    "C5",
    inject="500 random sequences of joins, leaves and cut connections of users with several sockets"
    " on 3 nodes, while nodes are killed and paused",
    hold="final members = users with a live socket; joins and departures alternate for every"
    " observer; user counts right; realtime_presence --verify finds no difference",
    limit=360,
)
async def members_are_those_who_are_there(run: Run) -> None:
    cluster = await run.cluster(3)
    per_round, rounds = run.n(100, least=5), 5
    node_js = run.node_js()
    worst, done = 0.0, 0
    for number in range(rounds):
        # The observers sit on a node that is left in peace in this round.
        safe = cluster[number % 3]
        victim = cluster[(number + 1 + run.random.randrange(2)) % 3]
        how = run.random.choice(["kill", "pause", "both"])
        run.note(f"round {number + 1}: {how} node {victim.name}, observers on {safe.name}")
        sequences = [
            Sequence(
                f"presence-own-data-{number}-{index}",
                random.Random(f"{run.seed} {number} {index}"),
            )
            for index in range(per_round)
        ]
        watching = [await _observer(run, safe, item.channel) for item in sequences]
        browser = Browser(node_js, f"round-{number}")
        await browser.connect(safe.server.url, "e2e-key", cluster.users[number])
        await browser.subscribe(sequences[0].channel)
        faults = asyncio.create_task(_faults(run, cluster, victim, how))
        await asyncio.gather(*(item.live(cluster.nodes) for item in sequences))
        await faults
        quiet = time.monotonic()
        wrong = await _settled(run, safe, sequences, cluster.users[number].id)
        worst = max(worst, time.monotonic() - quiet)
        status, words = await cluster.verify()
        if not run.check(f"round {number + 1}: exit status of --verify", status, equals=0):
            run.note(" ".join(words.split()))
        run.check_none(f"round {number + 1}: members", wrong)
        run.check_none(f"round {number + 1}: pusher-js", browser.flapping(sequences[0].channel))
        done += len(sequences)
        for item in sequences:
            item.end()
        for client in watching:
            client.abort()
        await browser.call("disconnect")
    run.check("sequences", done, equals=rounds * per_round)
    run.check("members right after it is quiet", worst, at_most=10.0, unit="s")


async def _observer(run: Run, node: Node, channel: str) -> Pusher:
    client = await Pusher.open(node.port, history=run.history, name=f"observer-{channel}")
    await client.subscribe(channel, "observer")
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


async def _settled(run: Run, node: Node, sequences: list[Sequence], browser_user: str) -> list[str]:
    """What is still wrong once the member lists had time to become right."""
    publisher = Publisher(node.port)
    wrong: list[str] = []

    async def right() -> bool:
        wrong[:] = await _wrong(publisher, sequences, browser_user)
        return not wrong

    await run.until_async(right, SETTLE_SECONDS, "members", must=False)
    return wrong


async def _wrong(publisher: Publisher, sequences: list[Sequence], browser_user: str) -> list[str]:
    faults = []
    query = {"filter_by_prefix": "presence-", "info": "user_count"}
    answer = await publisher.call("GET", "/channels", query=query)
    counts = {name: item["user_count"] for name, item in answer.json()["channels"].items()}
    for index, item in enumerate(sequences):
        live = item.present() | {"observer"} | ({browser_user} if index == 0 else set())
        shown = await publisher.members(item.channel)
        faults += ghosts(shown, live, item.channel)
        if counts.get(item.channel) != len(live):
            faults.append(f"{item.channel} counts {counts.get(item.channel)}, not {len(live)}")
    return faults
