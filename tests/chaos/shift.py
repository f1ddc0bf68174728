"""The wall clock of one process, shifted while it runs.

By a library that is compiled on the spot and preloaded.  Debian's ``faketime`` 0.9.10 does too
much: under it ``time.sleep()`` of Python 3.11 fails with EINVAL, and a server takes seconds for
what it else does in milliseconds.
"""

import shutil
import struct
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("shift.c")


class Shift:
    """How far off the clock of whoever runs with ``environment`` is.

    Args:
        home: a directory for the library, and for the number that it reads.

    Raises:
        RuntimeError: there is no C compiler, or it does not like the library.
    """

    def __init__(self, home: Path) -> None:
        compiler = shutil.which("cc")
        if compiler is None:
            raise RuntimeError("there is no C compiler: apt-get install gcc libc6-dev")
        library, self._path = home / "shift.so", home / "shift"
        done = subprocess.run(
            [compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{SOURCE.name} cannot be compiled: {done.stderr.strip()[:500]}")
        self.environment = {"LD_PRELOAD": str(library), "SHIFT": str(self._path)}
        self._path.write_bytes(struct.pack("q", 0))

    def set(self, seconds: int) -> None:
        """Put the clock so far ahead of the right one, or back."""
        # In place: the library has mapped the file.
        with self._path.open("r+b") as file:
            file.write(struct.pack("q", seconds))
