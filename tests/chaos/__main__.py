"""``python -m tests.chaos``: break a running system in every way of the table, and report."""

import argparse
import asyncio
import gc
import json
import os
import random
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import uvloop

from tests.chaos import report, scenarios, terminal
from tests.chaos.cluster import ROOMY, Ground
from tests.chaos.rows import NEVER, ROWS, Result
from tests.chaos.runner import RECORDED, judge_kept, perform
from tests.e2e.sites import ROOT

HISTORIES = ROOT / "var" / "chaos"
LAST = ("C10", "H7")
"""The first judges the histories of all other rows, the second what this run wrote, so they come
after what they judge."""

WAITING = {"A11", "B9"}
"""Rows that wait most of the time, for a sweep and for a limit of messages.  The short lane, which
holds no latencies, runs them beside the others, as it does with those that are idle."""

BUDGETS = {"short": 180.0, "all": 3600.0}
"""Seconds that the rows of a lane may take together, with everything that they start.  The short
lane says if it took longer, and no more: it runs on machines of any speed."""


RARELY = (100_000, 50, 100)
"""When the driver collects garbage: the collector stops all clients at once."""


def main(arguments: list[str]) -> int:
    """Run rows; return 1 if one of them missed, or the whole table took more than its budget."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--row", action="append", default=[], help="only this row; repeatable")
    parser.add_argument("--lane", choices=["short", "all"], default="all")
    parser.add_argument("--seed", type=int, help="of an earlier run, to repeat it")
    parser.add_argument("--list", action="store_true", help="list the rows and stop")
    parser.add_argument("--report", action="store_true", help="write the page for single rows too")
    chosen = parser.parse_args(arguments)
    scenarios.load()
    if chosen.list:
        for declared in ordered(list(ROWS)):
            lane = "short" if ROWS[declared].short else ""
            print(f"{declared:4} {lane:5} {ROWS[declared].inject}")
        return 0
    wanted = [name.upper() for name in chosen.row] or [
        name for name in ROWS if chosen.lane == "all" or ROWS[name].short
    ]
    if unknown := [name for name in wanted if name not in ROWS]:
        parser.error(f"there is no row {', '.join(unknown)}; --list shows them")
    # Six digits: never mistaken for a code of the protocol.
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**5, 10**6)
    scale = float(os.environ.get("SCALE", "1"))
    short = chosen.lane == "short"
    publish = scale == 1 and not short and (not chosen.row or chosen.report)
    started = time.monotonic()
    results = run(ordered(wanted), seed=seed, scale=scale, short=short, publish=publish)
    seconds = time.monotonic() - started
    missed = [result.id for result in results if not result.ok]
    usual = scale == 1 and not chosen.row and "SOAK_MINUTES" not in os.environ
    budget = BUDGETS[chosen.lane] if usual else NEVER
    _, load, _ = os.getloadavg()  # of the last five minutes
    load /= os.cpu_count() or 1
    return terminal.sum_up(len(results), missed, seconds, budget, load, strict=not short)


def ordered(names: list[str]) -> list[str]:
    """Rows by letter and number, those that judge the others at the end."""
    return sorted(names, key=lambda name: (name in LAST, name[0], int(name[1:])))


def run(
    names: list[str],
    *,
    seed: int,
    scale: float = 1.0,
    short: bool = False,
    publish: bool = False,
) -> list[Result]:
    """Run rows one after the other, printing each as it ends; idle ones beside the others.

    Args:
        publish: whether to write the page, and the sentence of the README.
    """
    scenarios.load()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    machine = report.environment()
    for name, value in machine.items():
        print(f"{name}: {value}")
    print(f"settings: {json.dumps(ROOMY)}")
    print(f"seed: {seed}", flush=True)
    # Where no row of this run leaves a history, those of earlier runs are judged.
    alone = "C10" in names and not RECORDED.intersection(names)
    earlier = judge_kept(HISTORIES) if alone else {}
    if earlier:
        print(f"histories of earlier runs: {', '.join(sorted(earlier))}")

    def one(name: str, ground: Ground) -> Result:
        # What the driver sees late because it collects garbage is no fault of the servers.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(
                perform(
                    ROWS[name],
                    ground,
                    seed=seed,
                    scale=scale,
                    short=short,
                    earlier=earlier,
                    keep=HISTORIES,
                )
            )

    results = []
    thresholds = gc.get_threshold()
    gc.set_threshold(*RARELY)
    try:
        # The thread comes first and goes last: the kernel ends what a thread started with it.
        with ThreadPoolExecutor(1) as beside, ExitStack() as stack:
            ground, apart = (
                Ground(
                    Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))), stack
                )
                for _ in range(2)
            )
            aside = {name for name in names if ROWS[name].idle or (short and name in WAITING)}
            waiting = {name: beside.submit(one, name, apart) for name in names if name in aside}
            if waiting:
                print(f"beside the others: {', '.join(waiting)}")
            for name in sorted(names, key=lambda name: (name in LAST, name in waiting)):
                if publish and name == "H7":
                    report.write(results, machine)
                terminal.announce(ROWS[name])
                result = waiting[name].result() if name in waiting else one(name, ground)
                results.append(result)
                terminal.show(result)
        if publish:
            report.write(results[-1:] if names[-1] == "H7" else results, machine)
            print(f"\nwrote {report.PAGE.relative_to(ROOT)}")
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return results


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
