"""Text in, messages out, and back: every byte that pusher-js sends and reads."""

import doctest
import json
import sys
from json import dumps

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from realtime.protocol import messages
from realtime.protocol.errors import BadMessage, LimitReached, RateLimited, SubscriptionRefused
from realtime.protocol.messages import (
    ClientEvent,
    Member,
    Ping,
    Pong,
    SignIn,
    Subscribe,
    Unsubscribe,
    decode,
)
from tests.protocol.site import message

# ---- what clients send ------------------------------------------------------------------

READABLE = [
    # pusher-js
    ('{"event":"pusher:ping","data":{}}', Ping()),
    ('{"event":"pusher:pong","data":{}}', Pong()),
    (
        '{"event":"pusher:subscribe","data":{"auth":"","channel":"my-channel"}}',
        Subscribe("my-channel"),
    ),
    (
        '{"event":"pusher:subscribe","data":{"auth":"KEY:HEX","channel":"private-foo"}}',
        Subscribe("private-foo", "KEY:HEX"),
    ),
    (
        '{"event":"pusher:subscribe","data":{"auth":"KEY:HEX",'
        '"channel_data":"{\\"user_id\\": \\"10\\"}","channel":"presence-foo"}}',
        Subscribe("presence-foo", "KEY:HEX", '{"user_id": "10"}'),
    ),
    ('{"event":"pusher:unsubscribe","data":{"channel":"my-channel"}}', Unsubscribe("my-channel")),
    (
        '{"event":"pusher:signin","data":{"auth":"KEY:HEX","user_data":"{\\"id\\":\\"12345\\"}"}}',
        SignIn("KEY:HEX", '{"id":"12345"}'),
    ),
    (
        '{"event":"client-typing","channel":"private-room","data":{"on":true}}',
        ClientEvent("client-typing", "private-room", '{"on":true}'),
    ),
    # others
    ('{"event": "pusher:ping"}', Ping()),
    ('{"event":"pusher:ping","data":""}', Ping()),
    ('{"event":"pusher:ping","data":null}', Ping()),
    ('{"event":"pusher:ping","data":"not even JSON"}', Ping()),
    ('{"event":"pusher:pong"}', Pong()),
    (
        '{"event":"pusher:subscribe","data":"{\\"channel\\":\\"my-channel\\"}"}',
        Subscribe("my-channel"),
    ),
    ('{"event":"pusher:subscribe","data":{"channel":"x"}}', Subscribe("x")),
    (
        '{"event":"pusher:subscribe","data":{"channel":"x","auth":null,"channel_data":null}}',
        Subscribe("x"),
    ),
    (
        '{"event":"pusher:subscribe","channel":"other","data":{"channel":"x","shared_secret":7}}',
        Subscribe("x"),
    ),
    (
        ' {\t"data" : {"channel":"x"} ,\r\n"event" : "pusher:unsubscribe" } ',
        Unsubscribe("x"),
    ),
    ('{"event":"pusher:ping","event":"pusher:pong"}', Pong()),
    ('{"\\u0065vent":"pusher\\u003aping"}', Ping()),
]


@pytest.mark.spec(21, 22, 23, 25, 60, 61)
@pytest.mark.parametrize(("text", "expected"), READABLE)
def test_a_client_may_send(text, expected):
    assert decode(text) == expected


@pytest.mark.spec(130, 131)
@pytest.mark.parametrize(
    ("data", "delivered"),
    [
        ('"hello"', "hello"),
        ('""', ""),
        ('"{\\"on\\": true}"', '{"on": true}'),
        ('"\\ud83d"', "\ud83d"),
        ('{"on": true}', '{"on": true}'),
        ("{}", "{}"),
        ("[1,2]", "[1,2]"),
        ("0", "0"),
        ("false", "false"),
        ("null", "null"),
        # pusher-js reads what was written, so numbers and key order are not rewritten.
        ("1e2", "1e2"),
        ("1.0", "1.0"),
        ("-0", "-0"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('{"b":1,"a":2,"b":3}', '{"b":1,"a":2,"b":3}'),
        ('{ "a" : [ 1e2 , 1.10 ] }', '{ "a" : [ 1e2 , 1.10 ] }'),
        ('{"smile":"🎉","escaped":"\\u00e9\\/\\ud83d"}',) * 2,
    ],
)
def test_the_data_of_a_client_event_is_passed_on_as_it_was_written(data, delivered):
    text = f'{{"event":"client-x","data": {data} ,"channel":"private-x"}}'

    assert decode(text) == ClientEvent("client-x", "private-x", delivered)


@pytest.mark.spec(131)
def test_a_client_event_without_data_has_an_empty_object():
    text = '{"event":"client-gone","channel":"private-x"}'

    assert decode(text) == ClientEvent("client-gone", "private-x", "{}")


@pytest.mark.parametrize(
    "text",
    [
        '{"data":1,"event":"client-x","channel":"private-x","data":2}',
        '{"event":"client-x","channel":"private-x","data":1,"d\\u0061ta":2}',
        '{"event":"client-x","channel":"private-x","data":"1","data":2}',
    ],
)
def test_of_two_members_of_one_name_the_last_one_counts(text):
    assert decode(text).data == "2"


@pytest.mark.spec(126)
def test_a_sender_that_a_client_claims_to_be_is_not_read():
    text = '{"event":"client-x","channel":"private-x","data":"1","user_id":"somebody"}'

    assert decode(text) == ClientEvent("client-x", "private-x", "1")


UNREADABLE = {
    "nothing": "",
    "white space": " \n",
    "no JSON": "hello",
    "half a message": '{"event":"pusher:ping"',
    "two messages": '{"event":"pusher:ping"}{"event":"pusher:ping"}',
    "trailing bytes": '{"event":"pusher:ping"}x',
    "a trailing NUL": '{"event":"pusher:ping"}\0',
    "a trailing comma": '{"event":"pusher:ping",}',
    "a byte order mark": '\ufeff{"event":"pusher:ping"}',
    "white space that is not JSON's": '\u00a0{"event":"pusher:ping"}',
    "single quotes": "{'event':'pusher:ping'}",
    "a comment": '{"event":"pusher:ping"/**/}',
    "a raw newline in a string": '{"event":"pusher:ping","data":"\n"}',
    "a raw NUL in a string": '{"event":"pusher:ping","data":"\0"}',
    "a bad escape": '{"event":"pusher:ping","data":"\\x41"}',
    "half an escape": '{"event":"pusher:ping","data":"\\u12"}',
    "NaN": '{"event":"pusher:ping","data":NaN}',
    "NaN on its own": "NaN",
    "Infinity": '{"event":"pusher:ping","data":[Infinity]}',
    "minus Infinity": '{"event":"pusher:ping","data":{"x":-Infinity}}',
    "a number out of range": '{"event":"pusher:ping","data":1e999}',
    "a negative number out of range": '{"event":"pusher:ping","data":-1E+999}',
    "digits of another script": '{"event":"pusher:ping","data":١}',
    "a leading zero": '{"event":"pusher:ping","data":01}',
    "an integer of 5,000 digits": '{"event":"pusher:ping","data":' + "1" * 5_000 + "}",
    "100,000 arrays": "[" * 100_000 + "]" * 100_000,
    "100,000 arrays without an end": '{"event":"client-x","data":' + "[" * 100_000,
    "100,000 objects": '{"event":' * 100_000 + "1" + "}" * 100_000,
}


@pytest.mark.spec(37, 43, 44)
@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_no_message_is(text):
    with pytest.raises(BadMessage) as refused:
        decode(text)

    assert str(refused.value) == "Message is not valid JSON"


@pytest.mark.spec(43)
@pytest.mark.parametrize(
    "template",
    [
        '{"event":"client-x","channel":"private-x","data":%s}',
        '{"event":"pusher:subscribe","data":%s}',
        '{"event":"pusher:subscribe","data":"{\\"channel\\":%s}"}',
        '{"event":%s}',
        "%s",
    ],
)
def test_nesting_of_any_depth_is_read_or_refused(template):
    limit = sys.getrecursionlimit()
    for depth in (*range(limit - 120, limit + 10, 3), 5_000, 20_000):
        nested = "[" * depth + "]" * depth
        try:
            read = decode(template % nested)
        except BadMessage:
            continue
        assert isinstance(read, ClientEvent)
        assert read.data == nested


@pytest.mark.spec(38, 39, 40, 129)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[]", "Message is not a JSON object"),
        ('["pusher:ping"]', "Message is not a JSON object"),
        ('"pusher:ping"', "Message is not a JSON object"),
        ("null", "Message is not a JSON object"),
        ("7", "Message is not a JSON object"),
        ("{}", "Message has no event name"),
        ('{"data":{}}', "Message has no event name"),
        ('{"event":7}', "Message has no event name"),
        ('{"event":null}', "Message has no event name"),
        ('{"event":["pusher:ping"]}', "Message has no event name"),
        ('{"Event":"pusher:ping"}', "Message has no event name"),
        ('{"event":""}', "Unsupported event received on socket: "),
        ('{"event":"greet"}', "Unsupported event received on socket: greet"),
        ('{"event":"pusher:made_up"}', "Unsupported event received on socket: pusher:made_up"),
        ('{"event":"pusher:ping "}', "Unsupported event received on socket: pusher:ping "),
        ('{"event":"Pusher:ping"}', "Unsupported event received on socket: Pusher:ping"),
        (
            '{"event":"pusher_internal:member_removed","channel":"presence-x","data":"{}"}',
            "Unsupported event received on socket: pusher_internal:member_removed",
        ),
        (
            '{"event":"xclient-a","channel":"private-x","data":"{}"}',
            "Unsupported event received on socket: xclient-a",
        ),
        (
            '{"event":"\\nclient-a","channel":"private-x","data":"{}"}',
            "Unsupported event received on socket: \\nclient-a",
        ),
        ('{"event":"client"}', "Unsupported event received on socket: client"),
        ('{"event":"\\ud800\\u0000é"}', "Unsupported event received on socket: \\ud800\\x00\\xe9"),
        (message("e" * 500), "Unsupported event received on socket: " + "e" * 60),
    ],
)
def test_what_is_no_known_message_is_refused_by_name(text, why):
    with pytest.raises(BadMessage) as refused:
        decode(text)

    assert str(refused.value) == why


@pytest.mark.spec(141)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        (message("pusher:subscribe"), "Missing parameter: data.channel"),
        (message("pusher:subscribe", data=None), "Missing parameter: data.channel"),
        (message("pusher:subscribe", data=""), "Missing parameter: data.channel"),
        (message("pusher:subscribe", data={}), "Missing parameter: data.channel"),
        (message("pusher:subscribe", data=[]), "Missing parameter: data.channel"),
        (message("pusher:subscribe", data=7), "Missing parameter: data.channel"),
        (message("pusher:subscribe", data='"room"'), "Missing parameter: data.channel"),
        (message("pusher:subscribe", channel="room"), "Missing parameter: data.channel"),
        (message("pusher:subscribe", data={"channel": None}), "Missing parameter: data.channel"),
        (message("pusher:subscribe", data="room"), "Message is not valid JSON"),
        (message("pusher:subscribe", data='{"channel":NaN}'), "Message is not valid JSON"),
        (message("pusher:unsubscribe", data={}), "Missing parameter: data.channel"),
        (message("pusher:signin"), "Missing parameter: data.auth"),
        (message("pusher:signin", data={"user_data": "{}"}), "Missing parameter: data.auth"),
        (message("pusher:signin", data={"auth": "k:s"}), "Missing parameter: data.user_data"),
        (
            message("pusher:signin", data={"auth": "k:s", "user_data": None}),
            "Missing parameter: data.user_data",
        ),
    ],
)
def test_a_missing_parameter_is_named(text, why):
    with pytest.raises(BadMessage) as refused:
        decode(text)

    assert str(refused.value) == why


NO_TEXT = [7, True, ["x"], {"x": 1}, "\ud800", "half \udc00 pair"]
PARAMETERS = [
    ("pusher:subscribe", "channel"),
    ("pusher:unsubscribe", "channel"),
    ("pusher:signin", "auth"),
    ("pusher:signin", "user_data"),
]


@pytest.mark.spec(45)
@pytest.mark.parametrize("value", NO_TEXT, ids=ascii)
@pytest.mark.parametrize(("event", "name"), PARAMETERS)
def test_a_parameter_is_encodable_text(event, name, value):
    data = {"channel": "x", "auth": "k:s", "user_data": "{}"} | {name: value}

    with pytest.raises(BadMessage) as refused:
        decode(message(event, data=data))

    assert str(refused.value) == f"Invalid parameter: data.{name} must be a string"


@pytest.mark.spec(45)
@pytest.mark.parametrize(("event", "name"), PARAMETERS)
def test_a_lone_surrogate_is_found_in_data_that_is_a_string_too(event, name):
    data = {"channel": "x", "auth": "k:s", "user_data": "{}"} | {name: "\ud800"}

    with pytest.raises(BadMessage):
        decode(message(event, data=dumps(data)))


@pytest.mark.spec(70, 72)
@pytest.mark.parametrize("value", NO_TEXT, ids=ascii)
@pytest.mark.parametrize("name", ["auth", "channel_data"])
def test_an_authorization_that_is_no_text_is_none(name, value):
    """The channel is to hear of the refusal, so it must not be lost with the message."""
    data = {"channel": "private-x", "auth": "k:s", "channel_data": "{}"} | {name: value}

    assert decode(message("pusher:subscribe", data=data)) == Subscribe("private-x")


def test_a_whole_surrogate_pair_is_a_character():
    text = message("pusher:subscribe", data={"channel": "x", "channel_data": "🎉"})

    assert "\\ud83c\\udf89" in text
    assert decode(text) == Subscribe("x", "", "🎉")


@pytest.mark.spec(45, 129)
@pytest.mark.parametrize(
    "text",
    [
        '{"event":"client-x","data":{}}',
        '{"event":"client-x","data":{},"channel":null}',
        '{"event":"client-x","data":{},"channel":["private-x"]}',
        '{"event":"client-x","data":{"channel":"private-x"}}',
        '{"event":"client-\\ud800","data":{},"channel":"private-x"}',
    ],
)
def test_a_client_event_needs_a_channel_and_a_name_that_is_text(text):
    with pytest.raises(BadMessage) as refused:
        decode(text)

    assert str(refused.value) == "Invalid client event (must contain channel and data)"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True, allow_infinity=True)
    | st.text(st.characters(exclude_categories=()), max_size=6)
    | st.sampled_from(["x", "private-x", "{}", '{"channel":"x"}', "\ud800", "\0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["channel", "auth", "channel_data", "user_data", "data", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
EVENT = st.sampled_from(
    [
        "pusher:ping",
        "pusher:pong",
        "pusher:subscribe",
        "pusher:unsubscribe",
        "pusher:signin",
        "client-x",
        "client-",
        "pusher:x",
        "\ud800",
    ]
)
MEMBERS = st.fixed_dictionaries(
    {"event": EVENT | JSON}, optional={"data": JSON | JSON.map(dumps), "channel": JSON}
)
ANY_TEXT = (
    st.text(st.characters(exclude_categories=()))
    | st.text('{}[]":,\\u0123e+-. \n', max_size=30)
    | JSON.map(dumps)
    | MEMBERS.map(dumps)
    | MEMBERS.map(lambda members: dumps(members, ensure_ascii=False, indent=1))
)


@pytest.mark.spec(37, 38, 39, 43, 44)
@given(ANY_TEXT)
@example('{"event":"client-x","channel":"x","data":{"data":1}}')
def test_any_text_is_a_message_or_a_bad_message(text):
    try:
        read = decode(text)
    except BadMessage as error:
        read = error

    assert isinstance(read, messages.Message | BadMessage)


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=())),
    st.text(st.characters(exclude_categories=())),
)
def test_an_event_that_is_encoded_and_read_again_is_the_same(name, channel, data):
    event = ClientEvent(f"client-{name}", channel, data)

    assert decode(messages.encode_event(event.event, event.channel, event.data)) == event


def test_our_ping_and_pong_can_be_read():
    assert decode(messages.PING) == Ping()
    assert decode(messages.PONG) == Pong()


# ---- the text of one member -------------------------------------------------------------

SPACE = st.text(" \t\r\n", max_size=2)
NAME = st.sampled_from(["data", "user_info", "", "é", '"', "\\", "{", "\ud800"])
NUMBER = st.sampled_from(["1e2", "-0", "1.10", "0.1E+5", "9" * 40, "123456789.000"])


@st.composite
def written_json(draw: st.DrawFn, depth: int = 3) -> str:
    """JSON as somebody may write it: numbers, escapes and white space in every form."""
    kinds = ["string", "number", "word"] + (["array", "object"] if depth else [])
    match draw(st.sampled_from(kinds)):
        case "string":
            return dumps(draw(st.text(max_size=5)), ensure_ascii=draw(st.booleans()))
        case "number":
            return draw(NUMBER)
        case "word":
            return draw(st.sampled_from(["true", "false", "null"]))
        case "array":
            items = draw(st.lists(written_json(depth - 1), max_size=3))
            return "[" + ",".join(draw(SPACE) + item + draw(SPACE) for item in items) + "]"
        case _:
            return draw(written_object(depth))[0]


@st.composite
def written_object(draw: st.DrawFn, depth: int = 3) -> tuple[str, dict[str, str]]:
    """The text of an object, and the text of each of its members."""
    members = draw(st.lists(st.tuples(NAME, written_json(depth - 1)), max_size=4))
    parts = [
        draw(SPACE) + dumps(name, ensure_ascii=True) + draw(SPACE) + ":" + draw(SPACE) + value
        for name, value in members
    ]
    spaced = [part + draw(SPACE) for part in parts] or [draw(SPACE)]
    return f"{{{','.join(spaced)}}}", dict(members)


@given(written_object(), SPACE, SPACE)
def test_a_raw_member_is_exactly_the_text_that_was_written(written, before, after):
    text, members = before + written[0] + after, written[1]

    assert isinstance(messages.load_json(text), dict)
    for name in [*members, "missing"]:
        assert messages.raw_member(text, name) == members.get(name)


@pytest.mark.parametrize("text", ["{}", " { } ", '{"x":1}', '{"x":{"data":1}}', '{"x":"data"}'])
def test_a_member_that_is_not_there_has_no_text(text):
    assert messages.raw_member(text, "data") is None


# ---- who somebody is --------------------------------------------------------------------


@pytest.mark.spec(85)
@pytest.mark.parametrize(
    ("channel_data", "member"),
    [
        ('{"user_id":"10"}', ("10", None)),
        ('{"user_id":10}', (10, None)),
        ('{"user_id":"10","user_info":null}', ("10", None)),
        ('{"user_id":"10","user_info":{}}', ("10", "{}")),
        ('{"user_info": {"b":1e2, "a":"é"} ,"user_id":"10"}', ("10", '{"b":1e2, "a":"é"}')),
        ('{"user_info":{},"user_id":"10","user_info":{"a":1}}', ("10", '{"a":1}')),
        ('{"user_info":{"user_id":"11"},"x":[1]}', (None, '{"user_id":"11"}')),
    ],
)
def test_a_member_is_read_as_it_was_written(channel_data, member):
    assert messages.read_member(channel_data) == member


def test_a_signed_in_user_has_another_name_for_the_id():
    user_data = '{"id":"10","user_id":"11","user_info":{"a":1},"watchlist":["7"]}'

    assert messages.read_member(user_data, id_key="id") == ("10", '{"a":1}')


@pytest.mark.parametrize(
    ("channel_data", "why"),
    [
        ("", "Message is not valid JSON"),
        ("10", "channel_data and user_data must be JSON objects"),
        ('["10"]', "channel_data and user_data must be JSON objects"),
        ('"10"', "channel_data and user_data must be JSON objects"),
        ("null", "channel_data and user_data must be JSON objects"),
        ('{"user_id":NaN}', "Message is not valid JSON"),
        ("[" * 100_000, "Message is not valid JSON"),
    ],
)
def test_a_member_is_a_json_object(channel_data, why):
    with pytest.raises(BadMessage) as refused:
        messages.read_member(channel_data)

    assert str(refused.value) == why


@pytest.mark.spec(87)
@pytest.mark.parametrize("info", ['"Ann"', "7", "[]", "true", "false", '""', "0"])
def test_user_info_is_an_object(info):
    with pytest.raises(BadMessage) as refused:
        messages.read_member(f'{{"user_id":"10","user_info":{info}}}')

    assert str(refused.value) == (
        "user_info supplied to presence subscription is invalid"
        " - if supplied it must be a type of hash"
    )


# ---- what we send -----------------------------------------------------------------------


@pytest.mark.spec(15, 16, 18)
def test_the_greeting_names_the_socket_and_its_timeout():
    assert messages.encode_connection_established("131160.155806628", 120) == (
        '{"event":"pusher:connection_established",'
        '"data":"{\\"socket_id\\":\\"131160.155806628\\",\\"activity_timeout\\":120}"}'
    )


def test_ping_and_pong_carry_an_empty_object_in_a_string():
    assert messages.PING == '{"event":"pusher:ping","data":"{}"}'
    assert messages.PONG == '{"event":"pusher:pong","data":"{}"}'


@pytest.mark.spec(32, 33, 36)
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BadMessage("no"), '{"event":"pusher:error","data":{"code":null,"message":"no"}}'),
        (
            BadMessage('"é\n\ud800'),
            '{"event":"pusher:error","data":{"code":null,"message":"\\"\\u00e9\\n\\ud800"}}',
        ),
        (
            RateLimited(),
            '{"event":"pusher:error",'
            '"data":{"code":4301,"message":"Client event rejected due to rate limit"}}',
        ),
    ],
)
def test_an_error_has_an_object_for_its_data(error, text):
    assert messages.encode_error(error) == text


@pytest.mark.spec(72)
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            SubscriptionRefused("long", "Invalid signature"),
            '{"event":"pusher:subscription_error","channel":"private-x",'
            '"data":"{\\"type\\":\\"AuthError\\",\\"error\\":\\"Invalid signature\\",'
            '\\"status\\":401}"}',
        ),
        (
            LimitReached("full"),
            '{"event":"pusher:subscription_error","channel":"private-x",'
            '"data":"{\\"type\\":\\"LimitReached\\",\\"error\\":\\"full\\",\\"status\\":4100}"}',
        ),
    ],
)
def test_a_refused_channel_is_told_why(error, text):
    assert messages.encode_subscription_error("private-x", error) == text


@pytest.mark.spec(62)
def test_a_channel_without_members_succeeds_with_an_empty_object():
    assert messages.encode_subscription_succeeded("room") == (
        '{"event":"pusher_internal:subscription_succeeded","channel":"room","data":"{}"}'
    )


@pytest.mark.spec(81, 82, 83, 84, 85, 86)
def test_a_presence_channel_succeeds_with_its_members():
    members = [Member("10", '{"name":"Ann","rank":1e2}'), Member("11")]

    assert messages.encode_subscription_succeeded("presence-foo", members) == (
        '{"event":"pusher_internal:subscription_succeeded","channel":"presence-foo",'
        '"data":"{\\"presence\\":{\\"count\\":2,\\"ids\\":[\\"10\\",\\"11\\"],'
        '\\"hash\\":{\\"10\\":{\\"name\\":\\"Ann\\",\\"rank\\":1e2},\\"11\\":null}}}"}'
    )


@pytest.mark.spec(82, 83)
def test_a_user_with_two_connections_is_one_member():
    members = [Member("10", '{"a":1}'), Member("11"), Member("10", '{"a":1}')]

    assert messages.encode_members(members) == (
        '{"presence":{"count":2,"ids":["10","11"],"hash":{"10":{"a":1},"11":null}}}'
    )


@pytest.mark.spec(84)
def test_a_channel_of_nobody_has_an_array_and_an_object():
    assert messages.encode_members([]) == '{"presence":{"count":0,"ids":[],"hash":{}}}'


@pytest.mark.spec(96, 97)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            messages.encode_member_added("presence-foo", Member("11", '{"name":"Bób"}')),
            '{"event":"pusher_internal:member_added","channel":"presence-foo",'
            '"data":"{\\"user_id\\":\\"11\\",\\"user_info\\":{\\"name\\":\\"B\\u00f3b\\"}}"}',
        ),
        (
            messages.encode_member_added("presence-foo", Member('"11"')),
            '{"event":"pusher_internal:member_added","channel":"presence-foo",'
            '"data":"{\\"user_id\\":\\"\\\\\\"11\\\\\\"\\"}"}',
        ),
        (
            messages.encode_member_removed("presence-foo", "11"),
            '{"event":"pusher_internal:member_removed","channel":"presence-foo",'
            '"data":"{\\"user_id\\":\\"11\\"}"}',
        ),
    ],
)
def test_who_comes_and_goes_is_told_in_a_string(text, expected):
    assert text == expected


@pytest.mark.spec(138)
def test_a_sign_in_is_confirmed_with_the_very_text_in_two_strings():
    assert messages.encode_signin_success('{"id": "12345","é":1e2}') == (
        '{"event":"pusher:signin_success","data":"{\\"user_data\\":'
        '\\"{\\\\\\"id\\\\\\": \\\\\\"12345\\\\\\",\\\\\\"\\\\u00e9\\\\\\":1e2}\\"}"}'
    )


@pytest.mark.spec(117, 119, 125)
@pytest.mark.parametrize(
    ("data", "quoted"),
    [
        ('{"hello":"world"}', '"{\\"hello\\":\\"world\\"}"'),
        ("no JSON", '"no JSON"'),
        ("", '""'),
        ("12345678901234567890", '"12345678901234567890"'),
        ('{"b":1.0,"a":1,"b":2}', '"{\\"b\\":1.0,\\"a\\":1,\\"b\\":2}"'),
        ("é\n🎉\u2028\0", '"\\u00e9\\n\\ud83c\\udf89\\u2028\\u0000"'),
        ("\ud800", '"\\ud800"'),
    ],
)
def test_the_data_of_an_event_is_quoted_and_never_rewritten(data, quoted):
    assert messages.encode_event("greet", "room", data) == (
        f'{{"event":"greet","channel":"room","data":{quoted}}}'
    )


@pytest.mark.spec(124)
def test_the_sender_of_a_client_event_is_named_at_the_end():
    assert messages.encode_event("client-typing", "presence-x", "{}", user_id="10") == (
        '{"event":"client-typing","channel":"presence-x","data":"{}","user_id":"10"}'
    )


ANY = st.text(st.characters(exclude_categories=()))
OBJECT = st.dictionaries(ANY, st.integers() | ANY, max_size=2).map(
    lambda value: dumps(value, ensure_ascii=True)
)
MEMBER = st.builds(Member, ANY, st.none() | OBJECT)


@pytest.mark.spec(16, 32, 97)
@given(
    st.one_of(
        st.builds(messages.encode_event, ANY, ANY, ANY, user_id=st.none() | ANY),
        st.builds(messages.encode_subscription_succeeded, ANY, st.lists(MEMBER, max_size=3)),
        st.builds(messages.encode_subscription_error, ANY, st.builds(SubscriptionRefused, ANY)),
        st.builds(messages.encode_member_added, ANY, MEMBER),
        st.builds(messages.encode_member_removed, ANY, ANY),
        st.builds(messages.encode_signin_success, ANY),
        st.builds(messages.encode_error, st.builds(BadMessage, ANY)),
    )
)
def test_whatever_we_send_is_one_ascii_object_with_the_right_kind_of_data(text):
    sent = json.loads(text)

    assert text.isascii()
    assert text == dumps(sent, separators=(",", ":"))
    assert isinstance(sent["data"], dict if sent["event"] == "pusher:error" else str)


@given(st.lists(MEMBER, max_size=5))
def test_members_read_again_are_the_same(members):
    presence = json.loads(messages.encode_members(members))["presence"]

    infos = {member.user_id: member.user_info for member in members}
    assert presence["ids"] == list(infos)
    assert presence["count"] == len(infos)
    assert presence["hash"] == {
        user_id: info and json.loads(info) for user_id, info in infos.items()
    }


def test_the_examples_in_the_module_are_true():
    assert doctest.testmod(messages).failed == 0
