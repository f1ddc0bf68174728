"""Who gets in, and which error wins when several apply."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol.admission import check_handshake
from realtime.protocol.errors import (
    AppDisabled,
    BadVersion,
    Fatal,
    NoProtocol,
    OverQuota,
    TLSRequired,
    UnsupportedProtocol,
)
from tests.protocol import site

PUSHER_JS = "protocol=7&client=js&version=8.6.0&flash=false"


def handshake(query: str = PUSHER_JS, *, secure: bool = False, connections: int = 0, **switches):
    return check_handshake(site.app(**switches), query, secure=secure, connections=connections)


@pytest.mark.spec(6, 10, 12)
@pytest.mark.parametrize(
    ("query", "client"),
    [
        (PUSHER_JS, "js"),
        ("client=java-client&protocol=5&version=2.4.4", "java-client"),
        ("client=java-client&protocol=5&version=0.0.0-dev", "java-client"),
        ("client=swift&version=10.1.5&protocol=7", "swift"),
        ("protocol=5&client=pusher-dotnet-client&version=2.2.1.0", "pusher-dotnet-client"),
        ("client=node-client&version=1.1.0&protocol=7", "node-client"),
        ("client=Pysher&version=1.0.7&protocol=6", "Pysher"),
    ],
)
def test_a_known_client_gets_in(query, client):
    assert handshake(query) == client


@pytest.mark.spec(10, 11)
@pytest.mark.parametrize(
    "query",
    [
        "version=8.6.0&flash=false&client=js&protocol=7",
        "t=1&protocol=7&n=%00%ff&client=js&&=&colour=blue",
    ],
)
def test_the_order_of_parameters_and_unknown_ones_do_not_matter(query):
    assert handshake(query) == "js"


def test_a_client_need_not_say_what_it_is():
    assert handshake("protocol=7") == ""


@pytest.mark.parametrize(
    "version",
    ["8.6.0", "7", "1.0.7", "10.1.5", "2.0.0-beta.1", "4.4.0+build.7", "123456789", ""],
)
def test_a_version_may_look_like(version):
    handshake(f"protocol=7&version={version.replace('+', '%2B')}")


@pytest.mark.spec(9)
@pytest.mark.parametrize(
    "version",
    [
        "abc",
        "v8.6.0",
        ".8",
        "8.",
        "8..6",
        "8.6.0 ",
        "8.6.0%0A",
        "8.6.0%00",
        "8.6.%D9%A3",
        "%D9%A8.6.0",
        "1234567890",
        "8" + ".1" * 9,
        "8." + "1" * 41,
    ],
)
def test_a_malformed_version_is_refused(version):
    with pytest.raises(BadVersion):
        handshake(f"protocol=7&version={version}")


@pytest.mark.spec(7)
@pytest.mark.parametrize(
    "protocol",
    ["4", "8", "abc", "0", "-7", "7.0", "7%0A", "%207", "+7", "%D9%A7", "", "7000", "7,6", "0x7"],
)
def test_another_protocol_is_refused(protocol):
    with pytest.raises(UnsupportedProtocol):
        handshake(f"client=js&version=8.6.0&protocol={protocol}")


def test_of_two_protocols_the_last_one_counts():
    with pytest.raises(UnsupportedProtocol):
        handshake("protocol=7&protocol=4")


@pytest.mark.parametrize("version", ["2.0.0", "8.6.0", "2"])
def test_without_a_protocol_the_version_of_pusher_js_tells_it(version):
    assert handshake(f"client=js&version={version}") == "js"


@pytest.mark.spec(8)
@pytest.mark.parametrize(
    "query", ["", "client=js", "version=", "version=1.12.7", "version=abc", "PROTOCOL=7", "&&", "="]
)
def test_without_a_protocol_and_a_version_to_tell_it_nobody_gets_in(query):
    with pytest.raises(NoProtocol):
        handshake(query)


@pytest.mark.spec(4)
def test_a_disabled_app_lets_nobody_in():
    with pytest.raises(AppDisabled):
        handshake(enabled=False)


@pytest.mark.spec(5)
def test_an_app_for_tls_only_refuses_plain_connections():
    with pytest.raises(TLSRequired):
        handshake(tls_only=True, secure=False)


def test_an_app_for_tls_only_takes_encrypted_connections():
    assert handshake(tls_only=True, secure=True) == "js"


@pytest.mark.spec(13)
@pytest.mark.parametrize("connections", [2, 3])
def test_an_app_that_is_full_refuses_the_next_connection(connections):
    with pytest.raises(OverQuota):
        handshake(max_connections=2, connections=connections)


def test_the_last_free_place_of_an_app_is_given_away():
    assert handshake(max_connections=2, connections=1) == "js"


def test_an_app_may_be_closed_by_a_quota_of_nothing():
    with pytest.raises(OverQuota):
        handshake(max_connections=0)


@pytest.mark.parametrize(
    ("error", "better"),
    [
        (AppDisabled, {}),
        (TLSRequired, {"enabled": True}),
        (NoProtocol, {"enabled": True, "tls_only": False}),
    ],
)
def test_the_state_of_the_app_is_judged_before_the_client(error, better):
    everything_wrong = {"enabled": False, "tls_only": True, "max_connections": 0}

    with pytest.raises(error):
        handshake("version=abc", **everything_wrong | better)


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("protocol=4&version=abc", UnsupportedProtocol),
        ("protocol=7&version=abc", BadVersion),
        ("protocol=7&version=8.6.0", OverQuota),
    ],
)
def test_protocol_then_version_then_quota(query, error):
    with pytest.raises(error):
        handshake(query, max_connections=0)


@given(st.text() | st.text("protclversin=&%70+;.0A8F", max_size=40))
def test_any_query_string_is_let_in_or_refused_with_a_close_code(query):
    try:
        answer = handshake(query)
    except Fatal as error:
        answer = error.code

    assert isinstance(answer, str) or 4000 <= answer < 4300
