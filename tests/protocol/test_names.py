"""Which names are names, and what their prefixes mean."""

import doctest
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol import names
from realtime.protocol.app import Limits
from realtime.protocol.errors import InvalidChannel, InvalidTrigger
from realtime.protocol.names import Kind

CHANNELS = {
    "a word": "room",
    "every character allowed": "-azAZ09_=@,.;",
    "a single character": "x",
    "200 characters": "r" * 200,
    "the channel of a user": "#server-to-user-42",
    "the channel of a user with a long id": "#server-to-user-" + "u" * 200,
}
NO_CHANNELS = {
    "nothing": "",
    "a space": "my room",
    "a colon": "my:room",
    "a slash": "my/room",
    "a quote": 'my"room',
    "a trailing newline": "room\n",
    "a leading newline": "\nroom",
    "a carriage return": "room\r",
    "NUL": "room\0",
    "an accent": "rööm",
    "digits of another script": "room٣",
    "full-width letters": "ｒｏｏｍ",
    "a lone surrogate": "room\ud800",
    "201 characters": "r" * 201,
    "a hash": "#",
    "an unknown reserved name": "#other",
    "a reserved name in capitals": "#Server-to-user-42",
    "the channel of nobody": "#server-to-user-",
    "the channel of a user with a space": "#server-to-user-4 2",
    "the channel of a user with a newline": "#server-to-user-42\n",
    "the channel of a user with a hash": "#server-to-user-#server-to-user-42",
    "the channel of a user with too long an id": "#server-to-user-" + "u" * 201,
}
SOCKET_IDS = ["1.1", "1234.1234", "131160.155806628", "0.0", "9" * 20 + "." + "9" * 20]
NO_SOCKET_IDS = {
    "nothing": "",
    "no dot": "1234",
    "no fraction": "1234.",
    "no whole": ".1234",
    "three parts": "1.2.3",
    "a sign": "-1.2",
    "a space": " 1.2",
    "a trailing newline": "1.2\n",
    "a colon": "1.2:private-x",
    "an exponent": "1.2e3",
    "an underscore": "1_0.2",
    "digits of another script": "١.٢",
    "superscript digits": "1.²",
    "21 digits": "1" * 21 + ".1",
    "NUL": "1.2\0",
}


def case(cases: dict[str, str]):
    return pytest.mark.parametrize("name", cases.values(), ids=cases.keys())


@pytest.mark.spec(58)
@pytest.mark.parametrize(
    ("channel", "kind"),
    [
        ("room", Kind.PUBLIC),
        ("private", Kind.PUBLIC),
        ("privatex", Kind.PUBLIC),
        ("presence", Kind.PUBLIC),
        ("presencex", Kind.PUBLIC),
        ("Private-x", Kind.PUBLIC),
        ("cache-x", Kind.PUBLIC),
        ("cache-private-x", Kind.PUBLIC),
        ("#other", Kind.PUBLIC),
        ("private-x", Kind.PRIVATE),
        ("private-", Kind.PRIVATE),
        ("private-cache-x", Kind.PRIVATE),
        ("private-encrypted", Kind.PRIVATE),
        ("private-encryptedx", Kind.PRIVATE),
        ("private-encrypted-x", Kind.ENCRYPTED),
        ("private-encrypted-cache-x", Kind.ENCRYPTED),
        ("presence-x", Kind.PRESENCE),
        ("presence-cache-x", Kind.PRESENCE),
        ("presence-encrypted-x", Kind.PRESENCE),
        ("#server-to-user-42", Kind.SERVER_TO_USER),
    ],
)
def test_the_prefix_decides_the_kind_of_a_channel(channel, kind):
    assert names.kind_of(channel) is kind


@pytest.mark.parametrize(
    ("kind", "guarded"),
    [
        (Kind.PUBLIC, False),
        (Kind.PRIVATE, True),
        (Kind.ENCRYPTED, True),
        (Kind.PRESENCE, True),
        (Kind.SERVER_TO_USER, False),
    ],
)
def test_private_and_presence_channels_need_a_signature_and_take_client_events(kind, guarded):
    assert kind.needs_auth is guarded
    assert kind.takes_client_events is guarded


@pytest.mark.spec(56)
@case(CHANNELS)
def test_a_channel_may_be_asked_for_by(name, limits):
    names.check_subscribable(name, limits)


@pytest.mark.spec(55, 56, 57, 104)
@case(NO_CHANNELS)
def test_a_channel_may_not_be_asked_for_by(name, limits):
    with pytest.raises(InvalidChannel):
        names.check_subscribable(name, limits)


@pytest.mark.spec(173)
@case(CHANNELS)
def test_an_event_may_be_triggered_on(name, limits):
    names.check_triggerable(name, limits)


@case(NO_CHANNELS)
def test_an_event_may_not_be_triggered_on(name, limits):
    with pytest.raises(InvalidTrigger):
        names.check_triggerable(name, limits)


@given(st.text("aZ9_-=@,.;#:\n\0٣é ", max_size=8))
def test_a_channel_name_is_what_the_official_libraries_take_for_one(name):
    official = re.compile(r"\A[-a-zA-Z0-9_=@,.;]+\Z")

    assert names.is_channel_name(name, Limits()) is bool(official.match(name))


def test_a_name_that_is_refused_is_quoted_in_ascii_and_cut(limits):
    with pytest.raises(InvalidChannel) as refused:
        names.check_subscribable("é\n" + "r" * 300, limits)

    assert str(refused.value) == "Invalid channel name: \\xe9\\n" + "r" * 58
    assert refused.value.summary == "Invalid channel name"


def test_the_channel_of_a_user_is_no_channel_that_a_site_may_authorise(limits):
    assert not names.is_channel_name("#server-to-user-42", limits)


def test_the_channel_of_a_user_ends_with_the_id():
    assert names.user_channel("42") == "#server-to-user-42"


@pytest.mark.parametrize("name", SOCKET_IDS)
def test_a_socket_id_is(name):
    assert names.is_socket_id(name)


@case(NO_SOCKET_IDS)
def test_a_socket_id_is_not(name):
    assert not names.is_socket_id(name)


@pytest.mark.parametrize("name", ["1", "1001", "9" * 20])
def test_an_app_id_is(name):
    assert names.is_app_id(name)


@pytest.mark.parametrize("name", ["", "app", "1a", "1\n", "١", "-1", "1.0", "9" * 21])
def test_an_app_id_is_not(name):
    assert not names.is_app_id(name)


@pytest.mark.parametrize("name", ["42", "ann@example.org", "u" * 200])
def test_a_user_may_sign_in_as(name, limits):
    assert names.is_signin_user_id(name, limits)


@pytest.mark.parametrize("name", ["", "u" * 201, "a b", "a:b", "#1", "42\n", "4\0", "é", "\ud800"])
def test_a_user_may_not_sign_in_as(name, limits):
    assert not names.is_signin_user_id(name, limits)


@pytest.mark.spec(172)
@pytest.mark.parametrize(
    "name", ["e", "my-event", "client-typing", "App\\Events\\Sent", "é 🎉", "Pusher:x", "e" * 200]
)
def test_an_event_may_be_called(name, limits):
    names.check_event_name(name, limits)


@pytest.mark.spec(172)
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "Event name must not be empty"),
        ("e" * 201, "Event name must be at most 200 characters long"),
        ("pusher:error", "Event name is reserved: pusher:error"),
        ("pusher:" + "é" * 60, "Event name is reserved: pusher:" + "\\xe9" * 53),
        ("pusher_internal:member_added", "Event name is reserved: pusher_internal:member_added"),
        ("half \ud83d", "Event name is not valid text"),
    ],
)
def test_an_event_may_not_be_called(name, why, limits):
    with pytest.raises(InvalidTrigger) as refused:
        names.check_event_name(name, limits)

    assert str(refused.value) == why


@given(st.text(st.characters(exclude_categories=())))
def test_text_is_encodable_unless_it_has_a_lone_surrogate(text):
    assert names.is_encodable(text) is (re.search("[\ud800-\udfff]", text) is None)


def test_the_examples_in_the_module_are_true():
    assert doctest.testmod(names).failed == 0


@pytest.mark.spec(115)
@pytest.mark.parametrize(
    ("channel", "cached"),
    [
        ("cache-x", True),
        ("private-cache-x", True),
        ("private-encrypted-cache-x", True),
        ("presence-cache-x", True),
        ("cachefoo", False),
        ("private-cachefoo", False),
        ("presence-x-cache-", False),
        ("#server-to-user-cache-x", False),
    ],
)
def test_four_prefixes_are_those_of_cache_channels(channel, cached):
    assert names.is_cache_channel(channel) is cached
