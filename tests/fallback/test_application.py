"""The HTTP side: requests of the fallback transports, without a network."""

import asyncio
import json

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import re_path

from realtime import hub, triggers
from realtime.fallback import application as module
from realtime.fallback import reception, registry, virtual
from realtime.fallback.application import Fallback
from realtime.routing import http_urlpatterns
from realtime.sockets import ABORT
from tests.conftest import ID, KEY, Client, soon, until


async def connections():
    return hub.current().connections(ID)


@pytest.mark.spec(208)
async def test_a_stream_opens_and_then_greets(new_browser):
    request = new_browser().request("xhr_streaming")

    assert await request.line() == "o"
    event, data = await request.event()

    assert event == "pusher:connection_established"
    assert data["activity_timeout"] == 120
    assert request.status == 200
    assert request.headers == {
        "access-control-allow-origin": "*",
        "cache-control": "no-store",
        "content-type": "application/javascript; charset=UTF-8",
        "x-accel-buffering": "no",
        "x-content-type-options": "nosniff",
    }


@pytest.mark.spec(212)
async def test_a_poll_gets_one_batch_and_ends(new_browser):
    browser = new_browser()
    first = browser.request("xhr")

    rest = await first.ended()
    await browser.ask("room")
    [answer] = await browser.poll()

    assert (first.status, rest[:5]) == (200, 'o\na["')
    assert rest.count("\n") == 2
    assert answer["event"] == "pusher_internal:subscription_succeeded"


async def test_a_poll_waits_for_what_comes(new_browser):
    browser = new_browser()
    await (await browser.open("xhr")).ended()
    waiting = browser.request("xhr")

    await browser.ask("room")
    await browser.ask("lobby")

    assert (await waiting.messages())[0]["channel"] == "room"
    assert await waiting.ended() == ""
    assert [message["channel"] for message in await browser.poll()] == ["lobby"]


@pytest.mark.spec(209)
async def test_the_next_receive_request_goes_on_where_the_last_one_ended(new_browser):
    browser = new_browser()
    first = await browser.open()
    await browser.ask("room")
    await first.event()

    first.go_away()
    await soon(first.task)
    await triggers.atrigger("room", "between", 1)
    second = browser.request("xhr_streaming")

    assert await second.event() == ("between", 1)


@pytest.mark.spec(210)
async def test_messages_are_processed_as_those_of_a_websocket(new_browser, connect):
    browser, other = new_browser(), await connect()
    stream = await browser.open()
    await other.subscribe("private-room")
    await browser.ask("private-room")
    await stream.event()

    await browser.say("client-wave", {"hand": "left"}, channel="private-room")

    assert await other.event() == ("client-wave", {"hand": "left"})


async def test_several_messages_may_come_in_one_request(new_browser):
    browser = new_browser()
    stream = await browser.open()
    asked = [
        json.dumps({"event": "pusher:subscribe", "data": {"channel": name}}) for name in ("a", "b")
    ]

    assert await browser.send(*asked) == 204

    channels = []
    while len(channels) < 2:
        channels += [message["channel"] for message in await stream.messages()]
    assert channels == ["a", "b"]


@pytest.mark.spec(211)
async def test_a_ping_is_a_sign_of_life_and_gets_one_back(new_browser, configure):
    configure(PING_SECONDS=0.2, PONG_SECONDS=1)
    browser = new_browser()
    stream = await browser.open()

    assert await stream.event() == ("pusher:ping", {})
    assert await browser.send() == 204

    assert await stream.line() == "a[]"
    assert await stream.event() == ("pusher:ping", {})  # as after a pong, so not 4201


@pytest.mark.spec(211)
async def test_the_answer_to_a_heartbeat_gets_none(new_browser, monkeypatch):
    browser = new_browser()
    stream = await browser.open()
    monkeypatch.setattr(reception, "HEARTBEAT_SECONDS", 0.05)
    await browser.send()
    assert await stream.line() == "a[]"
    assert await stream.line() == "h"
    monkeypatch.setattr(reception, "HEARTBEAT_SECONDS", 25)
    assert await stream.line() == "h"  # was on its way already

    await browser.send()
    await browser.ask("room")
    assert (await stream.event())[0] == "pusher_internal:subscription_succeeded"

    await browser.send()
    assert await stream.line() == "a[]"


async def test_a_silent_poll_ends_with_a_heartbeat(new_browser, monkeypatch):
    browser = new_browser()
    await (await browser.open("xhr")).ended()
    monkeypatch.setattr(reception, "HEARTBEAT_SECONDS", 0.05)

    silent = browser.request("xhr")

    assert await silent.ended() == "h\n"
    assert silent.status == 200


@pytest.mark.spec(213)
@pytest.mark.parametrize("kind", ["xhr", "xhr_streaming"])
async def test_a_refusal_says_why_after_it_opened(new_browser, kind):
    browser = new_browser()
    browser.path = browser.path.replace(KEY, "nobody")

    request = browser.request(kind)
    opened, [error], close = (
        await request.line(),
        await request.messages(),
        await request.line(),
    )

    message = "App key nobody not in this cluster. Did you forget to specify the cluster?"
    assert opened == "o"
    assert error == {"event": "pusher:error", "data": {"code": 4001, "message": message}}
    assert json.loads(close[1:]) == [4001, message]
    assert await request.ended() == ""


@pytest.mark.parametrize(
    ("changes", "options", "code"),
    [
        ({}, {"headers": {"origin": "https://evil.example"}}, 4009),
        ({"TLS_ONLY": True}, {}, 4000),
        ({"MAX_CONNECTIONS_PER_IP": 1}, {"client": ("9.9.9.9", 1)}, 4100),
        ({}, {"query": "client=js"}, 4008),
    ],
)
async def test_whoever_may_not_open_a_websocket_may_not_open_this(
    new_browser, configure, changes, options, code
):
    configure(**changes)
    if "client" in options:
        await new_browser().open()
        occupied = new_browser(**options)
        await occupied.open()

    request = new_browser(**options).request("xhr_streaming")
    assert await request.line() == "o"
    [error] = await request.messages()

    assert error["data"]["code"] == code
    assert json.loads((await request.line())[1:])[0] == code


async def test_tls_is_what_the_request_came_over(new_browser, configure):
    configure(TLS_ONLY=True)

    assert await new_browser(scheme="https").open()


@pytest.mark.spec(214)
@pytest.mark.parametrize("kind", ["xhr", "xhr_streaming", "xhr_send"])
async def test_a_preflight_is_answered(new_browser, kind):
    origin = {"origin": "https://anywhere.example", "access-control-request-method": "POST"}
    request = new_browser().request(kind, method="OPTIONS", headers=origin)

    await request.ended()

    assert request.status == 204
    assert request.headers["access-control-allow-origin"] == "*"
    assert request.headers["access-control-allow-headers"] == "content-type"
    assert request.headers["access-control-allow-methods"] == "POST, OPTIONS"
    assert await connections() == 0


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ({"body": b"no json"}, 400),
        ({"body": b'{"event":"pusher:ping"}'}, 400),
        ({"method": "GET"}, 405),
        ({"body": b"[" + b" " * 300_000 + b"]"}, 413),
    ],
)
async def test_a_bad_send_request_is_refused(new_browser, counted, request_line, status):
    browser = new_browser()
    stream = await browser.open()

    request = browser.request("xhr_send", **request_line)
    await request.ended()

    assert request.status == status
    assert request.headers["access-control-allow-origin"] == "*"
    assert counted("fallback_requests_refused", str(status)) == 1
    assert await browser.send() == 204
    assert await stream.line() == "a[]"


@pytest.fixture
def no_room(monkeypatch):
    """A virtual WebSocket takes nothing in, so that send requests wait."""
    monkeypatch.setattr(virtual, "INCOMING_CHARS", 0)


async def test_beyond_what_may_wait_messages_are_refused(new_browser, no_room, monkeypatch):
    monkeypatch.setattr(virtual, "WAITING_REQUESTS", 1)
    browser = new_browser()
    await browser.open()
    [socket] = registry.current()._sockets.values()
    waiting = browser.request("xhr_send", body=b'["{}"]')
    await until(lambda: socket._waiting)

    assert await browser.send("{}") == 503

    socket.end()
    await waiting.ended()
    assert waiting.status == 404


async def test_a_request_that_waits_keeps_no_body(new_browser, no_room):
    browser = new_browser()
    await browser.open()
    [socket] = registry.current()._sockets.values()
    waiting = browser.request("xhr_send", body=b'["{}"]')
    await until(lambda: socket._waiting)

    kept, step = [], waiting.task.get_coro()
    while frame := getattr(step, "cr_frame", None):
        kept += frame.f_locals.values()
        step = step.cr_await

    assert ["{}"] in kept  # so these are the right frames
    assert b'["{}"]' not in kept

    socket.end()
    await waiting.ended()


async def test_a_body_that_does_not_end_is_given_up(new_browser, counted, monkeypatch):
    monkeypatch.setattr(module, "BODY_SECONDS", 0.01)
    browser = new_browser()
    request = browser.request("xhr_send", whole=False)

    await request.ended()

    assert request.status == 408
    assert counted("fallback_requests_refused", "408") == 1


async def test_a_message_beyond_the_limit_closes(new_browser, configure):
    configure(LIMITS={"MESSAGE_BYTES": 1_000})
    browser = new_browser()
    stream = await browser.open()

    assert await browser.send("x" * 1_001) == 204

    assert await stream.line() == 'c[1009,"Message too large"]'


async def test_messages_for_nobody_are_refused(new_browser):
    assert await new_browser().send("{}") == 404


async def test_messages_for_an_unknown_app_are_refused(new_browser):
    browser = new_browser()
    browser.path = browser.path.replace(KEY, "nobody")

    assert await browser.send("{}") == 404


async def test_where_no_app_can_be_looked_up_messages_are_refused(new_browser, database):
    browser = new_browser()
    browser.path = browser.path.replace(KEY, "perhaps")
    database.away = True

    assert await browser.send("{}") == 503


async def test_a_client_that_is_gone_before_its_messages_are_here_is_not_answered(new_browser):
    browser = new_browser()
    request = browser.request("xhr_send", whole=False)

    request.go_away()
    await soon(request.task)

    assert request.status == 0


async def test_a_name_alone_takes_over_nothing(new_browser):
    """Another page that knows it gets a WebSocket of its own, or none."""
    mine = new_browser(session="knownton", headers={"origin": "http://testserver"})
    stream = await mine.open()
    stranger = new_browser(session="knownton", headers={"origin": "https://evil.example"})

    assert await stranger.send("{}") == 404
    refused = stranger.request("xhr_streaming")
    assert await refused.line() == "o"

    assert (await refused.messages())[0]["data"]["code"] == 4009
    assert await mine.send() == 204
    assert await stream.line() == "a[]"


async def test_a_second_receive_request_takes_the_place_of_the_first(new_browser):
    browser = new_browser()
    first = await browser.open()

    second = browser.request("xhr_streaming")

    assert await first.ended() == 'c[2010,"Another connection still open"]\n'
    await browser.ask("room")
    assert (await second.event())[0] == "pusher_internal:subscription_succeeded"


@pytest.mark.spec(215)
async def test_a_client_that_does_not_poll_again_is_gone(new_browser, connect, monkeypatch):
    monkeypatch.setattr(virtual, "REST_SECONDS", 5)
    witness, browser = await connect(), new_browser()
    await witness.subscribe("presence-room", {"user_id": "w"})
    await (await browser.open("xhr")).ended()
    # Within the rest, so it stays.
    await browser.ask("presence-room", {"user_id": "b"})
    monkeypatch.setattr(virtual, "REST_SECONDS", 0.05)  # of the next rest
    await browser.poll()
    assert (await witness.event()) == ("pusher_internal:member_added", {"user_id": "b"})

    assert await witness.event() == ("pusher_internal:member_removed", {"user_id": "b"})
    assert await browser.send() == 404


@pytest.mark.spec(215)
async def test_a_client_that_broke_off_and_does_not_return_is_gone(new_browser, monkeypatch):
    monkeypatch.setattr(virtual, "RETURN_SECONDS", 0.05)
    browser = new_browser()
    stream = await browser.open()

    stream.go_away()

    await until(lambda: hub.current().connections(ID) == 0)


async def test_after_its_end_a_name_is_a_new_connection(new_browser, monkeypatch):
    monkeypatch.setattr(virtual, "RETURN_SECONDS", 0)
    browser = new_browser()
    (await browser.open()).go_away()
    await until(lambda: hub.current().connections(ID) == 0)

    assert await browser.open()


@pytest.mark.spec(216)
async def test_a_stream_goes_on_however_long_it_is_but_for_the_switch(new_browser):
    """pusher-js breaks a response off behind 256 KiB; what is sent meanwhile must wait."""
    browser = new_browser()
    stream = await browser.open()
    await browser.ask("room")
    await stream.event()
    for number in range(30):
        await triggers.atrigger("room", "large", str(number).rjust(10_000))
    while len(stream.text) <= reception.RESPONSE_CHARS:
        await stream.messages()
    assert len(stream.text) < reception.RESPONSE_CHARS + virtual.OUTGOING_CHARS * 2

    following = browser.request("xhr_streaming")
    stream.go_away()
    lines = [line for line in stream.text.split("\n")[3:] if line.startswith("a")]
    events = [json.loads(text)["data"] for line in lines for text in json.loads(line[1:])]
    while len(events) < 30:
        events += [message["data"] for message in await following.messages()]

    assert [int(data) for data in events] == list(range(30))


async def test_a_client_that_reads_on_gets_more(new_browser, monkeypatch):
    monkeypatch.setattr(reception, "RESPONSE_CHARS", 10)
    monkeypatch.setattr(reception, "SWITCH_SECONDS", 0.02)
    browser = new_browser()
    stream = await browser.open()

    await browser.ask("room")

    assert (await stream.event())[0] == "pusher_internal:subscription_succeeded"


@pytest.mark.parametrize("kind", ["xhr", "xhr_streaming"])
async def test_a_process_that_stops_sends_its_clients_elsewhere(new_browser, kind):
    browser = new_browser()
    request = await browser.open(kind)
    if kind == "xhr":
        await request.ended()
        request = browser.request("xhr")

    await hub.current().drain(0.1)

    assert (await request.messages())[0]["data"]["code"] == 4200
    assert await request.line() == 'c[4200,"Please reconnect immediately"]'
    assert await request.ended() == ""
    assert await connections() == 0


async def test_whoever_polls_hears_of_the_close_at_the_next_poll(new_browser):
    browser = new_browser()
    await (await browser.open("xhr")).ended()

    await hub.current().drain(0.1)
    await until(lambda: hub.current().connections() == 0)
    late = browser.request("xhr")

    assert (await late.messages())[0]["data"]["code"] == 4200
    assert await late.line() == 'c[4200,"Please reconnect immediately"]'


async def test_a_client_that_does_not_read_is_dropped(new_browser, configure):
    configure(LIMITS={"BACKLOG_CHARS": 20_000})
    aborted = asyncio.Event()
    browser = new_browser()
    stream = browser.request(
        "xhr_streaming", extensions={ABORT: {"abort": aborted.set}}, reads=False
    )
    await until(lambda: hub.current().connections(ID) == 1)
    await browser.ask("room")
    await until(lambda: hub.current().subscriptions(ID, "room") == 1)

    for _ in range(virtual.OUTGOING_CHARS // 10_000 + 5):
        await triggers.atrigger("room", "large", "x" * 10_000)

    await until(lambda: hub.current().connections(ID) == 0)
    await soon(aborted.wait())
    stream.read()


async def test_it_is_counted(new_browser, counted):
    await new_browser().open("xhr_streaming")
    await new_browser().open("xhr")

    assert counted("fallbacks_opened", "xhr") == counted("fallbacks_opened", "xhr_streaming") == 1


@pytest.mark.parametrize("prefix", ["", "/live", "/a/b"])
async def test_it_may_be_mounted_below_a_prefix(new_browser, prefix):
    browser = new_browser()
    browser.path = prefix + browser.path

    assert await browser.open()


async def test_other_paths_are_those_of_django(application, new_browser):
    browser = new_browser()
    browser.path = "/pusher"
    auth = browser.request("auth", body=b"socket_id=1.2&channel_name=private-a")
    await auth.ended()

    assert auth.status == 403
    assert "access-control-allow-origin" not in auth.headers


async def test_a_site_may_route_by_itself(new_browser):
    site = ProtocolTypeRouter(
        {"http": URLRouter([*http_urlpatterns, re_path(r"", get_asgi_application())])}
    )

    assert await new_browser(site).open()


async def test_any_other_path_is_nothing_to_it(new_browser):
    browser = new_browser(Fallback())
    browser.path = "/elsewhere"
    request = browser.request("xhr")
    await request.ended()

    assert request.status == 404


async def test_websocket_clients_and_these_share_a_channel(new_browser, connect: Client):
    browser, other = new_browser(), await connect()
    stream = await browser.open()
    await browser.ask("room")
    await stream.event()
    await other.subscribe("room")

    await triggers.atrigger("room", "news", {"number": 1})

    assert await stream.event() == await other.event() == ("news", {"number": 1})
