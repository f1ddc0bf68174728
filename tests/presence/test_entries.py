"""What waits to be committed, and who waits for it."""

import asyncio

import pytest

from realtime.presence import entries
from realtime.presence.occupancy import Occupy
from realtime.presence.store import Join, Leave, Outcome, Roster
from realtime.protocol import messages
from realtime.protocol.attendance import View
from realtime.protocol.errors import LimitReached, SubscriptionRefused
from realtime.protocol.facts import Fact

JOIN = Join("3", "presence-room", "1.1", messages.Member("ann", None), 5)
LEAVE = Leave("3", "presence-room", "1.1", "ann")
FACT = Fact(app_id="3", kind="cache_miss", channel="cache-room")


@pytest.fixture
async def waiting():
    return asyncio.get_running_loop().create_future()


async def test_whoever_joined_gets_the_roster(waiting):
    roster = Roster("{}", View())

    entries.answer((JOIN, waiting), Outcome(rosters={("3", "presence-room"): roster}))

    assert await waiting is roster


@pytest.mark.parametrize(
    ("outcome", "error"),
    [(Outcome(banned={JOIN}), SubscriptionRefused), (Outcome(crowded={JOIN}), LimitReached)],
)
async def test_whoever_may_not_join_is_told_why(waiting, outcome, error):
    entries.answer((JOIN, waiting), outcome)

    with pytest.raises(error):
        await waiting


async def test_nobody_waits_for_the_rest(waiting):
    waiting.cancel()
    for entry in ((JOIN, waiting), (LEAVE, None), (FACT, None)):
        entries.answer(entry, Outcome(banned={JOIN}))

    assert entries.given_up((JOIN, waiting))
    assert not entries.given_up((LEAVE, None))


async def test_a_group_that_cannot_be_written_keeps_what_must_not_be_lost(waiting, counted):
    occupy = Occupy("3", "room", 1)
    group = [(JOIN, waiting), (LEAVE, None), (FACT, None), (occupy, None)]

    assert entries.facts_in(group) == 1
    assert entries.refuse(group, OSError("no")) == [(LEAVE, None), (occupy, None)]

    assert counted("facts_dropped") == 1
    with pytest.raises(OSError, match="no"):
        await waiting
