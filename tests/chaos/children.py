"""Other programs that a row runs, and waits for."""

import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests import services
from tests.chaos.rows import Run


async def finished(
    run: Run, command: Sequence[str | Path], *, log: Path, seconds: float, **options: Any
) -> int:
    """The exit status of a program, which ends with the row at the latest.

    Args:
        log: where its output goes.
        seconds: how long it may run.
        options: of ``subprocess.Popen``.

    Raises:
        TimeoutError: it still runs.
    """
    process = services.spawn(command, log=log, **options)
    run.stack.callback(_end, process)
    try:
        return int(await asyncio.to_thread(process.wait, seconds))
    except subprocess.TimeoutExpired:
        raise TimeoutError(f"{command[0]} still runs after {seconds:g} s") from None


def _end(process: "subprocess.Popen[Any]") -> None:
    process.kill()
    process.wait()
