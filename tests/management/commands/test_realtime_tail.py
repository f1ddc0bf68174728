"""The command that prints events as they come."""

import json
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from django.core.management import CommandError, call_command

from realtime.management.commands import realtime_tail
from realtime.remote.wire import Wire
from tests.conftest import until


def run(*arguments):
    """What is printed, without the times."""
    output = StringIO()
    call_command("realtime_tail", *arguments, stdout=output, stderr=StringIO())
    return [line.split("  ", 1)[1] for line in output.getvalue().splitlines()]


def say(socket, *events):
    for event in events:
        data = event.pop("data", "{}")
        socket.send(json.dumps({"channel": "room", "data": data, **event}))


GREET, LEAVE = {"event": "greet"}, {"event": "leave", "data": '"ż"'}


def conversation(*events):
    return lambda socket: say(socket, *(dict(event) for event in events))


def test_events_are_printed_with_their_size(websocket_server):
    internal = {"event": "pusher_internal:subscription_succeeded"}
    with websocket_server(conversation(internal, GREET, LEAVE)) as (url, _):
        lines = run("--url", url, "--channel", "room", "--count", "2")

    assert lines == ["room  greet  2 bytes", "room  leave  4 bytes"]


def test_data_is_printed_where_it_is_asked_for_and_harmless(websocket_server):
    red = {"event": "red", "data": "\x1b[31m"}
    with websocket_server(conversation(LEAVE, red)) as (url, _):
        lines = run("--url", url, "--channel", "room", "--data", "--count", "2")

    assert lines == ['room  leave  4 bytes  "ż"', "room  red  5 bytes  ?[31m"]


def test_half_of_a_surrogate_pair_is_printed_as_a_question_mark(websocket_server):
    half = {"event": "half", "data": "a\ud83d"}
    output = TextIOWrapper(BytesIO(), encoding="utf-8")
    with websocket_server(conversation(half)) as (url, _):
        arguments = ("--url", url, "--channel", "room", "--data", "--count", "1")
        call_command("realtime_tail", *arguments, stdout=output)

    assert output.buffer.getvalue().endswith(b"  room  half  4 bytes  a?\n")


def test_other_events_are_left_out(websocket_server):
    with websocket_server(conversation(GREET, LEAVE)) as (url, _):
        lines = run("--url", url, "--channel", "room", "--events", "leave", "x", "--count", "1")

    assert lines == ["room  leave  4 bytes"]


def test_every_channel_is_subscribed_to(websocket_server):
    subscribed = []

    def converse(socket):
        while len(subscribed) < 2:
            subscribed.append(json.loads(socket.recv())["data"])
        say(socket, dict(GREET))

    with websocket_server(converse) as (url, _):
        run("--url", url, "--channel", "presence-b", "--channel", "a", "--count", "1")

    assert [data["channel"] for data in subscribed] == ["a", "presence-b"]
    assert json.loads(subscribed[1]["channel_data"]) == {"user_id": "realtime-tail"}


def test_a_server_that_pings_is_answered(websocket_server):
    answers = []

    def converse(socket):
        socket.recv()
        socket.send('{"event":"pusher:ping"}')
        answers.append(json.loads(socket.recv())["event"])
        say(socket, dict(GREET))

    with websocket_server(converse) as (url, _):
        run("--url", url, "--channel", "room", "--count", "1")

    assert answers == ["pusher:pong"]


def test_a_lost_connection_is_made_anew(websocket_server, monkeypatch):
    monkeypatch.setattr(realtime_tail, "AGAIN_SECONDS", 0)
    times = []

    def converse(socket):
        times.append(1)
        if len(times) == 1:
            socket.close(4200)
        else:
            say(socket, dict(GREET))

    with websocket_server(converse) as (url, _):
        assert run("--url", url, "--channel", "room", "--count", "1") == ["room  greet  2 bytes"]


def test_a_refusal_for_good_ends_it(websocket_server):
    with (
        websocket_server(lambda socket: socket.close(4001, "unknown")) as (url, _),
        pytest.raises(CommandError, match="4001 unknown"),
    ):
        run("--url", url, "--channel", "room")


def test_a_refused_subscription_ends_it(websocket_server):
    refused = {"event": "pusher:subscription_error"}
    with (
        websocket_server(conversation(refused)) as (url, _),
        pytest.raises(CommandError, match=r"refused.*room"),
    ):
        run("--url", url, "--channel", "room")


def test_the_keyboard_ends_it_in_order(websocket_server, monkeypatch):
    def interrupt(self, seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(Wire, "receive", interrupt)
    with websocket_server(greeting=None) as (url, _):
        assert run("--url", url, "--channel", "room") == []


async def test_a_prefix_is_looked_up_without_presence_channels(http_server, app):
    http_server.body = b'{"channels":{"news":{},"presence-news":{}}}'
    caller = realtime_tail.Caller(http_server.url, app)

    assert realtime_tail._occupied(caller, "") == {"news"}
    assert "filter_by_prefix=" in http_server.requests[0][1]

    http_server.status = 401
    with pytest.raises(CommandError, match="answered 401"):
        realtime_tail._occupied(caller, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--channel or --prefix"),
        (["--channel", "a", "--count", "0"], "--count must be 1 or more"),
        (["--channel", "a", "--count", "-1"], "--count must be 1 or more"),
        (["--channel", "a:b"], "not the name of a channel"),
        (["--channel", "a", "--url", "x"], "is not a URL"),
        (["--channel", "a", "--url", "http://127.0.0.1:1"], "no WebSocket"),
    ],
)
def test_what_cannot_be_watched_is_said(arguments, message):
    with pytest.raises(CommandError, match=message):
        run(*arguments)


async def test_a_silent_connection_is_kept_alive(websocket_server, app, monkeypatch):
    monkeypatch.setattr(realtime_tail, "LOOK_SECONDS", 0.01)
    with websocket_server() as (url, heard), Wire(url, app) as wire:
        wire.activity_seconds = 0.02
        options = {"channel": ["room"], "prefix": None, "events": None}
        events = realtime_tail._events(wire, realtime_tail.Caller(url, app), options)
        monkeypatch.setattr(wire, "receive", _stop_after(3, wire.receive))
        with pytest.raises(InterruptedError):
            next(events)
        await until(lambda: {"event": "pusher:ping", "data": {}} in heard)


def _stop_after(turns, receive):
    left = [turns]

    def counted(seconds):
        left[0] -= 1
        if not left[0]:
            raise InterruptedError
        return receive(0.05)

    return counted
