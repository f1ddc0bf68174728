"""Rows H: rules about the code, the tests and the run itself."""

import ast
import asyncio
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

from realtime.protocol import connection, errors
from tests.chaos import report
from tests.chaos.client import Pusher
from tests.chaos.publisher import Publisher
from tests.chaos.rows import Result, Run, row
from tests.e2e.sites import ROOT

PACKAGE = ROOT / "realtime"
TESTS = ROOT / "tests"

IDLE_SECONDS = 60

# The supervisor itself, and tasks that end with what they serve.
OWN_TASKS = {"loops.py", "sockets.py"}


def _trees(home: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(home.rglob("*.py")):
        if "migrations" not in path.parts:
            yield path, ast.parse(path.read_text())


@row(
    "H1",
    inject="an idle socket with the shipped settings for 60 s, on both layers",
    hold="it lives and still gets events",
    limit=120,
    short=True,
    idle=True,
)
async def idle_sockets_live(run: Run) -> None:
    clusters = [(bus, await run.cluster(2, bus=bus)) for bus in ("pubsub", "queue")]
    clients = []
    for bus, cluster in clusters:
        client = await Pusher.open(cluster[0].port, client="js", history=run.history, name=bus)
        await client.subscribe("idle")
        clients.append(client)
    await run.lasting(IDLE_SECONDS if run.scale == 1 else run.n(IDLE_SECONDS, least=12))
    for (bus, cluster), client in zip(clusters, clients, strict=True):
        received = client.expect("event", "idle")
        answer = await Publisher(cluster[1].port, run.history, f"p-{bus}").publish("idle")
        done, _ = await asyncio.wait([received], timeout=5)
        run.check(f"{bus}: publish", answer.status, equals=200)
        run.check(f"{bus}: event arrived", bool(done), equals=True)
        run.check(f"{bus}: open", client.is_open, equals=True)


@row(
    "H2",
    inject="codes in the docs, in the code and in the tests, compared",
    hold="every code in the docs is produced by some test, and the reverse",
    limit=30,
    short=True,
)
async def codes_are_tested(run: Run) -> None:
    documented = _documented_codes()
    produced = _produced_codes()
    tested = _codes_in_tests()
    run.check("documented, not produced", sorted(documented - produced), equals=[])
    run.check("produced, not documented", sorted(produced - documented), equals=[])
    run.check("documented, in no test", sorted(documented - tested), equals=[])


def _documented_codes() -> set[int]:
    text = (ROOT / "docs" / "reference" / "error-codes.md").read_text()
    return {int(code) for code in re.findall(r"^\| (\d{4}) \|", text, re.MULTILINE)}


def _produced_codes() -> set[int]:
    codes = {
        item.code
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, errors.ProtocolError) and item.code
    }
    sources = [Path(connection.__file__), PACKAGE / "consumer.py"]
    for path in sources:
        found = re.findall(r"(?:Close|\.close)\((\d{4}),", path.read_text())
        codes |= {int(code) for code in found}
    return codes


def _codes_in_tests() -> set[int]:
    """Numbers that tests compare with, and the classes of errors that they name."""
    codes: set[int] = set()
    classes = {name: item.code for name, item in vars(errors).items() if hasattr(item, "code")}
    for path, tree in _trees(TESTS):
        if path.is_relative_to(TESTS / "chaos"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, int):
                codes.add(node.value)
            name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
            if name in classes:
                codes.add(classes[name])
    return codes


@row(
    "H4",
    inject="a scan of the package for tasks that nobody looks after",
    hold="no bare create_task; no endless coroutine in a task that is not started again",
    limit=30,
    short=True,
)
async def tasks_are_supervised(run: Run) -> None:
    bare, spawned, supervised = [], set(), set()
    endless: dict[str, str] = {}
    for path, tree in _trees(PACKAGE):
        place = path.relative_to(PACKAGE)
        for node in ast.walk(tree):
            if isinstance(node, ast.AsyncFunctionDef) and _is_endless(node):
                endless[node.name] = f"{place}:{node.lineno} {node.name}"
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            if name.endswith(("create_task", "ensure_future")) and path.name not in OWN_TASKS:
                bare.append(f"{place}:{node.lineno} {name}")
            if name.endswith("supervise"):
                supervised.add(ast.unparse(node.args[0]).rpartition(".")[2])
            starts = name.endswith("spawn") and isinstance(node.args[0], ast.Call)
            if starts and path.name not in OWN_TASKS:
                spawned.add(ast.unparse(node.args[0].func).rpartition(".")[2])
    alone = [endless[name] for name in sorted(spawned & endless.keys())]
    run.check("tasks started past the supervisor", bare, equals=[])
    run.check("endless coroutines without a supervisor", alone, equals=[])
    run.check("endless coroutines with one", len(supervised & endless.keys()), at_least=1)
    run.note(f"supervised: {', '.join(sorted(supervised))}")


def _is_endless(function: ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(node, ast.While)
        and isinstance(node.test, ast.Constant)
        and node.test.value is True
        for node in ast.walk(function)
    )


@row(
    "H5",
    inject="the injection points of the package and those that the rows arm, compared",
    hold="every injection point is hit by at least one row, and no row arms another",
    limit=30,
    short=True,
)
async def injection_points_are_used(run: Run) -> None:
    points = _first_arguments(PACKAGE, "faults.point")
    armed = _first_arguments(TESTS / "chaos", ".arm")
    run.check("injection points", len(points), at_least=1)
    run.check("injection points that no row arms", sorted(points - armed), equals=[])
    run.check("armed, and nowhere in the package", sorted(armed - points), equals=[])


def _first_arguments(home: Path, function: str) -> set[str]:
    """The texts with which code below *home* calls a function whose name ends so."""
    found = set()
    for _, tree in _trees(home):
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Call)
                and node.args
                and isinstance(node.args[0], ast.Constant)
                and ast.unparse(node.func).endswith(function)
            ):
                found.add(node.args[0].value)
    return found


@row(
    "H6",
    inject="a row run twice with one seed, in processes of their own",
    hold="seed, versions, settings and, when missed, a replay command printed; the same is tried",
    limit=60,
    short=True,
)
async def runs_can_be_repeated(run: Run) -> None:
    outputs = await asyncio.gather(*(_other_run("B14", run.seed) for _ in range(2)))
    other = await _other_run("B14", run.seed + 1)
    for word in (f"seed: {run.seed}", "Python:", "Django:", "Valkey:", "settings:"):
        run.check(f"prints {word.partition(':')[0]}", word in outputs[0], equals=True)
    tried = [re.findall(r"end in ([0-9a-f]{8})", output) for output in (*outputs, other)]
    run.check("the same seed tries the same", tried[0] == tried[1] != [], equals=True)
    run.check("another seed tries something else", tried[2] != tried[0], equals=True)
    printed = io.StringIO()
    with redirect_stdout(printed):
        report.show(Result("B14", "missed", [], [], 0.0, run.seed, 1.0))
    command = f"make faults ROW=B14 SEED={run.seed}"
    run.check("a missed row prints its replay command", command in printed.getvalue(), equals=True)


async def _other_run(name: str, seed: int) -> str:
    words = [sys.executable, "-m", "tests.chaos", "--row", name, "--seed", str(seed)]
    done = await asyncio.to_thread(
        subprocess.run,
        words,
        cwd=ROOT,
        env={**os.environ, "SCALE": "0.01"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return str(done.stdout)


@row(
    "H7",
    inject="the sentence about this table in the README, compared with the data of the last run",
    hold="written by the run, never by hand",
    limit=30,
    short=True,
)
async def badges_are_written_by_the_run(run: Run) -> None:
    readme = report.README.read_text()
    marked = all(mark in readme for mark in report.MARKS)
    without = re.sub(
        re.escape(report.MARKS[0]) + r".*?" + re.escape(report.MARKS[1]), "", readme, flags=re.S
    )
    by_hand = re.findall(r"\d+ of \d+ rows", without)
    run.check("figures outside the marks", by_hand, equals=[])
    if marked and report.DATA.exists():
        data = json.loads(report.DATA.read_text())
        same = report.with_badge(readme, data) == readme
        run.check("the README is what the last run wrote", same, equals=True)
    else:
        run.note("the README shows no figure of a run")
