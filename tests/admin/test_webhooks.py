"""Endpoints and deliveries in the admin."""

import uuid

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from realtime import applications
from realtime.models import WebhookDelivery, WebhookEndpoint, WebhookQueue

pytestmark = pytest.mark.django_db

ENDPOINTS = "/admin/realtime/webhookendpoint/"
DELIVERIES = "/admin/realtime/webhookdelivery/"
EVIL = "<img onerror=x>"
FORM = {
    "app_id": "3",
    "url": "https://example.com/hook",
    "kinds": ["cache_miss", "client_event"],
    "channel_prefixes": "[]",
    "enabled": "on",
}


@pytest.fixture
def made():
    """A delivery of each status, which all hold markup."""
    queue, now = WebhookQueue.objects.create(id=uuid.uuid4()), timezone.now()
    return {
        status: WebhookDelivery.objects.create(
            queue=queue,
            app_id="3",
            url=f"https://example.com/{status}?{EVIL}",
            body='{"time_ms":1,"events":["' + EVIL + '"]}',
            events=1,
            channels=["room"],
            status=status,
            response_excerpt=EVIL,
            error=EVIL,
            next_attempt_at=now,
            expires_at=now,
        )
        for status in ("waiting", "sent", "failed")
    }


def staff(*codenames):
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(
            content_type__app_label="realtime", codename__in=["view_webhookdelivery", *codenames]
        )
    )
    browser = Client()
    browser.force_login(user)
    return browser


def resend(client, made):
    chosen = [delivery.pk for delivery in made.values()]
    data = {"action": "send_selected_again", "_selected_action": chosen}
    return client.post(DELIVERIES, data, follow=True)


def test_an_endpoint_is_added_and_known_at_once(admin_client):
    assert admin_client.get(f"{ENDPOINTS}add/").content.decode().count('name="kinds"') == 7

    response = admin_client.post(f"{ENDPOINTS}add/", FORM, follow=True)

    assert "cache_miss, client_event" in response.content.decode()
    [endpoint] = applications.webhooks("3")
    assert (endpoint.url, endpoint.kinds) == (FORM["url"], ("cache_miss", "client_event"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://example.com"},
        {"kinds": ["unknown"]},
        {"kinds": []},
        {"channel_prefixes": "7"},
    ],
    ids=str,
)
def test_an_endpoint_that_could_never_work_is_not_saved(admin_client, wrong):
    response = admin_client.post(f"{ENDPOINTS}add/", FORM | wrong)

    assert response.status_code == 200
    assert not WebhookEndpoint.objects.exists()


@pytest.mark.parametrize("status", ["waiting", "sent", "failed"])
def test_deliveries_are_found_by_their_status(made, status):
    response = staff().get(f"{DELIVERIES}?status__exact={status}")

    assert list(response.context["cl"].queryset) == [made[status]]


def test_what_endpoints_answer_is_never_markup(made):
    client = staff()

    for path in (DELIVERIES, f"{DELIVERIES}{made['failed'].pk}/change/"):
        page = client.get(path).content.decode()
        assert EVIL not in page
        assert "&lt;img onerror=x&gt;" in page


def test_deliveries_are_only_read(admin_client, made):
    path = f"{DELIVERIES}{made['failed'].pk}"

    assert admin_client.get(f"{DELIVERIES}add/").status_code == 403
    assert admin_client.post(f"{path}/change/", {}).status_code == 403
    assert admin_client.post(f"{path}/delete/", {"post": "yes"}).status_code == 403


def test_what_was_sent_or_given_up_is_sent_again(made):
    response = resend(staff("resend_webhookdelivery"), made)

    assert "2 webhooks will be sent again." in response.content.decode()
    urls = WebhookDelivery.objects.filter(status="waiting").values_list("url", flat=True)
    assert set(urls) == {delivery.url for delivery in made.values()}


def test_sending_again_has_its_own_permission(made):
    client = staff("change_webhookdelivery")

    assert "send_selected_again" not in client.get(DELIVERIES).content.decode()
    resend(client, made)

    assert WebhookDelivery.objects.count() == 3
