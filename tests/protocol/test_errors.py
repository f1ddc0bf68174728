"""Codes tell clients whether to come back, so no error may carry a code of the wrong kind."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from realtime.protocol import errors
from realtime.protocol.connection import close_reason
from realtime.protocol.errors import (
    BadMessage,
    DataTooLarge,
    Fatal,
    InvalidChannel,
    LimitReached,
    ProtocolError,
    RateLimited,
    SignatureError,
    SubscriptionRefused,
    UnknownApp,
)


def descendants(kind: type) -> Iterator[type]:
    for child in kind.__subclasses__():
        yield child
        yield from descendants(child)


FATAL = sorted(descendants(Fatal), key=lambda kind: kind.code)
SOFT = [kind for kind in descendants(ProtocolError) if not issubclass(kind, Fatal)]


@pytest.mark.spec(4, 5, 7, 8, 9, 13, 14, 29)
@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (
            errors.TLSRequired(),
            4000,
            "Application only accepts SSL connections, reconnect using wss://",
        ),
        (
            errors.UnknownApp("abc"),
            4001,
            "App key abc not in this cluster. Did you forget to specify the cluster?",
        ),
        (errors.AppDisabled(), 4003, "Application disabled"),
        (errors.OverQuota(), 4004, "Account over quota"),
        (errors.PathNotFound(), 4005, "Path not found"),
        (errors.BadVersion(), 4006, "Invalid version string format"),
        (errors.UnsupportedProtocol(), 4007, "Unsupported protocol version"),
        (errors.NoProtocol(), 4008, "No protocol version supplied"),
        (errors.Unauthorized(), 4009, "You got disconnected by the app."),
        (errors.Unauthorized("Banned until noon"), 4009, "Banned until noon"),
        (errors.OverCapacity(), 4100, "Over capacity"),
        (errors.PleaseReconnect(), 4200, "Please reconnect immediately"),
        (errors.PongTimeout(), 4201, "Pong reply not received"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Fatal) else None,
)
def test_a_fatal_error_has_the_code_and_text_of_pusher(error, code, text):
    assert (error.code, str(error)) == (code, text)


@pytest.mark.spec(35)
@pytest.mark.parametrize("kind", FATAL)
def test_an_error_that_closes_has_a_code_that_clients_know(kind):
    assert kind.closes
    assert 4000 <= kind.code < 4300


@pytest.mark.spec(35)
def test_no_close_is_written_with_another_code():
    package = Path(errors.__file__).parent.parent
    written = [
        call.args[0].value
        for path in package.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func).lower().endswith("close")
        if call.args and isinstance(call.args[0], ast.Constant)
    ]

    assert 1009 in written
    assert all(1000 <= code < 4300 for code in written)


@pytest.mark.spec(36)
@pytest.mark.parametrize("kind", SOFT)
def test_an_error_that_does_not_close_has_no_code_that_clients_act_on(kind):
    assert not kind.closes
    assert kind.code is None or 4300 <= kind.code < 4400


def test_no_two_fatal_errors_share_a_code():
    assert len({kind.code for kind in FATAL}) == len(FATAL)


@pytest.mark.spec(34)
def test_a_long_app_key_is_cut_so_that_the_close_reason_is_whole():
    error = UnknownApp("k" * 500)

    assert close_reason(error) == str(error)
    assert "k" * 40 in str(error)
    assert "k" * 41 not in str(error)


@pytest.mark.spec(34)
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("short", "short"),
        ("é" * 61, "é" * 61),
        ("x" * 124, "x" * 123),
        ("x" + "é" * 61, "x" + "é" * 61),
        ("é" * 62, "é" * 61),
        ("🎉" * 31, "🎉" * 30),
    ],
)
def test_a_close_reason_is_cut_to_123_bytes_and_never_inside_a_character(text, reason):
    assert close_reason(errors.Unauthorized(text)) == reason


def test_the_rate_limit_has_the_code_and_text_of_pusher():
    error = RateLimited()

    assert (error.code, str(error)) == (4301, "Client event rejected due to rate limit")
    assert isinstance(error, BadMessage)


@pytest.mark.spec(72)
@pytest.mark.parametrize(
    ("kind", "type_", "status"),
    [
        (SubscriptionRefused, "AuthError", 401),
        (InvalidChannel, "InvalidChannel", 400),
        (LimitReached, "LimitReached", 4100),
    ],
)
def test_a_refused_subscription_has_a_type_and_a_status(kind, type_, status):
    assert (kind.type, kind.status) == (type_, status)


def test_a_refusal_is_its_own_summary_unless_it_has_another():
    assert SubscriptionRefused("long").summary == "long"
    assert SubscriptionRefused("long", "short").summary == "short"


@pytest.mark.parametrize("kind", [DataTooLarge, errors.InvalidTrigger])
def test_a_bad_call_of_the_site_is_a_value_error(kind):
    assert issubclass(kind, ValueError)


@pytest.mark.parametrize("kind", [DataTooLarge, SignatureError, BadMessage, *FATAL, *SOFT])
def test_everything_refused_on_purpose_has_one_base(kind):
    assert issubclass(kind, errors.RealtimeError)
