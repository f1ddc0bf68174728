"""The counts of one process, and when they are written."""

import asyncio

import pytest

from realtime.presence import tally as tally_module
from realtime.presence.occupancy import Occupy
from realtime.presence.tally import Tally
from tests.conftest import until

ROOM = ("3", "room")


@pytest.fixture
async def woken():
    return []


@pytest.fixture
async def tally(woken):
    return Tally(lambda: woken.append(True))


@pytest.fixture
def later(monkeypatch):
    """What can wait comes in a moment."""
    monkeypatch.setattr(tally_module, "COUNT_SECONDS", 0.01)


async def test_the_first_and_the_last_subscription_are_written_at_once(tally, woken):
    tally.set(ROOM, 1)
    assert tally.due
    assert tally.take(10) == [Occupy("3", "room", 1)]

    tally.set(ROOM, 0)

    assert tally.due
    assert tally.take(10) == [Occupy("3", "room", 0)]
    assert len(woken) == 2


async def test_a_crowd_that_arrives_is_written_once_a_little_later(tally, woken, later):
    tally.set(ROOM, 1)
    tally.take(10)

    for count in range(2, 101):
        tally.set(ROOM, count)
    assert not tally.due
    assert tally.take(10) == []

    await until(lambda: tally.due)
    assert tally.take(10) == [Occupy("3", "room", 100)]
    assert len(woken) == 2


async def test_who_is_in_a_hurry_gets_everything(tally):
    tally.set(ROOM, 1)
    tally.take(10)
    tally.set(ROOM, 2)

    tally.hurry()

    assert tally.take(10) == [Occupy("3", "room", 2)]


async def test_what_was_written_in_a_hurry_is_not_written_again(tally, woken, later):
    tally.set(ROOM, 1)
    tally.take(10)
    tally.set(ROOM, 2)
    tally.hurry()
    tally.take(10)

    await asyncio.sleep(0.02)  # longer than the timer that was running

    assert not tally.due
    assert len(woken) == 2


async def test_a_hurry_about_nothing_makes_no_later_change_urgent(tally):
    tally.set(ROOM, 1)
    tally.take(10)
    tally.hurry()

    tally.set(ROOM, 2)

    assert not tally.due


async def test_more_than_a_group_takes_stays_due(tally):
    for number in range(5):
        tally.set(("3", f"room-{number}"), 1)

    taken = [tally.take(2) for _ in range(4)]

    assert [len(group) for group in taken] == [2, 2, 1, 0]
    assert not tally.due


async def test_what_could_not_be_written_is_due_again_with_its_latest_count(tally):
    tally.set(ROOM, 1)
    tally.take(10)
    tally.set(ROOM, 7)

    tally.restore([ROOM])

    assert tally.take(10) == [Occupy("3", "room", 7)]


async def test_after_a_lost_lease_everything_is_due(tally):
    for name in ("a", "b", "gone"):
        tally.set(("3", name), 1)
    tally.set(("3", "gone"), 0)
    tally.take(10)

    tally.restore()

    assert sorted(count.channel for count in tally.take(10)) == ["a", "b"]
