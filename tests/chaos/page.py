"""The page that shows the figures of the last runs, and the sentence in the README."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from tests.chaos.rows import ROWS

AGREE = 3
"""Runs of a row that are shown beside each other, and asked to agree."""

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
versions of the last run stand above them, and each run has the date and the commit of its own. A
row that missed says by how much. To repeat all of it, or one row with the seed of one of its runs:

```console
make faults
make faults ROW=A1 SEED=123456
```
"""

SET_UP = """\
Unless a row says otherwise: one process means uvicorn with SQLite, several mean uvicorn with
PostgreSQL and one Valkey through the pub/sub layer; the command line is that of production. The
limits of connections, connects and members are lifted where a row does not try them; all other
settings are those that are shipped. The lease is 6 seconds and renewed every two, when dead
processes are looked for, too; the table was written for a look every second. The driver is one
process on the same machine, so it takes CPU time from the servers, and latencies include its own.

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
    " for the hundred changes there are 48 to 58 commits a second on a fast machine, 19 on a slow"
    " one. Commits that were paced to 20 and to 10 a second and process, which lets joins wait,"
    " held the second figure (47 and 28 a second) and not the first (11.7 ms of 4.2, 11.4 of 4.2).",
}
"""Why a row misses its figure, where it was looked into.  Printed only with a row that missed."""

MARKS = ("<!-- faults -->", "<!-- /faults -->")


def page(data: Mapping[str, Any]) -> str:
    """The page, from the data file alone."""
    rows = {name: data["rows"][name] for name in _ordered(data["rows"])}
    parts = [
        HEAD,
        *("## The machine\n", _machine(data["machine"]), SET_UP),
        *("## Results\n", _agreement(rows), _results(rows)),
        *("## Rows that missed, and why\n", _missed(rows)),
        *("## Figures that were corrected\n", _corrected()),
    ]
    for letter, names in groupby(rows, key=lambda name: name[0]):
        parts += [f"## {letter}. {PARTS[letter]}\n"]
        parts += ["\n".join(_row(name, rows[name])) for name in names]
    return "\n".join([*parts, NOT_COVERED])


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


def _agreement(rows: Mapping[str, Any]) -> str:
    verdicts = {name: [run["verdict"] for run in runs[:AGREE]] for name, runs in rows.items()}
    alike = {name: set(seen) for name, seen in verdicts.items() if len(seen) == AGREE}
    commits = {run.get("commit") for runs in rows.values() for run in runs[:AGREE]}
    at = f", all of them on commit {commits.pop()}" if len(commits) == 1 else ""
    always = sum(seen == {"held"} for seen in alike.values())
    never = [name for name, seen in alike.items() if seen == {"missed"}]
    rest = [name for name in rows if len(alike.get(name, ())) != 1]
    sentences = [
        f"{sum(seen[0] == 'held' for seen in verdicts.values())} of {len(rows)} rows held in their"
        f" newest run, {always} in each of their last {AGREE}{at}.",
        *([f"Missed each time: {', '.join(never)}."] if never else []),
        *([f"Not the same each time, or not run so often: {', '.join(rest)}."] if rest else []),
        f"The newest runs took {sum(runs[0]['seconds'] for runs in rows.values()):,} seconds"
        " together; a few ran beside others.",
    ]
    return "\n".join(sentences) + "\n"


def _results(rows: Mapping[str, Any]) -> str:
    lines = ["| Row | Injected | Result | Runs before |", "| --- " * 4 + "|"]
    for name, (newest, *earlier) in rows.items():
        declared = ROWS.get(name)
        before = ", ".join(run["verdict"] for run in earlier)
        verdict = newest["verdict"] if newest["verdict"] == "held" else f"**{newest['verdict']}**"
        lines.append(
            f"| [{name}](#{name.lower()}) | {_text(declared.inject if declared else '')}"
            f" | {verdict} | {before} |"
        )
    return "\n".join(lines) + "\n"


def _row(name: str, runs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A row; its figures unfold."""
    newest, declared = runs[0], ROWS.get(name)
    yield f"### {name}\n"
    if declared:
        yield f"Injected: {_text(declared.inject)}.\n"
        yield f"To hold: {_text(declared.hold)}.\n"
    missed = sum(not check["ok"] for check in newest["checks"])
    count = len(newest["checks"])
    seen = f"{count} figure{'s' * (count != 1)}" + (f", {missed} missed" if missed else "")
    yield f"<details><summary>{newest['verdict'].capitalize()}: {seen}</summary>\n"
    yield _figures(runs[:AGREE])
    for note in newest["notes"]:
        yield f"* {_text(note)}"
    yield "* Runs, newest first: " + "; ".join(map(_run, runs))
    yield "\n</details>\n"


def _figures(runs: Sequence[Mapping[str, Any]]) -> str:
    """The figures of the newest run, with those of the runs before that bear the same names.

    Figures that only an earlier run has are left out, unless they were missed.
    """
    newest, *earlier = map(_named, runs)
    lines = [f"| Figure | To hold | Seen |{' Before |' * len(earlier)}"]
    lines += ["| --- " * (3 + len(earlier)) + "|"]
    missed = {key: check for run in earlier for key, check in run.items() if not check["ok"]}
    gone = {key: check for key, check in missed.items() if key not in newest}
    for key, check in {**newest, **gone}.items():
        seen = (_seen(run.get(key), check["hold"]) for run in (newest, *earlier))
        lines.append(f"| {_text(check['name'])} | {_text(check['hold'])} | {' | '.join(seen)} |")
    return "\n".join(lines) + "\n"


def _named(run: Mapping[str, Any]) -> dict[tuple[str, int], Mapping[str, Any]]:
    """The figures of a run by name, and how often that came before."""
    often: Counter[str] = Counter()
    found = {}
    for check in run["checks"]:
        found[check["name"], often[check["name"]]] = check
        often[check["name"]] += 1
    return found


def _seen(check: Mapping[str, Any] | None, hold: str) -> str:
    """A figure, with its own bound where that is not *hold*: some bounds are measured, too."""
    if check is None:
        return ""
    text = _text(check["seen"]) if check["ok"] else f"**{_text(check['seen'])}**"
    return text if check["hold"] == hold else f"{text} ({_text(check['hold'])})"


def _run(run: Mapping[str, Any]) -> str:
    at = f", commit {run['commit']}" if run.get("commit") else ""
    on = f", {run['cpu']}" if run.get("cpu") else ""
    return f"{run['verdict']}, {run['date']}, seed {run['seed']}{at}{on}"


def _machine(machine: Mapping[str, str]) -> str:
    lines = ["| | |", "| --- | --- |"]
    lines += [f"| {name} | {_text(value)} |" for name, value in machine.items()]
    return "\n".join(lines) + "\n"


def _missed(rows: Mapping[str, Any]) -> str:
    lines = []
    for name, runs in rows.items():
        missed = [run for run in runs[:AGREE] if run["verdict"] != "held"]
        figures = {check["name"] for run in missed for check in run["checks"] if not check["ok"]}
        if missed:
            reason = REASONS.get(name, "Not looked into yet.")
            lines.append(f"* **{name}** ({_text('; '.join(sorted(figures)))}): {reason}")
    return "\n".join(lines or [f"None, in the last {AGREE} runs of each."]) + "\n"


def _corrected() -> str:
    lines = [
        "The table was written before anything was measured. These were changed after that. It had"
        " a star where it expected that; the others count as missed against the first figure.",
        "",
    ]
    lines += ["| Row | Now | Before | Star | Because |", "| --- " * 5 + "|"]
    lines += [
        f"| {name} | {_text(now)} | {_text(before)} | {'yes' if name in STARRED else 'no'}"
        f" | {_text(why)} |"
        for name, (now, before, why) in CORRECTED.items()
    ]
    return "\n".join(lines) + "\n"


def _ordered(rows: Mapping[str, Any]) -> list[str]:
    return sorted(rows, key=lambda name: (name[0], int(name[1:])))


def _text(text: str) -> str:
    """Text that neither ends a table cell nor is taken for markup."""
    return re.sub(r"([\\|*_`~$<>\[\]])", r"\\\1", " ".join(text.split()))
