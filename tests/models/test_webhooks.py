"""Endpoints, and the keys of what happened."""

import pytest
from django.core.exceptions import ValidationError

from realtime.models import PendingFact, WebhookDelivery, WebhookEndpoint, WebhookQueue
from realtime.protocol.app import WEBHOOK_KINDS

pytestmark = pytest.mark.django_db


def endpoint(**changes):
    return WebhookEndpoint(**{"app_id": "3", "url": "https://example.com/hook", **changes})


def test_a_new_endpoint_is_told_everything():
    made = endpoint()

    made.full_clean()

    assert made.kinds == list(WEBHOOK_KINDS)
    assert str(made) == "https://example.com/hook"


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "ftp://example.com/"},
        {"url": "no url"},
        {"kinds": ["unknown"]},
        {"kinds": "cache_miss"},
        {"channel_prefixes": "private-"},
    ],
)
def test_what_the_settings_would_refuse_is_refused(changes):
    with pytest.raises(ValidationError):
        endpoint(**changes).full_clean()


def test_keys_follow_from_what_rows_stand_for():
    assert WebhookQueue.key_of("3", "https://a/") == WebhookQueue.key_of("3", "https://a/")
    assert WebhookQueue.key_of("3", "https://a/") != WebhookQueue.key_of("4", "https://a/")
    assert PendingFact.subject_of("3", "room", "") != PendingFact.subject_of("3", "", "room")


def test_rows_have_names_for_people():
    assert str(PendingFact(kind="user_online")) == "user_online"
    assert str(PendingFact(kind="cache_miss", channel="room")) == "cache_miss room"
    assert str(WebhookDelivery(url="https://a/")) == "https://a/"
    assert str(WebhookQueue(id=WebhookQueue.SIGNALS)) == str(WebhookQueue.SIGNALS)
