"""Members of presence channels, and the clients that watch them come and go."""

import asyncio
import itertools
import time
from collections.abc import Collection

from tests.chaos.checkers import ghosts
from tests.chaos.client import Gone, Pusher, Refused
from tests.chaos.cluster import Cluster, Node
from tests.chaos.publisher import Publisher
from tests.chaos.rows import Run

AT_ONCE = 50
"""Clients that join at the same time, as browsers come."""
CONVERGED_SECONDS = 10.0
"""``reliability.md``, promise 5: how long after a fault a member list may still be wrong."""


async def members(node: Node, channel: str, users: Collection[str]) -> list[Pusher]:
    """One client per user, in a presence channel."""
    return await members_at(node.port, channel, users)


async def members_at(
    port: int, channel: str, users: Collection[str], kind: type[Pusher] = Pusher
) -> list[Pusher]:
    """The same for whoever knows the port alone; clients of *kind*."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def join(user: str) -> Pusher:
        async with gate:
            client = await kind.open(port)
            await client.subscribe(channel, user, patience=60)
            return client

    return list(await asyncio.gather(*(join(user) for user in users)))


async def observers(run: Run, node: Node, channel: str, count: int) -> list[Pusher]:
    """Members that write down what they see."""
    made = []
    for number in range(count):
        name = f"observer-{node.name}{number}-{channel}"
        client = await Pusher.open(node.port, history=run.history, name=name)
        await client.subscribe(channel, name)
        made.append(client)
    return made


def removals(run: Run, client: Pusher, since: float) -> list[tuple[float, str]]:
    """When this client saw whom leave."""
    return [
        (item["at"], item["user"])
        for item in run.history.of("member_removed", since=since)
        if item["client"] == client.name
    ]


async def everybody_present(run: Run, watching: list[Pusher], users: set[str]) -> None:
    """Wait until each observer has heard of all *users*, so that nothing is on its way."""
    for client in watching:
        (channel,) = client.present
        await run.until(
            lambda client=client, channel=channel: users <= client.present[channel],
            20,
            f"{client.name} sees everybody",
        )


class Passage:
    """Members who leave and come while something is broken, watched from every node.

    Args:
        count: members at first, on each node.
    """

    def __init__(self, run: Run, cluster: Cluster, channel: str, count: int) -> None:
        self._run = run
        self._cluster = cluster
        self._channel = channel
        self._count = count
        self._watching: list[Pusher] = []
        self._there: dict[Node, list[tuple[str, Pusher]]] = {}
        self._names = itertools.count(1)
        self._turned_away = 0

    async def begin(self) -> None:
        """Let the members and the observers in."""
        for node in self._cluster.nodes:
            self._watching += await observers(self._run, node, self._channel, 2)
        for node in self._cluster.nodes:
            names = [self._name(node) for _ in range(self._count)]
            joined = await members(node, self._channel, names)
            self._there[node] = list(zip(names, joined, strict=True))
        await everybody_present(self._run, self._watching, self._expected())

    async def change(self) -> None:
        """On each node a third of the members leaves, in two ways, and some try to come."""
        for node, there in self._there.items():
            leaving = [there.pop(0) for _ in range(max(1, self._count // 3))]
            for number, (_, client) in enumerate(leaving):
                client.abort() if number % 2 else client.unsubscribe(self._channel)
            names = [self._name(node) for _ in leaving]
            came = await asyncio.gather(*(self._join(node, name) for name in names))
            there += [(name, client) for name, client in zip(names, came, strict=True) if client]

    async def check(self, label: str, since: float) -> None:
        """Hold that everybody knows of all changes soon after *since*.

        That joins and departures alternate is for the checkers of the history.
        """
        expected = self._expected()
        patience = max(0.0, since + CONVERGED_SECONDS + 5 - time.monotonic())
        await self._run.until(lambda: not self._wrong(expected), patience, label, must=False)
        seconds = time.monotonic() - since if not self._wrong(expected) else float("inf")
        name = f"{label}: every observer knows who left and came after"
        self._run.check(name, seconds, at_most=CONVERGED_SECONDS, unit="s")
        for sentence in self._wrong(expected)[:3]:
            self._run.note(sentence)
        for node in self._cluster.nodes:
            publisher = Publisher(node.port)
            shown = await publisher.members(self._channel)
            name = f"{label}: ghosts by the API of node {node.name}"
            self._run.check_none(name, ghosts(shown, expected, node.name))
        if self._turned_away:
            self._run.note(f"{label}: {self._turned_away} joins were refused meanwhile")
            self._turned_away = 0

    def _wrong(self, expected: set[str]) -> list[str]:
        return [
            fault
            for client in self._watching
            for fault in ghosts(client.present[self._channel], expected, client.name)
        ]

    def _expected(self) -> set[str]:
        there = {name for listed in self._there.values() for name, _ in listed}
        return there | {client.name for client in self._watching}

    def _name(self, node: Node) -> str:
        return f"passer-{node.name}{next(self._names)}"

    async def _join(self, node: Node, user: str) -> Pusher | None:
        client = None
        try:
            client = await Pusher.open(node.port)
            await client.subscribe(self._channel, user)
        except (Gone, Refused, OSError, TimeoutError):
            self._turned_away += 1
            if client is not None:
                client.abort()
            return None
        return client
