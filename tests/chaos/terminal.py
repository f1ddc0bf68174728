"""What a run prints."""

import os
import sys
from collections.abc import Sequence

from tests.chaos.rows import NEVER, Result, Row

CROWDED = 3.0
"""Load per core that a run does not reach by itself: two or three of its processes work at once."""


def announce(declared: Row) -> None:
    """Print that a row begins, so that a run that hangs says where."""
    print(f"\n{declared.id} begins, {declared.limit:g} s at most: {declared.inject}", flush=True)


def show(result: Result) -> None:
    """Print how a row went."""
    print(f"{result.id} {result.verdict} in {result.seconds:.0f} s")
    for cluster in result.clusters:
        print(f"       on {cluster}")
    for check in result.checks:
        mark = "ok  " if check.ok else "MISS"
        print(f"  {mark} {check.name}: {check.seen}  (hold {check.hold})")
    for note in result.notes:
        print(f"       {note}")
    for path in result.kept:
        print(f"  kept {os.path.relpath(path)}")
    print(f"  again: {again(result)}")
    sys.stdout.flush()


def again(result: Result) -> str:
    """The command that repeats a row as it was run."""
    words = ["make faults", f"ROW={result.id}", f"SEED={result.seed}"]
    if result.short:
        words.append("LANE=short")
    if result.scale != 1:
        words.append(f"SCALE={result.scale:g}")
    if minutes := os.environ.get("SOAK_MINUTES"):
        words.append(f"SOAK_MINUTES={minutes}")
    return " ".join(words)


def sum_up(
    count: int,
    missed: Sequence[str],
    seconds: float,
    budget: float,
    load: float,
    *,
    strict: bool = True,
) -> int:
    """Print how a run went; its exit status.

    Args:
        strict: whether a run that took too long has failed.
        load: processes that wanted a core, per core.  Where there were many more than ours, the
            time says something about the machine alone.
    """
    late = seconds > budget
    print(f"\n{count - len(missed)} of {count} rows held in {seconds:.0f} s", end="")
    if budget < NEVER:
        print(f", of {budget:g} s that they may take; load {load:.1f} per core", end="")
    print(": too long" if late else "")
    if late and load > CROWDED:
        print("the machine was too busy with other work to hold that against the rows")
    if missed:
        print(f"missed: {', '.join(missed)}")
    return 1 if missed or (late and strict and load <= CROWDED) else 0
