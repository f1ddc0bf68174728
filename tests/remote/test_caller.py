"""Calls of the HTTP API with nothing but Python."""

import socket
import threading
from urllib.parse import parse_qsl, urlsplit

import pytest

from realtime.protocol.errors import SignatureError
from realtime.protocol.signing import verify_request
from realtime.remote.caller import Caller, InvalidUrl, Unreachable
from tests.conftest import ID


def verify(app, request, **more):
    method, target, raw, _ = request
    parts = urlsplit(target)
    query = parse_qsl(parts.query, keep_blank_values=True)
    given = {"now": float(dict(query)["auth_timestamp"]), **more}
    verify_request(app, method=method, paths=[parts.path], query=query, body=raw, **given)
    return parts.path, dict(query)


def test_a_call_carries_the_signature_of_the_app(http_server, app):
    answer = Caller(http_server.url, app).call("POST", "/events", {"name": "é"})

    assert (answer.status, answer.json()) == (200, {})
    path, _ = verify(app, http_server.requests[0])
    assert path == f"/apps/{ID}/events"
    assert http_server.requests[0][2] == b'{"name": "\\u00e9"}'


def test_parameters_are_signed_as_well(http_server, app):
    Caller(http_server.url, app).call("GET", "/channels", query=[("filter_by_prefix", "a=b,c")])

    _, query = verify(app, http_server.requests[0])
    assert query["filter_by_prefix"] == "a=b,c"
    assert "body_md5" not in query


def test_a_path_with_two_slashes_is_not_below_the_app(http_server, app):
    Caller(http_server.url, app).call("POST", "//users/u/terminate_connections", {})

    assert verify(app, http_server.requests[0])[0] == "/users/u/terminate_connections"


def test_another_time_and_another_signer_may_be_given(http_server, app):
    caller = Caller(http_server.url, app)

    caller.call("GET", "/channels", now=1_000.9)

    assert verify(app, http_server.requests[0])[1]["auth_timestamp"] == "1000"
    with pytest.raises(SignatureError):
        verify(app, http_server.requests[0], now=2_000)


def test_below_a_prefix_the_path_is_signed_without_it(http_server, app):
    Caller(f"{http_server.url}/below/", app).call("GET", "/channels")

    method, target, raw, headers = http_server.requests[0]
    assert target.startswith(f"/below/apps/{ID}/channels?")
    verify(app, (method, target.removeprefix("/below"), raw, headers))


def test_redirects_are_answers(http_server, app):
    http_server.status, http_server.headers = 301, {"Location": "/elsewhere"}

    answer = Caller(http_server.url, app).call("GET", "/channels")

    assert (answer.status, answer.headers["location"]) == (301, "/elsewhere")
    assert len(http_server.requests) == 1


def test_text_is_no_json(http_server, app):
    http_server.body = b"404 NOT FOUND"

    assert Caller(http_server.url, app).call("GET", "/x").json() is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://host",
        "http://",
        "http://h:x",
        "http://[::1",
        "http://a..b",
        "http://a b",
        f"http://{'h' * 64}",
        "http://h/\udc80",
    ],
)
def test_what_is_no_url_is_refused_before_anything_is_sent(url, app):
    with pytest.raises(InvalidUrl, match="is not a URL like"):
        Caller(url, app)


def test_where_nobody_listens_the_error_names_the_place(app):
    with pytest.raises(Unreachable, match=r"no connection to 127\.0\.0\.1:1: .*refused"):
        Caller("http://127.0.0.1:1", app).call("GET", "/channels")


def test_a_server_that_speaks_something_else_cannot_be_reached(app):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def answer():
            peer, _ = listener.accept()
            with peer:
                peer.recv(65_536)
                peer.sendall(b"220 mail\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(OSError, match="no answer of HTTP"):
            Caller(url, app).call("GET", "/channels")
        thread.join()
