"""What users show, read and changed by the site."""

import json
import uuid
from datetime import UTC, datetime

import pytest
from django.db import transaction
from django.utils import timezone

import realtime
from realtime.models import RealtimeUser
from realtime.presence import lease, store
from realtime.presence.transitions import Join
from realtime.profiles import UnknownUser
from realtime.protocol.errors import DataTooLarge, InvalidTrigger
from realtime.protocol.messages import Member

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ann(layer):
    """A user who is signed in and shown in two channels, one of which says what to show."""
    server = uuid.uuid4()
    lease.take(server, 60)
    member = Member("ann", '{"name":"Ann"}')
    joins = [
        Join("3", "#online", "1.1", member, None, True),
        Join("3", "presence-room", "1.1", member, None, True),
        Join("3", "presence-mask", "1.1", Member("ann", '{"name":"Mask"}')),
    ]
    store.apply(server, joins, 60)


def told(layer):
    """What was announced: channel, event and data."""
    frames = [json.loads(message["text"]) for message in layer.events()]
    return [(item["channel"], item["event"], json.loads(item["data"])) for item in frames]


def test_everything_about_a_user_is_told(ann):
    data = realtime.user_data("ann")

    assert data.pop("first_seen_at") <= data.pop("last_seen_at") <= timezone.now()
    assert data == {
        "id": "ann",
        "user_info": {"name": "Mask"},
        "online": True,
        "banned": False,
        "channels": ["presence-mask", "presence-room"],
    }


def update_and_fail(user_id, user_info):
    realtime.update_user_data(user_id, user_info)
    raise ZeroDivisionError


def test_of_nobody_nothing_is_told(ann):
    assert realtime.user_data("Ann") is None
    with pytest.raises(UnknownUser):
        realtime.update_user_data("Ann", {})
    with pytest.raises(UnknownUser):
        realtime.delete_user_data("Ann")


def test_an_update_is_kept_and_announced(ann, layer):
    born = datetime(2026, 11, 21, tzinfo=UTC)

    data = realtime.update_user_data("ann", {"name": "Anna", "born": born})

    shown = {"name": "Anna", "born": "2026-11-21T00:00:00Z"}
    assert data["user_info"] == shown
    assert realtime.user_data("ann")["user_info"] == shown
    member = {"user_id": "ann", "user_info": shown}
    assert told(layer) == [("presence-room", "pusher_internal:member_added", member)]
    [event] = layer.events()
    assert event["member"][1] == event["member"][3]


def test_a_deletion_is_announced(ann, layer):
    realtime.update_user_data("ann", {"name": "Anna"})
    layer.sent.clear()

    realtime.delete_user_data("ann")

    assert realtime.user_data("ann")["user_info"] is None
    member = {"user_id": "ann"}
    assert told(layer) == [("presence-room", "pusher_internal:member_added", member)]


def test_nothing_is_announced_before_the_commit(ann, layer):
    with transaction.atomic():
        realtime.update_user_data("ann", {"name": "Anna"})
        assert layer.events() == []
    assert len(layer.events()) == 1

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        update_and_fail("ann", {"name": "Bea"})
    assert len(layer.events()) == 1
    assert realtime.user_data("ann")["user_info"] == {"name": "Anna"}


def test_an_update_holds_though_the_layer_is_away(ann, layer, caplog):
    layer.broken = True

    realtime.update_user_data("ann", {"name": "Anna"})

    assert realtime.user_data("ann")["user_info"] == {"name": "Anna"}
    assert "others look it up" in caplog.text


@pytest.mark.parametrize(
    ("user_info", "error"),
    [
        ("text", InvalidTrigger),
        (None, InvalidTrigger),
        ({"n": float("nan")}, InvalidTrigger),
        ({"n": object()}, InvalidTrigger),
        ({"n": "x" * 1_017}, DataTooLarge),
    ],
    ids=["text", "nothing", "NaN", "an object", "too large"],
)
def test_what_no_user_may_show_is_refused(ann, user_info, error):
    with pytest.raises(error):
        realtime.update_user_data("ann", user_info)

    assert RealtimeUser.objects.get().user_info_override is None


@pytest.mark.parametrize(
    "text",
    ["x" * 1_016, "é" * 300, "é" * 508, "😀" * 254, "\ud83d" * 338],
    ids=["ASCII", "some letters", "letters", "emoji", "halves of pairs"],
)
def test_as_much_as_the_app_allows_is_taken(ann, text):
    data = realtime.update_user_data("ann", {"n": text})

    assert data["user_info"] == {"n": text}


@pytest.mark.parametrize(
    "text",
    ["é" * 508 + "x", "😀" * 255, "\ud83d" * 339],
    ids=["letters", "emoji", "halves of pairs"],
)
def test_a_limit_is_one_of_utf_8(ann, text):
    with pytest.raises(DataTooLarge):
        realtime.update_user_data("ann", {"n": text})


async def test_each_function_has_a_twin(layer, process):
    await RealtimeUser.objects.acreate(app_id="3", user_id="ann")

    assert (await realtime.aupdate_user_data("ann", {"n": 1}))["user_info"] == {"n": 1}
    assert (await realtime.auser_data("ann"))["user_info"] == {"n": 1}
    await realtime.adelete_user_data("ann")
    assert (await realtime.auser_data("ann"))["user_info"] is None
    assert (await realtime.aerase_user("ann")).rows == {"RealtimeUser": 1}
    assert await realtime.auser_data("ann") is None
