"""Whatever one peer sends, it gets a civil answer and its neighbour notices nothing."""

import json

import pytest

from tests.e2e.wire import refusal

DEEP = '{"event":"client-x","channel":"room","data":' + "[" * 20_000 + "]" * 20_000 + "}"

SURVIVABLE = {
    "no JSON": "hello",
    "an empty frame": "",
    "JSON that is no object": "[1,2]",
    "no event": '{"data":{}}',
    "an event that is a number": '{"event":7}',
    "an unknown event": '{"event":"pusher:made_up","data":{}}',
    "a forged internal event": '{"event":"pusher_internal:member_removed","channel":"%s",'
    '"data":"{}"}',
    "NaN": '{"event":"client-x","channel":"%s","data":NaN}',
    "a huge number": '{"event":"client-x","channel":"%s","data":1e999}',
    "deep nesting": DEEP,
    "a lone surrogate": '{"event":"client-x","channel":"%s","data":"\\ud800"}',
    "a lone surrogate in a name": '{"event":"pusher:subscribe","data":{"channel":"\\ud800"}}',
    "NUL in a channel": '{"event":"pusher:subscribe","data":{"channel":"room\\u0000"}}',
    "NUL in a user id": json.dumps(
        {"event": "pusher:signin", "data": {"auth": "k:s", "user_data": '{"id":"\\u0000"}'}}
    ),
    "a channel name of 300 characters": '{"event":"pusher:subscribe","data":{"channel":"'
    + "r" * 300
    + '"}}',
    "subscribe without data": '{"event":"pusher:subscribe"}',
    "subscribe with an array": '{"event":"pusher:subscribe","data":{"channel":["room"]}}',
    "a sign-in without data": '{"event":"pusher:signin","data":null}',
}


@pytest.fixture
def neighbour(connect, pusher, channel):
    """A pusher-js client on the same process; afterwards it still gets events."""
    client = connect()
    client.subscribe(channel)
    yield client
    pusher.trigger(channel, "greet", {})
    client.wait_for("greet", on=channel)
    assert client.names(channel) == []


@pytest.mark.spec(37, 38, 39, 40, 43, 44, 45, 55, 57, 129)
@pytest.mark.parametrize("text", SURVIVABLE.values(), ids=SURVIVABLE.keys())
@pytest.mark.usefixtures("neighbour")
def test_bad_text_gets_an_error_and_the_connection_stays(open_wire, channel, text):
    wire = open_wire()
    wire.subscribe(channel)

    wire.socket.send(text.replace("%s", channel))

    assert wire.wait_for("pusher:error")["data"]["code"] is None
    assert wire.answers_ping()


@pytest.mark.spec(41)
@pytest.mark.usefixtures("neighbour")
def test_binary_frame_ends_the_connection(open_wire, site):
    wire = open_wire()

    wire.socket.send(b"\x00\xff")

    assert wire.closing_code() == (1000 if site.is_daphne else 1003)


@pytest.mark.usefixtures("neighbour")
def test_text_that_is_not_utf_8_ends_the_connection(open_wire):
    wire = open_wire()

    wire.socket.send(b"\xff", text=True)

    # Daphne drops the connection without a close frame.
    assert wire.closing_code() in {1007, 1006}


@pytest.mark.spec(42)
@pytest.mark.parametrize("size", [200_000, 1_100_000])
@pytest.mark.usefixtures("neighbour")
def test_oversized_frame_ends_the_connection(open_wire, size):
    wire = open_wire()

    wire.socket.send("x" * size)

    # Daphne drops a connection that sends too much without a close frame, which reads as 1006.
    assert wire.closing_code() in {1009, 1006, 1000}


@pytest.mark.spec(135)
@pytest.mark.usefixtures("neighbour")
def test_large_client_event_is_refused(open_wire, site, pusher, unique):
    wire, channel = open_wire(), unique("private-")
    answer = pusher.authenticate(channel, wire.socket_id)
    wire.send("pusher:subscribe", {"channel": channel, **answer})
    wire.wait_for("pusher_internal:subscription_succeeded")

    wire.send("client-x", "x" * 11_000, channel=channel)

    assert wire.wait_for("pusher:error")["data"]["code"] is None
    assert wire.answers_ping()


@pytest.mark.spec(64, 66, 68)
@pytest.mark.parametrize("auth", ["", "nonsense", "e2e-key:" + "0" * 64, None, 7, ["a"]])
@pytest.mark.usefixtures("neighbour")
def test_forged_authorization_is_refused(open_wire, unique, auth):
    wire = open_wire()

    wire.send("pusher:subscribe", {"channel": unique("private-"), "auth": auth})

    assert wire.wait_for("pusher:error")["data"]["code"] is None
    assert wire.answers_ping()


@pytest.mark.spec(3, 31, 34)
@pytest.mark.parametrize(
    ("path", "code"),
    [("/app/" + "k" * 150, 4001), ("//app/e2e-key", 4005), ("/", 4005)],
    ids=["a long key", "two slashes", "no key"],
)
def test_a_refusal_is_told_in_a_message_and_in_the_close(site, path, code):
    told, message, closed_with, reason = refusal(site.first, path)

    assert (told, closed_with) == (code, code)
    assert reason == ("" if site.is_daphne else message[:123])


@pytest.mark.spec(2, 31)
def test_unknown_key_is_told_to_stay_away(site, new_client):
    client = new_client(site.first, "nobody-has-this-key")

    error = client.wait_for("error", on="connection").data["error"]
    assert error["data"]["code"] == 4001
    client.wait_for_state("disconnected")
