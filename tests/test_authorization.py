"""Signatures for the site's own users."""

import datetime
import json

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone

from realtime.authorization import (
    aauthenticate_user,
    aauthorize_channel,
    authenticate_user,
    authorize_channel,
    is_banned,
)
from realtime.models import RealtimeUser
from tests.conftest import hmac_hex, signed


def test_a_private_channel_is_signed():
    assert authorize_channel("1234.1234", "private-foobar") == {
        "auth": "278d425bdf160c739803:"
        "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
    }


@pytest.mark.spec(218)
def test_the_data_of_a_member_is_signed_as_it_is_returned():
    answer = authorize_channel(
        "1.1", "presence-room", {"user_id": "ann", "user_info": {"name": "Zoë"}}
    )

    assert json.loads(answer["channel_data"]) == {"user_id": "ann", "user_info": {"name": "Zoë"}}
    assert answer["auth"] == signed(f"1.1:presence-room:{answer['channel_data']}")


def test_an_id_that_is_a_number_becomes_text():
    assert authorize_channel("1.1", "presence-room", {"user_id": 7})["channel_data"] == (
        '{"user_id":"7"}'
    )
    assert authenticate_user("1.1", {"id": 7})["user_data"] == '{"id":"7"}'


def test_django_types_are_encoded():
    day = datetime.date(2026, 1, 2)

    answer = authorize_channel("1.1", "private-room", {"since": day})

    assert answer["channel_data"] == '{"since":"2026-01-02"}'


@pytest.mark.parametrize("value", [None, "", True, {}, []])
def test_an_id_that_is_none_is_refused(value):
    with pytest.raises(ValueError, match="must contain a user_id"):
        authorize_channel("1.1", "presence-room", {"user_id": value})
    with pytest.raises(ValueError, match="must contain a id"):
        authenticate_user("1.1", {"id": value})


@pytest.mark.spec(219)
@pytest.mark.parametrize(
    ("socket_id", "channel"),
    [
        ("1", "private-room"),
        ("1.1\n", "private-room"),
        ("1.1:private-other", "private-room"),
        ("POST\n/apps/3/events\n", "private-room"),
        ("1.1", ""),
        ("1.1", "private-room\n"),
        ("1.1", ":user:{}"),
        ("1.1", "#server-to-user-ann"),
    ],
)
def test_nothing_malformed_is_signed(socket_id, channel):
    with pytest.raises(ValueError, match="Invalid"):
        authorize_channel(socket_id, channel)


def test_a_sign_in_is_signed():
    answer = authenticate_user("1.1", {"id": "ann", "watchlist": ["bob"]})

    assert answer["user_data"] == '{"id":"ann","watchlist":["bob"]}'
    assert answer["auth"] == signed(f"1.1::user::{answer['user_data']}")


@pytest.mark.parametrize("user_id", ["a b", "ann\n", "x" * 201, "ä"])
def test_who_cannot_sign_in_is_not_signed(user_id):
    with pytest.raises(ValueError, match="must contain an id of letters"):
        authenticate_user("1.1", {"id": user_id})


def test_no_sign_in_of_a_malformed_socket_is_signed():
    with pytest.raises(ValueError, match="Invalid socket_id"):
        authenticate_user("1", {"id": "ann"})


def test_an_app_can_be_named(configure):
    configure(APPS=[{"ID": "4", "KEY": "k", "SECRET": "s"}])

    answer = authorize_channel("1.1", "private-room", app_id="4")

    assert answer == {"auth": "k:" + hmac_hex("1.1:private-room", "s")}


@pytest.mark.django_db
def test_an_unknown_app_is_refused():
    with pytest.raises(ImproperlyConfigured):
        authenticate_user("1.1", {"id": "ann"}, app_id="5")


async def test_coroutines_have_twins():
    data = {"user_id": "ann"}

    assert await aauthorize_channel("1.1", "presence-a", data) == authorize_channel(
        "1.1", "presence-a", data
    )
    assert await aauthenticate_user("1.1", {"id": "ann"}) == authenticate_user("1.1", {"id": "ann"})


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("app_id", "banned", "hours", "expected"),
    [
        ("3", True, None, True),
        ("3", True, 1, True),
        ("3", True, -1, False),
        ("3", False, None, False),
        ("4", True, None, False),
    ],
)
def test_a_ban_holds_for_one_app_and_until_its_end(app, app_id, banned, hours, expected):
    now = timezone.now()
    RealtimeUser.objects.create(
        app_id=app_id,
        user_id="ann",
        banned_at=now if banned else None,
        banned_until=now + datetime.timedelta(hours=hours) if hours else None,
    )

    assert is_banned(app, "ann") is expected
    assert not is_banned(app, "bob")
