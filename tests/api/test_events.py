"""What back ends ask for; how refusals are answered is in ``test_views``."""

import pytest
from rest_framework.exceptions import ParseError

from realtime.api.events import attributes_in, read_batch, read_event
from realtime.protocol.errors import RealtimeError

EVENT = {"name": "greet", "channel": "room", "data": "hello"}


def test_one_event_for_several_channels(app):
    asked = read_event(app, {**EVENT, "channels": ["a", "b"], "info": "user_count, "})

    assert [envelope.channel for envelope in asked.envelopes] == ["a", "b"]
    assert asked.wanted == {"a": {"user_count"}, "b": {"user_count"}}


def test_a_batch_tells_what_each_event_asked_for(app):
    again = {**EVENT, "info": "subscription_count"}

    asked = read_batch(app, {"batch": [EVENT, again]})

    assert asked.items == [("room", set()), ("room", {"subscription_count"})]
    assert asked.wanted == {"room": {"subscription_count"}}
    assert read_batch(app, {"batch": [EVENT]}).wanted == {}


@pytest.mark.parametrize("read", [read_event, read_batch])
@pytest.mark.parametrize("wrong", [{"data": 7}, {"name": None}, {"info": "everything"}])
def test_nothing_is_read_of_what_is_wrong(app, read, wrong):
    item = {**EVENT, **wrong}

    with pytest.raises((ParseError, RealtimeError)):
        read(app, {"batch": [EVENT, item]} if read is read_batch else item)


def test_attributes_are_names_between_commas():
    assert attributes_in(" a,,b ,") == {"a", "b"}
    assert attributes_in(None) == set()
