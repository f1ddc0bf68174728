"""One WebSocket from its handshake to its end."""

import asyncio
import json
import re
from itertools import pairwise

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.utils import timezone

from realtime import applications, consumer, hub, last_events, moderation, triggers
from realtime.layer import Envelope, layer_group, publish
from realtime.models import (
    Application,
    Member,
    Membership,
    Occupancy,
    RealtimeUser,
    WebhookDelivery,
)
from realtime.presence import ledger
from realtime.protocol.bucket import Bucket
from realtime.triggers import atrigger
from tests.conftest import (
    ID,
    KEY,
    NOWHERE,
    PATH,
    PATIENCE,
    hmac_hex,
    signed,
    soon,
    until,
    until_async,
)

QUERY = "protocol=7&client=js&version=8.6.0"

SCOPE = {
    "type": "websocket",
    "path": f"/app/{KEY}",
    "query_string": QUERY.encode(),
    "headers": [],
}
SUBSCRIBE = '{"event":"pusher:subscribe","data":{"channel":"room"}}'

ANN = {"user_id": "ann", "user_info": {"name": "Ann"}}
BOB = {"user_id": "bob", "user_info": {"name": "Bob"}}


async def events_to(channel, *texts):
    """Publish events as another process would."""
    await publish([Envelope(ID, channel, json.dumps({"event": text})) for text in texts])


async def ban(user_id):
    await RealtimeUser.objects.acreate(app_id=ID, user_id=user_id, banned_at=timezone.now())


async def committed():
    """Wait until everything recorded so far is in the database."""
    await soon(ledger.current().flushed())


@pytest.fixture
def empty_buckets(monkeypatch):
    """No allowance comes back while a test spends it, however long that takes."""
    monkeypatch.setattr(Bucket, "_refill", lambda self, now: None)


@pytest.fixture
def refused(new_client):
    """How a handshake ends that is refused: error frame and close."""

    async def refused(path=PATH, **options):
        client = new_client(path, **options)
        await client.upgrade()
        frame, (code, reason) = await client.frame(), await client.closed()
        assert frame == {"event": "pusher:error", "data": {"code": code, "message": reason}}
        return code, reason

    return refused


# ---- handshake --------------------------------------------------------------------------


@pytest.mark.spec(1, 15, 16, 17, 18)
async def test_the_first_frame_is_the_greeting(new_client):
    client = new_client()
    await client.upgrade()

    assert re.fullmatch(
        r'\{"event":"pusher:connection_established",'
        r'"data":"\{\\"socket_id\\":\\"\d+\.\d+\\",\\"activity_timeout\\":120\}"\}',
        await client.text(),
    )


@pytest.mark.spec(16)
async def test_the_greeting_tells_the_timeout_that_the_site_wants(new_client, configure):
    configure(ACTIVITY_TIMEOUT_SECONDS=30)
    client = new_client()
    await client.upgrade()

    assert r"\"activity_timeout\":30}" in await client.text()


@pytest.mark.spec(19, 20)
async def test_socket_ids_are_unique_and_unguessable(connect):
    parts = [[int(part) for part in (await connect()).socket_id.split(".")] for _ in range(20)]

    for column in zip(*parts, strict=True):
        ordered = sorted(column)
        assert min(after - before for before, after in pairwise(ordered)) > 1, "a sequence"


@pytest.mark.parametrize("prefix", ["", "/prefix", "/a/b"])
async def test_the_path_may_have_a_prefix(connect, prefix):
    assert (await connect(f"{prefix}{PATH}")).socket_id


@pytest.mark.spec(10, 11, 12)
async def test_other_parameters_and_their_order_do_not_matter(connect):
    assert (await connect(f"/app/{KEY}?flash=false&x=1&version=8.6.0&protocol=7")).socket_id


@pytest.mark.spec(2, 3, 7, 8, 9, 31, 32, 33, 34)
@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("/", 4005, "Path not found"),
        (f"//app/{KEY}/?{QUERY}", 4005, "Path not found"),
        (f"/app/?{QUERY}", 4005, "Path not found"),
        (
            f"/app/nobody?{QUERY}",
            4001,
            "App key nobody not in this cluster. Did you forget to specify the cluster?",
        ),
        (f"/app/{KEY}?protocol=4&version=8.6.0", 4007, "Unsupported protocol version"),
        (f"/app/{KEY}?protocol=8&version=8.6.0", 4007, "Unsupported protocol version"),
        (f"/app/{KEY}?protocol=abc&version=8.6.0", 4007, "Unsupported protocol version"),
        (f"/app/{KEY}?protocol=7&version=new", 4006, "Invalid version string format"),
        (f"/app/{KEY}", 4008, "No protocol version supplied"),
    ],
)
async def test_a_handshake_is_accepted_and_then_refused_with_a_reason(refused, path, code, reason):
    assert await refused(path) == (code, reason)


async def test_the_reason_fits_into_a_close_frame(new_client):
    client = new_client("/app/" + "%C3%A9" * 200 + f"?{QUERY}")
    await client.upgrade()

    message = (await client.frame())["data"]["message"]
    code, reason = await client.closed()

    assert code == 4001
    assert len(reason.encode()) <= 123
    assert message.startswith(reason)


@pytest.mark.spec(6)
@pytest.mark.parametrize("protocol", [5, 6, 7])
async def test_old_protocols_are_served(connect, protocol):
    assert (await connect(f"/app/{KEY}?protocol={protocol}&client=java-client")).socket_id


@pytest.mark.spec(4)
async def test_a_disabled_app_is_refused(refused):
    await Application.objects.acreate(app_id="9", name="Off", key="off", enabled=False)

    assert await refused(f"/app/off?{QUERY}") == (4003, "Application disabled")


async def test_the_apps_of_the_database_are_served(connect):
    await Application.objects.acreate(app_id="9", name="Row", key="row")

    assert (await connect(f"/app/row?{QUERY}")).socket_id


@pytest.mark.spec(5)
@pytest.mark.parametrize(
    ("scheme", "header", "trusted", "admitted"),
    [
        ("ws", None, None, False),
        ("wss", None, None, True),
        ("ws", b"https", None, False),
        ("ws", b"https", ("HTTP_X_FORWARDED_PROTO", "https"), True),
        ("ws", b"https, http", ("HTTP_X_FORWARDED_PROTO", "https"), True),
        ("ws", b"http", ("HTTP_X_FORWARDED_PROTO", "https"), False),
        ("ws", None, ("HTTP_X_FORWARDED_PROTO", "https"), False),
    ],
)
async def test_a_tls_only_app_wants_an_encrypted_connection(
    refused, connect, configure, settings, scheme, header, trusted, admitted
):
    configure(TLS_ONLY=True)
    settings.SECURE_PROXY_SSL_HEADER = trusted
    headers = [(b"x-forwarded-proto", header)] if header else []

    if admitted:
        assert (await connect(scheme=scheme, headers=headers)).socket_id
    else:
        assert (await refused(scheme=scheme, headers=headers))[0] == 4000


@pytest.mark.parametrize(
    ("allowed", "hosts", "origin", "admitted"),
    [
        ([], ["example.com"], None, True),
        ([], ["example.com"], "https://example.com", True),
        ([], ["example.com"], "https://EXAMPLE.com:8443", True),
        ([], ["example.com"], "https://evil.com", False),
        ([], ["example.com"], "https://example.com.evil.com", False),
        ([], ["example.com"], "https://example.com@evil.com", False),
        ([], ["example.com"], "null", False),
        ([], ["[::1]"], "http://[::1]:8000", True),
        ([], ["*"], "https://evil.com", True),
        (["https://example.com"], ["*"], "https://example.com", True),
        (["https://example.com"], ["*"], "https://example.com:443", True),
        (["https://example.com"], ["*"], "http://example.com", False),
        (["https://example.com"], ["*"], "https://example.com:8443", False),
        (["https://a.com", "https://b.com"], ["*"], "https://b.com", True),
        (["https://example.com"], ["*"], "null", False),
        (["*"], ["example.com"], "https://anywhere.org", True),
        (["https://example.com"], ["*"], "https://[::1", False),
        (["https://example.com"], ["*"], "https://example.com:99999", False),
        ([], ["example.com"], "https://example.com:99999", False),
        ([], ["example.com"], "https://example.com:abc", False),
        ([], ["example.com"], "https://[::1", False),
    ],
)
async def test_only_pages_of_allowed_origins_may_connect(
    refused, connect, configure, settings, allowed, hosts, origin, admitted
):
    configure(ALLOWED_ORIGINS=allowed)
    settings.ALLOWED_HOSTS = hosts
    headers = [(b"origin", origin.encode())] if origin else []

    if admitted:
        assert (await connect(headers=headers)).socket_id
    else:
        assert await refused(headers=headers) == (4009, "Origin not allowed")


async def test_with_debug_and_no_hosts_local_pages_may_connect(connect, refused, settings):
    settings.DEBUG, settings.ALLOWED_HOSTS = True, []

    assert (await connect(headers=[(b"origin", b"http://localhost:8000")])).socket_id
    assert (await refused(headers=[(b"origin", b"http://evil.com")]))[0] == 4009


@pytest.mark.spec(13)
async def test_an_app_over_its_quota_takes_no_more_connections(connect, refused, configure):
    configure(MAX_APP_CONNECTIONS=1)
    first = await connect()

    assert await refused() == (4004, "Account over quota")

    await first.leave()
    assert (await connect()).socket_id


@pytest.mark.spec(14)
async def test_a_process_that_is_full_takes_no_more_connections(connect, refused, configure):
    configure(MAX_CONNECTIONS=1)
    await connect()

    assert await refused() == (4100, "Over capacity")


HOME = ("8.8.8.8", 5000)
"""Client host and port of a peer on the internet."""


@pytest.fixture
def connect_from(new_client, refused):
    """Connects a peer that has an address; how it was refused, or a client."""

    async def connect(client_address, *headers, let_in=True):
        client = new_client(headers=list(headers))
        client.scope["client"] = client_address
        if let_in:
            return await client.open()
        await client.upgrade()
        await client.frame()
        return await client.closed()

    return connect


async def test_an_address_with_enough_connections_gets_no_more(connect_from, configure, counted):
    configure(MAX_CONNECTIONS_PER_IP=2)
    first = await connect_from(HOME)
    await connect_from(HOME)

    assert await connect_from(HOME, let_in=False) == (4100, "Over capacity")
    assert counted("connections_refused", "4100") == counted("over_capacity", "address") == 1

    await connect_from(("9.9.9.9", 5000))
    await first.leave()
    await connect_from(HOME)


async def test_an_address_may_not_connect_all_the_time(connect_from, configure, empty_buckets):
    configure(CONNECTS_PER_SECOND_PER_IP=1)
    for _ in range(10):
        await (await connect_from(HOME)).leave()

    assert await connect_from(HOME, let_in=False) == (4100, "Over capacity")


async def test_a_handshake_that_is_refused_leaves_its_place_to_others(
    new_client, connect_from, configure
):
    configure(MAX_CONNECTIONS_PER_IP=1)
    client = new_client(f"/app/nobody?{QUERY}")
    client.scope["client"] = HOME
    await client.upgrade()
    assert (await client.frame())["data"]["code"] == 4001
    await client.closed()

    await connect_from(HOME)


async def test_handshakes_that_are_refused_count_too(
    new_client, connect_from, configure, empty_buckets
):
    configure(CONNECTS_PER_SECOND_PER_IP=1)
    for _ in range(10):
        client = new_client(f"/app/nobody?{QUERY}")
        client.scope["client"] = HOME
        await client.upgrade()
        assert (await client.frame())["data"]["code"] == 4001

    assert await connect_from(HOME, let_in=False) == (4100, "Over capacity")


async def test_the_header_of_a_proxy_names_the_address_where_a_setting_says_so(
    connect_from, configure
):
    configure(MAX_CONNECTIONS_PER_IP=1, CLIENT_IP_HEADER="X-Forwarded-For")
    proxy, name = ("10.0.0.2", 5000), b"x-forwarded-for"

    await connect_from(proxy, (name, b"9.9.9.9"))
    await connect_from(proxy, (name, b"8.8.8.8"))

    forged = (name, b"7.7.7.7, 9.9.9.9")
    assert (await connect_from(proxy, forged, let_in=False))[0] == 4100


async def test_a_process_that_stops_takes_no_more_connections(connect, refused):
    client = await connect()
    await hub.current().drain(0.01)

    assert await refused() == (4100, "Over capacity")

    assert (await client.event())[1]["code"] == 4200
    assert (await client.closed())[0] == 4200
    await client.leave()
    await soon(hub.current().deserted())


async def test_the_first_reason_wins(refused, connect, configure):
    """In the order key, app, TLS, protocol, quota, origin."""
    foreign = {"headers": [(b"origin", b"https://evil.com")]}
    await Application.objects.acreate(app_id="9", name="Off", key="off", enabled=False)
    await connect()
    configure(TLS_ONLY=True, MAX_APP_CONNECTIONS=1, MAX_CONNECTIONS=1)

    assert (await refused("/app/nobody", **foreign))[0] == 4001
    assert (await refused("/app/off", **foreign))[0] == 4003
    assert (await refused(f"/app/{KEY}", **foreign))[0] == 4000
    assert (await refused(f"/app/{KEY}", scheme="wss", **foreign))[0] == 4008
    assert (await refused(scheme="wss", **foreign))[0] == 4004
    configure(MAX_APP_CONNECTIONS=2)
    assert (await refused(scheme="wss", **foreign))[0] == 4009
    assert (await refused(scheme="wss"))[0] == 4100


@pytest.mark.spec(48, 49)
@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ([], None),
        (["chat"], None),
        (["pusher-channels-protocol-7"], "pusher-channels-protocol-7"),
        (["chat", "pusher-channels-protocol-6"], "pusher-channels-protocol-6"),
    ],
)
async def test_the_subprotocol_of_swift_is_echoed(new_client, offered, chosen):
    assert await new_client(subprotocols=offered).upgrade() == chosen


async def test_a_peer_that_leaves_before_it_connects_is_ignored(new_client):
    client = new_client()

    await client.leave()

    assert hub.peek() is None


async def test_a_refused_peer_may_be_gone_already(application):
    async def send(message):
        if message["type"] != "websocket.accept":
            raise ConnectionResetError

    async def receive():
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/nowhere", "headers": []}

    await soon(application(scope, receive, send))


async def test_a_layer_that_is_away_turns_connections_away(refused, layer):
    layer.broken = True

    assert await refused() == (4100, "Over capacity")


async def test_a_database_that_is_away_turns_unknown_keys_away(refused, database):
    database.away = True

    assert await refused(f"/app/nobody?{QUERY}") == (4100, "Over capacity")


# ---- messages ---------------------------------------------------------------------------


@pytest.mark.spec(21, 22, 23)
@pytest.mark.parametrize("rest", [',"data":{}', ',"data":""', ""])
async def test_a_ping_is_answered(connect, rest):
    client = await connect()

    await client.send_to(f'{{"event":"pusher:ping"{rest}}}')

    assert await client.text() == '{"event":"pusher:pong","data":"{}"}'


@pytest.mark.spec(24)
async def test_a_ping_before_the_greeting_is_read_is_answered(new_client):
    client = new_client()
    await client.upgrade()

    await client.say("pusher:ping")

    events = [(await client.event())[0] for _ in range(2)]
    assert events == ["pusher:connection_established", "pusher:pong"]


@pytest.mark.spec(37, 36, 40)
@pytest.mark.parametrize("text", ["{", "[]", '{"event":5}', '{"event":"pusher:what"}', "NaN"])
async def test_what_cannot_be_read_is_answered_and_the_connection_stays(connect, text):
    client = await connect()

    await client.send_to(text)

    event, data = await client.event()
    assert (event, data["code"]) == ("pusher:error", None)
    await client.is_silent()


@pytest.mark.spec(41)
async def test_a_binary_message_closes_the_connection(connect):
    client = await connect()

    await client.send_to(bytes_data=b"\x00")

    assert await client.closed() == (1003, "Binary messages are not supported")


@pytest.mark.spec(42)
async def test_a_message_over_the_limit_closes_the_connection(connect, configure):
    configure(LIMITS={"MESSAGE_BYTES": 100})
    client = await connect()
    await client.send_to('{"event":"pusher:ping"}'.ljust(100))
    assert (await client.event())[0] == "pusher:pong"

    await client.send_to('{"event":"pusher:ping"}'.ljust(101))

    assert await client.closed() == (1009, "Message too large")


def pings(client, count):
    return [client.send_to('{"event":"pusher:ping"}') for _ in range(count)]


async def answers(client, count):
    return [(await client.event())[0] for _ in range(count)]


async def test_a_connection_at_its_rate_is_not_held_back(connect, configure, counted):
    configure(LIMITS={"MESSAGES_PER_SECOND": 1, "SUBSCRIPTIONS_PER_CONNECTION": 10})
    client = await connect()

    for ping in pings(client, 10):
        await ping

    assert await answers(client, 10) == ["pusher:pong"] * 10
    assert counted("connections_throttled") == 0


async def test_a_faster_connection_is_read_later_and_loses_nothing(connect, configure, counted):
    configure(LIMITS={"MESSAGES_PER_SECOND": 5, "SUBSCRIPTIONS_PER_CONNECTION": 10})
    client, loop = await connect(), asyncio.get_running_loop()
    for number in range(15):
        await client.ask(f"room-{number}")
    started = loop.time()

    frames = [await client.frame() for _ in range(20)]

    # Ten subscriptions, then a refusal for each channel beyond, in order.
    assert [frame["channel"] for frame in frames if "channel" in frame] == [
        f"room-{number}" for number in range(15)
    ]
    assert loop.time() - started >= 4 / 5
    assert counted("connections_throttled") == 1
    assert counted("messages_refused", "subscription") == 5


async def test_a_connection_that_goes_on_flooding_is_sent_away(connect, configure, counted):
    configure(
        LIMITS={
            "MESSAGES_PER_SECOND": 20,
            "SUBSCRIPTIONS_PER_CONNECTION": 1,
            "FLOOD_SECONDS": 1,
        }
    )
    client = await connect()
    for ping in pings(client, 200):
        await ping

    read = 0
    while (frame := await client.frame())["event"] == "pusher:pong":
        read += 1

    assert frame["data"]["code"] == 4100
    assert await client.closed() == (4100, "Over capacity")
    assert 20 <= read < 60
    assert counted("over_capacity", "flood") == 1


async def test_a_peer_that_leaves_while_it_is_held_back_is_gone_soon(connect, configure):
    configure(LIMITS={"MESSAGES_PER_SECOND": 5, "SUBSCRIPTIONS_PER_CONNECTION": 1})
    client = await connect()
    for ping in pings(client, 6):
        await ping

    await client.leave()

    assert hub.current().connections() == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "malformed"),
        ('{"event":"client-x","channel":"private-x","data":{}}', "not_allowed"),
        ('{"event":"pusher:subscribe","data":{"channel":"private-x"}}', "subscription"),
    ],
)
async def test_what_is_refused_is_counted(connect, counted, text, reason):
    client = await connect()

    await client.send_to(text)

    await client.event()
    assert counted("messages_refused", reason) == 1


async def test_client_events_over_their_rate_are_counted(
    connect, configure, counted, empty_buckets
):
    configure(LIMITS={"CLIENT_EVENTS_PER_SECOND": 1})
    client = await connect()
    await client.subscribe("private-x")

    for _ in range(3):
        await client.say("client-x", channel="private-x")

    assert [(await client.event())[1]["code"] for _ in range(2)] == [4301] * 2
    assert counted("messages_refused", "client_event_rate") == 2


async def test_a_handshake_that_is_refused_is_counted(refused, counted):
    await refused(f"/app/nobody?{QUERY}")

    assert counted("connections_refused", "4001") == 1
    assert counted("connections_refused", "4100") == 0


async def test_after_a_close_only_the_disconnect_is_of_interest(connect):
    client = await connect()
    await client.send_to(bytes_data=b"\x00")
    await client.closed()

    await client.say("pusher:ping")
    await client.leave()

    assert client.output_queue.empty()


@pytest.mark.spec(47)
async def test_messages_keep_their_order_across_a_slow_join(connect, database):
    client = await connect()
    database.open.clear()

    await client.ask("presence-room", ANN)
    await client.say("pusher:ping")
    await client.ask("room")
    await until(database.waiting.is_set)
    assert client.output_queue.empty()
    database.open.set()

    assert [(await client.event())[0] for _ in range(3)] == [
        "pusher_internal:subscription_succeeded",
        "pusher:pong",
        "pusher_internal:subscription_succeeded",
    ]


# ---- channels ---------------------------------------------------------------------------


@pytest.mark.spec(60, 62, 63, 69)
@pytest.mark.parametrize("channel", ["room", "private-room", "private-encrypted-room"])
async def test_a_subscription_is_confirmed_with_an_empty_object(connect, channel):
    client = await connect()

    await client.ask(channel)

    assert await client.frame() == {
        "event": "pusher_internal:subscription_succeeded",
        "channel": channel,
        "data": "{}",
    }


@pytest.mark.spec(117, 119)
async def test_events_arrive_as_they_were_published(connect):
    client = await connect()
    await client.subscribe("room")

    await publish([Envelope(ID, "room", '{"event":"x",  "data":"12345678901234567890"}')])

    assert await client.text() == '{"event":"x",  "data":"12345678901234567890"}'


@pytest.mark.spec(79)
async def test_channels_of_the_same_name_in_two_apps_are_two(connect, configure):
    configure(APPS=[{"ID": "4", "KEY": "k4", "SECRET": "s4"}])
    own, foreign = await connect(), await connect(f"/app/k4?{QUERY}")
    for client in (own, foreign):
        await client.subscribe("room")

    await publish([Envelope("4", "room", '{"event":"hello"}')])

    assert (await foreign.frame())["event"] == "hello"
    await own.is_silent()


async def test_no_event_comes_before_the_success_frame_and_none_is_lost(connect, database):
    client = await connect()
    database.open.clear()
    await client.ask("presence-room", ANN)
    await until(database.waiting.is_set)

    await events_to("presence-room", "one", "two")
    database.open.set()

    assert (await client.frame())["event"] == "pusher_internal:subscription_succeeded"
    assert [(await client.frame())["event"] for _ in range(2)] == ["one", "two"]


@pytest.mark.spec(70, 71, 72, 64, 65, 68)
@pytest.mark.parametrize(
    "auth",
    [
        f"{KEY}:deadbeef",
        signed("1234.1234:private-room"),
        f"other-key:{hmac_hex('1234.1234:private-room')}",
        "",
    ],
    ids=["wrong", "for another socket", "of another app", "none"],
)
async def test_a_refused_subscription_is_answered_once(connect, auth):
    client = await connect()

    await client.say("pusher:subscribe", {"channel": "private-room", "auth": auth})

    error, refusal = await client.frame(), await client.frame()
    assert (error["event"], error["data"]["code"]) == ("pusher:error", None)
    assert refusal == {
        "event": "pusher:subscription_error",
        "channel": "private-room",
        "data": '{"type":"AuthError","error":"Invalid signature","status":401}',
    }
    await client.is_silent()


@pytest.mark.spec(73)
async def test_a_duplicate_subscription_changes_no_count(connect):
    client = await connect()
    await client.subscribe("room")

    await client.ask("room")

    assert await client.event() == (
        "pusher:error",
        {"code": None, "message": "Existing subscription to channel room"},
    )
    await committed()
    assert await Occupancy.objects.values_list("channel", "subscriptions").aget() == ("room", 1)


@pytest.mark.spec(74, 75, 76)
async def test_after_an_unsubscribe_no_event_arrives(connect):
    gone, stays = await connect(), await connect()
    for client in (gone, stays):
        await client.subscribe("room")

    await gone.say("pusher:unsubscribe", {"channel": "room"})
    await gone.is_silent()
    await events_to("room", "hello")

    assert (await stays.frame())["event"] == "hello"
    await gone.is_silent()
    await gone.say("pusher:unsubscribe", {"channel": "room"})
    assert (await gone.event())[0] == "pusher:error"


@pytest.mark.spec(77)
async def test_a_burst_of_unsubscribe_and_subscribe_ends_subscribed(connect):
    client = await connect()
    await client.subscribe("presence-room", ANN)

    await client.say("pusher:unsubscribe", {"channel": "presence-room"})
    assert await client.subscribe("presence-room", ANN)

    await events_to("presence-room", "hello")
    assert (await client.frame())["event"] == "hello"


async def test_a_subscription_the_layer_does_not_take_sends_the_client_away(connect, layer):
    """A client repeats a refused subscription after a new connection only."""
    client = await connect()
    layer.broken = True

    await client.ask("room")

    assert (await client.event())[1] == {"code": 4100, "message": "Over capacity"}
    assert await client.closed() == (4100, "Over capacity")


async def test_a_presence_subscription_waits_for_the_database(connect, database):
    client = await connect()
    database.away = True
    await client.ask("presence-room", ANN)
    await until(lambda: database.refusals)

    database.away = False

    event, data = await client.event()
    assert event == "pusher_internal:subscription_succeeded"
    assert data["presence"]["count"] == 1


@pytest.mark.parametrize("what", ["subscription", "sign-in"])
async def test_a_database_that_stays_away_sends_the_client_away(connect, database, configure, what):
    configure(JOIN_SECONDS=0.01)
    client = await connect()
    database.away = True

    if what == "subscription":
        await client.ask("presence-room", ANN)
        event, data = await client.event()
    else:
        event, data = await client.sign_in("ann")
    assert (event, data["code"]) == ("pusher:error", 4100)
    assert (await client.closed())[0] == 4100
    await client.leave()
    database.away = False
    await committed()

    assert not await Membership.objects.aexists()


# ---- presence ---------------------------------------------------------------------------


@pytest.mark.spec(80, 81, 82, 83, 84, 85)
async def test_the_success_frame_lists_the_members(connect):
    ann, bob = await connect(), await connect()
    await ann.subscribe("presence-room", ANN)

    assert await bob.subscribe("presence-room", {"user_id": 7}) == {
        "presence": {
            "count": 2,
            "ids": ["ann", "7"],
            "hash": {"ann": {"name": "Ann"}, "7": None},
        }
    }


@pytest.mark.spec(93, 96, 97)
async def test_others_hear_who_comes_and_who_goes(connect):
    ann, bob = await connect(), await connect()
    await ann.subscribe("presence-room", ANN)

    await bob.subscribe("presence-room", BOB)
    assert await ann.text() == (
        '{"event":"pusher_internal:member_added","channel":"presence-room",'
        '"data":"{\\"user_id\\":\\"bob\\",\\"user_info\\":{\\"name\\": \\"Bob\\"}}"}'
    )
    await bob.is_silent()

    await bob.leave()
    assert await ann.text() == (
        '{"event":"pusher_internal:member_removed","channel":"presence-room",'
        '"data":"{\\"user_id\\":\\"bob\\"}"}'
    )


@pytest.mark.spec(94, 95)
async def test_further_connections_of_a_user_come_and_go_unheard(connect):
    ann, phone, laptop = await connect(), await connect(), await connect()
    await ann.subscribe("presence-room", ANN)
    await phone.subscribe("presence-room", BOB)
    assert (await ann.event())[0] == "pusher_internal:member_added"

    assert (await laptop.subscribe("presence-room", BOB))["presence"]["count"] == 2
    await phone.leave()
    await committed()
    await ann.is_silent()
    await laptop.say("pusher:unsubscribe", {"channel": "presence-room"})

    assert await ann.event() == ("pusher_internal:member_removed", {"user_id": "bob"})


@pytest.mark.spec(91, 92)
async def test_a_full_channel_takes_further_connections_of_its_members_only(connect, configure):
    configure(LIMITS={"PRESENCE_MEMBERS": 1})
    ann, again, bob = await connect(), await connect(), await connect()
    await ann.subscribe("presence-room", ANN)

    await bob.ask("presence-room", BOB)
    await bob.frame()
    event, data = await bob.event()

    assert (event, data["type"], data["status"]) == (
        "pusher:subscription_error",
        "LimitReached",
        4100,
    )
    assert (await again.subscribe("presence-room", ANN))["presence"]["count"] == 1
    assert hub.current().subscriptions(ID, "presence-room") == 2


@pytest.mark.spec(98, 101)
async def test_the_signed_in_user_is_shown(connect):
    client = await connect()
    await client.sign_in("ann", user_info={"name": "Ann"}, watchlist=["bob"])
    await client.event()  # bob is offline

    data = await client.subscribe("presence-room")

    assert data["presence"]["hash"] == {"ann": {"name": "Ann"}}


@pytest.mark.spec(99)
async def test_channel_data_overrides_the_signed_in_user(connect):
    client = await connect()
    await client.sign_in("ann", user_info={"name": "Ann"})

    data = await client.subscribe("presence-room", BOB)

    assert data["presence"]["hash"] == {"bob": {"name": "Bob"}}


@pytest.mark.spec(100)
async def test_presence_needs_channel_data_or_a_sign_in(connect):
    client = await connect()

    await client.ask("presence-room")

    assert "must include channel_data" in (await client.event())[1]["message"]


async def test_news_a_joiner_knows_already_does_not_reach_it(connect, database):
    ann, bob = await connect(), await connect()
    await ann.subscribe("presence-room", ANN)
    database.open.clear()
    await bob.ask("presence-room", BOB)
    await until(database.waiting.is_set)
    database.open.set()

    await bob.frame()

    await bob.is_silent()
    assert (await ann.event())[0] == "pusher_internal:member_added"


# ---- users ------------------------------------------------------------------------------


@pytest.mark.spec(137, 138)
async def test_a_sign_in_is_confirmed_with_the_same_text(connect):
    client = await connect()

    event, data = await client.sign_in("ann", user_info={"name": "Zoë"})

    assert event == "pusher:signin_success"
    assert data == {"user_data": json.dumps({"id": "ann", "user_info": {"name": "Zoë"}})}


@pytest.mark.spec(139)
async def test_a_wrong_signature_does_not_sign_in_and_does_not_close(connect):
    client = await connect()

    await client.say("pusher:signin", {"auth": f"{KEY}:00", "user_data": '{"id":"ann"}'})

    event, data = await client.event()
    assert (event, data["code"]) == ("pusher:error", None)
    await client.is_silent()


@pytest.mark.spec(142, 143)
async def test_a_connection_belongs_to_one_user(connect):
    client = await connect()
    await client.sign_in("ann")

    assert (await client.sign_in("bob"))[0] == "pusher:error"
    assert (await client.sign_in("ann"))[0] == "pusher:signin_success"

    await client.subscribe("#server-to-user-ann")


@pytest.mark.spec(102, 103, 144, 145)
async def test_events_of_a_user_reach_the_connections_of_that_user_only(connect):
    phone, laptop, other = await connect(), await connect(), await connect()
    for client, user_id in ((phone, "ann"), (laptop, "ann"), (other, "bob")):
        await client.sign_in(user_id)
        await client.subscribe(f"#server-to-user-{user_id}")
    await other.ask("#server-to-user-ann")
    assert (await other.event())[0] == "pusher:error"
    assert (await other.event())[0] == "pusher:subscription_error"

    await events_to("#server-to-user-ann", "hello")

    assert (await phone.frame())["event"] == (await laptop.frame())["event"] == "hello"
    await other.is_silent()


@pytest.mark.spec(184)
async def test_the_channel_of_a_user_is_not_counted(connect):
    client = await connect()
    await client.sign_in("ann")
    await client.subscribe("#server-to-user-ann")

    await committed()

    assert not await Occupancy.objects.aexists()


@pytest.mark.spec(146)
@pytest.mark.parametrize("members", [False, True])
async def test_a_termination_closes_the_connections_of_a_user(connect, members):
    signed_in, shown, other = await connect(), await connect(), await connect()
    await signed_in.sign_in("ann")
    await shown.subscribe("presence-room", ANN)
    await other.sign_in("bob")

    if members:
        staff = await sync_to_async(make_staff)()
        user = await sync_to_async(moderation.known_user)("ann")
        await committed()
        assert await sync_to_async(moderation.kick)([user], by=staff) == 2
    else:
        await moderation.aterminate_user_connections("ann")

    for client in (signed_in, shown) if members else (signed_in,):
        assert (await client.event())[1]["code"] == 4009
        assert await client.closed() == (4009, "You got disconnected by the app.")
    await other.is_silent()


def make_staff():
    from django.contrib.auth.models import User

    return User.objects.create_superuser("staff")


async def test_a_banned_user_can_neither_sign_in_nor_be_present(connect):
    await ban("ann")
    client = await connect()

    event, data = await client.sign_in("ann")
    assert (event, data["message"]) == ("pusher:error", "This user is banned")
    await client.ask("presence-room", ANN)
    await client.frame()
    event, data = await client.event()

    assert (event, data["error"]) == ("pusher:subscription_error", "This user is banned")
    await client.is_silent()
    assert hub.current().subscriptions(ID, "presence-room") == 0


async def test_a_sign_in_that_was_refused_is_not_terminated_later(connect):
    await ban("ann")
    client = await connect()
    await client.sign_in("ann")

    await moderation.aterminate_user_connections("ann")

    await client.is_silent()


async def test_a_user_who_was_banned_meanwhile_stays_found(connect):
    client = await connect()
    await client.sign_in("ann")
    await RealtimeUser.objects.filter(user_id="ann").aupdate(banned_at=timezone.now())
    assert (await client.sign_in("ann"))[0] == "pusher:error"

    await moderation.aterminate_user_connections("ann")

    await client.event()
    assert (await client.closed())[0] == 4009


# ---- client events ----------------------------------------------------------------------


@pytest.mark.spec(121, 122, 125)
async def test_a_client_event_reaches_the_other_subscribers(connect):
    sender, other = await connect(), await connect()
    for client in (sender, other):
        await client.subscribe("private-room")

    await sender.say("client-typing", {"on": True}, channel="private-room", user_id="forged")

    assert await other.text() == (
        '{"event":"client-typing","channel":"private-room","data":"{\\"on\\": true}"}'
    )
    await sender.is_silent()


@pytest.mark.spec(122, 123)
async def test_a_client_event_reaches_the_other_connections_of_its_sender(connect):
    phone, laptop = await connect(), await connect()
    for client in (phone, laptop):
        await client.subscribe("presence-room", ANN)

    await phone.say("client-typing", "x", channel="presence-room")

    assert (await laptop.frame())["event"] == "client-typing"
    await phone.is_silent()


@pytest.mark.spec(45)
@pytest.mark.parametrize("data", ['"\\ud83d"', '{"text":"\\udc4b\\ud83d"}', '"\\u0000"'])
async def test_half_a_surrogate_pair_harms_nobody(connect, data):
    sender, other = await connect(), await connect()
    for client in (sender, other):
        await client.subscribe("private-room")

    await sender.send_to(f'{{"event":"client-odd","channel":"private-room","data":{data}}}')
    await sender.say("client-typing", {}, channel="private-room")

    odd = await other.text()
    assert odd.isascii()
    assert json.loads(odd)["event"] == "client-odd"
    assert (await other.frame())["event"] == "client-typing"
    await sender.is_silent()


@pytest.mark.spec(124, 126)
async def test_on_presence_channels_a_client_event_names_its_sender(connect):
    sender, other = await connect(), await connect()
    await other.subscribe("presence-room", BOB)
    await sender.subscribe("presence-room", ANN)
    await other.frame()

    await sender.say("client-typing", "x", channel="presence-room", user_id="forged")

    assert (await other.frame())["user_id"] == "ann"


@pytest.mark.spec(200)
@pytest.mark.parametrize(
    ("channel", "user"), [("private-room", {}), ("presence-room", {"user_id": "ann"})]
)
async def test_a_client_event_is_a_fact_if_somebody_wants_it(connect, configure, channel, user):
    prefix = {"URL": NOWHERE, "CHANNEL_PREFIXES": [channel]}
    configure(WEBHOOKS=[{**prefix, "KINDS": ["client_event"]}])
    sender = await connect()
    await sender.subscribe(channel, {"user_id": "ann"} if user else None)
    await sender.subscribe("private-other")

    for name in ("private-other", channel):
        await sender.say("client-typing", {"on": True}, channel=name)
    await sender.is_silent()

    delivery = await until_async(WebhookDelivery.objects.afirst)
    [event] = json.loads(delivery.body)["events"]
    assert event == {
        "name": "client_event",
        "channel": channel,
        "event": "client-typing",
        "data": '{"on": true}',
        "socket_id": sender.socket_id,
        **user,
    }


@pytest.mark.spec(120)
async def test_client_events_can_be_switched_off(connect, configure):
    configure(CLIENT_EVENTS=False)
    client = await connect()
    await client.subscribe("private-room")

    await client.say("client-typing", channel="private-room")

    assert "enable this feature" in (await client.event())[1]["message"]


@pytest.mark.spec(132)
async def test_too_many_client_events_are_refused_with_their_own_code(connect, empty_buckets):
    client = await connect()
    await client.subscribe("private-room")

    for _ in range(11):
        await client.say("client-typing", channel="private-room")

    assert (await client.event())[1]["code"] == 4301
    await client.is_silent()


async def test_a_client_event_the_layer_does_not_take_is_refused(connect, layer, caplog):
    client = await connect()
    await client.subscribe("private-room")
    layer.broken = True

    await client.say("client-typing", channel="private-room")

    event, data = await client.event()
    assert (event, data["code"]) == ("pusher:error", None)
    assert "a client event was lost" in caplog.text


# ---- time and end -----------------------------------------------------------------------


@pytest.mark.spec(29)
async def test_a_silent_client_is_pinged_and_then_closed(connect, configure):
    configure(PING_SECONDS=0.01, PONG_SECONDS=0.01)
    client = await connect()

    assert await client.text() == '{"event":"pusher:ping","data":"{}"}'
    assert (await client.event()) == (
        "pusher:error",
        {"code": 4201, "message": "Pong reply not received"},
    )
    assert await client.closed() == (4201, "Pong reply not received")


@pytest.mark.spec(27)
async def test_a_client_that_answers_pings_is_kept(connect, configure):
    configure(PING_SECONDS=0.01, PONG_SECONDS=0.3)
    client = await connect()

    for _ in range(2):
        assert (await client.event())[0] == "pusher:ping"
        await client.say("pusher:pong")


@pytest.mark.spec(30)
async def test_a_client_that_does_not_know_pings_gets_none(connect, configure):
    configure(PING_SECONDS=0.001, PONG_SECONDS=0.001)
    client = await connect(f"/app/{KEY}?protocol=5&client=java-client&version=2.0")

    later = await connect()
    assert [(await later.event())[0] for _ in range(2)] == ["pusher:ping", "pusher:error"]

    await client.is_silent()


@pytest.fixture
async def timers(monkeypatch):
    """Every timer that is set."""
    loop, made = asyncio.get_running_loop(), []
    call_later = loop.call_later

    def record(*arguments, **options):
        made.append(call_later(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(loop, "call_later", record)
    return made


@pytest.mark.spec(78)
async def test_a_client_that_leaves_leaves_nothing_behind(connect, configure, layer, timers):
    configure(LINGER_SECONDS=0)
    client = await connect()
    for channel in ("room", "private-room"):
        await client.subscribe(channel)
    await client.subscribe("presence-room", ANN)
    await client.sign_in("bob")
    await client.subscribe("#server-to-user-bob")

    await client.leave()
    await committed()

    local = hub.current()
    assert (local.connections(), local.subscriptions(ID, "room")) == (0, 0)
    for model in (Membership, Occupancy):
        assert not await model.objects.aexists()
    assert not await Member.objects.present().aexists()
    room = layer_group(ID, "room")
    await until(lambda: not layer.members(room))
    loop = asyncio.get_running_loop()
    assert not [
        timer for timer in loop._scheduled if not timer.cancelled() and "_tick" in str(timer)
    ]


async def test_a_client_that_vanishes_while_it_joins_leaves_nothing_behind(connect, database):
    client = await connect()
    database.open.clear()
    await client.ask("presence-room", ANN)
    await until(database.waiting.is_set)

    client.future.cancel()
    await asyncio.wait([client.future])
    database.open.set()
    await committed()

    assert hub.current().subscriptions(ID, "presence-room") == 0
    assert not await Membership.objects.aexists()
    assert not await Member.objects.present().aexists()


async def test_a_cancelled_connection_is_over(connect):
    client = await connect()

    client.future.cancel()
    await asyncio.wait([client.future])

    assert client.future.cancelled()
    assert hub.current().connections() == 0


async def test_a_failure_closes_one_connection_and_is_logged(process, application, caplog):
    arrived, sent = asyncio.Queue(), asyncio.Queue()
    arrived.put_nowait({"type": "websocket.connect"})

    async def receive():
        if arrived.empty():
            raise RuntimeError("a broken server")
        return await arrived.get()

    await soon(application(SCOPE, receive, sent.put))
    await until(lambda: sent.qsize() == 3)

    assert [sent.get_nowait()["type"] for _ in range(2)] == ["websocket.accept", "websocket.send"]
    assert sent.get_nowait()["code"] == 1011
    assert re.search(r"connection \d+\.\d+ of app 3 failed", caplog.text)
    assert hub.current().connections() == 0


async def test_a_peer_that_does_not_read_is_dropped(
    process, application, configure, monkeypatch, caplog
):
    configure(LIMITS={"BACKLOG_CHARS": 1_000})
    monkeypatch.setattr(consumer, "LAST_WORD_SECONDS", 0.01)
    arrived, sent, reads = asyncio.Queue(), [], asyncio.Event()
    reads.set()

    async def send(message):
        await reads.wait()
        sent.append(message)

    serving = asyncio.ensure_future(application(SCOPE, arrived.get, send))
    arrived.put_nowait({"type": "websocket.connect"})
    arrived.put_nowait({"type": "websocket.receive", "text": SUBSCRIBE})
    await until(lambda: len(sent) == 3)

    reads.clear()
    stuck = asyncio.Event()
    reads.wait = lambda wait=reads.wait: stuck.set() or wait()
    await events_to("room", "x" * 400)
    await until(stuck.is_set)
    await events_to("room", *["x" * 400] * 3)
    await soon(serving)

    assert hub.current().connections() == 0
    assert len(sent) == 3
    assert caplog.text.count("dropped slow socket") == 1


async def test_a_dropped_peer_that_reads_again_hears_why(process, application, configure):
    configure(LIMITS={"BACKLOG_CHARS": 1_000})
    arrived, sent, reads = asyncio.Queue(), [], asyncio.Event()
    reads.set()

    async def send(message):
        if not reads.is_set():
            try:
                await reads.wait()
            except asyncio.CancelledError:  # the writer is told to give up
                reads.set()
                raise
        sent.append(message)

    serving = asyncio.ensure_future(application(SCOPE, arrived.get, send))
    arrived.put_nowait({"type": "websocket.connect"})
    arrived.put_nowait({"type": "websocket.receive", "text": SUBSCRIBE})
    await until(lambda: len(sent) == 3)

    reads.clear()
    stuck = asyncio.Event()
    reads.wait = lambda wait=reads.wait: stuck.set() or wait()
    await events_to("room", "x" * 400)
    await until(stuck.is_set)
    await events_to("room", *["x" * 400] * 3)
    await soon(serving)

    assert [item.get("code") for item in sent[3:]] == [None, 4100]


async def test_a_stuck_peer_changes_nothing_for_the_others(connect, configure):
    configure(LIMITS={"BACKLOG_CHARS": 10_000})
    lively, other = await connect(), await connect()
    for client in (lively, other):
        await client.subscribe("room")

    for number in range(50):
        await events_to("room", f"{number}")
        assert (await lively.frame())["event"] == f"{number}"

    assert [(await other.frame())["event"] for _ in range(50)] == [str(n) for n in range(50)]


async def test_connections_share_nothing(new_client):
    clients = [new_client() for _ in range(30)]
    await asyncio.gather(*(client.open() for client in clients))

    await asyncio.gather(
        *(client.subscribe(f"private-{number}") for number, client in enumerate(clients))
    )
    for number, _ in enumerate(clients):
        await events_to(f"private-{number}", f"for {number}")

    for number, client in enumerate(clients):
        assert (await client.frame())["event"] == f"for {number}"
        await client.is_silent()


# ---- cache channels ---------------------------------------------------------------------


@pytest.fixture
def fresh_cache():
    cache.clear()
    yield
    cache.clear()


@pytest.mark.spec(109, 110, 112)
@pytest.mark.parametrize("channel", ["cache-x", "private-cache-x", "private-encrypted-cache-x"])
async def test_a_new_subscriber_gets_the_last_event(connect, fresh_cache, channel):
    if "encrypted" in channel:  # as a back end sends it that encrypts by itself
        app = await sync_to_async(applications.default)()
        for number in range(2):
            await triggers._asend(
                triggers.encode(app, channel, "greet", f'{{"n":{number}}}'), durable=False
            )
    else:
        for number in range(2):
            await atrigger(channel, "greet", {"n": number})
    client = await connect()

    await client.subscribe(channel)

    assert await client.frame() == {"event": "greet", "channel": channel, "data": '{"n":1}'}
    await client.is_silent()


@pytest.mark.spec(111)
async def test_a_subscriber_of_an_empty_cache_channel_is_told(connect, fresh_cache):
    client = await connect()
    await client.subscribe("cache-x")

    assert await client.frame() == {
        "event": "pusher:cache_miss",
        "channel": "cache-x",
        "data": "{}",
    }
    await client.is_silent()


async def test_an_empty_cache_is_a_fact_if_somebody_wants_it(connect, fresh_cache, configure):
    configure(WEBHOOKS=[{"URL": NOWHERE, "KINDS": ["cache_miss"]}])
    client = await connect()
    await client.subscribe("cache-x")

    delivery = await until_async(WebhookDelivery.objects.afirst)
    assert [event["name"] for event in json.loads(delivery.body)["events"]] == ["cache_miss"]


@pytest.mark.spec(109)
async def test_members_come_before_the_last_event(connect, fresh_cache):
    await atrigger("presence-cache-x", "greet", {})
    client = await connect()

    data = await client.subscribe("presence-cache-x", ANN)

    assert data["presence"]["count"] == 1
    assert (await client.frame())["event"] == "greet"


@pytest.mark.spec(113)
async def test_client_events_are_not_kept(connect, fresh_cache):
    first, second = await connect(), await connect()
    await first.subscribe("private-cache-x")
    await first.event()
    await first.say("client-greet", {}, channel="private-cache-x")
    await first.is_silent()

    await second.subscribe("private-cache-x")

    assert (await second.frame())["event"] == "pusher:cache_miss"


@pytest.mark.spec(114)
async def test_the_last_event_outlives_its_subscribers_but_not_its_time(
    connect, fresh_cache, configure
):
    configure(CACHE_SECONDS=2, LINGER_SECONDS=0)
    first = await connect()
    await first.subscribe("cache-x")
    await first.event()
    await atrigger("cache-x", "greet", {})
    await first.event()
    await first.leave()
    second = await connect()
    await second.subscribe("cache-x")
    assert (await second.frame())["event"] == "greet"

    await eventually_empty("cache-x")
    third = await connect()
    await third.subscribe("cache-x")
    assert (await third.frame())["event"] == "pusher:cache_miss"


async def eventually_empty(channel):
    async with asyncio.timeout(PATIENCE):
        while (await last_events.aread(ID, channel)).at:
            continue


@pytest.mark.spec(116)
async def test_events_beside_a_subscription_are_delivered_once_and_in_order(connect, fresh_cache):
    async def publish():
        for number in range(100):
            await atrigger("cache-x", "greet", number)

    clients = [await connect() for _ in range(10)]
    publishing = asyncio.ensure_future(publish())
    for client in clients:
        await client.ask("cache-x")
    await publishing
    await atrigger("cache-x", "last", "")

    for client in clients:
        names, numbers = [], []
        while names[-1:] != ["last"]:
            frame = await client.frame()
            names.append(frame["event"])
            if frame["event"] == "greet":
                numbers.append(int(frame["data"]))
        assert names[0] == "pusher_internal:subscription_succeeded"
        assert numbers == list(range(numbers[0], 100))
        assert ("pusher:cache_miss" in names) is (numbers[0] == 0 and names[1] != "greet")


# ---- authorized connections -------------------------------------------------------------


@pytest.mark.spec(51)
async def test_a_connection_that_never_signs_in_is_closed(connect, configure):
    configure(AUTHORIZED_CONNECTIONS=True, LIMITS={"AUTHORIZATION_SECONDS": 3})
    stays, goes = await connect(), await connect()
    await stays.sign_in("ann")
    await goes.subscribe("room")

    assert (await goes.event())[1]["code"] == 4009
    assert await goes.closed() == (4009, "Connection not authorized within timeout")
    await stays.is_silent()


async def test_connections_count_once_they_are_authorized(connect, configure, refused):
    configure(AUTHORIZED_CONNECTIONS=True, MAX_APP_CONNECTIONS=1)
    first = await connect()
    second = await connect()
    await second.subscribe("private-room")

    assert await refused() == (4004, "Account over quota")
    await first.is_silent()
    await second.leave()
    await connect()
