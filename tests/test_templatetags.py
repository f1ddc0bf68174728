"""What a page needs to connect."""

import json

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.template import Context, Template
from django.test import RequestFactory
from django.urls import include, path

from tests.conftest import KEY

urlpatterns = [path("prefix/", include("realtime.urls"))]


@pytest.fixture
def config():
    """What ``{% realtime_config %}`` tells a page that came from there."""

    def config(host="localhost:8000", *, secure=False, tag="realtime_config"):
        request = RequestFactory().get("/", headers={"host": host}, secure=secure)
        page = Template(f"{{% load realtime %}}{{% {tag} %}}").render(Context({"request": request}))
        start, _, rest = page.partition(">")
        assert rest.endswith("</script>")
        return start, json.loads(rest.removesuffix("</script>"))

    return config


def test_the_tag_is_json_that_no_browser_runs(config):
    start, _ = config()

    assert start == '<script id="realtime-config" type="application/json"'


def test_the_element_can_have_another_name(config):
    start, _ = config(tag='realtime_config "other"')

    assert 'id="other"' in start


def test_the_key_and_the_options_of_new_pusher(config):
    _, given = config()

    token = given["options"]["channelAuthorization"]["headers"]["X-CSRFToken"]
    assert len(token) == 64
    assert given == {
        "key": KEY,
        "options": {
            "cluster": "",
            "wsHost": "localhost",
            "wsPort": 8000,
            "wssPort": 8000,
            "wsPath": "",
            "forceTLS": False,
            "enabledTransports": ["ws", "wss"],
            "channelAuthorization": {
                "endpoint": "/pusher/auth",
                "transport": "ajax",
                "headers": {"X-CSRFToken": token},
            },
            "userAuthentication": {
                "endpoint": "/pusher/user-auth",
                "transport": "ajax",
                "headers": {"X-CSRFToken": token},
            },
        },
    }


@pytest.mark.parametrize(
    ("host", "secure", "expected"),
    [
        ("example.com", False, ("example.com", 80, False)),
        ("example.com", True, ("example.com", 443, True)),
        ("example.com:8443", True, ("example.com", 8443, True)),
        ("[::1]:8000", False, ("[::1]", 8000, False)),
        ("[::1]", False, ("[::1]", 80, False)),
    ],
)
def test_pages_connect_to_where_they_came_from(config, settings, host, secure, expected):
    settings.ALLOWED_HOSTS = ["*"]

    _, given = config(host, secure=secure)

    options = given["options"]
    assert (options["wsHost"], options["wssPort"], options["forceTLS"]) == expected
    assert options["wsPort"] == options["wssPort"]


def test_without_csrf_there_is_no_token(config, configure):
    configure(AUTH_CSRF=False)

    _, given = config()

    assert given["options"]["userAuthentication"]["headers"] == {}


def test_below_a_prefix_everything_is_below_it(config, settings):
    settings.ROOT_URLCONF = __name__

    _, given = config()

    assert given["options"]["wsPath"] == "/prefix"
    assert given["options"]["channelAuthorization"]["endpoint"] == "/prefix/pusher/auth"


def test_a_template_without_the_request_is_told_what_it_needs():
    with pytest.raises(ImproperlyConfigured, match="needs the request"):
        Template("{% load realtime %}{% realtime_config %}").render(Context())
