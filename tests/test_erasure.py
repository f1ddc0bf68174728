"""Everything kept about a user: found, exported, erased."""

import json
import uuid
from datetime import timedelta

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.utils import timezone

import realtime
from realtime import erasure, moderation
from realtime.layer import TERMINATE, PublishFailed
from realtime.models import (
    Membership,
    OutboxChannel,
    OutboxEntry,
    RealtimeUser,
    WebhookDelivery,
)
from realtime.presence import lease, store
from realtime.presence.transitions import Join
from realtime.protocol.messages import Member as Named
from realtime.webhooks import deliveries

pytestmark = pytest.mark.django_db(transaction=True)

BOTH = ("ann", "bob")
ABOUT_NOBODY = {"Application", "Server", "WebhookEndpoint", "WebhookQueue"}
ABOUT_SEVERAL = {"WebhookDelivery"}
PERSONAL = ("user", "member", "socket", "channel", "stream", "by")
"""Words in the names of columns that may say who somebody is."""
NOT_OF_USERS = {"max_connections", "old_key", "claimed_by", "channel_prefixes"}


def named(user_id):
    return Named(user_id, json.dumps({"name": f"{user_id}!"}))


@pytest.fixture
def known(layer, configure):
    """Two users of whom everything is kept that can be."""
    configure(WEBHOOKS=[{"URL": "https://example.com/hook"}])
    server = uuid.uuid4()
    lease.take(server, 60)
    staff = User.objects.create_superuser("staff")
    for user_id in BOTH:
        member = named(user_id)
        joins = [
            Join("3", "#online", f"1.{user_id}", member, None, True),
            Join("3", "presence-room", f"1.{user_id}", member),
        ]
        store.apply(server, joins, 60)
        channel = f"#server-to-user-{user_id}"
        key = OutboxChannel.key_of("3", channel)
        OutboxChannel.objects.create(pk=key)
        OutboxEntry.objects.create(stream_id=key, app_id="3", channel=channel, text="secret")
    deliveries.collect()
    for user_id in BOTH:  # of these facts no requests are made
        join = Join("3", "presence-hall", f"1.{user_id}", named(user_id))
        store.apply(server, [join], 60)
        moderation.ban([RealtimeUser.objects.get(user_id=user_id)], by=staff, reason="Spam")
    layer.sent.clear()


ALL = {
    "LogEntry": 1,
    "Member": 3,
    "Membership": 3,
    "OutboxChannel": 1,
    "OutboxEntry": 1,
    "PendingFact": 1,
    "RealtimeUser": 1,
    "WebhookDelivery": 1,
}


def test_everything_is_erased_of_one_user_only(known):
    erased = realtime.erase_user("ann")

    assert erased.rows == ALL
    assert not erased.ban_kept
    assert erasure.count("ann") == {}
    assert erasure.count("bob") == ALL


def test_others_see_the_user_leave_and_connections_are_closed(known, layer):
    realtime.erase_user("ann")

    frames = [json.loads(message["text"]) for message in layer.events()]
    assert sorted((item["event"], item["channel"]) for item in frames) == [
        ("pusher_internal:member_removed", "presence-hall"),
        ("pusher_internal:member_removed", "presence-room"),
    ]
    assert [(item[0], item[2]) for item in layer.sign_ins()] == [("ann", False)]  # for watchers
    asked = [message for _, message in layer.sent if message["type"] == TERMINATE]
    assert [(item["app"], item["user"], item["members"]) for item in asked] == [("3", "ann", True)]


def test_a_webhook_goes_on_telling_of_others(known):
    realtime.erase_user("ann")

    [delivery] = WebhookDelivery.objects.all()
    assert [event["user_id"] for event in json.loads(delivery.body)["events"]] == ["bob"]


def test_a_ban_may_be_kept_with_the_id_and_nothing_else(known):
    erased = realtime.erase_user("ann", keep_ban=True)

    assert erased.ban_kept
    assert erasure.count("ann") == {"RealtimeUser": 1}
    user = RealtimeUser.objects.banned().get(user_id="ann")
    assert (user.user_info, user.ban_reason) == (None, "Spam")
    assert user.first_seen_at == user.last_seen_at == user.banned_at


def test_without_a_ban_there_is_none_to_keep(known):
    RealtimeUser.objects.filter(user_id="ann").update(banned_at=None)

    assert not realtime.erase_user("ann", keep_ban=True).ban_kept
    assert erasure.count("ann") == {}


def test_nobody_is_no_error(known):
    assert realtime.erase_user("nobody").rows == {}


def test_the_rows_are_gone_though_the_layer_is_away(known, layer):
    layer.broken = True

    with pytest.raises(PublishFailed):
        realtime.erase_user("ann")

    assert erasure.count("ann") == {}


def test_the_export_has_every_row(known):
    document = json.loads(json.dumps(erasure.export("ann"), cls=DjangoJSONEncoder))

    assert (document["app_id"], document["user_id"]) == ("3", "ann")
    assert {name: len(rows) for name, rows in document["rows"].items()} == ALL
    [user] = document["rows"]["RealtimeUser"]
    assert json.loads(user["user_info"]) == {"name": "ann!"}
    assert document["rows"]["OutboxEntry"][0]["text"] == "secret"
    [request] = document["rows"]["WebhookDelivery"]
    assert [event["user_id"] for event in request["events"]] == ["ann"]
    assert "bob" not in json.dumps(document)


def test_a_user_who_comes_back_is_somebody_new(known):
    realtime.erase_user("ann")
    server = uuid.uuid4()
    lease.take(server, 60)

    join = Join("3", "presence-room", "2.1", Named("ann", "{}"))
    [change] = store.apply(server, [join], 60).changes

    assert change.present
    assert change.shown_since > 0
    user = RealtimeUser.objects.get(user_id="ann")
    assert not user.banned
    assert user.first_seen_at > timezone.now() - timedelta(minutes=1)


# ---- models that come later -------------------------------------------------------------


def personal_models():
    """Models with a column that may say who somebody is."""
    for model in apps.get_app_config("realtime").get_models():
        names = {item.name for item in model._meta.concrete_fields} - NOT_OF_USERS
        if any(word in name.split("_") for name in names for word in PERSONAL):
            yield model


def test_no_model_that_may_be_about_a_user_is_forgotten():
    for model in personal_models():
        assert erasure.about(model, "3", "ann") is not None, (
            f"{model.__name__} may be about a user: say in realtime.erasure how to find its rows"
        )


def test_models_about_nobody_are_left_alone():
    left = {
        model.__name__
        for model in apps.get_app_config("realtime").get_models()
        if erasure.about(model, "3", "ann") is None
    }

    assert left <= ABOUT_NOBODY | ABOUT_SEVERAL


def test_a_model_with_a_user_id_beside_an_app_id_is_found():
    class Note(models.Model):  # noqa: DJ008
        app_id = models.CharField(max_length=20)
        user_id = models.CharField(max_length=200)

        class Meta:
            app_label = "elsewhere"

    found = erasure.about(Note, "3", "ann")

    assert found == models.Q(app_id="3", user_id="ann")


def test_rows_of_rows_of_a_user_are_found():
    key = RealtimeUser.key_of("3", "ann")

    assert ("member__user", key) in erasure.about(Membership, "3", "ann").children
