"""Programs of the tests end with whoever waits for them."""

import asyncio
import os
import select
import subprocess
import sys

import pytest

from tests import services

PATIENCE = 20

DRIVER = """
import os, signal, sys
from tests import services
child = services.spawn(["sleep", "60"], orphaned=signal.SIGKILL)
child.send_signal(signal.SIGSTOP)
os.waitid(os.P_PID, child.pid, os.WSTOPPED)
print(child.pid, flush=True)
sys.stdin.read()
"""


async def test_status_and_output_of_a_program():
    words = [sys.executable, "-c", "import sys; print('out'); sys.exit('failed')"]

    assert await services.finish(words, PATIENCE) == (1, "out\nfailed\n")


async def test_a_program_that_does_not_end_is_killed():
    with pytest.raises(TimeoutError, match=r"still runs after 3 s:\n\d+\n") as caught:
        await services.finish(["sh", "-c", "echo $$; exec sleep 60"], 3)

    with pytest.raises(ProcessLookupError):
        os.kill(int(str(caught.value).split()[-1]), 0)


async def test_a_program_ends_with_the_row_that_waits_for_it():
    waiting = asyncio.create_task(services.finish(["sleep", "60"], PATIENCE))
    await asyncio.sleep(0)  # it has started
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_a_stopped_child_ends_with_its_parent():
    words = [sys.executable, "-c", DRIVER]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as driver:
        child = int(driver.stdout.readline())
        watch = os.pidfd_open(child)
        driver.kill()
        driver.wait(PATIENCE)
    # The descriptor of a process can be read when that process has ended.
    ended, _, _ = select.select([watch], [], [], PATIENCE)
    os.close(watch)

    assert ended
