"""Rows A about what was accepted: through an outage of the bus, and through a crash."""

import asyncio
import json
import time
from collections.abc import Callable

from tests.chaos.checkers import lost
from tests.chaos.client import Pusher, event_facts
from tests.chaos.cluster import Node
from tests.chaos.crowd import Passage
from tests.chaos.history import History, Record
from tests.chaos.publisher import Load
from tests.chaos.rows import Browser, Run, percentile, row
from tests.chaos.scenarios.bus import (
    PASSAGE,
    heard_everywhere,
    last_ones_arrive,
    subscribers,
)

DURABLE = "durable"
"""How the names of the publishers of durable triggers begin."""
ROLLED_BACK = "rolled-back"
"""The name of the publisher of what no transaction kept."""
SWEPT_SECONDS = 10.0
"""How long a durable trigger may take whose process died after the commit."""


class Tabs:
    """Unmodified pusher-js clients, whose events are judged like those of our own clients."""

    def __init__(self, run: Run, count: int) -> None:
        self._run = run
        node_js = run.node_js()
        self.browsers = [Browser(node_js, f"pusher-js-{number}") for number in range(count)]
        self._channels: dict[str, str] = {}
        """By the name of the client."""

    async def open(self, nodes: list[Node], channels: list[str]) -> None:
        """Connect and subscribe, through the nodes in turn, each to one channel."""
        for number, browser in enumerate(self.browsers):
            name, channel = browser.client.name, channels[number % len(channels)]
            await browser.connect(nodes[number % len(nodes)].server.url, "e2e-key")
            self._run.history.add(name, "asked", channel=channel)
            await browser.subscribe(channel)
            self._run.history.add(name, "subscribed", channel=channel, members=None)
            self._channels[name] = channel

    async def note(self, excused: Callable[[Record], bool]) -> None:
        """Take what they got into the history, once nothing is on its way any more."""
        history = self._run.history
        given = [
            r
            for r in history.of("publish", "subscribed")
            if r["kind"] == "publish" or r["client"] in self._channels
        ]

        def arrived() -> bool:
            return not lost([*given, *self._received()], excused=excused)

        await self._run.until(arrived, 10, "the last ones for pusher-js", must=False)
        for record in self._received():
            history.add(**record)

    def _received(self) -> list[Record]:
        found = []
        for browser in self.browsers:
            name = browser.client.name
            channel = self._channels[name]
            for event in browser.events(channel, "event"):
                data = event.data if isinstance(event.data, str) else json.dumps(event.data)
                if (facts := event_facts({"data": data})) is not None:
                    found.append({"client": name, "kind": "received", "channel": channel, **facts})
        return found


@row(
    "A6",
    inject="Redis killed for 5 s under 200 publishes and 5 durable triggers a second and 2,000"
    " sockets, 20 more of them of pusher-js",
    hold="0 sockets lost; publishes in the outage 503 ≤ 1 s each; none accepted and lost, but what"
    " was answered in the last 0.1 s before the kill or later, and sent before it; durable"
    " ones all delivered; first delivery ≤ 3 s after Redis answers; who left or came meanwhile is"
    " known everywhere ≤ 10 s after it",
    limit=180,
)
async def redis_dies_under_load(run: Run) -> None:
    cluster = await run.cluster(2)
    channels = [f"news-{number}" for number in range(run.n(100, least=5))]
    clients = await subscribers(run, cluster, run.n(2_000, least=40), channels)
    tabs = Tabs(run, run.n(20, least=4))
    await tabs.open(cluster.nodes, channels)
    passage = Passage(run, cluster, PASSAGE, run.n(30, least=6))
    await passage.begin()
    load = Load(cluster.ports, channels, run.history, "p")
    load_on = asyncio.Event()
    rate = 200 * min(1.0, run.scale * 2)
    publishing = asyncio.create_task(load.run(rate, lambda: not load_on.is_set()))
    durable = asyncio.create_task(durable_stream(run.history, cluster.nodes, channels, load_on))
    await run.lasting(5)
    killed_at = run.fault("kill -9 Valkey")
    cluster.valkey.kill()
    await passage.change()
    await run.lasting(max(0.0, killed_at + 5 - time.monotonic()))
    cluster.valkey.spawn()
    await run.until(cluster.valkey.answers, 10, "Valkey answers again")
    back_at = run.fault("Valkey answers, empty")
    first = await run.until(
        lambda: any(True for _ in _received(run, back_at)), 15, "a delivery", must=False
    )
    await passage.check("presence", back_at)
    await run.lasting(max(0.0, back_at + 8 - time.monotonic()))
    load_on.set()
    ended_at = time.monotonic()
    await publishing
    await durable
    probe = await heard_everywhere(run, cluster, clients, channels, 10)

    def under_way(item: Record) -> bool:
        return item["at"] <= killed_at <= item["until"] + 0.1

    await last_ones_arrive(run, ended_at - SWEPT_SECONDS, excused=under_way)
    await tabs.note(under_way)

    # Also those that hung until Redis was back: they are what must not be.
    outage = [
        (status, seconds)
        for at, status, seconds in load.answers
        if killed_at + 0.05 <= at < back_at - 1
    ]
    before = [seconds for at, _, seconds in load.answers if at + seconds < killed_at]
    run.note(f"median answer before the fault {percentile(before, 0.5) * 1000:.0f} ms")
    refused = sum(
        at + seconds < killed_at and status != 200 for at, status, seconds in load.answers
    )
    run.check("publishes refused before the fault", refused, equals=0)
    run.check("publishes in the outage", len(outage), at_least=int(2 * rate))
    run.check("not answered 503", sum(status != 503 for status, _ in outage), equals=0)
    worst = max((seconds for _, seconds in outage), default=float("inf"))
    run.check("slowest answer in the outage", worst, at_most=1.0, unit="s")
    silent = [
        item
        for item in run.history.of("publish")
        if item["status"] == 200 and item["at"] > killed_at
    ]
    run.note(f"{len(silent):,} publishes accepted after the kill")
    run.check_none("accepted and lost, also by pusher-js", lost(ordinary(run), excused=under_way))
    run.check("first delivery after Redis answers", first, at_most=3.0, unit="s")
    run.check("all channels heard", probe, at_most=3.0, unit="s")
    run.check("sockets lost", sum(not client.is_open for client in clients), equals=0)
    times = [browser.states().count("connected") for browser in tabs.browsers]
    run.check("most times that a pusher-js client connected", max(times), equals=1)
    run.check(
        "durable triggers committed in the outage", committed(run, killed_at, back_at), at_least=15
    )
    check_durable(run, at_least=40)


def _received(run: Run, since: float):
    return (item for item in run.history.of("received", since=since) if item["sent"] > since)


async def durable_stream(
    history: History,
    nodes: list[Node],
    channels: list[str],
    over: asyncio.Event,
    *,
    rate: float = 5,
) -> None:
    """Up to *rate* durable triggers a second, as many through each node as through any other."""

    async def through(node: Node) -> None:
        # One after the other, so that there is an order to keep.
        publisher = f"{DURABLE}-{node.name}"
        number = 0
        while not over.is_set():
            channel, at = channels[number % len(channels)], time.monotonic()
            committed = node.alive and await durable_trigger(node, channel, publisher, number)
            history.add(
                publisher,
                "publish",
                channel=channel,
                publisher=publisher,
                number=number,
                status=200 if committed else 0,
                until=time.monotonic(),
            )
            history.records[-1]["at"] = at
            number += 1
            # Pacing of the load.
            await asyncio.sleep(max(0.0, at + len(nodes) / rate - time.monotonic()))

    await asyncio.gather(*map(through, nodes))


async def durable_trigger(
    node: Node,
    channel: str,
    publisher: str,
    number: int,
    *,
    door: str = "durable",
    rollback: bool = False,
) -> bool:
    """A trigger in a transaction of *node*; whether that ended as it should.

    Args:
        door: ``plain`` for an ordinary one.
    """
    data = json.dumps({"p": publisher, "n": number, "t": time.monotonic()}, separators=(",", ":"))
    status, _ = await node.knock(
        door, channel=channel, name="event", data=data, rollback=int(rollback)
    )
    return status == 200


def committed(run: Run, since: float, until: float) -> int:
    """How many durable triggers were begun in a time and committed."""
    return sum(
        item["status"] == 200
        for item in run.history.of("publish")
        if item["publisher"].startswith(DURABLE) and since < item["at"] < until
    )


def check_durable(run: Run, *, at_least: int) -> None:
    """Hold that each committed trigger reached each client that was there long enough."""
    mine = [r for r in run.history.records if r.get("publisher", DURABLE).startswith(DURABLE)]
    came = [
        (item["client"], item["channel"], item["publisher"], item["number"])
        for item in mine
        if item["kind"] == "received"
    ]
    run.check("durable triggers committed", committed(run, 0, float("inf")), at_least=at_least)
    run.check_none("durable triggers lost", lost(mine, settle=SWEPT_SECONDS))
    run.note(f"{len(came) - len(set(came))} of {len(came):,} durable deliveries were repeats")


def ordinary(run: Run) -> list[Record]:
    """The history without the durable triggers."""
    return [r for r in run.history.records if not r.get("publisher", "").startswith(DURABLE)]


@row(
    "A11",
    inject="the process exits between commit and publish (injection point outbox.after_commit), and"
    " after the publish, before it noted that (outbox.after_publish)",
    hold="the sweep of another process delivers a durable trigger ≤ 10 s after the crash; a repeat"
    " carries the same id; a transaction that was rolled back sends nothing, durable or not",
    limit=90,
    short=True,
)
async def commit_survives_a_crash(run: Run) -> None:
    cluster = await run.cluster(2)
    victim, survivor = cluster[0], cluster[1]
    client = await Pusher.open(survivor.port, history=run.history)
    await client.subscribe("orders")
    for door in ("durable", "plain"):
        rolled_back = await durable_trigger(
            survivor, "orders", ROLLED_BACK, 0, door=door, rollback=True
        )
        run.check(f"{door}: a transaction was rolled back", rolled_back, equals=True)
        sent = await durable_trigger(survivor, "orders", door, 0, door=door)
        run.check(f"{door}: the next one committed", sent, equals=True)

        def publishers() -> list[str]:
            return [item["publisher"] for item in run.history.of("received")]

        came = await run.until(lambda door=door: door in publishers(), 5, door, must=False)
        run.check(f"{door}: its event came after", came, at_most=2.0, unit="s")

    await victim.arm("outbox.after_commit", "exit")
    await _crash_with(run, victim, "before the publish", deliveries=1)
    victim.spawn()
    await victim.ready()
    await victim.arm("outbox.after_publish", "exit")
    await _crash_with(run, victim, "after the publish", deliveries=2)

    wrong = sum(item["publisher"] == ROLLED_BACK for item in run.history.of("received"))
    run.check("events of the transactions that were rolled back", wrong, equals=0)


async def _crash_with(run: Run, victim: Node, label: str, *, deliveries: int) -> None:
    """Let a durable trigger crash its process; hold how often and how soon it comes."""
    crashed_at = run.fault(f"node {victim.name} exits {label}")
    await durable_trigger(victim, "orders", label, 0)
    died = await run.until(lambda: not victim.alive, 5, "the crash", must=False)
    run.check(f"{label}: the process exited after", died, at_most=5.0, unit="s")

    def marks() -> list[str | None]:
        received = run.history.of("received")
        return [item.get("id") for item in received if item["publisher"] == label]

    await run.until(lambda: len(marks()) >= deliveries, 15, "the sweep", must=False)
    seconds = time.monotonic() - crashed_at if len(marks()) >= deliveries else float("inf")
    run.check(f"{label}: delivered by the sweep after", seconds, at_most=10.0, unit="s")
    run.check(f"{label}: deliveries", len(marks()), equals=deliveries)
    run.check(f"{label}: ids of these deliveries", len(set(marks()) - {None}), equals=1)
    run.check(f"{label}: deliveries without an id", marks().count(None), equals=0)
