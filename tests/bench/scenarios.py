"""What is measured.  Each scenario starts who takes part and lets them take turns."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from tests import services
from tests.bench import functions, machine
from tests.bench.bench import CHANNEL, SUBSCRIBERS, Bench
from tests.bench.bus import bus
from tests.bench.contestants import CONTESTANTS, Running, running, site_environment
from tests.bench.driver import LoadFailed
from tests.bench.load.generator import WINDOW
from tests.e2e import sites

SAMPLED = 20
"""Subscribers that look when an event was published."""
PATIENCE = 30.0

LONE_PER_SECOND = 10
"""Events so far apart that each has reached everybody before the next comes."""

ALONE = "alone"
"""A channel with one subscriber, for the cost of a publish."""


# ---- steady servers ---------------------------------------------------------------------


def fan_out(bench: Bench) -> None:
    """500 subscribers: one publisher, sixteen, two calm rates, and one subscriber."""
    names = [name for name in CONTESTANTS if bench.plan.all_forms or name != "daphne-redis"]
    with bench.lineup(*names) as everybody:
        for runner in everybody:
            groups = [(CHANNEL, SUBSCRIBERS), (ALONE, 1)]
            if not runner.contestant.pusher:
                groups = groups[:1]
            runner.load.call("connect", count=SUBSCRIBERS, groups=groups, sampled=SAMPLED)
            bench.warm(runner)
        for runner in bench.turns(everybody):
            bench.fan_out("fan-out", runner)
        many = _some(everybody, "fast-redis", "portable-redis", "soketi-redis", "limit")
        for runner in bench.turns(many):
            bench.fan_out("sixteen", runner, publishers=16)
        _at_half_rate(bench, many)
        for runner in bench.turns(many):
            bench.fan_out("lone", runner, rate=LONE_PER_SECOND, seconds=2 * bench.plan.seconds)
        _publishes(bench, [item for item in everybody if item.contestant.pusher])


def _some(runners: Sequence[Running], *names: str) -> list[Running]:
    return [runner for runner in runners if runner.name in names]


def _at_half_rate(bench: Bench, runners: Sequence[Running]) -> None:
    scenarios = ("fan-out", "sixteen")
    found = [bench.results.median(scenario, "soketi-redis", "rate") for scenario in scenarios]
    if not (rates := [rate for rate in found if rate]):
        bench.leave_out("half-rate", "there is no soketi whose rate could be halved")
        return
    rate = max(rates) / SUBSCRIBERS / 2
    # The slowest one of a hundred varies more than anything else here.
    for _ in range(2 if bench.plan.all_forms else 1):
        for runner in bench.turns(runners):
            bench.fan_out("half-rate", runner, rate=rate, seconds=2 * bench.plan.seconds)


def _publishes(bench: Bench, runners: Sequence[Running]) -> None:
    for runner in bench.turns(runners):
        seen = runner.measure("publish", channel=ALONE, receivers=1, seconds=bench.plan.seconds)
        bench.look_at_load(runner, seen, "publish")
        figures = {
            "publish": seen["cpu"] / seen["events"] * 1e6,
            "publishes": seen["events"] / seen["seconds"],
            "kept": seen["requests_per_connection"],
        }
        bench.results.add("publish", runner.name, figures)


# ---- connections ------------------------------------------------------------------------


def connect(bench: Bench) -> None:
    """Connect and subscribe: CPU of each, and how many per second."""
    names = ("fast-redis", "fast-memory", "portable-redis", "daphne-memory")
    others = ("soketi-redis", "soketi-memory", "plain-pubsub", "plain-queue")
    count = bench.plan.connects
    with bench.lineup(*names, *others) as runners:
        for runner in runners:
            for _ in range(bench.plan.warm_visits):
                _visit(runner, count)
        for runner in bench.turns(runners):
            seen = _visit(runner, count)
            bench.look_at_load(runner, seen, "connect")
            figures = {
                "connect": seen["cpu"] / count * 1e6,
                "connects": count / seen["seconds"],
                "load": seen["busy"],
            }
            bench.results.add("connect", runner.name, figures)


def _visit(runner: Running, count: int) -> dict[str, float]:
    """Let *count* connections come, subscribe and go."""
    seen = runner.measure("connect", count=count, groups=[(CHANNEL, count)])
    runner.load.call("drop")
    deadline = time.monotonic() + PATIENCE
    while left := runner.connections():  # what is measured next would pay for them
        if time.monotonic() > deadline:
            raise LoadFailed(f"{runner.name} keeps {left} connections that are gone")
        time.sleep(0.02)
    runner.rest(PATIENCE)
    return seen


def memory(bench: Bench) -> None:
    """Memory of idle connections, each subscribed to one channel."""
    for name in bench.plan.idle:
        with bench.lineup(name) as runners:
            for runner in runners:
                try:
                    _fill(bench, runner)
                except LoadFailed as error:  # the others do not suffer from it
                    bench.results.warn(f"{name} in memory: {error}")


def _fill(bench: Bench, runner: Running) -> None:
    """Open idle connections, more and more, and look at the memory."""
    _visit(runner, 100)  # what is loaded with the first of them is no cost of one
    base, opened = runner.rss(), 0
    for level in bench.plan.levels:
        runner.load.call("connect", count=level - opened, groups=[(CHANNEL, level)])
        opened = level
        kib = (runner.rss() - base) / level / 1024
        bench.results.add("memory", runner.name, {f"rss_{level}": kib})


def growth(bench: Bench) -> None:
    """One channel of 500 to 9,000 subscribers, all of them connected all the time.

    As many events are under way for many subscribers as for few: those share a write.
    """
    sizes = bench.plan.growth
    groups = [(f"of-{size}", size) for size in sizes]
    with bench.lineup("fast-redis", "soketi-redis") as runners:
        for runner in runners:
            runner.load.call("connect", count=sizes[-1], groups=groups)
            bench.warm(runner, f"of-{sizes[0]}", sizes[0])
        for runner in bench.turns(runners):
            for channel, size in groups:
                wanted = {"channel": channel, "receivers": size, "window": WINDOW}
                bench.fan_out("growth", runner, f"_{size}", **wanted)


def crowd(bench: Bench) -> None:
    """One channel of 5,000 subscribers, served by each who is compared by delivery."""
    count = bench.plan.crowd
    if not count:
        return
    with bench.lineup("fast-redis", "portable-redis", "soketi-redis", "limit") as runners:
        for runner in runners:
            runner.load.call("connect", count=count, groups=[(CHANNEL, count)])
            bench.warm(runner, receivers=count)
        for runner in bench.turns(runners):
            bench.fan_out("crowd", runner, receivers=count)


def channels(bench: Bench) -> None:
    """One occupied channel, and ten thousand of them beside it."""
    many = bench.plan.channels
    names = ["fast-redis", "soketi-redis", *(["fast-memory"] if bench.plan.all_forms else [])]
    with bench.lineup(*names) as few, bench.lineup(*names) as crowded:
        for runner in (*few, *crowded):
            groups = [(CHANNEL, SUBSCRIBERS)]
            runner.load.call("connect", count=SUBSCRIBERS, groups=groups)
        for runner in crowded:
            runner.load.call("subscribe_own", each=many // SUBSCRIBERS)
        for runner in (*few, *crowded):
            bench.warm(runner)
        for runner in bench.turns([*few, *crowded]):
            suffix = "_1" if runner in few else f"_{many}"
            bench.fan_out("channels", runner, suffix)


def presence(bench: Bench) -> None:
    """Members who join one presence channel at once; the rows are in PostgreSQL."""
    count = bench.plan.members
    with ExitStack() as stack:
        try:
            url = stack.enter_context(services.postgres())
        except RuntimeError as why:
            bench.leave_out("presence", str(why))
            return
        sites.manage(site_environment(DATABASE_URL=url), "migrate", "--verbosity", "0")
        forms, others = ["fast-redis"], ["soketi-redis"]
        if bench.plan.all_forms:
            forms += ["fast-memory", "portable-redis", "portable-memory"]
            forms += ["daphne-redis", "daphne-memory"]
            others += ["soketi-memory"]
        ours = stack.enter_context(bench.lineup(*forms, DATABASE_URL=url))
        runners = [*ours, *stack.enter_context(bench.lineup(*others))]
        for runner in runners:
            runner.load.call("connect", count=count)
        for number, runner in enumerate(bench.turns(runners)):
            loop = runner.loop_cpu()
            seen = runner.measure("join", channel=f"presence-{number}")
            bench.look_at_load(runner, seen, "presence")
            figures = {
                "joins": count / seen["seconds"],
                "cpu": seen["cpu"] / count * 1e6,
                "announced": seen["announced"] / count,
                "load": seen["busy"],
            }
            if runner.contestant.ours:
                figures["loop"] = (runner.loop_cpu() - loop) / count * 1e6
            bench.results.add("presence", runner.name, figures)
            runner.rest(PATIENCE)


def workers(bench: Bench) -> None:
    """One process, and two that share Redis and the subscribers."""
    fast, cores = CONTESTANTS["fast-redis"], machine.cores()
    with running(fast, bench.place) as one, running(fast, bench.place, processes=2) as two:
        for runner in (one, two):
            groups = [(CHANNEL, SUBSCRIBERS)]
            runner.load.call("connect", count=SUBSCRIBERS, groups=groups)
            bench.warm(runner)
        for runner in bench.turns([one, two]):
            suffix = "1" if runner is one else "2"
            seen = bench.fan_out("workers", runner, f"_{suffix}", publishers=4)
            per_second = seen["deliveries"] / seen["cpu"]
            bench.results.add("workers", fast.name, {f"per_cpu_second_{suffix}": per_second})
    if not cores.spare:
        bench.results.warn("two workers had one core together: compare deliveries per CPU second")


# ---- inside a process -------------------------------------------------------------------


def trigger(bench: Bench) -> None:
    """``trigger()`` in synchronous Django code, with Redis."""
    with bus() as own_bus:
        home = bench.place.new("trigger")
        environment = site_environment(
            REDIS_URL=own_bus.url, DATABASE_URL=bench.place.database(home)
        )
        command = [sys.executable, "-m", "tests.bench.trigger_probe"]
        counts = [str(bench.plan.rounds), str(bench.plan.triggers)]
        with machine.on(machine.cores().server):
            done = subprocess.run(
                [*command, *counts],
                env=environment,
                cwd=sites.ROOT,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
        seen = json.loads(done.stdout)
        messages = (own_bus.look().messages - seen["sends"]) / seen["triggers"]
    for figures in seen["rounds"]:
        bench.results.add("trigger", "fast-redis", {**figures, "messages": messages})


def hot_functions(bench: Bench) -> None:
    """Single functions, without a server."""
    for name, figures in functions.measure().items():
        bench.results.add("functions", name, figures)


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "fan-out": fan_out,
    "connect": connect,
    "memory": memory,
    "crowd": crowd,
    "growth": growth,
    "channels": channels,
    "presence": presence,
    "workers": workers,
    "trigger": trigger,
    "functions": hot_functions,
}
"""By the name for ``--only``."""
