"""The shifted clock of a process."""

import os
import subprocess
import sys

import pytest

from tests.chaos.shift import Shift

PROGRAM = """
import datetime, sys, time
for line in sys.stdin:
    began = time.monotonic()
    time.sleep(0.001)
    print(time.time(), datetime.datetime.now().timestamp(), time.monotonic() - began, flush=True)
"""


@pytest.mark.parametrize("seconds", [3_600, -3_600])
def test_the_wall_clock_is_shifted_while_a_process_runs_and_no_other_clock(tmp_path, seconds):
    shift = Shift(tmp_path)
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **shift.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:

        def ask():
            program.stdin.write("\n")
            program.stdin.flush()
            return [float(word) for word in program.stdout.readline().split()]

        before = ask()
        shift.set(seconds)
        after = ask()
        program.stdin.close()

    for one, other in zip(before[:2], after[:2], strict=True):
        assert other - one == pytest.approx(seconds, abs=30)
    assert 0 < after[2] < 30


def test_a_machine_without_a_compiler_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(RuntimeError, match="apt-get install gcc"):
        Shift(tmp_path)
