"""Rows H: rules about the code, the tests and the run itself."""

import asyncio
import io
import json
import os
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

from realtime.protocol import connection, errors
from tests import services
from tests.chaos import page, report, scanners, terminal
from tests.chaos.client import Pusher
from tests.chaos.publisher import Publisher
from tests.chaos.rows import Result, Run, row
from tests.e2e.sites import ROOT

PACKAGE = ROOT / "realtime"
TESTS = ROOT / "tests"

IDLE_SECONDS = 60

OTHER_RUN_SECONDS = 50
"""Many times what the row takes that is run twice."""

SPEAKING = ("e2e", "fallback", "servers", "test_consumer.py")
"""Where tests speak as clients with a server, or with the consumer that it would call."""

OWN_TASKS = {"loops.py", "sockets.py"}
"""The supervisor itself, and tasks that end with what they serve."""

TASKS_THAT_END = {
    "auth client": "with the wait for a place",
    "auth place": "when there is a place, or the request waits no more",
    "bus probe": "with the echo, and its asker cancels it",
    "fallback": "with the virtual connection",
    "fallback feed": "with the receive request",
    "fallback part": "after one message",
    "fallback peer": "with the receive request",
    "hub part": "after one message",
    "hub start": "when the channel layer has answered",
    "layer close": "after one close",
    "ledger writer": "when nothing waits; the next write starts another",
    "presence announcer": "when nothing waits; the next change starts another",
    "question": "with the answer",
    "realtime stop": "with the process",
    "realtime stop on a signal": "with the process",
    "signal sender": "when nothing waits; the sweeper starts another",
    "subscription counts": "when nothing waits; the next change starts another",
    "webhook sender": "when nothing waits; the sweeper starts another",
}
"""Tasks that nobody starts again, and when each ends."""


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
    hold="every code in the docs is expected by a test that speaks with a server or a consumer,"
    " and every code that the package has is in the docs",
    limit=30,
    short=True,
)
async def codes_are_tested(run: Run) -> None:
    page = ROOT / "docs" / "reference" / "error-codes.md"
    documented = scanners.documented_codes(page.read_text())
    produced = _produced_codes()
    # Each test lives below one of these: what is compared there came out of a server.
    tests = [
        source
        for source in scanners.sources(TESTS)
        if source[0].relative_to(TESTS).parts[0] in SPEAKING
    ]
    tested = scanners.expected_codes(tests)
    run.check("codes in the docs", len(documented), at_least=15)
    run.check("documented, not produced", sorted(documented - produced), equals=[])
    run.check("produced, not documented", sorted(produced - documented), equals=[])
    run.check("documented, expected by no test", sorted(documented - tested), equals=[])


def _produced_codes() -> set[int]:
    codes = {
        item.code
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, errors.ProtocolError) and item.code
    }
    sources = [Path(connection.__file__), PACKAGE / "consumer.py"]
    return codes | scanners.produced_codes(path.read_text() for path in sources)


@row(
    "H4",
    inject="a scan of the package for tasks that nobody looks after",
    hold="no bare create_task; whatever is not started again is known to end",
    limit=30,
    short=True,
)
async def tasks_are_supervised(run: Run) -> None:
    package = scanners.sources(PACKAGE)
    spawned, supervised = (scanners.started(package, how) for how in ("spawn", "supervise"))
    endless = scanners.endless(package)
    alone = [endless[work] for work in spawned.values() if work in endless]
    both = sorted(supervised.values() & endless.keys())
    run.check(
        "tasks started past the supervisor",
        scanners.bare_tasks(package, may=OWN_TASKS),
        equals=[],
    )
    run.check(
        "tasks that nobody starts again, and of which nobody says when they end",
        sorted(spawned.keys() - TASKS_THAT_END.keys()),
        equals=[],
    )
    run.check("said to end, and gone", sorted(TASKS_THAT_END.keys() - spawned.keys()), equals=[])
    run.check("endless coroutines without a supervisor", alone, equals=[])
    run.check("endless coroutines with one", len(both), at_least=5)
    run.note(f"supervised: {', '.join(sorted(supervised))}")


@row(
    "H5",
    inject="the injection points of the package and those that the rows arm, compared",
    hold="every injection point is armed by a row, and each row that arms one holds that it was"
    " hit; no row arms another",
    limit=30,
    short=True,
)
async def injection_points_are_used(run: Run) -> None:
    points = scanners.first_arguments(scanners.sources(PACKAGE), "faults.point")
    armed = scanners.first_arguments(scanners.sources(TESTS / "chaos"), ".arm")
    run.check("injection points", len(points), at_least=1)
    run.check("injection points that no row arms", sorted(points - armed), equals=[])
    run.check("armed, and nowhere in the package", sorted(armed - points), equals=[])


@row(
    "H6",
    inject="a row run twice with one seed, in processes of their own",
    hold="seed, versions, settings and a replay command printed; the same is tried",
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
        terminal.show(Result("B14", "missed", [], [], 0.0, run.seed, 0.5, short=True))
    command = f"make faults ROW=B14 SEED={run.seed} LANE=short SCALE=0.5"
    run.check("a missed row prints its replay command", command in printed.getvalue(), equals=True)


async def _other_run(name: str, seed: int) -> str:
    words = [sys.executable, "-m", "tests.chaos", "--row", name, "--seed", str(seed)]
    environment = {**os.environ, "SCALE": "0.01"}
    return (await services.finish(words, OTHER_RUN_SECONDS, cwd=ROOT, env=environment))[1]


@row(
    "H7",
    inject="the sentence about this table in the README, compared with the data of the last run,"
    " which may be this one",
    hold="written by the run, never by hand; the page that it leads to is there",
    limit=30,
    short=True,
)
async def badges_are_written_by_the_run(run: Run) -> None:
    readme = report.README.read_text()
    start, end = map(re.escape, page.MARKS)
    without = re.sub(rf"{start}.*?{end}", "", readme, flags=re.S)
    run.check("marks in the README", all(map(readme.count, page.MARKS)), equals=True)
    run.check("figures outside the marks", re.findall(r"\d+ of \d+ rows", without), equals=[])
    there = [path.name for path in (report.PAGE, report.DATA) if path.exists()]
    run.check("written by a run", there, equals=[report.PAGE.name, report.DATA.name])
    if report.DATA.exists():
        same = page.with_badge(readme, json.loads(report.DATA.read_text())) == readme
        run.check("the README is what the last run wrote", same, equals=True)
