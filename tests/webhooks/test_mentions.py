"""What facts and requests say about one user."""

import json

import pytest
from django.db import transaction

from realtime.models import PendingFact, WebhookDelivery
from realtime.protocol.facts import Fact
from realtime.webhooks import deliveries, facts, mentions
from tests.conftest import ID
from tests.webhooks.conftest import client_event

pytestmark = pytest.mark.django_db(transaction=True)

URL = "https://example.com/hook"
ROOM = "presence-room"


def added(user_id, channel=ROOM, app_id=ID):
    return Fact(app_id=app_id, kind="member_added", channel=channel, user_id=user_id)


def write(*told):
    with transaction.atomic():
        facts.write(told)


def told():
    """By request: the channels it names, and the users of its events."""
    return [
        (row.channels, [event.get("user_id") for event in json.loads(row.body)["events"]])
        for row in WebhookDelivery.objects.order_by("pk")
    ]


@pytest.mark.parametrize("user_id", ["ann", "ä%_\\", 'a"b', "\U0001f600"])
def test_facts_are_found_by_the_user_they_name(user_id):
    quoting = client_event(channel=ROOM, user_id="bob", data=json.dumps({"user_id": user_id}))
    write(added(user_id), added("bob"), added(user_id, app_id="4"), quoting)

    keys = mentions.facts_about(ID, user_id)

    [found] = PendingFact.objects.filter(pk__in=keys)
    assert facts.read(found) == added(user_id)


def test_capitals_are_other_letters():
    write(added("Ann"), added("ANN", "presence-hall"))
    assert mentions.facts_about(ID, "ann") == []


def test_only_what_is_about_the_user_goes_from_a_request(endpoints):
    endpoints(URL)
    write(added("ann"), added("bob", "presence-hall"), client_event(user_id="Ann"))
    deliveries.collect()
    WebhookDelivery.objects.update(response_excerpt="thanks, ann")
    assert [
        [event["user_id"] for event in events]
        for events in mentions.requests_about(ID, "ann").values()
    ] == [["ann"]]

    with transaction.atomic():
        assert mentions.take_out(ID, "ann") == 1

    assert told() == [(["presence-hall", "private-room"], ["bob", "Ann"])]
    [delivery] = WebhookDelivery.objects.all()
    assert (delivery.events, delivery.response_excerpt) == (2, "")
    assert mentions.requests_about(ID, "ann") == {}


def test_a_request_about_nobody_else_is_deleted(endpoints):
    endpoints(URL, WEBHOOK_BATCHING=False)
    write(added("ann"), added("bob"))
    deliveries.collect()

    with transaction.atomic():
        assert mentions.take_out(ID, "ann") == 1

    assert told() == [([ROOM], ["bob"])]


def test_requests_of_another_app_stay(endpoints):
    endpoints(URL)
    write(added("ann"))
    deliveries.collect()

    with transaction.atomic():
        assert mentions.take_out("4", "ann") == 0

    assert told() == [([ROOM], ["ann"])]
