"""``python -m tests.bench.profile publish``: where the CPU time of the server's event loop goes.

Read the shares: the times are under the profiler, several times what they are without.  It counts
every call, so code with many small functions looks dearer than it is, and what is written in C
cheaper.  Work in other threads is not in it, but for ``rows``, which is the work of the thread that
writes presence.
"""

import argparse
import os
import pstats
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests import services
from tests.bench import machine
from tests.bench.bench import CHANNEL, SUBSCRIBERS
from tests.bench.contestants import CONTESTANTS, Place, Running, running, site_environment
from tests.bench.load.generator import WINDOW
from tests.bench.settings import PROFILE
from tests.e2e import sites

PATIENCE: Final = 30.0
SHARES: Final = (
    ("realtime/protocol/", "protocol: messages, signatures"),
    ("realtime/", "the rest of realtime"),
    ("redis/", "redis-py"),
    ("channels_redis/", "channels-redis"),
    ("msgpack/", "channels-redis"),
    ("uvicorn/", "uvicorn and httptools"),  # which has a directory named websockets
    ("websockets/", "websockets"),
    ("psycopg/", "psycopg"),
    ("django/", "Django"),
    ("asgiref/", "Django"),
    ("channels/", "Channels"),
)
"""Parts of paths, the first that fits; the rest is Python's library and uvloop."""
OTHERS: Final = "Python's library, uvloop and the kernel"

Func = tuple[str, int, str]


def publish(runner: Running) -> float:
    """One publisher in sequence and one subscriber; how many were published."""
    seen = runner.load.call("publish", channel="alone", receivers=1, seconds=3)
    return float(seen["events"])


def connect(runner: Running) -> float:
    """Connections that come and subscribe; how many."""
    runner.load.call("connect", count=1_000, groups=[("room", 1_000)])
    return 1_000


def fan_out(runner: Running) -> float:
    """Four publishers of events for all who are connected; how many deliveries."""
    receivers = runner.load.call("keep")["open"]
    wanted = {"receivers": receivers, "seconds": 3, "publishers": 4, "window": WINDOW}
    seen = runner.load.call("publish", channel=CHANNEL, **wanted)
    return float(seen["deliveries"])


def presence(runner: Running) -> float:
    """Members who join one channel at once; how many."""
    runner.load.call("join", channel="presence-room")
    return 1_000


KINDS: Final = {
    "publish": publish,
    "connect": connect,
    "fan-out": fan_out,
    "presence": presence,
}
ROWS: Final = "rows"


def main(arguments: list[str] | None = None) -> None:
    """Profile one kind of work, and print the shares as a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("kind", choices=[*KINDS, ROWS])
    parser.add_argument("--functions", type=int, default=0, help="so many functions, too")
    parser.add_argument("--subscribers", type=int, default=SUBSCRIBERS, help="of fan-out")
    parser.add_argument(
        "--processes", type=int, default=1, help="of fan-out; the first is profiled"
    )
    parser.add_argument("--plain", action="store_true", help="on plain uvicorn")
    chosen = parser.parse_args(arguments)
    kind = chosen.kind
    os.sched_setaffinity(0, {machine.cores().load})
    machine.raise_file_limit()
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home,
        services.postgres() as url,
    ):
        sites.manage(site_environment(DATABASE_URL=url), "migrate", "--verbosity", "0")
        written = Path(home, "profile")
        if kind == ROWS:
            count = _rows(url, written)
        else:
            options = {"DATABASE_URL": url, PROFILE: str(written)}
            processes = chosen.processes if kind == "fan-out" else 1
            ours = CONTESTANTS["portable-redis" if chosen.plain else "fast-redis"]
            with running(ours, Place(Path(home)), processes=processes, **options) as runner:
                count = _profiled(runner, kind, chosen.subscribers)
            _until_written(written)
        stats: Any = pstats.Stats(str(written))
    print(f"{kind}, {count:,.0f} of them\n")
    print(table(shares(stats.stats), count))
    if chosen.functions:
        stats.sort_stats("tottime").print_stats(chosen.functions)


def _profiled(runner: Running, kind: str, subscribers: int) -> float:
    """Do the work while the first process is profiled; how much it was."""
    if kind != "connect":
        groups = {"publish": [("alone", 1)], "fan-out": [(CHANNEL, subscribers)]}.get(kind, [])
        count = subscribers if kind == "fan-out" else 1_000
        runner.load.call("connect", count=count, groups=groups)
    if kind in ("publish", "fan-out"):
        KINDS[kind](runner)  # warm
    pid, _ = runner.processes[0]
    os.kill(pid, signal.SIGUSR1)
    done = KINDS[kind](runner)
    os.kill(pid, signal.SIGUSR2)
    return done


def _rows(url: str, written: Path) -> float:
    """Profile what the writing thread does for joins; how many."""
    command = [sys.executable, "-m", "tests.bench.rows_probe", str(written)]
    environment = site_environment(DATABASE_URL=url)
    done = subprocess.run(
        command, env=environment, cwd=sites.ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(done.stdout)


def _until_written(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > deadline:
            raise RuntimeError("the server wrote no profile")
        time.sleep(0.02)


def shares(stats: Mapping[Func, tuple[int, int, float, float, Mapping[Func, Any]]]) -> Counter[str]:
    """Seconds by who took them; a function that is written in C counts for its callers."""
    found: Counter[str] = Counter()
    for func, (_, _, own, _, callers) in stats.items():
        if func[0] != "~" or not callers:
            found[share_of(func[0])] += own
            continue
        for caller, (_, _, seconds, _) in callers.items():
            found[share_of(caller[0])] += seconds
    return found


def share_of(path: str) -> str:
    """Whose file it is; directories above the packages say nothing."""
    path = "/" + path.rpartition("site-packages/")[2].removeprefix(f"{sites.ROOT}/")
    for part, name in SHARES:
        if f"/{part}" in path:
            return name
    return OTHERS


def table(found: Counter[str], count: float) -> str:
    """The shares, the largest first."""
    total = found.total()
    lines = ["| Part | µs each | share |", "| --- | ---: | ---: |"]
    for name, seconds in found.most_common():
        each = seconds / count * 1e6
        lines.append(f"| {name} | {each:,.{2 if each < 10 else 0}f} | {seconds / total:.0%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
