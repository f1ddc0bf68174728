"""``python -m tests.bench``: what this server costs, beside others on the same machine."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

from tests.bench import chart, machine, page, soketi, table
from tests.bench.bench import QUICK, WHOLE, Bench
from tests.bench.contestants import Place
from tests.bench.driver import LoadFailed
from tests.bench.left_out import LeftOut
from tests.bench.scenarios import SCENARIOS
from tests.e2e.sites import ROOT

BUILD = ROOT / "build"


def main(arguments: list[str]) -> int:
    """Measure, print the tables, and write ``build/bench.json`` and the chart.

    Returns:
        1 if a scenario failed, else 0, also where a contestant was left out.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller run, of two minutes")
    parser.add_argument(
        "--only", action="append", default=[], choices=SCENARIOS, help="only this; repeatable"
    )
    chosen = parser.parse_args(arguments)
    cores = machine.cores()  # before this process is bound to one of them
    os.sched_setaffinity(0, {cores.load})
    machine.raise_file_limit()
    BUILD.mkdir(exist_ok=True)
    with suppress(LeftOut):  # who needs it says that it is missing
        soketi.install()
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home:
        bench = Bench(QUICK if chosen.quick else WHOLE, Place(Path(home)))
        complete = run(bench, chosen.only or list(SCENARIOS))
    results = bench.results
    (BUILD / "bench.json").write_text(json.dumps(results.as_json(), indent=2) + "\n")
    print("wrote build/bench.json")
    if "fan-out" in results.figures:
        drawn = chart.draw(results)
        (BUILD / "bench.svg").write_text(drawn)
        print("wrote build/bench.svg")
        if complete and not chosen.quick and not chosen.only:
            page.write(results, drawn)
            print(f"wrote {page.PAGE.relative_to(ROOT)}")
    return 0 if complete else 1


def run(bench: Bench, names: list[str]) -> bool:
    """Run scenarios one after the other; print the tables of each as it ends.

    Returns:
        Whether all of them came to their end.
    """
    complete = True
    bench.results.about = {**machine.describe(), "Method": bench.plan.describe()}
    for name, value in bench.results.about.items():
        print(f"{name}: {value}")
    started = time.monotonic()
    for name in names:
        print(f"\n== {name}", flush=True)
        before = set(bench.results.figures)
        try:
            SCENARIOS[name](bench)
        except (LoadFailed, RuntimeError, subprocess.CalledProcessError) as error:
            bench.results.warn(f"{name} ended before its time: {error}")
            complete = False
        for scenario in bench.results.figures:
            if scenario not in before:
                print(f"\n{table.text(bench.results, scenario)}", flush=True)
    print(f"\n{table.goals_text(bench.results)}")
    for text in bench.results.warnings:
        print(f"! {text}")
    for name, why in bench.results.left_out.items():
        print(f"left out: {name}: {why}")
    print(f"took {(time.monotonic() - started) / 60:.1f} minutes")
    return complete


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM: stop what was started, then go."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
