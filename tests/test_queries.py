"""Questions about channels."""

import uuid

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import cache

from realtime import applications, hub, last_events, triggers
from realtime.presence import lease, ledger, store
from realtime.presence.store import Join, Occupy
from realtime.protocol.messages import Member
from realtime.queries import (
    InvalidQuery,
    achannel_info,
    achannels_info,
    attributes_of,
    ausers_info,
    channel_info,
    channels_info,
    users_info,
)


@pytest.fixture
def occupied(db):
    """A public channel with three subscriptions and a presence channel of two users."""
    server = uuid.uuid4()
    lease.take(server, 60)
    joins = [
        Join("3", "presence-room", f"1.{number}", Member(user))
        for number, user in enumerate(["ann", "ann", "bob"])
    ]
    counts = [Occupy("3", "room", 3), Occupy("3", "presence-room", 3), Occupy("4", "foreign", 1)]
    store.apply(server, [*joins, *counts], 60)


@pytest.mark.spec(181, 182)
@pytest.mark.parametrize(
    ("prefix", "attributes", "channels"),
    [
        (None, (), {"room": {}, "presence-room": {}}),
        ("", (), {"room": {}, "presence-room": {}}),
        ("ro", (), {"room": {}}),
        ("x", (), {}),
        ("no channel starts so", (), {}),
        ("presence-", ["user_count"], {"presence-room": {"user_count": 2}}),
    ],
)
def test_occupied_channels_are_listed(occupied, prefix, attributes, channels):
    assert channels_info(prefix, attributes) == {"channels": channels}


@pytest.mark.spec(183)
@pytest.mark.parametrize(
    ("prefix", "attributes", "complaint"),
    [
        (None, ["user_count"], "starts with presence-"),
        ("presence", ["user_count"], "starts with presence-"),
        ("presence-", ["subscription_count"], "not available for a list"),
        ("presence-", ["cache"], "not available for a list"),
        ("presence-", ["x", "users"], "Unknown info attribute: users"),
    ],
)
def test_a_list_has_few_attributes(db, prefix, attributes, complaint):
    with pytest.raises(InvalidQuery, match=complaint):
        channels_info(prefix, attributes)


@pytest.mark.spec(185, 186)
@pytest.mark.parametrize(
    ("channel", "attributes", "answer"),
    [
        ("room", (), {"occupied": True}),
        ("room", ["subscription_count"], {"occupied": True, "subscription_count": 3}),
        ("empty", ["subscription_count"], {"occupied": False, "subscription_count": 0}),
        (
            "presence-room",
            ["user_count", "subscription_count"],
            {"occupied": True, "user_count": 2, "subscription_count": 3},
        ),
        ("presence-empty", ["user_count"], {"occupied": False, "user_count": 0}),
    ],
)
def test_a_channel_answers_what_it_is_asked(occupied, channel, attributes, answer):
    assert channel_info(channel, attributes) == answer


@pytest.mark.spec(186)
@pytest.mark.parametrize(
    ("channel", "attributes", "complaint"),
    [
        ("room", ["user_count"], "unless the channel is a presence channel"),
        ("room", ["\u2028"], r"Unknown info attribute: \\u2028"),
        ("no spaces", (), "Invalid channel name"),
        ("#server-to-user-ann", (), "Invalid channel name"),
    ],
)
def test_a_channel_refuses_what_it_does_not_have(db, channel, attributes, complaint):
    with pytest.raises(InvalidQuery, match=complaint):
        channel_info(channel, attributes)


@pytest.mark.spec(187)
def test_a_cache_channel_tells_its_last_event(db):
    cache.clear()
    assert channel_info("cache-x", ["cache"]) == {"occupied": False, "cache": None}

    app = applications.default()
    last_events.keep(last_events.stamped(triggers.encode(app, "cache-x", "greet", "1.0")))

    assert channel_info("cache-x", ["cache"]) == {
        "occupied": False,
        "cache": {"data": "1.0", "ttl": 1_800},
    }
    with pytest.raises(InvalidQuery, match="unless the channel is a cache channel"):
        channel_info("room", ["cache"])
    cache.clear()


@pytest.mark.spec(188)
def test_the_users_of_a_presence_channel_are_listed_once(occupied):
    assert users_info("presence-room") == {"users": [{"id": "ann"}, {"id": "bob"}]}
    assert users_info("presence-empty") == {"users": []}


@pytest.mark.spec(188)
@pytest.mark.parametrize("channel", ["room", "no spaces"])
def test_only_presence_channels_have_users(db, channel):
    with pytest.raises(InvalidQuery):
        users_info(channel)


@pytest.mark.spec(175, 176)
def test_what_does_not_apply_is_left_out_of_the_answer_to_a_trigger(occupied, app):
    both = {"user_count", "subscription_count"}

    assert attributes_of(app, {"room": both, "presence-room": both, "presence-x": both}) == {
        "room": {"subscription_count": 3},
        "presence-room": {"user_count": 2, "subscription_count": 3},
        "presence-x": {"user_count": 0, "subscription_count": 0},
    }


def test_another_app_can_be_asked(occupied, configure):
    configure(APPS=[{"ID": "4", "KEY": "k", "SECRET": "s"}])

    assert channels_info(app_id="4") == {"channels": {"foreign": {}}}
    assert channel_info("foreign", app_id="4") == {"occupied": True}
    assert users_info("presence-room", app_id="4") == {"users": []}


async def test_coroutines_have_twins_and_see_what_this_process_has_just_recorded(process):
    await hub.current().start()
    ledger.current().occupy("3", "room", 2)
    assert await achannel_info("room", ["subscription_count"]) == {
        "occupied": True,
        "subscription_count": 2,
    }

    ledger.current().occupy("3", "other", 1)

    assert await achannels_info() == {"channels": {"room": {}, "other": {}}}
    assert await ausers_info("presence-room") == {"users": []}


async def test_a_process_that_recorded_nothing_asks_the_database(process):
    await hub.current().start()

    assert await sync_to_async(channels_info)() == {"channels": {}}
