"""A run: how much of everything, who takes part, and turns that alternate."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.bench.contestants import CONTESTANTS, Place, Running, running
from tests.bench.left_out import LeftOut
from tests.bench.results import Results

SUBSCRIBERS = 500
KEEP_SECONDS = 25.0
"""How long clients stay silent: soketi closes them after 120 s, ours are pinged after 60."""
BUSY = 0.9
"""Share of its core above which the load may be what limits a figure."""
CHANNEL = "bench"


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    rounds: int = 5
    seconds: float = 2.0
    warm_seconds: float = 6.0
    """Of publishing before anything counts: V8 goes on to compile for several seconds."""
    warm_visits: int = 6
    """The same for connections, in times ``connects``."""
    levels: tuple[int, ...] = (1_000, 5_000, 9_000)
    """Idle connections whose memory is measured."""
    growth: tuple[int, ...] = (500, 5_000, 9_000)
    """Subscribers of one channel."""
    crowd: int = 5_000
    """The same, for all who are compared by delivery; none in a short run."""
    channels: int = 10_000
    members: int = 1_000
    connects: int = 500
    triggers: int = 2_000
    idle: tuple[str, ...] = (
        *("fast-redis", "fast-memory", "portable-redis", "portable-memory"),
        *("daphne-redis", "daphne-memory", "soketi-redis", "soketi-memory"),
        *("plain-pubsub", "plain-queue"),
    )
    """Contestants whose memory is measured."""
    all_forms: bool = True
    """Whether forms and rounds that take long are measured, too."""

    def describe(self) -> str:
        """How it is measured, in a sentence."""
        return (
            f"{SUBSCRIBERS} subscribers, events of 100 bytes, {self.rounds} alternating rounds of"
            f" {self.seconds:g} s, medians"
        )


WHOLE = Plan()
QUICK = Plan(
    rounds=2,
    seconds=0.5,
    warm_seconds=0.125,
    warm_visits=1,
    levels=(1_000,),
    growth=(500, 2_000),
    crowd=0,
    channels=1_000,
    members=200,
    connects=200,
    triggers=500,
    idle=("fast-redis", "soketi-redis"),
    all_forms=False,
)


@dataclass
class Bench:
    """A run: its plan, its results, and where it keeps files."""

    plan: Plan
    place: Place
    results: Results = field(default_factory=Results)
    _kept_at: dict[int, float] = field(default_factory=dict)
    _lined_up: list[Running] = field(default_factory=list)
    """Everybody whose clients wait, also those whose turn is in another part."""

    @contextmanager
    def lineup(self, *names: str, **environment: str) -> Iterator[list[Running]]:
        """Those of *names* that this machine can run."""
        with ExitStack() as stack:
            ready = []
            for name in names:
                try:
                    ready.append(
                        stack.enter_context(running(CONTESTANTS[name], self.place, **environment))
                    )
                except LeftOut as why:
                    self.leave_out(name, str(why))
            self._lined_up += ready
            try:
                yield ready
            finally:
                self._lined_up = [runner for runner in self._lined_up if runner not in ready]

    def leave_out(self, name: str, why: str) -> None:
        """Note that a contestant or a scenario does not take part, once."""
        if name not in self.results.left_out:
            self.results.left_out[name] = why
            print(f"  left out: {name}: {why}", flush=True)

    def turns(self, runners: Sequence[Running]) -> Iterator[Running]:
        """A B C A B C …, with signs of life from the clients between them."""
        for _ in range(self.plan.rounds):
            for runner in runners:
                self._keep([*self._lined_up, *runners])
                yield runner

    def _keep(self, runners: Sequence[Running]) -> None:
        for runner in runners:
            if time.monotonic() - self._kept_at.setdefault(id(runner), 0) > KEEP_SECONDS:
                runner.load.call("keep")
                self._kept_at[id(runner)] = time.monotonic()

    def warm(self, runner: Running, channel: str = CHANNEL, receivers: int = SUBSCRIBERS) -> None:
        """Publish for a while before anything is measured."""
        seconds = self.plan.warm_seconds
        runner.load.call("publish", channel=channel, receivers=receivers, seconds=seconds)

    def look_at_load(self, runner: Running, seen: Mapping[str, float], scenario: str) -> None:
        """Say so where the clients, and not the server, may be what limits a figure."""
        if seen["busy"] > BUSY:
            self.results.warn(
                f"the load took more than {BUSY:.0%} of its core with {runner.name} in {scenario}"
            )

    def fan_out(
        self, scenario: str, runner: Running, suffix: str = "", **arguments: float | str
    ) -> dict[str, float]:
        """Publish, and record what each delivery took.

        Args:
            suffix: of the names of the figures, where a scenario has several of a kind.
        """
        wanted = {"channel": CHANNEL, "receivers": SUBSCRIBERS, "seconds": self.plan.seconds}
        writes = runner.writes()
        seen = runner.measure("publish", **{**wanted, **arguments})
        writes = runner.writes() - writes
        if seen["lost"]:
            self.results.warn(f"{runner.name} lost {seen['lost']:.0f} deliveries in {scenario}")
        self.look_at_load(runner, seen, scenario)
        deliveries = max(1.0, seen["deliveries"])
        each = seen["cpu"] / deliveries * 1e6
        print(f"  {scenario}: {runner.name}: {each:.2f} µs CPU per delivery", flush=True)
        figures = {
            "cpu": each,
            "rate": seen["deliveries"] / seen["seconds"],
            "cpu_share": seen["cpu"] / seen["seconds"],
            "load": seen["busy"],
            "bus_cpu": seen["bus_cpu"] / deliveries * 1e6,
            "messages": seen["messages"] / seen["events"],
            **{name: seen[name] for name in ("p50", "p95", "p99") if name in seen},
        }
        if not runner.bus:
            del figures["bus_cpu"], figures["messages"]
        if runner.contestant.joins:
            figures["joined"] = deliveries / max(1, writes)
        figures = {f"{name}{suffix}": value for name, value in figures.items()}
        self.results.add(scenario, runner.name, figures)
        return seen
