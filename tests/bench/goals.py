"""The figures to reach, each a ratio or a figure of one run."""

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.results import Results

Reading = Callable[[Results], float | None]


@dataclass(frozen=True)
class Goal:
    """One of them."""

    title: str
    bound: float
    read: Reading
    unit: str = "×"
    at_least: bool = False
    """Whether more is better."""

    def met(self, value: float) -> bool:
        """Whether *value* reaches it."""
        return value >= self.bound if self.at_least else value <= self.bound


def _ratio(scenario: str, one: str, other: str, figure: str) -> Reading:
    return lambda results: results.ratio(scenario, one, other, figure)


def _figure(scenario: str, one: str, figure: str) -> Reading:
    return lambda results: results.median(scenario, one, figure)


def _growth(scenario: str) -> Reading:
    """The CPU of a delivery at the most there was, against that at the least."""

    def read(results: Results) -> float | None:
        figures = results.figures.get(scenario, {}).get("fast-redis", {})
        sizes = sorted(int(name.removeprefix("cpu_")) for name in figures if _is_size(name))
        if len(sizes) < 2:
            return None
        return results.between(scenario, "fast-redis", f"cpu_{sizes[-1]}", f"cpu_{sizes[0]}")

    return read


def _is_size(name: str) -> bool:
    return name.startswith("cpu_") and name.removeprefix("cpu_").isdecimal()


def _last_rss(contestant: str) -> Reading:
    def read(results: Results) -> float | None:
        rounds = list(results.figures.get("memory", {}).get(contestant, {}).values())
        return rounds[-1][0] if rounds else None

    return read


def _below_limit(results: Results) -> float | None:
    many = results.median("sixteen", "fast-redis", "cpu")
    one = results.median("fan-out", "limit", "cpu")
    return many / one if many and one else None


def _two_workers(results: Results) -> float | None:
    """By the clock where each has a core; else by the CPU time that their deliveries took."""
    spare = "second worker" in results.about.get("Cores", "")
    if spare:
        return results.between("workers", "fast-redis", "rate_2", "rate_1")
    per_second = results.between("workers", "fast-redis", "per_cpu_second_2", "per_cpu_second_1")
    return 2 * per_second if per_second else None


def _per_delivery(scenario: str, soketi: str, limit: str, plain: str) -> tuple[Goal, ...]:
    """The three goals of a delivery, under these titles."""
    return (
        Goal(soketi, 0.65, _ratio(scenario, "fast-redis", "soketi-redis", "cpu")),
        Goal(limit, 1.35, _ratio(scenario, "fast-redis", "limit", "cpu")),
        Goal(plain, 1.25, _ratio(scenario, "portable-redis", "soketi-redis", "cpu")),
    )


GOALS = (
    *_per_delivery(
        "fan-out",
        "CPU per delivery, Redis, against soketi with Redis",
        "the same against the limit of one call each",
        "the same on plain uvicorn, against soketi with Redis",
    ),
    *_per_delivery(
        "crowd",
        "5,000 subscribers: CPU per delivery, against soketi with Redis",
        "5,000 subscribers: the same against the limit",
        "5,000 subscribers: the same on plain uvicorn, against soketi",
    ),
    Goal(
        "CPU per delivery of plain Channels (pub/sub layer) against ours",
        20,
        _ratio("fan-out", "plain-pubsub", "fast-redis", "cpu"),
        at_least=True,
    ),
    Goal(
        "16 publishers: deliveries per second against soketi",
        2,
        _ratio("sixteen", "fast-redis", "soketi-redis", "rate"),
        at_least=True,
    ),
    Goal("16 publishers: CPU per delivery against the limit of one call each", 1, _below_limit),
    Goal(
        "p99 at half of soketi's rate, against soketi's",
        1,
        _ratio("half-rate", "fast-redis", "soketi-redis", "p99"),
    ),
    Goal(
        "CPU per HTTP publish, against soketi with Redis",
        1,
        _ratio("publish", "fast-redis", "soketi-redis", "publish"),
    ),
    Goal("in-process trigger", 200, _figure("trigger", "fast-redis", "trigger"), "µs"),
    Goal("memory per idle connection", 20, _last_rss("fast-redis"), "KiB"),
    Goal("the same on Daphne", 45, _last_rss("daphne-memory"), "KiB"),
    Goal(
        "CPU to connect and subscribe, against soketi with Redis",
        1,
        _ratio("connect", "fast-redis", "soketi-redis", "connect"),
    ),
    Goal(
        "presence joins per second",
        2_000,
        _figure("presence", "fast-redis", "joins"),
        "per s",
        at_least=True,
    ),
    Goal("CPU per delivery with most subscribers, against fewest", 1.15, _growth("growth")),
    Goal("CPU per delivery with most channels, against one", 1.15, _growth("channels")),
    Goal("two workers against one", 1.8, _two_workers, at_least=True),
)
