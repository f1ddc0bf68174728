"""The command that sends an event from a terminal."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from realtime import layer as layer_module
from realtime.models import OutboxEntry
from tests.test_outbox import RemoteLayer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def remote(settings):
    """A layer that ends in other processes."""
    backend = f"{RemoteLayer.__module__}.{RemoteLayer.__qualname__}"
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend}}
    return layer_module.channel_layer().local


def run(*arguments):
    output = StringIO()
    call_command("realtime_trigger", *arguments, stdout=output)
    return output.getvalue()


def sent(remote):
    """The events sent, as channel, name, data and who does not get it."""
    frames = [(json.loads(message["text"]), message["except"]) for message in remote.events()]
    return [(frame["channel"], frame["event"], frame["data"], who) for frame, who in frames]


@pytest.mark.parametrize(
    ("words", "events"),
    [
        (["room", "greet"], [("room", "greet", "{}", None)]),
        (["room", "2024"], [("room", "2024", "{}", None)]),
        (["room", "greet", '"hi"'], [("room", "greet", '"hi"', None)]),
        (
            ["a", "b", "greet", '{"n":  12345678901234567890}'],
            [(name, "greet", '{"n":  12345678901234567890}', None) for name in "ab"],
        ),
        (["room", "greet", "--exclude", "1.2"], [("room", "greet", "{}", "1.2")]),
        (["room", "greet", "--app", "3"], [("room", "greet", "{}", None)]),
    ],
)
def test_an_event_is_sent(remote, words, events):
    assert run(*words).startswith(f"Sent {events[0][1]} to ")

    assert sent(remote) == events


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["room"], "a channel and an event"),
        (["a", "b", "greet"], "'greet' is not JSON"),
        (["greet", '{"n":1}'], "Name the channel first"),
        (["greet", "[1]"], "Name the channel first"),
        (["greet", '"hi"', "--durable"], "Name the channel first"),
        (["room", "greet", "NaN"], "is not JSON"),
        (["a:b", "greet"], "Invalid channel"),
        (["room", "greet", "--exclude", "x"], "socket_id"),
        (["room", "greet", "--app", "99"], "no realtime app"),
        (["room", "greet", "[1]", "--durable"], "must be a JSON object"),
        (["room", "greet", "--durable", "--url", "http://127.0.0.1:1"], "leave --url out"),
    ],
)
def test_what_cannot_be_sent_is_said(remote, words, message):
    with pytest.raises(CommandError, match=message):
        run(*words)
    assert sent(remote) == []


def test_a_layer_that_is_away_is_an_error(remote):
    remote.broken = True

    with pytest.raises(CommandError, match="does not answer"):
        run("room", "greet")


def test_a_layer_in_memory_is_left_to_the_server_process(layer):
    with pytest.raises(CommandError, match=r"in memory.*--url http.*--durable"):
        run("room", "greet")
    assert layer.events() == []


def test_a_durable_event_waits_for_the_server_process(layer):
    run("room", "greet", '{"n": 1}', "--durable")

    [entry] = OutboxEntry.objects.unsent()
    data = json.loads(json.loads(entry.text)["data"])
    assert data.pop("event_id")
    assert data == {"n": 1}


def test_an_event_goes_through_the_http_api_where_an_address_is_given(layer, http_server):
    run("room", "greet", "[1]", "--exclude", "1.2", "--url", http_server.url)

    [(method, target, raw, _)] = http_server.requests
    assert (method, target.partition("?")[0]) == ("POST", "/apps/3/events")
    assert json.loads(raw) == {
        "name": "greet",
        "channels": ["room"],
        "data": "[1]",
        "socket_id": "1.2",
    }
    assert layer.events() == []


def test_what_the_http_api_refuses_is_said(http_server):
    http_server.status, http_server.body = 401, b"Unknown auth_key\n"

    with pytest.raises(CommandError, match="answered 401: Unknown auth_key"):
        run("room", "greet", "--url", http_server.url)


def test_a_server_that_is_not_there_is_said():
    with pytest.raises(CommandError, match="refused"):
        run("room", "greet", "--url", "http://127.0.0.1:1")
