"""A load process, as the program that measures sees it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests import services
from tests.bench import machine
from tests.bench.load.target import Target
from tests.e2e import sites


class LoadFailed(Exception):
    """The load process could not do what it was asked; the reason is the server's, mostly."""


class Load:
    """Subscribers and publishers against one server, in a process on the core of the load."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log

    def call(self, command: str, **arguments: Any) -> dict[str, float]:
        """Let it do something; see ``load.generator.Generator``.

        Raises:
            LoadFailed: with the reason.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": command, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise LoadFailed(f"the load process ended: {self._log.read_text()[-2000:]}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoadFailed(f"{command}: {answer['error']}")
        return answer


@contextmanager
def load(target: Target, home: Path) -> Iterator[Load]:
    """A load process against *target*, with its log in *home*."""
    log = home / f"load-{'-'.join(map(str, target.ports))}.log"
    with machine.on(machine.cores().load), log.open("ab") as errors:
        process = services.spawn(
            [sys.executable, "-m", "tests.bench.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=sites.ROOT,
        )
    try:
        process.stdin.write(json.dumps(asdict(target)) + "\n")
        process.stdin.flush()
        yield Load(process, log)
    finally:
        services.stop(process)
