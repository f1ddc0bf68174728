"""Which app a key or an id belongs to."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from realtime import applications, conf
from realtime.models import Application, WebhookEndpoint
from realtime.protocol.app import App, Limits, Webhook
from tests.conftest import ID, KEY

pytestmark = pytest.mark.django_db


@pytest.fixture
def row():
    return Application.objects.create(
        app_id="9",
        name="Row",
        key="row-key",
        secret="row-secret",
        enabled=False,
        client_events=False,
        tls_only=True,
        allowed_origins=["https://example.com"],
        max_connections=5,
        old_key="row-old-key",
        old_secret="row-old-secret",
        subscription_counts=True,
        watchlists=False,
        authorized_connections=True,
        encryption_master_key="YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=",
        webhook_batching=False,
        limits={"PRESENCE_MEMBERS": 7},
    )


def test_the_apps_of_the_settings_need_no_database(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert applications.by_key(KEY) == applications.by_id(ID) == applications.default()


def test_a_row_is_an_app(row):
    app = App(
        id="9",
        key="row-key",
        secret="row-secret",
        enabled=False,
        client_events=False,
        tls_only=True,
        allowed_origins=("https://example.com",),
        max_connections=5,
        old_key="row-old-key",
        old_secret="row-old-secret",
        subscription_counts=True,
        watchlists=False,
        authorized_connections=True,
        encryption_master_key=b"a" * 32,
        webhook_batching=False,
        limits=Limits(presence_members=7),
    )

    assert applications.by_key("row-key") == applications.by_id("9") == app
    assert applications.by_key("row-old-key") == app


def test_an_old_key_hides_no_key_in_use_and_needs_its_secret(row):
    Application.objects.create(app_id="8", name="Thief", old_key="row-key", old_secret="x")
    Application.objects.create(app_id="7", name="Half", old_key="half")

    assert applications.by_key("row-key").id == "9"
    assert applications.by_key("half") is None


def test_a_row_that_nobody_can_read_stops_nobody(row, caplog):
    Application.objects.filter(pk=row.pk).update(limits={"NOTHING": 1})

    assert applications.by_key("row-key").limits == Limits()
    assert "app 9 has a row that cannot be read" in caplog.text


def test_what_is_unknown_is_none():
    assert applications.by_key("unknown") is None
    assert applications.by_id("404") is None


def test_the_settings_come_first():
    Application.objects.create(app_id=ID, name="Shadow", key=KEY, secret="other")

    assert applications.by_key(KEY).secret != "other"


def test_a_flood_of_unknown_keys_costs_one_look_at_the_rows(django_assert_num_queries, monkeypatch):
    monkeypatch.setattr(applications, "UNKNOWN_SECONDS", 60)
    Application.objects.all().delete()
    Application.objects.create(app_id="9", name="Row").delete()

    with django_assert_num_queries(2):  # apps and endpoints
        for number in range(50):
            assert applications.by_key(f"unknown-{number}") is None


def test_a_new_row_is_known_a_moment_later(monkeypatch):
    monkeypatch.setattr(applications, "UNKNOWN_SECONDS", 60)
    assert applications.by_key("unknown") is None
    Application.objects.bulk_create([Application(app_id="9", name="Row", key="unknown")])
    assert applications.by_key("unknown") is None  # as from another process, without a signal

    monkeypatch.setattr(applications, "UNKNOWN_SECONDS", 0)

    assert applications.by_key("unknown").id == "9"


def test_rows_are_read_again_after_a_while(row, monkeypatch):
    assert applications.by_id("9")
    Application.objects.filter(app_id="9").update(app_id="10")
    assert applications.by_id("9")

    now = applications.time.monotonic()
    monkeypatch.setattr(
        applications.time, "monotonic", lambda: now + applications.FRESH_SECONDS + 1
    )

    assert applications.by_id("9") is None


@pytest.mark.parametrize("change", ["save", "delete"])
def test_a_change_in_this_process_is_seen_at_once(row, change):
    assert applications.by_key("row-key")
    row.key = "new-key"

    getattr(row, change)()

    assert applications.by_key("row-key") is None


def test_the_first_app_of_the_settings_is_the_default(row):
    assert applications.default().id == ID


def test_an_app_can_be_named(row):
    assert applications.default("9").id == "9"


def test_an_unknown_app_is_an_error():
    with pytest.raises(ImproperlyConfigured, match="no realtime app with the id 404"):
        applications.default("404")


def test_without_settings_the_only_row_is_the_default(row, settings):
    settings.REALTIME = {}

    assert applications.default().id == "9"


@pytest.mark.parametrize("rows", [0, 2])
def test_without_settings_and_a_single_row_there_is_no_default(settings, rows):
    settings.REALTIME = {}
    for number in range(rows):
        Application.objects.create(app_id=str(number), name="Row")

    with pytest.raises(ImproperlyConfigured, match="No realtime app is configured"):
        applications.default()


async def test_the_apps_of_the_settings_are_made_once(configure, monkeypatch):
    configure(APP_KEY="made-once")
    made, build = [], conf.build_app
    monkeypatch.setattr(conf, "build_app", lambda entry: made.append(1) or build(entry))

    for _ in range(3):
        app = await applications.aby_key("made-once")
        assert applications.default() is app
        assert applications.is_configured(app.id)
        assert not applications.known_webhooks(app)

    assert made == [1]


async def test_a_configured_key_is_found_without_a_thread():
    assert (await applications.aby_key(KEY)).id == ID


@pytest.mark.django_db(transaction=True)
async def test_the_key_of_a_row_is_found_in_a_thread(process):
    await Application.objects.acreate(app_id="9", name="Row", key="row-key")

    assert (await applications.aby_key("row-key")).id == "9"
    assert (await applications.aby_key("row-key")).id == "9"
    assert await applications.aby_key("unknown") is None


# ---- endpoints --------------------------------------------------------------------------


def urls(app_id):
    return [endpoint.url for endpoint in applications.webhooks(app_id)]


def test_endpoints_are_those_of_the_settings_and_the_rows(configure, row):
    configure(WEBHOOKS=[{"URL": "https://example.com/settings"}])
    for app_id in (ID, "9"):
        WebhookEndpoint.objects.create(
            app_id=app_id,
            url=f"https://example.com/{app_id}",
            kinds=["cache_miss"],
            channel_prefixes=["cache-"],
        )
    WebhookEndpoint.objects.create(app_id=ID, url="https://example.com/off", enabled=False)

    assert urls(ID) == ["https://example.com/settings", f"https://example.com/{ID}"]
    assert urls("9") == ["https://example.com/9"]
    assert urls("unknown") == []
    assert applications.webhooks("9")[0] == Webhook(
        url="https://example.com/9", kinds=("cache_miss",), channel_prefixes=("cache-",)
    )


def test_endpoints_are_known_without_the_database_once_they_were_read(django_assert_num_queries):
    app = applications.by_id(ID)
    endpoint = WebhookEndpoint.objects.create(app_id=ID, url="https://example.com/")
    with django_assert_num_queries(0):
        assert applications.known_webhooks(app) == ()
    assert applications.has_webhooks()

    with django_assert_num_queries(0):
        assert len(applications.known_webhooks(app)) == 1

    endpoint.delete()
    assert not applications.has_webhooks()


def test_an_endpoint_that_cannot_be_read_stops_no_other(caplog):
    WebhookEndpoint.objects.create(app_id=ID, url="https://example.com/", kinds=["unknown"])
    WebhookEndpoint.objects.create(app_id=ID, url="https://example.com/good")

    assert urls(ID) == ["https://example.com/good"]
    assert "cannot be read" in caplog.text
