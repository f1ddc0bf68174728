"""Endpoints and deliveries in the admin."""

import uuid
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from django.utils.formats import date_format

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


@pytest.fixture
def listed(made):
    """Gives deliveries of some statuses an endpoint that is still there."""

    def listed(*statuses):
        for status in statuses:
            url = f"https://example.com/{status}"
            WebhookDelivery.objects.filter(status=status).update(url=url)
            WebhookEndpoint.objects.create(app_id="3", url=url)

    return listed


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


def test_an_endpoint_that_is_down_is_shown_as_such(made):
    client, until = staff(), timezone.now() + timedelta(days=400)
    waiting = f"{DELIVERIES}{made['waiting'].pk}/change/"
    moment = date_format(timezone.localtime(until))
    WebhookQueue.objects.update(paused_until=until)
    for path in (DELIVERIES, waiting):
        page = client.get(path).content.decode()
        assert "reaker open until" in page
        assert moment not in page

    WebhookQueue.objects.update(failures=1)

    for path in (DELIVERIES, waiting):
        assert client.get(path).content.decode().count(moment) == 1  # the one that waits


def test_what_was_sent_to_an_endpoint_that_is_gone_is_left_out(made, listed):
    listed("sent")

    page = resend(staff("resend_webhookdelivery"), made).content.decode()

    assert "1 webhook will be sent again." in page
    assert "1 was left out: its endpoint was removed." in page
    assert WebhookDelivery.objects.count() == 4


def test_what_was_sent_or_given_up_is_sent_again(made, listed):
    listed("waiting", "sent", "failed")

    response = resend(staff("resend_webhookdelivery"), made)

    assert "2 webhooks will be sent again." in response.content.decode()
    urls = WebhookDelivery.objects.filter(status="waiting").values_list("url", flat=True)
    assert set(urls) == {f"https://example.com/{status}" for status in made}


def test_sending_again_has_its_own_permission(made):
    client = staff("change_webhookdelivery")

    assert "send_selected_again" not in client.get(DELIVERIES).content.decode()
    resend(client, made)

    assert WebhookDelivery.objects.count() == 3
