"""What a row of the reliability table is, and what it may ask of a run."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos import checkers
from tests.chaos.cluster import Cluster, Ground, Node
from tests.chaos.history import History
from tests.chaos.proxy import Proxy
from tests.e2e.nodejs import Client as PusherJs
from tests.e2e.nodejs import Node as NodeJs
from tests.e2e.sites import User

GLANCE_SECONDS = 0.01
SHORT_SLACK = 3
NEVER = float("inf")


@dataclass
class Check:
    """One figure of a row."""

    name: str
    seen: str
    hold: str
    ok: bool


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    id: str
    inject: str
    hold: str
    work: Callable[["Run"], Awaitable[None]]
    limit: float
    """Seconds after which the row has failed, whatever it waits for."""
    short: bool
    """Whether it belongs to the lane of every push."""
    idle: bool
    """Whether it does little but wait, so that other rows may run beside it."""


ROWS: dict[str, Row] = {}


def row(
    id: str, *, inject: str, hold: str, limit: float, short: bool = False, idle: bool = False
) -> Callable[[Callable[["Run"], Awaitable[None]]], Callable[["Run"], Awaitable[None]]]:
    """Declare the decorated function as the row *id*."""

    def declare(work: Callable[["Run"], Awaitable[None]]) -> Callable[["Run"], Awaitable[None]]:
        ROWS[id] = Row(id, inject, hold, work, limit, short, idle)
        return work

    return declare


@dataclass
class Result:
    """How a row went."""

    id: str
    verdict: str
    """``held`` or ``missed``."""
    checks: list[Check]
    notes: list[str]
    seconds: float
    seed: int
    scale: float
    short: bool = False
    """Whether it was the smaller form of the short lane."""
    clusters: list[str] = field(default_factory=list)
    """What it ran on, beyond what all rows have in common."""
    kept: list[Path] = field(default_factory=list)
    """Files with what happened."""

    @property
    def ok(self) -> bool:
        return self.verdict == "held"


@dataclass
class Run:
    """One run of one row."""

    id: str
    seed: int
    scale: float
    ground: Ground
    short: bool = False
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    history: History = field(default_factory=History)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    earlier: dict[str, list[str]] = field(default_factory=dict)
    """Faults in the histories of the rows before, by row."""
    nodes: list[Node] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    """What each cluster was asked to be, for the output."""
    outputs: dict[str, str] = field(default_factory=dict)
    """What programs printed, by name, for the case that the row is missed."""

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.id} {self.seed}")

    # ---- figures --------------------------------------------------------------------

    def check(
        self,
        name: str,
        value: Any,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
        equals: Any = None,
        unit: str = "",
    ) -> bool:
        """Hold a figure against its bound.

        A bound that is infinite was measured on silence, and nothing holds it.

        The short lane runs wherever the tests run, however slow and busy the machine is.  So
        bounds in seconds are three times as wide there, and milliseconds are shown only.
        """
        if at_most is not None:
            slack = SHORT_SLACK if self.short and unit == "s" else 1
            ok, hold = value <= at_most * slack < NEVER, f"≤ {_shown(at_most * slack, unit)}"
        elif at_least is not None:
            ok, hold = value >= at_least, f"≥ {_shown(at_least, unit)}"
        else:
            ok, hold = value == equals, _shown(equals, unit)
        if self.short and unit == "ms" and not ok and value < NEVER:
            self.note(f"{name}: {_shown(value, unit)}, held to {hold} in the whole table only")
            return ok
        self.checks.append(Check(name, _shown(value, unit), hold, ok))
        return ok

    def check_none(self, name: str, faults: list[str]) -> bool:
        """Hold that a checker found nothing; the first faults become notes."""
        for sentence in faults[:3]:
            self.note(sentence)
        return self.check(name, len(faults), equals=0)

    def note(self, sentence: str) -> None:
        """Say what the figures do not."""
        self.notes.append(sentence)

    def lacks(self, name: str, sentence: str) -> None:
        """A figure that cannot be seen because the product lacks what it is about."""
        self.checks.append(Check(name, sentence, "seen", False))

    def fault(self, what: str) -> float:
        """Note in the history what was done to the system; when."""
        self.history.add("driver", "fault", what=what)
        return time.monotonic()

    # ---- parts ----------------------------------------------------------------------

    def n(self, count: int, *, least: int = 1) -> int:
        """A number of the row, smaller while the harness is being worked on."""
        return max(least, int(count * self.scale))

    async def cluster(self, nodes: int = 1, **options: Any) -> Cluster:
        """A cluster that ends with the row; see ``Ground.cluster``."""
        given = "".join(f", {name} {value}" for name, value in options.items())
        self.clusters.append(f"{nodes} node{'s' * (nodes > 1)}{given}")
        made: Cluster = await self.stack.enter_async_context(self.ground.cluster(nodes, **options))
        self.nodes += made.nodes
        return made

    def proxy(self, *ports: int) -> Proxy:
        """A proxy or balancer in front of ports of this machine."""
        made = Proxy([("127.0.0.1", port) for port in ports], seed=self.seed)
        self.stack.callback(made.close)
        return made

    def node_js(self) -> NodeJs:
        """A process for unmodified pusher-js clients."""
        made = NodeJs("client.mjs", self.ground.home / f"node-{self.id}.log")
        self.stack.callback(made.close)
        return made

    # ---- time -----------------------------------------------------------------------

    async def until(
        self, condition: Callable[[], Any], seconds: float, what: str, *, must: bool = True
    ) -> float:
        """Wait until *condition*; the seconds that took.

        Args:
            must: whether to raise when it does not come; else infinity is returned, in the short
                lane after three times as long.
        """
        seconds *= SHORT_SLACK if self.short and not must else 1
        started = time.monotonic()
        while not condition():
            if time.monotonic() - started > seconds:
                if must:
                    raise TimeoutError(f"{what}: not within {seconds:g} s")
                return NEVER
            # The pause between two looks at the condition.
            await asyncio.sleep(GLANCE_SECONDS)
        return time.monotonic() - started

    async def until_async(
        self,
        condition: Callable[[], Awaitable[Any]],
        seconds: float,
        what: str,
        *,
        must: bool = True,
    ) -> float:
        """``until`` for a condition that has to ask somebody."""
        seconds *= SHORT_SLACK if self.short and not must else 1
        started = time.monotonic()
        while not await condition():
            if time.monotonic() - started > seconds:
                if must:
                    raise TimeoutError(f"{what}: not within {seconds:g} s")
                return NEVER
            # The pause between two questions.
            await asyncio.sleep(5 * GLANCE_SECONDS)
        return time.monotonic() - started

    async def lasting(self, seconds: float) -> None:
        """Let a fault or a load last as long as the row says."""
        # Duration is what is being injected here, so there is nothing else to wait for.
        await asyncio.sleep(seconds)


def _shown(value: Any, unit: str = "") -> str:
    """A figure for people: no more digits than mean something."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if value == NEVER:
        return "never"
    if isinstance(value, float):
        text = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    else:
        text = f"{value:,}"
    return f"{text} {unit}".strip()


def percentile(values: list[float], share: float) -> float:
    """The value below which *share* of the values lie; infinite where there is none.

    So silence passes no bound.
    """
    ordered = sorted(values)
    if not ordered:
        return NEVER
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class DriverLag:
    """How late the loop of the driver itself is, which every latency it sees contains."""

    def __init__(self) -> None:
        self._lags: list[float] = []
        self._task = asyncio.create_task(self._measure())

    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + GLANCE_SECONDS
            # The measurement: how much later than due this returns.
            await asyncio.sleep(GLANCE_SECONDS)
            self._lags.append(max(0.0, loop.time() - due))

    def stop(self) -> float:
        """End; the p99 in milliseconds."""
        self._task.cancel()
        return percentile(self._lags, 0.99) * 1000


class Browser:
    """One unmodified pusher-js client, for scenarios that run in an event loop."""

    def __init__(self, node: NodeJs, name: str) -> None:
        self.client = PusherJs(node, name)

    async def connect(self, url: str, key: str, user: User | None = None) -> None:
        """Start to connect, and wait until the client is."""
        place: Any = _Place(url)
        await asyncio.to_thread(self.client.connect, place, key, user)
        await asyncio.to_thread(self.client.wait_for_state, "connected")

    async def subscribe(self, channel: str) -> Any:
        return await asyncio.to_thread(self.client.subscribe, channel)

    async def call(self, command: str, **arguments: Any) -> Any:
        return await asyncio.to_thread(lambda: self.client.call(command, **arguments))

    async def state(self) -> str:
        return str(await self.call("state"))

    def events(self, on: str, *names: str) -> list[Any]:
        """What the client reported on a channel so far, oldest first."""
        with self.client.node.changed:
            seen = list(self.client.node.events(self.client.name))
        return [event for event in seen if event.source == on and event.event in names]

    def states(self) -> list[str]:
        """The states its connection went through."""
        return [event.data["current"] for event in self.events("connection", "state_change")]

    def flapping(self, channel: str) -> list[str]:
        """Users whose joins and departures this client did not see alternate."""
        watched = ("pusher:subscription_succeeded", "pusher:member_added", "pusher:member_removed")
        return checkers.flapping(checkers.as_records(channel, self.events(channel, *watched)))


@dataclass(frozen=True)
class _Place:
    url: str
