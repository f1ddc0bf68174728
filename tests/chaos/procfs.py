"""What the kernel says about a process."""

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_ESTABLISHED = "01"
MIB = 1_048_576


@dataclass(frozen=True)
class Sample:
    """One look at a process."""

    at: float
    rss: int
    """Bytes in memory."""
    cpu: float
    """Seconds of CPU since its start."""
    fds: int
    threads: int


def look(pid: int) -> Sample:
    """A sample of now.

    Raises:
        OSError: there is no such process.
    """
    home = Path("/proc", str(pid))
    fields = (home / "stat").read_text().rpartition(")")[2].split()
    return Sample(
        at=time.monotonic(),
        rss=int((home / "statm").read_text().split()[1]) * _PAGE,
        cpu=(int(fields[11]) + int(fields[12])) / _TICKS,
        fds=len(os.listdir(home / "fd")),
        threads=int(fields[17]),
    )


def reset_peak(pid: int) -> None:
    """Let ``peak`` mean the time from now on."""
    Path("/proc", str(pid), "clear_refs").write_text("5")


def peak(pid: int) -> int:
    """The most bytes in memory since ``reset_peak``."""
    for line in Path("/proc", str(pid), "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"process {pid} shows no peak")


def established(server_port: int, client_ports: set[int]) -> int:
    """How many connections from *client_ports* the server's half of is still open."""
    count = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_ = line.split()
        if state == _ESTABLISHED and int(local.rpartition(":")[2], 16) == server_port:
            count += int(remote.rpartition(":")[2], 16) in client_ports
    return count


class Sampler:
    """Looks at a process again and again, from a thread."""

    def __init__(self, pid: int, *, every: float = 0.25) -> None:
        self.samples: list[Sample] = []
        self._pid = pid
        self._every = every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                self.samples.append(look(self._pid))
                if self._ended.wait(self._every):
                    return

    def stop(self) -> list[Sample]:
        """End, and return what was seen."""
        self._ended.set()
        self._thread.join()
        return self.samples


def slope(samples: list[Sample]) -> float:
    """Bytes of growth per second, by least squares; infinite where too little was seen."""
    if len(samples) < 2:
        return float("inf")
    mean_at = sum(item.at for item in samples) / len(samples)
    mean_rss = sum(item.rss for item in samples) / len(samples)
    spread = sum((item.at - mean_at) ** 2 for item in samples)
    return sum((item.at - mean_at) * (item.rss - mean_rss) for item in samples) / spread
