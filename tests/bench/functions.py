"""The table of ``tests/benchmarks``: how long single functions take."""

import re
import subprocess
import sys
from typing import Final

from tests.bench import machine
from tests.e2e import sites

LINE: Final = re.compile(r"^(\S.*?) +([\d.]+) µs(?: +(\d+) instructions)?", re.MULTILINE)


def measure() -> dict[str, dict[str, float]]:
    """The figures by the name of what was measured.

    Raises:
        CalledProcessError: a test failed.
    """
    with machine.on(machine.cores().server):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "tests/benchmarks"],
            cwd=sites.ROOT,
            env=sites.environment(),
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    return read(done.stdout)


def read(text: str) -> dict[str, dict[str, float]]:
    """The rows in what the tests print."""
    found = {}
    for name, microseconds, instructions in LINE.findall(text):
        found[name] = {"each": float(microseconds)}
        if instructions:
            found[name]["instructions"] = float(instructions)
    return found
