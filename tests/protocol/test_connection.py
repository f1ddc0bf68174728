"""One client: what it may do, what it is told, and what it makes the server do."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol.app import Limits
from realtime.protocol.connection import Connection
from realtime.protocol.effects import (
    Authorized,
    Close,
    Effect,
    Identify,
    Join,
    Leave,
    Publish,
    Send,
    Watch,
)
from realtime.protocol.errors import (
    BadMessage,
    LimitReached,
    OverCapacity,
    PleaseReconnect,
    Unauthorized,
)
from realtime.protocol.messages import (
    PING,
    PONG,
    Member,
    User,
    encode_subscription_succeeded,
)
from tests.protocol import site
from tests.protocol.site import (
    KEY,
    SOCKET_ID,
    channel_auth,
    message,
    sign_in,
    subscribe,
    subscribe_signed,
    unsubscribe,
    user_auth,
)

ANN = '{"id":"12345","user_info":{"name":"Ann","rank":1e2},"watchlist":["7","8"]}'
ANN_MEMBER = Member("12345", '{"name":"Ann","rank":1e2}')
INVALID_USER_ID = "channel_data must contain a user_id that is a string"


def soft_error(text: str, code: int | None = None) -> Send:
    data = {"code": code, "message": text}
    return Send(json.dumps({"event": "pusher:error", "data": data}, separators=(",", ":")))


def refusal(channel: str, text: str, *, summary=None, type_="AuthError", status=401) -> list[Send]:
    """Both ways in which a refused subscription is told."""
    data = {"type": type_, "error": summary or text, "status": status}
    told = {
        "event": "pusher:subscription_error",
        "channel": channel,
        "data": json.dumps(data, separators=(",", ":")),
    }
    return [soft_error(text), Send(json.dumps(told, separators=(",", ":")))]


def joined(connection: Connection, channel: str, channel_data: str | None = None) -> None:
    """Bring *connection* into *channel*."""
    effects = connection.receive(subscribe_signed(channel, channel_data), now=0)
    assert [type(effect) for effect in effects] == [Join]
    connection.joined(channel)


def signed_in(connection: Connection, user_data: str = ANN) -> None:
    """Sign *connection* in."""
    [effect] = connection.receive(sign_in(user_data), now=0)
    assert isinstance(effect, Identify)
    connection.identified(effect.user)


def typing(channel: str = "private-room", data: str = "{}") -> str:
    return f'{{"event":"client-typing","channel":"{channel}","data":{data}}}'


# ---- opening and being understood -------------------------------------------------------


@pytest.mark.spec(15, 16, 18)
def test_a_client_is_greeted(app):
    connection = Connection(app, "131160.155806628", now=0, activity_timeout=30)

    assert connection.open() == [
        Send(
            '{"event":"pusher:connection_established",'
            '"data":"{\\"socket_id\\":\\"131160.155806628\\",\\"activity_timeout\\":30}"}'
        )
    ]


def test_a_client_is_told_to_ping_after_two_minutes_unless_said_otherwise(connection):
    [greeting] = connection.open()

    assert json.loads(json.loads(greeting.text)["data"])["activity_timeout"] == 120


@pytest.mark.spec(21, 22, 23, 24)
@pytest.mark.parametrize(
    "ping",
    [
        '{"event":"pusher:ping","data":{}}',
        '{"event":"pusher:ping","data":""}',
        '{"event": "pusher:ping"}',
    ],
)
def test_a_ping_is_answered(connection, ping):
    assert connection.receive(ping, now=0) == [Send('{"event":"pusher:pong","data":"{}"}')]


@pytest.mark.spec(25)
def test_a_pong_is_taken_silently(connection):
    assert connection.receive('{"event":"pusher:pong","data":{}}', now=0) == []


@pytest.mark.spec(37, 38, 39, 40, 44, 129)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello", "Message is not valid JSON"),
        ('{"event":"client-x","data":NaN}', "Message is not valid JSON"),
        ("[1]", "Message is not a JSON object"),
        ("{}", "Message has no event name"),
        ('{"event":"pusher:x"}', "Unsupported event received on socket: pusher:x"),
        (
            '{"event":"pusher_internal:member_removed"}',
            "Unsupported event received on socket: pusher_internal:member_removed",
        ),
        ('{"event":"pusher:subscribe"}', "Missing parameter: data.channel"),
    ],
)
def test_an_unreadable_message_is_answered_with_an_error_without_a_code(connection, text, why):
    assert connection.receive(text, now=0) == [soft_error(why)]


def test_a_hundred_unreadable_messages_in_a_row_are_borne_and_not_one_more(connection):
    for _ in range(100):
        assert connection.receive("?", now=0) == [soft_error("Message is not valid JSON")]

    assert connection.receive("?", now=0) == [Close(1008, "Too many invalid messages")]


def test_messages_that_are_unreadable_in_different_ways_make_one_row(connect):
    connection = connect(limits=Limits(malformed_messages=2))
    connection.receive("?", now=0)
    connection.receive("[]", now=0)

    assert connection.receive("{}", now=0) == [Close(1008, "Too many invalid messages")]


def test_a_readable_message_ends_the_row_of_unreadable_ones(connect):
    connection = connect(limits=Limits(malformed_messages=1))

    for _ in range(3):
        assert connection.receive("?", now=0) == [soft_error("Message is not valid JSON")]
        connection.receive(PING, now=0)


def test_a_message_that_is_refused_but_readable_is_none_of_the_unreadable_ones(connect):
    connection = connect(limits=Limits(malformed_messages=0))

    for _ in range(3):
        [answer] = connection.receive(unsubscribe("room"), now=0)
        assert isinstance(answer, Send)


@pytest.mark.spec(41)
def test_a_binary_message_closes_the_connection(connection):
    assert connection.receive_bytes() == [Close(1003, "Binary messages are not supported")]


def padded(size: int, filler: str) -> str:
    """A ping of *size* bytes in UTF-8."""
    empty = '{"event":"pusher:ping","data":""}'
    count, rest = divmod(size - len(empty), len(filler.encode()))
    return empty[:-2] + filler * count + "x" * rest + empty[-2:]


@pytest.mark.spec(42)
@pytest.mark.parametrize("filler", ["x", "é", "🎉"])
def test_a_message_of_131072_bytes_is_read(connection, filler):
    text = padded(131_072, filler)

    assert len(text.encode()) == 131_072
    assert connection.receive(text, now=0) == [Send(PONG)]


@pytest.mark.spec(42)
@pytest.mark.parametrize("filler", ["x", "é", "🎉"])
def test_a_message_of_one_byte_more_closes_the_connection(connection, filler):
    text = padded(131_073, filler)

    assert len(text.encode()) == 131_073
    assert connection.receive(text, now=0) == [Close(1009, "Message too large")]


# ---- public channels --------------------------------------------------------------------


@pytest.mark.spec(58, 59, 60, 61)
@pytest.mark.parametrize(
    "text",
    [
        '{"event":"pusher:subscribe","data":{"channel":"room"}}',
        '{"event":"pusher:subscribe","data":{"auth":"","channel":"room"}}',
        '{"event":"pusher:subscribe","data":"{\\"auth\\":\\"\\",\\"channel\\":\\"room\\"}"}',
        '{"event":"pusher:subscribe","data":{"auth":"wrong","channel":"room"}}',
        '{"event":"pusher:subscribe","data":{"channel":"room","channel_data":"{}"}}',
    ],
)
def test_a_public_channel_needs_no_signature(connection, text):
    assert connection.receive(text, now=0) == [Join("room", member=None)]


@pytest.mark.spec(58)
@pytest.mark.parametrize("channel", ["private", "privatex", "presencex", "cache-private-x"])
def test_a_channel_whose_name_only_resembles_a_private_one_is_public(connection, channel):
    assert connection.receive(subscribe(channel), now=0) == [Join(channel, member=None)]


@pytest.mark.spec(62, 70)
def test_a_subscription_is_confirmed_with_an_empty_object(connection):
    connection.receive(subscribe("room"), now=0)

    assert connection.joined("room") == [
        Send('{"event":"pusher_internal:subscription_succeeded","channel":"room","data":"{}"}')
    ]


@pytest.mark.spec(70, 71, 72)
def test_a_subscription_that_the_outside_refuses_is_told_in_both_ways(connection):
    connection.receive(subscribe("room"), now=0)

    assert connection.refused("room", LimitReached("Channel is full")) == [
        Send('{"event":"pusher:error","data":{"code":null,"message":"Channel is full"}}'),
        Send(
            '{"event":"pusher:subscription_error","channel":"room",'
            '"data":"{\\"type\\":\\"LimitReached\\",\\"error\\":\\"Channel is full\\",'
            '\\"status\\":4100}"}'
        ),
    ]


def test_a_refused_subscription_can_be_tried_again(connection):
    connection.receive(subscribe("room"), now=0)
    connection.refused("room", LimitReached("Channel is full"))

    assert connection.receive(subscribe("room"), now=0) == [Join("room", member=None)]


@pytest.mark.spec(55, 57, 104)
@pytest.mark.parametrize(
    ("channel", "shown"),
    [
        ("my room", "my room"),
        ("room\n", "room\\n"),
        ("ro:om", "ro:om"),
        ("", ""),
        ("room\0", "room\\x00"),
        ("#other", "#other"),
        (":user:", ":user:"),
        ("private-é", "private-\\xe9"),
        ("r" * 201, "r" * 60),
    ],
)
def test_an_illegal_channel_name_is_refused(connection, channel, shown):
    text = f"Invalid channel name: {shown}"

    assert connection.receive(subscribe(channel, auth=channel_auth(channel)), now=0) == refusal(
        channel, text, summary="Invalid channel name", type_="InvalidChannel", status=400
    )


@pytest.mark.spec(56)
def test_a_channel_name_may_have_200_characters(connection):
    assert connection.receive(subscribe("r" * 200), now=0) == [Join("r" * 200, member=None)]


@pytest.mark.spec(73)
def test_a_second_subscription_to_a_channel_is_an_error_and_changes_nothing(connection):
    joined(connection, "room")

    assert connection.receive(subscribe("room"), now=0) == [
        soft_error("Existing subscription to channel room")
    ]
    assert connection.close() == [Leave("room", None)]


def test_a_second_subscription_is_an_error_even_with_a_wrong_signature(connection):
    joined(connection, "private-room")

    assert connection.receive(subscribe("private-room", auth="wrong"), now=0) == [
        soft_error("Existing subscription to channel private-room")
    ]


def test_a_connection_has_a_limit_of_subscriptions(connect):
    connection = connect(limits=Limits(subscriptions_per_connection=2))
    joined(connection, "one")
    joined(connection, "two")

    assert connection.receive(subscribe("three"), now=0) == refusal(
        "three", "Too many subscriptions on this connection", type_="LimitReached", status=4100
    )


def test_leaving_a_channel_makes_room_for_another(connect):
    connection = connect(limits=Limits(subscriptions_per_connection=1))
    joined(connection, "one")
    connection.receive(unsubscribe("one"), now=0)

    assert connection.receive(subscribe("two"), now=0) == [Join("two", member=None)]


@pytest.mark.spec(74)
def test_leaving_a_channel_is_not_answered(connection):
    joined(connection, "room")

    assert connection.receive(unsubscribe("room"), now=0) == [Leave("room", member=None)]


@pytest.mark.spec(76)
@pytest.mark.parametrize(
    ("channel", "shown"),
    [("room", "room"), ("é\n\0", "\\xe9\\n\\x00"), ("r" * 500, "r" * 200), ("", "")],
)
def test_leaving_a_channel_one_is_not_in_is_an_error(connection, channel, shown):
    assert connection.receive(unsubscribe(channel), now=0) == [
        soft_error(f"No current subscription to channel {shown}, or subscription in progress")
    ]


def test_a_channel_can_be_left_only_once(connection):
    joined(connection, "room")
    connection.receive(unsubscribe("room"), now=0)

    [answer] = connection.receive(unsubscribe("room"), now=0)

    assert isinstance(answer, Send)


@pytest.mark.spec(77)
def test_leaving_and_coming_back_ends_inside(connection):
    joined(connection, "room")

    assert connection.receive(unsubscribe("room"), now=0) == [Leave("room", None)]
    assert connection.receive(subscribe("room"), now=0) == [Join("room", None)]
    assert connection.close() == [Leave("room", None)]


@pytest.mark.spec(78)
def test_the_end_of_a_connection_ends_its_subscriptions(connection):
    joined(connection, "room")
    joined(connection, "presence-foo", '{"user_id":"10"}')

    assert connection.close() == [
        Leave("room", None),
        Leave("presence-foo", Member("10")),
    ]
    assert connection.close() == []


# ---- private channels -------------------------------------------------------------------


@pytest.mark.spec(63, 69)
@pytest.mark.parametrize(
    ("channel", "digest"),
    [
        (
            "private-foobar",
            "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4",
        ),
        (
            "private-encrypted-foobar",
            "e6a18892d037c5d5e76a2265df4f086ffc38631605530dfd214aa5bff495f533",
        ),
        (
            "private-encrypted-cache-foobar",
            "b9b56ee68b2117189dbac324760a1f9958070108e3ef45232e5dcbba37dbb831",
        ),
    ],
)
def test_a_private_channel_opens_to_the_published_signature(connection, channel, digest):
    text = subscribe(channel, auth=f"{KEY}:{digest}")

    assert connection.receive(text, now=0) == [Join(channel, member=None)]


@pytest.mark.spec(64, 69)
@pytest.mark.parametrize("channel", ["private-encrypted-x", "private-encrypted-cache-x"])
@pytest.mark.parametrize("auth", ["", channel_auth("private-x")])
def test_an_encrypted_channel_stays_closed_to_any_other(connection, channel, auth):
    answers = connection.receive(subscribe(channel, auth=auth), now=0)

    assert [type(answer) for answer in answers] == [Send, Send]
    assert connection.close() == []


@pytest.mark.spec(67)
@pytest.mark.parametrize("channel", ["private-x", "private-encrypted-x"])
def test_channel_data_on_a_private_channel_is_part_of_what_was_signed(connection, channel):
    text = subscribe_signed(channel, '"foo"')

    assert connection.receive(text, now=0) == [Join(channel, member=None)]


@pytest.mark.spec(67)
def test_channel_data_on_a_private_channel_that_was_not_signed_is_refused(connection):
    text = subscribe("private-x", auth=channel_auth("private-x"), channel_data='"foo"')

    assert len(connection.receive(text, now=0)) == 2


@pytest.mark.spec(64, 70, 71, 72)
def test_a_wrong_signature_is_refused_in_both_ways(connection):
    text = subscribe("private-x", auth=f"{KEY}:deadbeef")

    assert connection.receive(text, now=0) == [
        Send(
            '{"event":"pusher:error","data":{"code":null,"message":"Invalid signature: Expected'
            ' HMAC SHA256 hex digest of 1234.1234:private-x, but got deadbeef"}}'
        ),
        Send(
            '{"event":"pusher:subscription_error","channel":"private-x",'
            '"data":"{\\"type\\":\\"AuthError\\",\\"error\\":\\"Invalid signature\\",'
            '\\"status\\":401}"}'
        ),
    ]


@pytest.mark.spec(64, 65, 66, 68)
@pytest.mark.parametrize(
    "auth",
    [
        "",
        "żółć",
        channel_auth("private-y"),
        channel_auth("private-x", socket_id="1234.1235"),
        channel_auth("private-x", "{}"),
        channel_auth("private-x").replace(KEY, "another-key"),
        KEY + ":" + channel_auth("private-x").removeprefix(KEY + ":").upper(),
        channel_auth("private-x")[:-1],
        user_auth("{}"),
    ],
)
def test_a_signature_for_anything_else_is_refused_and_the_connection_stays(connection, auth):
    answers = connection.receive(subscribe("private-x", auth=auth), now=0)

    assert [json.loads(answer.text)["event"] for answer in answers] == [
        "pusher:error",
        "pusher:subscription_error",
    ]
    assert connection.close() == []


def test_a_private_channel_can_be_asked_for_again_with_a_better_signature(connection):
    connection.receive(subscribe("private-x", auth="stale"), now=0)

    assert connection.receive(subscribe_signed("private-x"), now=0) == [Join("private-x", None)]


def test_a_private_channel_without_a_signature_is_refused(connection):
    answers = connection.receive(subscribe("private-x"), now=0)

    assert answers == refusal(
        "private-x",
        "Invalid key in subscription auth data: ''",
        summary="Invalid signature",
    )


# ---- presence channels ------------------------------------------------------------------


@pytest.mark.spec(80, 86)
@pytest.mark.parametrize(
    ("channel_data", "digest", "member"),
    [
        (
            '{"user_id":10,"user_info":{"name":"Mr. Channels"}}',
            "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
            Member("10", '{"name":"Mr. Channels"}'),
        ),
        (
            '{"user_id":"10","user_info":{"name":"Żółć"}}',
            "8c3465fd5cb0f78afe4e90f324fa2bd60ada520d66f8bb61960464814e2c9e85",
            Member("10", '{"name":"Żółć"}'),
        ),
    ],
)
def test_a_presence_channel_opens_to_the_published_signature(
    connection, channel_data, digest, member
):
    text = subscribe("presence-foobar", auth=f"{KEY}:{digest}", channel_data=channel_data)

    assert connection.receive(text, now=0) == [Join("presence-foobar", member)]


@pytest.mark.spec(81, 85)
def test_a_presence_subscription_is_confirmed_with_the_members(connection):
    channel_data = '{"user_id":"10","user_info":{"name":"Ann"}}'
    [join] = connection.receive(subscribe_signed("presence-foo", channel_data), now=0)

    confirmation = encode_subscription_succeeded("presence-foo", [join.member, Member("11")])

    assert connection.joined("presence-foo", confirmation) == [
        Send(
            '{"event":"pusher_internal:subscription_succeeded","channel":"presence-foo",'
            '"data":"{\\"presence\\":{\\"count\\":2,\\"ids\\":[\\"10\\",\\"11\\"],'
            '\\"hash\\":{\\"10\\":{\\"name\\":\\"Ann\\"},\\"11\\":null}}}"}'
        )
    ]


@pytest.mark.spec(85, 86)
@pytest.mark.parametrize(
    ("channel_data", "member"),
    [
        ('{"user_id":"10"}', Member("10")),
        ('{"user_id":"10","user_info":null}', Member("10")),
        ('{"user_id":"10","user_info":{}}', Member("10", "{}")),
        ('{"user_id":0}', Member("0")),
        ('{"user_id":-7}', Member("-7")),
        ('{"user_id":' + "9" * 128 + "}", Member("9" * 128)),
        ('{"user_id":"é 🎉:#"}', Member("é 🎉:#")),
        ('{"user_id":"' + "é" * 128 + '"}', Member("é" * 128)),
        (
            '{"user_id":"10","user_info":{ "b":1e2,"a":12345678901234567890 }}',
            Member("10", '{ "b":1e2,"a":12345678901234567890 }'),
        ),
        ('{"user_id":"10","user_info":{"a":"\\ud800"}}', Member("10", '{"a":"\\ud800"}')),
    ],
)
def test_a_member_is_who_the_site_says(connection, channel_data, member):
    effects = connection.receive(subscribe_signed("presence-foo", channel_data), now=0)

    assert effects == [Join("presence-foo", member)]


@pytest.mark.spec(88)
@pytest.mark.parametrize(
    "user_id",
    ['""', "true", "false", "null", "[]", '["10"]', "{}", "1.0", "1e2", '"1\\u0000"', '"\\ud800"'],
)
def test_a_member_without_a_proper_id_is_refused(connection, user_id):
    text = subscribe_signed("presence-foo", f'{{"user_id":{user_id}}}')

    assert connection.receive(text, now=0) == refusal("presence-foo", INVALID_USER_ID)


@pytest.mark.spec(87, 88)
@pytest.mark.parametrize(
    ("channel_data", "why"),
    [
        ("{}", INVALID_USER_ID),
        ('{"user_info":{}}', INVALID_USER_ID),
        ("", "Message is not valid JSON"),
        ("not JSON", "Message is not valid JSON"),
        ('{"user_id":NaN}', "Message is not valid JSON"),
        ('{"user_id":' + "1" * 5_000 + "}", "Message is not valid JSON"),
        ("[" * 100_000, "Message is not valid JSON"),
        ('["10"]', "channel_data and user_data must be JSON objects"),
        (
            '{"user_id":"10","user_info":"Ann"}',
            "user_info supplied to presence subscription is invalid"
            " - if supplied it must be a type of hash",
        ),
    ],
)
def test_unusable_channel_data_is_refused(connection, channel_data, why):
    text = subscribe_signed("presence-foo", channel_data)

    assert connection.receive(text, now=0) == refusal("presence-foo", why)


@pytest.mark.spec(89)
@pytest.mark.parametrize("user_id", ['"' + "u" * 129 + '"', '"' + "é" * 129 + '"', "9" * 129])
def test_a_user_id_of_129_characters_is_refused(connection, user_id):
    text = subscribe_signed("presence-foo", f'{{"user_id":{user_id}}}')

    assert connection.receive(text, now=0) == refusal(
        "presence-foo",
        "user_id is longer than 128 characters",
        type_="LimitReached",
        status=4100,
    )


def info_of(size: int, filler: str) -> str:
    """``user_info`` of *size* bytes in UTF-8."""
    count, rest = divmod(size - len('{"x":""}'), len(filler.encode()))
    return f'{{"x":"{filler * count}{"x" * rest}"}}'


@pytest.mark.spec(90)
@pytest.mark.parametrize("filler", ["x", "é", "🎉"])
def test_user_info_may_have_1024_bytes(connection, filler):
    info = info_of(1_024, filler)
    text = subscribe_signed("presence-foo", f'{{"user_id":"10","user_info":{info}}}')

    assert connection.receive(text, now=0) == [Join("presence-foo", Member("10", info))]


@pytest.mark.spec(90)
@pytest.mark.parametrize("filler", ["x", "é", "🎉"])
def test_user_info_of_1025_bytes_is_refused(connection, filler):
    info = info_of(1_025, filler)
    text = subscribe_signed("presence-foo", f'{{"user_id":"10","user_info":{info}}}')

    assert connection.receive(text, now=0) == refusal(
        "presence-foo",
        "user_info is larger than 1024 bytes",
        type_="LimitReached",
        status=4100,
    )


def test_unsigned_channel_data_is_not_even_read(connection):
    text = subscribe("presence-foo", auth=f"{KEY}:beef", channel_data="not JSON")

    [error, _] = connection.receive(text, now=0)

    assert "Invalid signature" in error.text


def test_leaving_a_presence_channel_names_the_member(connection):
    joined(connection, "presence-foo", '{"user_id":10}')

    assert connection.receive(unsubscribe("presence-foo"), now=0) == [
        Leave("presence-foo", Member("10"))
    ]


@pytest.mark.spec(98, 101)
def test_a_signed_in_user_is_the_member_when_the_site_names_none(connection):
    signed_in(connection)

    effects = connection.receive(subscribe_signed("presence-foobar"), now=0)

    assert effects == [Join("presence-foobar", ANN_MEMBER, from_sign_in=True)]


@pytest.mark.spec(99)
def test_channel_data_overrides_the_signed_in_user(connection):
    signed_in(connection)

    effects = connection.receive(subscribe_signed("presence-x", '{"user_id":"mask"}'), now=0)

    assert effects == [Join("presence-x", Member("mask"))]


@pytest.mark.spec(100)
def test_nobody_cannot_be_a_member(connection):
    assert connection.receive(subscribe_signed("presence-foo"), now=0) == refusal(
        "presence-foo",
        "presence-foo is a presence channel and subscription must include channel_data,"
        " or the connection be signed in",
    )


@pytest.mark.parametrize(
    ("user_data", "why"),
    [
        ('{"id":"' + "u" * 129 + '"}', "user_id is longer than 128 characters"),
        (
            '{"id":"1","user_info":{"x":"' + "é" * 512 + '"}}',
            "user_info is larger than 1024 bytes",
        ),
    ],
)
def test_a_signed_in_user_obeys_the_limits_of_members(connection, user_data, why):
    signed_in(connection, user_data)

    assert connection.receive(subscribe_signed("presence-foo"), now=0) == refusal(
        "presence-foo", why, type_="LimitReached", status=4100
    )


# ---- client events ----------------------------------------------------------------------


@pytest.mark.spec(121, 125)
@pytest.mark.parametrize(
    "channel", ["private-room", "private-cache-room", "private-encrypted-room"]
)
def test_a_client_event_on_a_private_channel_is_published_without_its_sender(connection, channel):
    joined(connection, channel)

    assert connection.receive(typing(channel, '{"on":true}'), now=0) == [
        Publish(channel, "client-typing", '{"on":true}', user_id=None)
    ]


@pytest.mark.spec(124, 126)
@pytest.mark.parametrize("user_id", ["10", '"10"'])
def test_a_client_event_on_a_presence_channel_names_its_sender_from_our_record(connection, user_id):
    joined(connection, "presence-room", f'{{"user_id":{user_id}}}')
    text = message("client-typing", channel="presence-room", data="{}", user_id="somebody")

    assert connection.receive(text, now=0) == [
        Publish("presence-room", "client-typing", "{}", user_id="10")
    ]


@pytest.mark.spec(124)
def test_a_client_event_of_a_signed_in_member_names_the_user(connection):
    signed_in(connection)
    joined(connection, "presence-room")

    [published] = connection.receive(typing("presence-room"), now=0)

    assert published.user_id == "12345"


@pytest.mark.spec(117, 130, 131)
@pytest.mark.parametrize(
    ("data", "delivered"),
    [
        ('{"b":1e2,"a":12345678901234567890}', '{"b":1e2,"a":12345678901234567890}'),
        ('"{\\"on\\": true}"', '{"on": true}'),
        ('"plain"', "plain"),
        ('"\\ud83d"', "\ud83d"),
        ("null", "null"),
    ],
)
def test_the_data_of_a_client_event_is_a_string_that_nobody_rewrote(connection, data, delivered):
    joined(connection, "private-room")

    [published] = connection.receive(typing(data=data), now=0)

    assert published.data == delivered


@pytest.mark.spec(120)
def test_an_app_may_have_client_events_switched_off(connect):
    connection = connect(client_events=False)
    joined(connection, "private-room")

    assert connection.receive(typing(), now=0) == [
        soft_error(
            "To send client events, you must enable this feature in the Settings page of your"
            " dashboard."
        )
    ]


@pytest.mark.spec(127)
@pytest.mark.parametrize("channel", ["room", "cache-room", "privateroom", "#other"])
def test_client_events_on_public_channels_are_refused(connection, channel):
    assert connection.receive(typing(channel), now=0) == [
        soft_error("Client event rejected - only supported on private and presence channels")
    ]


@pytest.mark.spec(127)
def test_client_events_on_the_channel_of_a_user_are_refused(connection):
    signed_in(connection)
    joined(connection, "#server-to-user-12345")

    assert connection.receive(typing("#server-to-user-12345"), now=0) == [
        soft_error("Client event rejected - only supported on private and presence channels")
    ]


@pytest.mark.spec(128)
@pytest.mark.parametrize("channel", ["private-other", "presence-other"])
def test_client_events_on_channels_not_subscribed_are_refused(connection, channel):
    joined(connection, "private-room")

    assert connection.receive(typing(channel), now=0) == [
        soft_error(f"No current subscription to channel {channel}, or subscription in progress")
    ]


@pytest.mark.spec(128)
def test_client_events_on_a_channel_that_was_left_or_refused_are_refused(connection):
    joined(connection, "private-left")
    connection.receive(unsubscribe("private-left"), now=0)
    connection.receive(subscribe("private-refused", auth="wrong"), now=0)

    for channel in ("private-left", "private-refused"):
        [answer] = connection.receive(typing(channel), now=0)
        assert isinstance(answer, Send)


def test_a_channel_that_cannot_exist_is_named_in_ascii(connection):
    text = message("client-x", channel="private-\ud800\0", data={})

    assert connection.receive(text, now=0) == [
        soft_error(
            "No current subscription to channel private-\\ud800\\x00, or subscription in progress"
        )
    ]


def test_the_name_of_a_client_event_may_have_200_characters(connection):
    joined(connection, "private-room")
    name = "client-" + "x" * 193

    [published] = connection.receive(message(name, channel="private-room", data={}), now=0)

    assert published.event == name


def test_the_name_of_a_client_event_may_not_have_201_characters(connection):
    joined(connection, "private-room")
    text = message("client-" + "x" * 194, channel="private-room", data={})

    assert connection.receive(text, now=0) == [soft_error("Client event name is too long")]


@pytest.mark.spec(135)
@pytest.mark.parametrize("data", ["x" * 10_240, "é" * 5_120, "🎉" * 2_560])
def test_the_data_of_a_client_event_may_have_10240_bytes(connection, data):
    joined(connection, "private-room")

    [published] = connection.receive(typing(data=f'"{data}"'), now=0)

    assert published.data == data


@pytest.mark.spec(135)
@pytest.mark.parametrize(
    "data",
    [
        '"' + "x" * 10_241 + '"',
        '"' + "é" * 5_121 + '"',
        '"' + "\\ud800" * 3_414 + '"',
        "[" + " " * 10_239 + "]",
    ],
    ids=["ascii", "two bytes each", "surrogates", "white space"],
)
def test_more_data_than_that_is_refused(connection, data):
    joined(connection, "private-room")

    assert connection.receive(typing(data=data), now=0) == [
        soft_error("The data content of this event exceeds the allowed maximum (10240 bytes)")
    ]


# ---- how often --------------------------------------------------------------------------

TOO_FAST = soft_error("Client event rejected due to rate limit", 4301)


def busy(connection: Connection, events: int, now: float) -> int:
    """Send so many client events at once; how many were published."""
    effects = [connection.receive(typing(), now=now) for _ in range(events)]
    assert all(isinstance(answer, Publish) or answer == TOO_FAST for [answer] in effects)
    return sum(isinstance(answer, Publish) for [answer] in effects)


@pytest.mark.spec(132)
def test_the_eleventh_client_event_at_once_is_refused(connection):
    joined(connection, "private-room")
    assert busy(connection, 10, now=0) == 10

    assert connection.receive(typing(), now=0) == [
        Send(
            '{"event":"pusher:error",'
            '"data":{"code":4301,"message":"Client event rejected due to rate limit"}}'
        )
    ]


@pytest.mark.spec(133)
def test_after_a_second_of_silence_ten_more_are_allowed(connection):
    joined(connection, "private-room")
    busy(connection, 11, now=5)

    assert busy(connection, 11, now=6) == 10


def test_the_allowance_comes_back_steadily(connection):
    joined(connection, "private-room")
    busy(connection, 11, now=0)

    assert busy(connection, 10, now=0.25) == 2
    assert busy(connection, 10, now=0.5) == 3


def test_a_long_silence_saves_no_more_than_a_second_of_events(connection):
    joined(connection, "private-room")

    assert busy(connection, 30, now=3_600) == 10


def test_refused_events_use_up_nothing(connection):
    joined(connection, "private-room")
    busy(connection, 500, now=0)

    assert busy(connection, 1, now=0.125) == 1


@pytest.mark.spec(134)
def test_pings_subscriptions_and_refused_events_do_not_count(connection):
    joined(connection, "private-room")
    for number in range(20):
        connection.receive(PING, now=0)
        connection.receive(subscribe(f"room-{number}"), now=0)
        connection.receive(typing("private-other"), now=0)

    assert busy(connection, 11, now=0) == 10


def test_the_rate_is_that_of_the_app(connect):
    connection = connect(limits=Limits(client_events_per_second=3))
    joined(connection, "private-room")

    assert busy(connection, 10, now=0) == 3


@pytest.mark.spec(132)
@given(st.lists(st.floats(0, 2), max_size=60))
def test_no_timing_gets_more_than_ten_and_ten_per_second_through(pauses):
    connection = Connection(site.app(), SOCKET_ID, now=0)
    joined(connection, "private-room")
    now, published = 0.0, 0

    for pause in pauses:
        now += pause
        published += busy(connection, 1, now)
        assert published <= 10 + 10 * now + 1e-6


# ---- users ------------------------------------------------------------------------------


@pytest.mark.spec(137, 138)
def test_a_user_signs_in_with_the_published_signature(connection):
    digest = "457903950ee8bf92facc2372905dd3625e3635904fdc107f0f6374b64ca49b4e"
    user_data = '{"id":"12345","user_info":{"name":"Ann"},"watchlist":["7","8"]}'

    [identify] = connection.receive(sign_in(user_data, f"{KEY}:{digest}"), now=0)

    assert identify == Identify(User(Member("12345", '{"name":"Ann"}'), user_data, ("7", "8")))
    assert connection.identified(identify.user) == [
        Send(
            '{"event":"pusher:signin_success","data":"{\\"user_data\\":'
            '\\"{\\\\\\"id\\\\\\":\\\\\\"12345\\\\\\",\\\\\\"user_info\\\\\\":'
            '{\\\\\\"name\\\\\\":\\\\\\"Ann\\\\\\"},'
            '\\\\\\"watchlist\\\\\\":[\\\\\\"7\\\\\\",\\\\\\"8\\\\\\"]}\\"}"}'
        ),
        Watch(("7", "8")),
    ]
    assert connection.user == identify.user


def test_nobody_is_signed_in_before_the_outside_agrees(connection):
    connection.receive(sign_in(ANN), now=0)

    assert connection.user is None


def test_a_sign_in_that_the_outside_refuses_is_a_soft_error(connection):
    connection.receive(sign_in(ANN), now=0)

    assert connection.sign_in_refused(BadMessage("Banned")) == [soft_error("Banned")]
    assert connection.user is None


@pytest.mark.spec(139, 140)
@pytest.mark.parametrize(
    "auth",
    [
        "",
        f"{KEY}:beef",
        f"{KEY}:żółć",
        user_auth(ANN, socket_id="1.1"),
        user_auth(ANN + " "),
        user_auth(ANN).replace(KEY, "other"),
        user_auth(ANN)[:-1],
        KEY + user_auth(ANN).removeprefix(KEY).upper(),
        channel_auth("private-x", ANN),
    ],
)
def test_a_wrong_sign_in_is_a_soft_error_and_the_connection_stays(connection, auth):
    [answer] = connection.receive(sign_in(ANN, auth), now=0)

    assert json.loads(answer.text)["data"]["code"] is None
    assert connection.user is None
    assert connection.receive(PING, now=0) == [Send(PONG)]


@pytest.mark.spec(141)
@pytest.mark.parametrize(
    ("user_data", "why"),
    [
        ("", "Message is not valid JSON"),
        ("not JSON", "Message is not valid JSON"),
        ('{"id":NaN}', "Message is not valid JSON"),
        ("[" * 100_000, "Message is not valid JSON"),
        ('["12345"]', "channel_data and user_data must be JSON objects"),
        *(
            (user_data, "user_data must contain an id that is a valid string")
            for user_data in (
                "{}",
                '{"user_id":"12345"}',
                '{"id":""}',
                '{"id":null}',
                '{"id":12345}',
                '{"id":true}',
                '{"id":["1"]}',
                '{"id":"a b"}',
                '{"id":"a:b"}',
                '{"id":"1\\n"}',
                '{"id":"1\\u0000"}',
                '{"id":"\\ud800"}',
                '{"id":"é"}',
                '{"id":"#1"}',
                '{"id":"' + "u" * 201 + '"}',
            )
        ),
        (
            '{"id":"12345","user_info":"Ann"}',
            "user_info supplied to presence subscription is invalid"
            " - if supplied it must be a type of hash",
        ),
    ],
)
def test_unusable_user_data_is_refused(connection, user_data, why):
    assert connection.receive(sign_in(user_data), now=0) == [soft_error(why)]


@pytest.mark.spec(142)
def test_a_connection_cannot_become_a_second_user(connection):
    signed_in(connection)

    assert connection.receive(sign_in('{"id":"54321"}'), now=0) == [
        soft_error("Connection is already signed in as a different user")
    ]
    assert connection.user.member.user_id == "12345"


@pytest.mark.spec(143)
def test_signing_in_again_replaces_the_data_of_the_same_user(connection):
    signed_in(connection)
    signed_in(connection, '{"id":"12345","user_info":{"name":"Anna"}}')

    assert connection.user.member == Member("12345", '{"name":"Anna"}')


@pytest.mark.spec(102)
def test_the_channel_of_a_user_opens_to_that_user_without_a_signature(connection):
    signed_in(connection)
    text = '{"event":"pusher:subscribe","data":{"auth":"","channel":"#server-to-user-12345"}}'

    assert connection.receive(text, now=0) == [Join("#server-to-user-12345", member=None)]


@pytest.mark.spec(73, 102)
def test_the_channel_of_a_user_may_be_asked_for_twice(connection):
    signed_in(connection)
    joined(connection, "#server-to-user-12345")

    assert connection.receive(subscribe("#server-to-user-12345"), now=0) == [
        Send(
            '{"event":"pusher_internal:subscription_succeeded",'
            '"channel":"#server-to-user-12345","data":"{}"}'
        )
    ]
    assert connection.close() == [Leave("#server-to-user-12345", None)]


@pytest.mark.spec(103)
@pytest.mark.parametrize(
    "channel", ["#server-to-user-54321", "#server-to-user-1234", "#server-to-user-123456"]
)
def test_the_channel_of_another_user_stays_closed(connection, channel):
    signed_in(connection)

    assert connection.receive(subscribe_signed(channel), now=0) == refusal(
        channel, "Not signed in as the user of this channel"
    )


@pytest.mark.spec(103)
@pytest.mark.parametrize("channel", ["#server-to-user-12345", "#server-to-user-None"])
def test_the_channel_of_a_user_stays_closed_to_nobody(connection, channel):
    assert connection.receive(subscribe(channel), now=0) == refusal(
        channel, "Not signed in as the user of this channel"
    )


@pytest.mark.spec(104)
@pytest.mark.parametrize("channel", ["#server-to-user-", "#other", "#"])
def test_no_other_reserved_name_opens(connection, channel):
    signed_in(connection)

    assert connection.receive(subscribe_signed(channel), now=0) == refusal(
        channel,
        f"Invalid channel name: {channel}",
        summary="Invalid channel name",
        type_="InvalidChannel",
        status=400,
    )


# ---- time and end -----------------------------------------------------------------------


@pytest.mark.spec(30)
def test_a_client_that_cannot_answer_pings_is_never_asked(connect):
    connection = connect(answers_ping=False)

    assert connection.seconds_to_tick(1_000_000) is None
    assert connection.tick(1_000_000) == []


@pytest.mark.spec(30)
def test_a_client_is_not_taken_to_answer_pings_unless_known_to(app):
    assert Connection(app, SOCKET_ID, now=0).seconds_to_tick(0) is None


@pytest.mark.spec(29)
def test_a_silent_client_is_pinged_and_then_dropped(connect):
    connection = connect(answers_ping=True)

    assert connection.tick(59.9) == []
    assert connection.tick(60) == [Send('{"event":"pusher:ping","data":"{}"}')]
    assert connection.tick(74.9) == []
    assert connection.tick(75) == [
        Send('{"event":"pusher:error","data":{"code":4201,"message":"Pong reply not received"}}'),
        Close(4201, "Pong reply not received"),
    ]


@pytest.mark.spec(27)
@pytest.mark.parametrize(
    "text", ['{"event":"pusher:pong","data":{}}', '{"event":"pusher:ping","data":{}}', "noise"]
)
def test_anything_a_client_sends_keeps_it_alive(connect, text):
    connection = connect(answers_ping=True)
    connection.tick(60)
    connection.receive(text, now=70)

    assert connection.tick(75) == []
    assert connection.tick(129) == []
    assert connection.tick(130) == [Send(PING)]


def test_a_connection_tells_when_to_look_again(connect):
    connection = connect(answers_ping=True, now=100)

    assert connection.seconds_to_tick(100) == 60
    assert connection.seconds_to_tick(159) == 1
    assert connection.seconds_to_tick(200) == 0
    connection.tick(160)
    assert connection.seconds_to_tick(162) == 13
    assert connection.seconds_to_tick(200) == 0
    connection.receive(PONG, now=163)
    assert connection.seconds_to_tick(164) == 59


def test_the_two_waiting_times_can_be_chosen(app):
    connection = Connection(
        app, SOCKET_ID, now=0, answers_ping=True, ping_seconds=2, pong_seconds=0.5
    )

    assert connection.tick(2) == [Send(PING)]
    assert connection.seconds_to_tick(2) == 0.5
    assert connection.tick(2.5)[-1] == Close(4201, "Pong reply not received")


@pytest.mark.spec(14, 31, 34)
@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (PleaseReconnect(), 4200, "Please reconnect immediately"),
        (OverCapacity(), 4100, "Over capacity"),
        (Unauthorized(), 4009, "You got disconnected by the app."),
        (Unauthorized("Spam"), 4009, "Spam"),
    ],
)
def test_the_server_says_why_before_it_closes(connection, error, code, reason):
    assert connection.end(error) == [
        Send(f'{{"event":"pusher:error","data":{{"code":{code},"message":"{reason}"}}}}'),
        Close(code, reason),
    ]


@pytest.mark.spec(34)
def test_a_long_reason_is_whole_in_the_error_and_cut_in_the_close(connection):
    [told, closed] = connection.end(Unauthorized("é" * 100))

    assert json.loads(told.text)["data"]["message"] == "é" * 100
    assert closed == Close(4009, "é" * 61)


# ---- whatever happens -------------------------------------------------------------------

CHANNELS = ["room", "private-x", "presence-x", "#server-to-user-12345", "no channel", "\ud800"]
FRAMES = (
    st.sampled_from(CHANNELS).map(subscribe)
    | st.sampled_from(CHANNELS).map(unsubscribe)
    | st.sampled_from(CHANNELS[:-1]).map(subscribe_signed)
    | st.sampled_from(CHANNELS[:-1]).map(lambda name: subscribe_signed(name, '{"user_id":1}'))
    | st.sampled_from(CHANNELS).map(lambda name: message("client-x", channel=name, data="\ud800"))
    | st.sampled_from([sign_in(ANN), sign_in('{"id":"2"}'), sign_in(ANN, "wrong"), PING, PONG])
    | st.text(st.characters(exclude_categories=()), max_size=8)
)


@pytest.mark.spec(32, 36, 45, 70, 78)
@given(st.lists(FRAMES, max_size=30))
def test_no_conversation_breaks_a_connection(frames):
    connection = Connection(site.app(), SOCKET_ID, now=0)
    inside = set()

    for frame in frames:
        effects = connection.receive(frame, now=0)
        for effect in effects:
            match effect:
                case Join(channel):
                    assert channel not in inside
                    inside.add(channel)
                    effects += connection.joined(channel)
                case Leave(channel):
                    inside.remove(channel)
                case Publish(channel):
                    assert channel in inside
                case Identify(user):
                    effects += connection.identified(user)
                case Send(text):
                    sent = json.loads(text)
                    assert text.isascii()
                    if sent["event"] == "pusher:error":
                        assert sent["data"]["code"] in (None, 4301)
                    else:
                        assert isinstance(sent["data"], str)
                case Close():
                    pytest.fail("nothing here deserves the end")
    assert {effect.channel for effect in connection.close()} == inside


# ---- watchlists -------------------------------------------------------------------------


def watching(*user_ids: str) -> str:
    return json.dumps({"id": "ann", "watchlist": list(user_ids)})


def welcomed(connection: Connection, user_data: str) -> list[Effect]:
    [identify] = connection.receive(sign_in(user_data), now=0)
    return connection.identified(identify.user)[1:]


@pytest.mark.spec(152)
def test_a_watchlist_that_is_too_long_is_cut_and_said_to_be(connect):
    connection = connect(limits=Limits(watchlist_user_ids=2))

    error, watch = welcomed(connection, watching("a", "b", "a", "c"))

    assert json.loads(error.text)["data"] == {
        "code": 4302,
        "message": "Watchlist limit exceeded. Only the first 2 user IDs are accepted.",
    }
    assert watch == Watch(("a", "b"))


@pytest.mark.spec(153)
def test_with_the_switch_off_nobody_is_watched(connect):
    assert welcomed(connect(watchlists=False), watching("a")) == []


def test_a_later_sign_in_replaces_the_watchlist(connection):
    assert welcomed(connection, watching("a")) == [Watch(("a",))]
    assert welcomed(connection, watching()) == [Watch(())]


@pytest.mark.parametrize("watchlist", ["a", [5], {"a": 1}, ["\ud800"]])
def test_a_watchlist_is_a_list_of_texts(connection, watchlist):
    user_data = json.dumps({"id": "ann", "watchlist": watchlist})

    [refused] = connection.receive(sign_in(user_data), now=0)

    assert "watchlist must be an array" in refused.text


# ---- authorized connections -------------------------------------------------------------


@pytest.mark.spec(51)
def test_who_is_not_authorized_in_time_is_closed(connect):
    connection = connect(authorized_connections=True)

    assert connection.seconds_to_tick(10) == 20
    assert connection.tick(29.9) == []
    error, close = connection.tick(30)
    assert close == Close(4009, "Connection not authorized within timeout")
    assert json.loads(error.text)["data"]["code"] == 4009


@pytest.mark.spec(52)
def test_a_sign_in_authorizes_once(connect):
    connection = connect(authorized_connections=True)

    assert welcomed(connection, '{"id":"ann"}') == [Authorized()]
    assert welcomed(connection, '{"id":"ann"}') == []
    assert connection.tick(30) == []
    assert connection.seconds_to_tick(30) is None


@pytest.mark.spec(53, 54)
@pytest.mark.parametrize(
    ("channel", "authorizes"),
    [
        ("private-x", True),
        ("private-encrypted-x", True),
        ("presence-x", True),
        ("presence-cache-x", True),
        ("cache-x", False),
        ("x", False),
    ],
)
def test_a_private_channel_authorizes_and_a_public_one_does_not(connect, channel, authorizes):
    connection = connect(authorized_connections=True)
    channel_data = '{"user_id":"10"}' if channel.startswith("presence-") else None
    connection.receive(subscribe_signed(channel, channel_data), now=0)

    assert connection.joined(channel)[1:] == ([Authorized()] if authorizes else [])
    assert bool(connection.tick(30)) is not authorizes


def test_a_ping_may_be_due_before_the_authorization_is(connect):
    connection = connect(authorized_connections=True, answers_ping=True)

    assert connection.seconds_to_tick(0) == 30
    connection.receive(subscribe_signed("private-x"), now=0)
    connection.joined("private-x")
    assert connection.seconds_to_tick(0) == 60
