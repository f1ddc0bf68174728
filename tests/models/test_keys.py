"""Keys that follow from what a row stands for."""

import uuid

from realtime.models import RealtimeUser, row_id


def test_the_key_of_a_row_follows_from_what_it_stands_for():
    assert row_id("user", "3", "ann") == row_id("user", "3", "ann")
    assert len({row_id("a", "bc"), row_id("ab", "c"), row_id("abc"), row_id("a", "b", "c")}) == 4


def test_keys_are_the_same_in_every_release():
    assert RealtimeUser.key_of("3", "ann") == uuid.UUID("f58d6cc9-52e6-5b71-bc50-bf94ca669aae")
