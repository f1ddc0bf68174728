"""A WebSocket client that signs its subscriptions."""

import json

import pytest

from realtime.remote.wire import Wire, WireLost
from tests.conftest import KEY, signed, until


def say(socket, event, data=None, **more):
    socket.send(json.dumps({"event": event, "data": data, **more}))


async def test_it_connects_with_the_key_and_reads_the_greeting(websocket_server, app):
    with websocket_server() as (url, heard), Wire(f"{url}/below/", app) as wire:
        assert wire.socket_id == "12.34"
        assert wire.activity_seconds == 120
        assert heard[0].startswith(f"/below/app/{KEY}?protocol=7&client=")


async def test_subscriptions_are_signed_where_they_must_be(websocket_server, app):
    member = '{"user_id":"u"}'
    with websocket_server() as (url, heard), Wire(url, app) as wire:
        wire.ask("room")
        wire.ask("private-room")
        wire.ask("presence-room", member)
        await until(lambda: len(heard) == 4)

    assert [message["data"] for message in heard[1:]] == [
        {"channel": "room"},
        {"channel": "private-room", "auth": signed("12.34:private-room")},
        {
            "channel": "presence-room",
            "auth": signed(f"12.34:presence-room:{member}"),
            "channel_data": member,
        },
    ]


def test_subscribing_waits_for_its_answer(websocket_server, app):
    def answer(socket):
        say(socket, "greet", "x", channel="other")
        say(socket, "pusher_internal:subscription_succeeded", '{"a":1}', channel="room")

    with websocket_server(answer) as (url, _), Wire(url, app) as wire:
        assert wire.subscribe("room") == {"a": 1}


def test_data_of_events_is_left_as_it_is(websocket_server, app):
    with (
        websocket_server(lambda socket: say(socket, "greet", '{"a": 1}', channel="room")) as (
            url,
            _,
        ),
        Wire(url, app) as wire,
    ):
        assert wire.receive()["data"] == '{"a": 1}'


async def test_a_sign_in_is_signed(websocket_server, app):
    user = '{"id":"u"}'
    with (
        websocket_server(lambda socket: say(socket, "pusher:signin_success", "{}")) as (url, heard),
        Wire(url, app) as wire,
    ):
        wire.sign_in(user)
        await until(lambda: len(heard) == 2)

    assert heard[1]["data"] == {"auth": signed(f"12.34::user::{user}"), "user_data": user}


def test_what_does_not_come_is_missed(websocket_server, app):
    with (
        websocket_server() as (url, _),
        Wire(url, app) as wire,
        pytest.raises(TimeoutError, match=r"no greet within 0\.1 seconds"),
    ):
        wire.wait_for("greet", seconds=0.1)


def test_after_a_complaint_nothing_is_waited_for_long(websocket_server, app, monkeypatch):
    monkeypatch.setattr("realtime.remote.wire.CLOSE_SECONDS", 0.05)

    def complain(socket):
        say(socket, "pusher:error", {"code": 4301, "message": "too fast"})

    with (
        websocket_server(complain) as (url, _),
        Wire(url, app) as wire,
        pytest.raises(TimeoutError, match=r"no greet; pusher:error .*4301"),
    ):
        wire.wait_for("greet")


def test_a_server_that_refuses_says_why(websocket_server, app):
    def refuse(socket):
        say(socket, "pusher:error", {"code": 4001, "message": "unknown"})
        socket.close(4001, "unknown")

    with (
        websocket_server(refuse, greeting=None) as (url, _),
        pytest.raises(WireLost, match="4001 unknown; pusher:error") as caught,
    ):
        Wire(url, app)

    assert caught.value.code == 4001


def test_speaking_into_a_closed_connection_is_told(websocket_server, app):
    with websocket_server(lambda socket: socket.close(4200)) as (url, _), Wire(url, app) as wire:
        with pytest.raises(WireLost, match="4200"):
            wire.receive()
        with pytest.raises(WireLost, match="4200"):
            wire.say("pusher:ping")


def test_where_nobody_listens_there_is_no_connection(app):
    with pytest.raises(WireLost, match=r"no WebSocket at ws://127\.0\.0\.1:1/app/") as caught:
        Wire("http://127.0.0.1:1", app)

    assert caught.value.code is None
