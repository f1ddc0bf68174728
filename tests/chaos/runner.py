"""Runs one row within its limit, judges its history, and keeps what happened."""

import asyncio
import os
import shutil
import time
import traceback
from pathlib import Path

from tests.chaos import checkers, history, publisher, websocket
from tests.chaos.cluster import Ground
from tests.chaos.page import AGREE
from tests.chaos.rows import Result, Row, Run

RECORDED = {f"A{number}" for number in range(1, 14)} | {
    *("B1", "B2", "B10", "B12", "C2", "C5", "C6", "H1")
}
"""Rows with clients that write the history: one without their records has seen nothing.
The others count, since they have more events or clients than a history could hold."""

KEPT_RUNS = AGREE
"""Runs of a row whose files stay, as many as have to agree."""


async def perform(
    declared: Row,
    ground: Ground,
    *,
    seed: int,
    scale: float = 1.0,
    short: bool = False,
    earlier: dict[str, list[str]] | None = None,
    keep: Path | None = None,
) -> Result:
    """Run one row within its limit; whatever happens becomes a result.

    Args:
        earlier: the faults of earlier histories, which this row adds its own to.
        keep: directory for the history, and for logs and traceback of a row that was missed.
    """
    found = {} if earlier is None else earlier
    run = Run(declared.id, seed, scale, ground, short, earlier=found)
    started = time.monotonic()
    trace = ""
    bound = asyncio.timeout(declared.limit)
    try:
        async with bound, run.stack:
            await declared.work(run)
    except Exception as error:
        if os.environ.get("CHAOS_RAISE"):
            raise
        trace = traceback.format_exc()
        sentence = f"{type(error).__name__}: {error}"[:400]
        if isinstance(error, TimeoutError) and bound.expired():
            sentence = f"the row took more than its limit of {declared.limit:g} s"
        run.lacks("end of the row", sentence)
    publisher.close_all()
    await websocket.abort_all()
    # A row that did not end says so; what it did not come to is no news.
    _judge(run, whole=not trace)
    verdict = "held" if run.checks and all(check.ok for check in run.checks) else "missed"
    kept = [] if keep is None else await asyncio.to_thread(_keep, run, keep, verdict, trace)
    return Result(
        declared.id,
        verdict,
        run.checks,
        run.notes,
        time.monotonic() - started,
        seed,
        scale,
        short,
        run.clusters,
        kept,
    )


def _judge(run: Run, *, whole: bool) -> None:
    """Hold what every row has to hold."""
    seen = sum(record["kind"] in checkers.JUDGED for record in run.history.records)
    if seen:
        faults = checkers.every_run(run.history.records)
        run.earlier[run.id] = faults
        run.check_none("faults in the history", faults)
    elif whole and run.id in RECORDED:
        run.check("records of clients in the history", seen, at_least=1)
    if whole and any(node.armed for node in run.nodes):
        missed = [f"{node.name}: {point}" for node in run.nodes for point in node.never_hit()]
        run.check("injection points armed and not hit", missed, equals=[])


def _keep(run: Run, home: Path, verdict: str, trace: str) -> list[Path]:
    """Write what happened below *home*, and forget older runs of this row."""
    home.mkdir(parents=True, exist_ok=True)
    stem = f"{run.id}-{run.seed}"
    for old in home.glob(f"{stem}[.-]*"):
        old.unlink()
    kept = []
    if run.history.records:
        kept.append(home / f"{stem}.jsonl")
        run.history.write(kept[-1])
    if verdict != "held":
        for node in run.nodes:
            kept.append(home / f"{stem}-{node.log.name}")
            shutil.copy(node.log, kept[-1])
        outputs = {"traceback": trace, **run.outputs}
        for name in filter(outputs.get, outputs):
            kept.append(home / f"{stem}-{name}.txt")
            kept[-1].write_text(outputs[name])
    _prune(home, run.id)
    return kept


def _prune(home: Path, row: str) -> None:
    """Delete the files of all but the last runs of *row*."""
    runs: dict[str, list[Path]] = {}
    for path in home.glob(f"{row}-*"):
        runs.setdefault(path.name.split("-")[1].partition(".")[0], []).append(path)
    newest = sorted(runs.values(), key=lambda files: max(file.stat().st_mtime for file in files))
    for files in newest[:-KEPT_RUNS]:
        for file in files:
            file.unlink()


def judge_kept(home: Path) -> dict[str, list[str]]:
    """The faults in the newest kept history of each row that has one."""
    found = {}
    # From old to new, so that the newest is what stays.
    for path in sorted(home.glob("*.jsonl"), key=lambda path: path.stat().st_mtime):
        records = history.read(path)
        if any(record["kind"] in checkers.JUDGED for record in records):
            found[path.name.partition("-")[0]] = checkers.every_run(records)
    return found
