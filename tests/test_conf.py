"""The ``REALTIME`` setting."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from realtime import conf
from realtime.protocol.app import App, Limits

ONE = {"APP_ID": "7", "APP_KEY": "k", "APP_SECRET": "s"}


def test_every_key_has_a_default():
    site = conf.read({})

    assert (site.lease_seconds, site.max_connections, site.activity_timeout_seconds) == (
        6,
        10_000,
        120,
    )


def test_every_limit_is_set_low_for_the_end_to_end_tests():
    text = (Path(__file__).parent / "e2e" / "site" / "settings.py").read_text()

    named = set(re.findall(r'"([A-Z_]+)": [0-9]', text))
    assert {field.name.upper() for field in fields(Limits)} - named == set()


def test_the_app_of_the_setting_is_complete():
    site = conf.read(
        {
            **ONE,
            "CLIENT_EVENTS": False,
            "TLS_ONLY": True,
            "ALLOWED_ORIGINS": ["https://example.com"],
            "MAX_APP_CONNECTIONS": 5,
            "LIMITS": {"PRESENCE_MEMBERS": 3},
        }
    )

    assert site.configured_apps() == (
        App(
            id="7",
            key="k",
            secret="s",
            client_events=False,
            tls_only=True,
            allowed_origins=("https://example.com",),
            max_connections=5,
            limits=Limits(presence_members=3),
        ),
    )


def test_more_apps_follow_the_first():
    other = {"ID": 8, "KEY": "k8", "SECRET": "s8", "CLIENT_EVENTS": False}

    first, second = conf.read({**ONE, "APPS": [other]}).configured_apps()

    assert first.id == "7"
    assert second == App(id="8", key="k8", secret="s8", client_events=False)


def test_an_app_id_may_be_written_as_a_number():
    [app] = conf.read({**ONE, "APP_ID": 7}).configured_apps()

    assert app.id == "7"


def test_the_development_app_exists_with_debug(settings):
    settings.DEBUG = True

    [app] = conf.read({}).configured_apps()

    assert (app.id, app.key, app.secret) == ("1001", "demo-key", "demo-secret")


@pytest.mark.parametrize("debug", [True, False])
def test_the_development_app_gives_way_to_others(settings, debug):
    settings.DEBUG = debug
    other = {"ID": "8", "KEY": "k8", "SECRET": "s8"}

    assert [app.id for app in conf.read({"APPS": [other]}).configured_apps()] == ["8"]


def test_without_debug_there_is_no_development_app(settings):
    settings.DEBUG = False

    assert conf.read({}).configured_apps() == ()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("text", "REALTIME must be a dictionary"),
        ({"APP_SECRT": "x"}, "unknown key APP_SECRT; did you mean APP_SECRET?"),
        ({"ZZZ": 1}, r"unknown key ZZZ\Z"),
        ({"LIMITS": {"PRESENCE_MEMBRS": 1}}, "LIMITS has an unknown key PRESENCE_MEMBRS"),
        ({"LIMITS": 5}, "LIMITS"),
        ({"LIMITS": {"PRESENCE_MEMBERS": "100"}}, "PRESENCE_MEMBERS"),
        ({"LIMITS": {"PRESENCE_MEMBERS": 0}}, "PRESENCE_MEMBERS"),
        ({"LIMITS": {"CHANNEL_NAME_CHARS": 256}}, "CHANNEL_NAME_CHARS"),
        ({"LIMITS": {"SIGNIN_USER_ID_CHARS": 256}}, "SIGNIN_USER_ID_CHARS"),
        ({"LEASE_SECONDS": 0}, "'LEASE_SECONDS'] must be a positive number"),
        ({"LEASE_SECONDS": -1}, "'LEASE_SECONDS'] must be a positive number"),
        ({"LEASE_SECONDS": float("nan")}, "'LEASE_SECONDS'] must be a positive number"),
        ({"PING_SECONDS": float("inf")}, "'PING_SECONDS'] must be a positive number"),
        ({"MAX_CONNECTIONS": 0}, "'MAX_CONNECTIONS'] must be a positive number"),
        ({"LINGER_SECONDS": -1}, "'LINGER_SECONDS'] must be a positive number"),
        ({"ALLOWED_ORIGINS": "https://example.com"}, "'ALLOWED_ORIGINS'] must be a list"),
        ({"APPS": {"ID": "1"}}, "'APPS'] must be a list"),
        ({"LEASE_SECONDS": "6"}, "'LEASE_SECONDS'] must be of type int, not str"),
        ({"LEASE_SECONDS": True}, "'LEASE_SECONDS'] must be of type int, not bool"),
        ({"MAX_CONNECTIONS": 1.5}, "'MAX_CONNECTIONS'] must be of type int, not float"),
        ({"MAX_APP_CONNECTIONS": "5"}, "'MAX_APP_CONNECTIONS'] must be of type int, not str"),
        ({"TLS_ONLY": "yes"}, "'TLS_ONLY'] must be of type bool, not str"),
        ({"LIMITS": {"API_EVENTS_PER_SECOND": 0}}, "API_EVENTS_PER_SECOND"),
        ({"LIMITS": {"MESSAGES_PER_SECOND": None}}, "MESSAGES_PER_SECOND"),
        ({"TRUSTED_PROXIES": 0}, "'TRUSTED_PROXIES'] must be a positive number"),
        ({"CLIENT_IP_HEADER": "X Forwarded"}, "'CLIENT_IP_HEADER'] must be the name of a header"),
        ({"CLIENT_IP_HEADER": "HTTP_X_REAL_IP"}, "'CLIENT_IP_HEADER'] must be the name of"),
        ({"APP_KEY": 5}, "'APP_KEY'] must be of type str, not int"),
    ],
)
def test_what_cannot_be_read_is_refused(given, complaint):
    with pytest.raises(ImproperlyConfigured, match=complaint.replace("[", r"\[")):
        conf.read(given)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"APP_ID": "7"}, "app without KEY"),
        ({"APP_ID": "7", "APP_KEY": "k"}, "app without SECRET"),
        ({"APP_KEY": "k", "APP_SECRET": "s"}, "app without ID"),
        ({"APPS": [{"ID": "7", "KEY": "k", "SECRET": "s", "NAME": "x"}]}, "unknown key NAME"),
        ({"APPS": [{"ID": "7", "KEY": "k", "SECRET": "s", "ALLOWED_ORIGINS": "*"}]}, "a list"),
        ({"APPS": ["7"]}, "app"),
        ({**ONE, "APP_KEY": "a:b"}, "An app key may hold letters"),
        ({**ONE, "APP_KEY": "k" * 65}, "An app key may hold letters"),
        ({**ONE, "ALLOWED_ORIGINS": ["example.com"]}, "must be '.' or like 'https://example.com'"),
        ({**ONE, "ALLOWED_ORIGINS": [5]}, "must be '.' or like 'https://example.com'"),
        ({**ONE, "APPS": [{"ID": "7", "KEY": "k2", "SECRET": "s"}]}, "the same ID or KEY"),
        ({"APPS": [{"ID": n, "KEY": "k", "SECRET": "s"} for n in "12"]}, "the same ID or KEY"),
        ({"APPS": [{"ID": "7", "KEY": "k", "SECRET": "s", "MAX_APP_CONNECTIONS": "5"}]}, "MAX_APP"),
        ({**ONE, "APPS": [{"ID": "7", "KEY": "k", "SECRET": "s", "TLS_ONLY": "yes"}]}, "TLS_ONLY"),
    ],
)
def test_an_app_that_cannot_be_used_is_refused(given, complaint):
    with pytest.raises(ImproperlyConfigured, match=complaint):
        conf.read(given).configured_apps()


@pytest.mark.parametrize("limit", [None, 1])
def test_a_limit_that_is_none_by_default_may_be_none(limit):
    [app] = conf.read({**ONE, "LIMITS": {"API_EVENTS_PER_SECOND": limit}}).configured_apps()

    assert app.limits.api_events_per_second == limit


def test_a_linger_may_be_nothing():
    assert conf.read({"LINGER_SECONDS": 0}).linger_seconds == 0


@pytest.mark.parametrize("value", [2, 2.5])
def test_seconds_may_be_fractions(value):
    assert conf.read({"LEASE_SECONDS": value}).lease_seconds == value


def test_the_secret_is_in_no_representation():
    site = conf.read({**ONE, "APP_SECRET": "hidden", "APPS": [{**ONE, "SECRET": "hidden"}]})

    assert "hidden" not in repr(site)
    assert "hidden" not in repr(conf.read({**ONE, "APP_SECRET": "hidden"}).configured_apps())


def test_the_setting_is_read_once_and_again_after_a_change(settings):
    before = conf.get()
    assert conf.get() is before

    settings.REALTIME = {**settings.REALTIME, "LEASE_SECONDS": 9}

    assert conf.get().lease_seconds == 9


def test_a_site_without_the_setting_gets_the_defaults(settings):
    settings.REALTIME = {}  # restoring this announces the change, which a deletion does not
    del settings.REALTIME
    conf.get.cache_clear()

    assert conf.get() == conf.Settings()


def test_an_app_has_every_feature_of_the_setting():
    site = conf.read(
        {
            **ONE,
            "APP_OLD_KEY": "o",
            "APP_OLD_SECRET": "p",
            "SUBSCRIPTION_COUNTS": True,
            "WATCHLISTS": False,
            "AUTHORIZED_CONNECTIONS": True,
            "ENCRYPTION_MASTER_KEY": "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=",
            "WEBHOOK_BATCHING": False,
            "WEBHOOKS": [
                {"URL": "https://example.com/hook"},
                {
                    "URL": "http://example.com:81",
                    "KINDS": ["cache_miss"],
                    "CHANNEL_PREFIXES": ["cache-"],
                },
            ],
        }
    )

    [app] = site.configured_apps()
    assert [token.key for token in app.tokens] == ["o", "k"]
    assert (app.subscription_counts, app.watchlists, app.authorized_connections) == (
        True,
        False,
        True,
    )
    assert app.encryption_master_key == b"a" * 32
    assert app.webhook_batching is False
    first, second = app.webhooks
    assert first.wants("channel_occupied", "room")
    assert second.wants("cache_miss", "cache-x")
    assert not second.wants("cache_miss", "private-cache-x")
    assert not second.wants("channel_occupied", "cache-x")
    assert "secret" not in repr(app).replace("old_secret", "")


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"APP_OLD_KEY": "o"}, "OLD_SECRET together"),
        ({"APP_OLD_KEY": "a b", "APP_OLD_SECRET": "p"}, "letters, digits"),
        ({"APP_OLD_KEY": "k", "APP_OLD_SECRET": "p"}, "same ID or KEY"),
        ({"ENCRYPTION_MASTER_KEY": "c2hvcnQ="}, "32 bytes in base64"),
        ({"WEBHOOKS": [{"URL": "ftp://example.com"}]}, "must be a URL"),
        ({"WEBHOOKS": [{"URL": "https://example.com", "KINDS": ["x"]}]}, "unknown kind 'x'"),
        ({"WEBHOOKS": [{"URI": "https://example.com"}]}, "did you mean URL"),
        ({"WEBHOOKS": "https://example.com"}, "must be a list"),
        ({"SUBSCRIPTION_COUNTS": 1}, "must be of type bool"),
    ],
)
def test_a_feature_that_cannot_be_read_is_named(wrong, complaint):
    with pytest.raises(ImproperlyConfigured, match=complaint):
        conf.read({**ONE, **wrong}).configured_apps()


def test_who_reads_the_description_of_the_api_is_one_of_few():
    assert conf.read({"API_DOCS": "staff"}).api_docs == "staff"

    with pytest.raises(ImproperlyConfigured, match=r"API_DOCS.*'public'"):
        conf.read({"API_DOCS": "everybody"})


def test_the_token_of_the_metrics_is_not_shown():
    assert "s3cret" not in repr(conf.read({"METRICS_TOKEN": "s3cret"}))
