"""System checks: what is wrong with a deployment, before traffic finds out."""

import importlib.util

import pytest
from django.core.checks import Tags, run_checks
from django.core.handlers.asgi import ASGIHandler
from django.db import OperationalError, connection

from realtime import checks
from realtime.models import Application, WebhookEndpoint
from tests.conftest import ID, KEY, SECRET

ONE = {"APP_ID": ID, "APP_KEY": KEY, "APP_SECRET": SECRET}
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
QUEUE = "channels_redis.core.RedisChannelLayer"
IN_MEMORY = "channels.layers.InMemoryChannelLayer"

no_application = ASGIHandler()
routed = type("Router", (), {"application_mapping": {"websocket": None}})()
http_only = type("Router", (), {"application_mapping": {"http": None}})()

urlpatterns: list[object] = []


@pytest.fixture
def found(settings, db, monkeypatch):
    """The ids of what the checks of this app find with these settings."""
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    shared = "django.core.cache.backends.redis.RedisCache"
    settings.CACHES = {"default": {"BACKEND": shared, "LOCATION": "redis://nowhere"}}

    def found(*, deploy=True, **changes):
        for name, value in changes.items():
            if value is None:
                delattr(settings, name)
            else:
                setattr(settings, name, value)
        messages = run_checks(include_deployment_checks=deploy)
        ours = [message for message in messages if message.id.startswith("realtime.")]
        assert all(message.hint and "docs/reference/checks.md" in message.hint for message in ours)
        return [message.id for message in ours]

    return found


def layers(backend, **config):
    return {"default": {"BACKEND": backend, "CONFIG": config}}


def test_a_site_in_order_has_no_complaints(found):
    assert found(CHANNEL_LAYERS=layers(PUBSUB, hosts=["redis://localhost"])) == []


def test_on_a_laptop_the_defaults_are_in_order(found):
    assert found(deploy=False, DEBUG=True, REALTIME=None) == []


@pytest.mark.parametrize(
    "setting",
    [
        "text",
        {"APP_SECRT": "x"},
        {**ONE, "LEASE_SECONDS": "6"},
        {"APP_ID": "1"},
        {**ONE, "LIMITS": {"NONE": 1}},
        {**ONE, "LIMITS": 5},
        {**ONE, "APPS": ["x"]},
    ],
)
def test_a_setting_that_cannot_be_read_is_one_error(found, setting):
    assert found(REALTIME=setting) == ["realtime.E001"]


def test_a_site_without_an_app_is_an_error(found):
    assert found(deploy=False, REALTIME={}) == ["realtime.E002"]


def test_an_app_may_be_a_row(found):
    Application.objects.create(app_id="9", name="Row")

    assert found(deploy=False, REALTIME={}) == []


def test_without_a_database_a_site_without_an_app_is_still_told(found):
    def away(*arguments):
        raise OperationalError

    with connection.execute_wrapper(away):
        assert found(deploy=False, REALTIME={}) == ["realtime.E002"]


@pytest.mark.parametrize(
    ("app_id", "expected"),
    [("12", []), ("my-app", ["realtime.E003"]), ("1" * 21, ["realtime.E003"])],
)
def test_an_app_id_is_a_number(found, app_id, expected):
    assert found(deploy=False, REALTIME={**ONE, "APP_ID": app_id}) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("project.asgi.application", []),
        (f"{__name__}.routed", []),
        (f"{__name__}.http_only", ["realtime.E004"]),
        (f"{__name__}.no_application", ["realtime.E004"]),
        ("nowhere.application", ["realtime.E004"]),
        (None, ["realtime.E004"]),
    ],
)
def test_websockets_must_lead_here(found, path, expected):
    assert found(deploy=False, ASGI_APPLICATION=path) == expected


class ReplicaRouter:
    """As in Django's documentation: reads go to replicas."""

    def db_for_read(self, model, **hints):
        return "replica"

    def db_for_write(self, model, **hints):
        return "default"


class OwnRouter(ReplicaRouter):
    """The same with an exception for the app."""

    def db_for_read(self, model, **hints):
        return "default" if model._meta.app_label == "realtime" else "replica"


@pytest.mark.parametrize(
    ("name", "expected"), [("ReplicaRouter", ["realtime.E008"]), ("OwnRouter", [])]
)
def test_rows_are_read_where_they_are_written(found, settings, name, expected):
    routers = [f"{ReplicaRouter.__module__}.{name}"]

    assert found(deploy=False, DATABASE_ROUTERS=routers) == expected


@pytest.mark.parametrize("where", ["settings", "row", "disabled row"])
@pytest.mark.parametrize("installed", [True, False])
def test_endpoints_need_what_sends_webhooks(found, monkeypatch, where, installed):
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: installed or None)
    webhooks = [{"URL": "https://example.com/"}] if where == "settings" else []
    if not webhooks:
        WebhookEndpoint.objects.create(
            app_id=ID, url="https://example.com/", enabled=where == "row"
        )

    seen = found(deploy=False, REALTIME={**ONE, "WEBHOOKS": webhooks})

    assert seen == ([] if installed or where == "disabled row" else ["realtime.E011"])


def test_before_the_tables_exist_there_are_no_endpoints(found, monkeypatch):
    monkeypatch.setattr(checks.importlib.util, "find_spec", lambda name: None)

    def refuse(*arguments):
        raise OperationalError("no such table")

    with connection.execute_wrapper(refuse):
        assert found(deploy=False, REALTIME=ONE) == []


@pytest.mark.parametrize(
    ("channel_layers", "expected"),
    [
        ({}, ["realtime.W001"]),
        (layers(IN_MEMORY, capacity=1_000), ["realtime.W001"]),
        (layers(PUBSUB), []),
    ],
)
@pytest.mark.parametrize("deploy", [True, False])
def test_a_deployment_needs_a_layer_for_several_processes(found, channel_layers, expected, deploy):
    seen = set(found(deploy=deploy, CHANNEL_LAYERS=channel_layers))

    assert seen - {"realtime.W002"} == (set(expected) if deploy else set())


@pytest.mark.parametrize(
    ("alias", "expected"),
    [("default", []), ("other", []), ("missing", ["realtime.E006"])],
)
def test_the_layer_that_is_named_must_exist(found, alias, expected):
    channel_layers = {**layers(PUBSUB), "other": layers(PUBSUB)["default"]}

    setting = {**ONE, "LAYER": alias}

    assert found(deploy=False, REALTIME=setting, CHANNEL_LAYERS=channel_layers) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("realtime.api.auth_views.default_user_data", []),
        ("realtime.api.auth_views.missing", ["realtime.E007"]),
        ("nowhere.at_all", ["realtime.E007"]),
        ("nodots", ["realtime.E007"]),
    ],
)
def test_the_function_that_presents_users_must_exist(found, path, expected):
    assert found(deploy=False, REALTIME={**ONE, "USER_DATA": path}) == expected


@pytest.mark.parametrize(
    ("workers", "expected"),
    [("", []), ("1", []), ("4", ["realtime.W001"])],
)
def test_several_workers_need_a_layer_between_them(found, monkeypatch, workers, expected):
    monkeypatch.setenv("WEB_CONCURRENCY", workers)

    assert found(deploy=False, CHANNEL_LAYERS={}) == expected
    assert found(deploy=False, CHANNEL_LAYERS=layers(PUBSUB)) == []


@pytest.mark.parametrize(
    ("origins", "expected"),
    [([], []), (["https://example.com"], []), (["*"], ["realtime.W003"])],
)
def test_any_origin_is_worth_a_warning(found, origins, expected):
    setting = {**ONE, "ALLOWED_ORIGINS": origins}

    assert found(REALTIME=setting, CHANNEL_LAYERS=layers(PUBSUB)) == expected


def test_the_secret_everybody_knows_is_worth_a_warning(found):
    setting = {**ONE, "APP_SECRET": "demo-secret"}

    assert found(REALTIME=setting, CHANNEL_LAYERS=layers(PUBSUB)) == ["realtime.W004"]


@pytest.mark.parametrize(
    ("proxy", "header", "expected"),
    [
        (None, "", []),
        (("HTTP_X_FORWARDED_PROTO", "https"), "", ["realtime.W006"]),
        (("HTTP_X_FORWARDED_PROTO", "https"), "X-Forwarded-For", []),
    ],
)
@pytest.mark.parametrize("deploy", [True, False])
def test_a_proxy_that_hides_addresses_is_worth_a_warning(found, proxy, header, expected, deploy):
    changes = {
        "REALTIME": {**ONE, "CLIENT_IP_HEADER": header},
        "CHANNEL_LAYERS": layers(PUBSUB),
        "SECURE_PROXY_SSL_HEADER": proxy,
    }

    assert found(deploy=deploy, **changes) == (expected if deploy else [])


@pytest.mark.parametrize(
    ("backend", "layer", "expected"),
    [
        ("locmem.LocMemCache", PUBSUB, ["realtime.W007"]),
        ("dummy.DummyCache", PUBSUB, ["realtime.W007"]),
        ("db.DatabaseCache", PUBSUB, []),
    ],
)
def test_a_cache_of_one_process_is_worth_a_warning(found, backend, layer, expected):
    caches = {"default": {"BACKEND": f"django.core.cache.backends.{backend}"}}
    changes = {"REALTIME": ONE, "CHANNEL_LAYERS": layers(layer), "CACHES": caches}

    assert found(**changes) == expected
    assert found(**changes, deploy=False) == []


def test_a_cache_that_the_site_does_not_have_is_an_error(found):
    assert found(REALTIME={**ONE, "CACHE": "other"}, CHANNEL_LAYERS=layers(PUBSUB)) == [
        "realtime.E009"
    ]


def test_urls_that_are_not_included_are_worth_a_warning(found):
    assert found(deploy=False, ROOT_URLCONF=__name__) == ["realtime.W005"]


def test_the_checks_can_be_run_by_their_tags(settings):
    settings.ROOT_URLCONF = __name__

    assert [message.id for message in run_checks(tags=[Tags.urls])] == ["realtime.W005"]


@pytest.mark.parametrize("asked", [{"METRICS_TOKEN": "x"}, {"METRICS_STAFF": True}])
def test_metrics_need_the_package_that_writes_them(found, monkeypatch, asked):
    setting = {**ONE, **asked}
    assert found(deploy=False, REALTIME=setting) == []

    there = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "prometheus_client" else there(name, *more),
    )

    assert found(deploy=False, REALTIME=setting) == ["realtime.E010"]
    assert found(deploy=False, REALTIME=ONE) == []
