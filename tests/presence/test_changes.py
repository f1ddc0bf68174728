"""A member who came or went, as a fact."""

import pytest

from realtime.models import Member
from realtime.presence.changes import Change
from realtime.protocol import messages
from realtime.protocol.facts import Fact


@pytest.mark.parametrize(
    ("channel", "present", "fact"),
    [
        (
            "presence-room",
            True,
            Fact(app_id="3", kind="member_added", channel="presence-room", user_id="ann"),
        ),
        (
            "presence-room",
            False,
            Fact(app_id="3", kind="member_removed", channel="presence-room", user_id="ann"),
        ),
        (Member.ONLINE, True, Fact(app_id="3", kind="user_online", user_id="ann")),
        (Member.ONLINE, False, Fact(app_id="3", kind="user_offline", user_id="ann")),
    ],
)
def test_a_change_is_a_fact(channel, present, fact):
    assert Change("3", channel, messages.Member("ann", '{"secret":1}'), present, 1).fact == fact
