"""The program that marks the limit, compiled on the spot."""

import shutil
import subprocess
from pathlib import Path

from tests.bench.left_out import LeftOut
from tests.e2e.sites import ROOT

SOURCE = Path(__file__).with_name("limit.c")
PROGRAM = ROOT / "build" / "limit"


def program() -> Path:
    """The compiled program.

    Raises:
        LeftOut: there is no C compiler, or it does not like the program.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise LeftOut("the limit needs a C compiler: install the Debian package gcc")
    PROGRAM.parent.mkdir(exist_ok=True)
    done = subprocess.run(
        [compiler, "-O2", "-o", PROGRAM, SOURCE], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LeftOut(f"the limit cannot be compiled: {done.stderr.strip()[:500]}")
    return PROGRAM
