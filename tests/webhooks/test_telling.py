"""Facts on their way to receivers of Django signals."""

import uuid

import pytest

from realtime.models import PendingFact, WebhookQueue
from realtime.protocol.facts import Fact
from realtime.webhooks import claims, deliveries, facts, telling
from tests.conftest import ID
from tests.webhooks.conftest import client_event

pytestmark = pytest.mark.django_db

TOKEN = uuid.uuid4()


@pytest.fixture
def tell():
    """Makes facts, and tells them as the process whose turn it is."""
    claims.take(WebhookQueue.SIGNALS, TOKEN)

    def tell(*found):
        facts.write(found)
        deliveries.collect()
        return telling.tell_some(TOKEN)

    return tell


@pytest.mark.parametrize(
    ("fact", "arguments"),
    [
        (
            client_event("presence-room", user_id="ann"),
            {
                "app_id": ID,
                "channel": "presence-room",
                "event": "client-x",
                "data": "1",
                "socket_id": "1.2",
                "user_id": "ann",
            },
        ),
        (
            client_event(),
            {
                "app_id": ID,
                "channel": "private-room",
                "event": "client-x",
                "data": "1",
                "socket_id": "1.2",
                "user_id": None,
            },
        ),
        (
            Fact(app_id=ID, kind="member_added", channel="presence-room", user_id="ann"),
            {"app_id": ID, "channel": "presence-room", "user_id": "ann"},
        ),
        (
            Fact(app_id=ID, kind="channel_occupied", channel="room"),
            {"app_id": ID, "channel": "room"},
        ),
        (Fact(app_id=ID, kind="cache_miss", channel="room"), {"app_id": ID, "channel": "room"}),
        (
            Fact(app_id=ID, kind="subscription_count", channel="room", subscription_count=3),
            {"app_id": ID, "channel": "room", "subscription_count": 3},
        ),
        (Fact(app_id=ID, kind="user_online", user_id="ann"), {"app_id": ID, "user_id": "ann"}),
    ],
    ids=lambda value: value.kind if isinstance(value, Fact) else "",
)
def test_receivers_get_what_the_reference_says(heard, tell, fact, arguments):
    seen = heard(fact.kind)

    assert tell(fact) == 1

    assert seen == [arguments]
    assert not PendingFact.objects.exists()
    assert not telling.has_news()


def test_a_receiver_that_fails_is_named_in_the_log_and_stops_nobody(heard, tell, caplog):
    def fails(**_):
        raise ValueError("of the receiver")

    heard("client_event", fails)
    seen = heard("client_event")

    tell(client_event(data="secret"), client_event(data="secret"))

    assert len(seen) == 2
    assert "note" in caplog.text
    assert "secret" not in caplog.text


def test_facts_are_told_in_order(heard, tell):
    seen = heard("client_event")

    tell(*(client_event(data=str(number)) for number in range(5)))

    assert [item["data"] for item in seen] == list("01234")


def test_whoever_has_not_the_turn_tells_nothing(heard, tell):
    seen = heard("client_event")
    claims.release(WebhookQueue.SIGNALS, TOKEN)

    assert tell(client_event()) == 0
    assert seen == []
    assert telling.has_news()


def test_a_turn_that_ran_out_ends(heard, tell, monkeypatch):
    monkeypatch.setattr(claims, "CLAIM_SECONDS", -1.0)
    heard("client_event")

    assert tell(client_event()) == 0
    assert telling.has_news()


def test_a_fact_that_cannot_be_read_keeps_no_other_from_being_told(tell, heard, counted):
    seen = heard("client_event")
    facts.write([client_event(data="1")])
    PendingFact.objects.update(details="no JSON", collected=True)

    tell(client_event(data="2"))

    assert [item["data"] for item in seen] == ["2"]
    assert not PendingFact.objects.exists()
    assert counted("facts_dropped") == 1
