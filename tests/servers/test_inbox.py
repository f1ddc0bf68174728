"""What waits between a connection and its application."""

import asyncio
import sys

import pytest

from realtime.servers.inbox import Gate, Inbox
from tests.conftest import soon


@pytest.fixture
async def inbox():
    return Inbox()


async def reading(inbox):
    """Somebody who waits for a message."""
    task = asyncio.ensure_future(inbox.get())
    await asyncio.sleep(0)
    return task


async def test_messages_come_in_order(inbox):
    for number in range(3):
        inbox.put_nowait(number)

    assert [await inbox.get() for _ in range(3)] == [0, 1, 2]
    assert inbox.empty()


async def test_a_reader_waits_for_a_message(inbox):
    task = await reading(inbox)
    assert not task.done()

    inbox.put_nowait("a")

    assert await soon(task) == "a"
    assert inbox.empty()


async def test_each_of_two_readers_gets_one(inbox):
    tasks = [await reading(inbox), await reading(inbox)]

    inbox.put_nowait("a")
    inbox.put_nowait("b")

    assert await soon(asyncio.gather(*tasks)) == ["a", "b"]


async def test_a_reader_that_gave_up_takes_nothing_with_it(inbox):
    gone, other = await reading(inbox), await reading(inbox)
    gone.cancel()
    await asyncio.wait([gone])

    inbox.put_nowait("a")

    assert await soon(other) == "a"


async def test_a_reader_that_is_woken_and_cancelled_at_once_wakes_the_next(inbox):
    gone, other = await reading(inbox), await reading(inbox)

    inbox.put_nowait("a")
    gone.cancel()

    assert await soon(other) == "a"


async def test_a_reader_that_gave_up_is_forgotten(inbox):
    for _ in range(3):
        task = await reading(inbox)
        task.cancel()
        await asyncio.wait([task])

    assert inbox._readers == []


async def test_a_gate_is_open_at_first():
    gate = Gate()
    assert await soon(gate.wait())

    gate.clear()
    waiting = [asyncio.ensure_future(gate.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    gate.set()

    assert await soon(asyncio.gather(*waiting)) == [True, True]


async def test_a_gate_forgets_who_gave_up():
    gate = Gate()
    gate.clear()
    waiting = asyncio.ensure_future(gate.wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])

    gate.set()

    assert len(gate._waiters) == 0


async def test_they_take_a_fraction_of_the_memory():
    def size(*parts):
        return sum(map(sys.getsizeof, parts))

    queue, event = asyncio.Queue(), asyncio.Event()
    theirs = size(queue._queue, queue._getters, queue._putters, queue._finished._waiters)
    inbox, gate = Inbox(), Gate()

    ours = size(inbox._messages, inbox._readers, gate._waiters)
    assert 10 * ours < theirs + size(event._waiters)
