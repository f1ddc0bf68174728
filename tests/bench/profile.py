"""``python -m tests.bench.profile publish``: where the CPU time of the server's event loop goes.

Read the shares: the times are under the profiler, several times what they are without.  It counts
every call, so code with many small functions looks dearer than it is, and what is written in C
cheaper.  Work in other threads, such as that of the database,
is not in it.
"""

import argparse
import os
import pstats
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests import services
from tests.bench import machine
from tests.bench.bench import QUICK, Bench
from tests.bench.contestants import Place, Running, site_environment
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


def presence(runner: Running) -> float:
    """Members who join one channel at once; how many."""
    runner.load.call("join", channel="presence-room")
    return 1_000


KINDS: Final = {"publish": publish, "connect": connect, "presence": presence}


def main(arguments: list[str] | None = None) -> None:
    """Profile one kind of work, and print the shares as a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profile", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--functions", type=int, default=0, help="so many functions, too")
    chosen = parser.parse_args(arguments)
    kind = chosen.kind
    os.sched_setaffinity(0, {machine.cores().load})
    machine.raise_file_limit()
    with (
        tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as home,
        services.postgres() as url,
    ):
        bench = Bench(QUICK, Place(Path(home)))
        sites.manage(site_environment(DATABASE_URL=url), "migrate", "--verbosity", "0")
        written = Path(home, "profile")
        with bench.lineup("fast-redis", DATABASE_URL=url, **{PROFILE: str(written)}) as [runner]:
            if kind != "connect":
                groups = [("alone", 1)] if kind == "publish" else []
                runner.load.call("connect", count=1_000, groups=groups)
            if kind == "publish":
                publish(runner)  # warm
            [(pid, _)] = runner.processes
            os.kill(pid, signal.SIGUSR1)
            count = KINDS[kind](runner)
            os.kill(pid, signal.SIGUSR2)
            _until_written(written)
        stats: Any = pstats.Stats(str(written))
    print(f"{kind}, {count:,.0f} of them\n")
    print(table(shares(stats.stats), count))
    if chosen.functions:
        stats.sort_stats("tottime").print_stats(chosen.functions)


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
        lines.append(f"| {name} | {seconds / count * 1e6:,.0f} | {seconds / total:.0%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
