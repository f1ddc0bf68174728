"""Objects per loop, tasks that are looked after, and the way in from synchronous code."""

import asyncio
import logging
import subprocess
import sys
import threading

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation

from realtime import loops
from tests.conftest import soon, until


async def where():
    """The thread and the loop in which this runs."""
    return threading.get_ident(), asyncio.get_running_loop()


# ---- objects per loop -------------------------------------------------------------------


async def test_a_loop_has_one_object():
    things = loops.PerLoop(object)

    assert things.current() is things.current()


async def test_peeking_makes_nothing():
    things = loops.PerLoop(object)

    assert things.peek() is None
    assert things.current() is things.peek()


def test_every_loop_has_its_own_object_and_closed_loops_are_forgotten():
    made = []
    things = loops.PerLoop(lambda: made.append(1) or object())

    async def ask():
        return things.current()

    first, second = asyncio.run(ask()), asyncio.run(ask())

    assert first is not second
    assert len(made) == 2


# ---- tasks ------------------------------------------------------------------------------


async def test_the_failure_of_a_task_is_logged(caplog):
    async def fail():
        raise RuntimeError("oh")

    task = loops.spawn(fail(), "a failing task")
    await asyncio.wait([task])
    await until(lambda: caplog.records)

    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "task a failing task failed"


async def test_a_cancelled_task_is_not_an_error(caplog):
    task = loops.spawn(asyncio.Event().wait(), "a waiting task")
    await asyncio.sleep(0)

    task.cancel()
    await asyncio.wait([task])

    assert caplog.records == []


@pytest.fixture
def pauses(monkeypatch):
    """The pauses the code under test makes; they take no time."""
    made, yield_once = [], asyncio.sleep

    async def pause(seconds):
        made.append(seconds)
        await yield_once(0)

    monkeypatch.setattr(asyncio, "sleep", pause)
    return made


@pytest.mark.parametrize(
    ("held_seconds", "expected", "logged"),
    [
        (
            0,
            [0.1, 0.2, 0.4, 0.8, 1.6, 2, 2],
            ["the worker failed; starting it again"]
            + ["the worker failed again: RuntimeError('oh')"] * 6,
        ),
        (31, [0.1] * 7, ["the worker failed; starting it again"] * 7),
    ],
    ids=["ever more slowly", "at once after it held long"],
)
async def test_a_supervised_task_is_started_again(
    pauses, monkeypatch, caplog, counted, held_seconds, expected, logged
):
    loop = asyncio.get_running_loop()
    real_time, done = loop.time, asyncio.Event()
    passed = [0]
    monkeypatch.setattr(loop, "time", lambda: real_time() + passed[0])

    async def work():
        passed[0] += held_seconds
        if len(pauses) < len(expected):
            raise RuntimeError("oh")
        done.set()
        await asyncio.Event().wait()

    task = loops.supervise(work, "the worker")
    await done.wait()

    assert pauses == expected
    assert counted("tasks_restarted") == len(expected)
    fresh, again = (
        "the worker failed; starting it again",
        "the worker failed again: RuntimeError('oh')",
    )
    assert caplog.messages == [fresh if pause == 0.1 else again for pause in expected]
    task.cancel()
    await asyncio.wait([task])


async def test_a_supervised_task_that_returns_is_started_again(pauses):
    starts = []
    done = asyncio.Event()

    async def work():
        starts.append(1)
        if len(starts) == 2:
            done.set()
            await asyncio.Event().wait()

    task = loops.supervise(work, "the worker")
    await done.wait()

    task.cancel()
    await asyncio.wait([task])


async def test_a_cancelled_task_has_ended():
    ended = []

    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(1)

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)

    await loops.cancel(task)

    assert ended == [1]


# ---- from synchronous code --------------------------------------------------------------


def test_synchronous_code_gets_the_answer():
    async def answer():
        return 42

    assert loops.from_sync(answer) == 42


def test_synchronous_code_gets_the_error():
    async def fail():
        raise LookupError("oh")

    with pytest.raises(LookupError, match="oh"):
        loops.from_sync(fail)


def test_calls_share_one_loop_and_one_thread():
    first, second = loops.from_sync(where), loops.from_sync(where)

    assert first == second
    assert first[0] != threading.get_ident()


def test_calls_of_many_threads_share_one_loop():
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(loops.from_sync(where))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(found)) == 1


async def test_a_coroutine_is_told_to_use_the_twin():
    with pytest.raises(SynchronousOnlyOperation, match="await its twin with the prefix 'a'"):
        loops.from_sync(where)


async def test_with_connections_synchronous_code_runs_in_their_loop():
    here = await where()
    loops.settle(asyncio.get_running_loop())

    assert await soon(sync_to_async(loops.from_sync)(where)) == here


def test_a_forked_process_gets_a_loop_of_its_own():
    script = """if True:
        import os, sys
        from realtime import loops

        async def pid():
            return os.getpid()

        assert loops.from_sync(pid) == os.getpid()
        child = os.fork()
        if child == 0:
            os._exit(0 if loops.from_sync(pid) == os.getpid() else 1)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    command = [sys.executable, "-W", "ignore", "-c", script]

    assert subprocess.run(command, timeout=30).returncode == 0


# ---- home -------------------------------------------------------------------------------


async def test_without_connections_there_is_no_home():
    assert loops.home() is None


async def test_the_loop_that_settled_last_is_home():
    loop = asyncio.get_running_loop()

    loops.settle(loop)
    loops.settle(loop)

    assert loops.home() is loop


def test_a_loop_that_ended_is_no_home():
    async def settle():
        loops.settle(asyncio.get_running_loop())

    asyncio.run(settle())

    assert loops.home() is None


async def test_without_a_home_work_is_done_here():
    assert await loops.at_home(where) == await where()


async def test_at_home_work_is_done_here():
    loops.settle(asyncio.get_running_loop())

    assert await loops.at_home(where) == await where()


async def test_from_another_loop_work_is_done_at_home():
    here = await where()
    loops.settle(asyncio.get_running_loop())

    there = await soon(sync_to_async(lambda: asyncio.run(loops.at_home(where)))())

    assert there == here
