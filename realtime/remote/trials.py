"""What clients and back ends rely on, tried on a running server: what ``realtime_check`` runs.

Channels and users are named ``realtime-check-…`` with a random end, so nobody else is there.
"""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from realtime.protocol.app import App
from realtime.protocol.errors import RealtimeError
from realtime.protocol.names import user_channel
from realtime.protocol.signing import REQUEST_AGE_SECONDS
from realtime.remote.caller import Answer, Caller, Unreachable
from realtime.remote.wire import Wire, WireLost

SILENCE_SECONDS: Final = 0.5
"""Ours: for how long nothing may come where nothing should."""


class Failed(RealtimeError):
    """The server did something else than clients rely on."""


class Skipped(RealtimeError):
    """The settings of the app leave nothing to try."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one trial ended."""

    title: str
    passed: bool
    reason: str = ""
    """Why it failed or, of one that passed, why there was nothing to try."""


class Server:
    """The server under trial.

    Args:
        url: where the site includes ``realtime.urls``.
    """

    def __init__(self, url: str, app: App) -> None:
        self.url, self.app, self.caller = url, app, Caller(url, app)
        self._token = secrets.token_hex(4)

    def name(self, prefix: str = "") -> str:
        """A channel or user of these trials alone."""
        return f"{prefix}realtime-check-{self._token}"

    def open(self) -> Wire:
        """A new connection."""
        return Wire(self.url, self.app)

    def trigger(self, channel: str, event: str, **more: object) -> None:
        """Send an event through the HTTP API."""
        body = {"name": event, "channels": [channel], "data": '{"n":1}', **more}
        _expect(self.caller.call("POST", "/events", body), 200, {})


def run(server: Server) -> Iterator[Result]:
    """Run every trial, one after the other.

    Raises:
        Unreachable: nobody is there, so the rest would fail alike.
    """
    for title, trial in TRIALS.items():
        try:
            trial(server)
        except Skipped as why:
            yield Result(title, passed=True, reason=str(why))
        except Unreachable:
            raise
        except (Failed, WireLost, OSError) as error:  # OSError: also whatever took too long
            yield Result(title, passed=False, reason=str(error) or repr(error))
        else:
            yield Result(title, passed=True)


def _expect(answer: Answer, status: int, body: object = None) -> Answer:
    """Raise unless the server answered so."""
    if answer.status != status:
        raise Failed(f"answered {answer.status} instead of {status}: {answer.text.strip()[:200]}")
    if body is not None and answer.json() != body:
        raise Failed(f"answered {answer.text.strip()[:200]} instead of {json.dumps(body)}")
    return answer


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Failed(otherwise)


# ---- back ends --------------------------------------------------------------------------


def _events(server: Server) -> None:
    server.trigger(server.name(), "greet")


def _batch(server: Server) -> None:
    item = {"channel": server.name(), "name": "greet", "data": "1"}
    _expect(server.caller.call("POST", "/batch_events", {"batch": [item, item]}), 200, {})


def _too_large(server: Server) -> None:
    data = "x" * (server.app.limits.event_data_bytes + 1)
    body = {"name": "greet", "channel": server.name(), "data": data}
    _expect(server.caller.call("POST", "/events", body), 413)


def _channels(server: Server) -> None:
    with server.open() as wire:
        wire.subscribe(server.name())
        prefix = [("filter_by_prefix", server.name())]
        answer = server.caller.call("GET", "/channels", query=prefix)
        _expect(answer, 200, {"channels": {server.name(): {}}})


def _channel(server: Server) -> None:
    with server.open() as wire:
        wire.subscribe(server.name())
        info = [("info", "subscription_count")]
        answer = server.caller.call("GET", f"/channels/{server.name()}", query=info)
        _expect(answer, 200, {"occupied": True, "subscription_count": 1})


def _users(server: Server) -> None:
    channel, user = server.name("presence-"), server.name()
    with server.open() as wire:
        wire.subscribe(channel, json.dumps({"user_id": user}))
        answer = server.caller.call("GET", f"/channels/{channel}/users")
        _expect(answer, 200, {"users": [{"id": user}]})


def _terminate(server: Server) -> None:
    _is_terminated(server, f"/users/{server.name()}/terminate_connections")


def _terminate_as_python_does(server: Server) -> None:
    _is_terminated(server, f"//users/{server.name()}/terminate_connections")


def _is_terminated(server: Server, path: str) -> None:
    with server.open() as wire:
        wire.sign_in(json.dumps({"id": server.name()}))
        _expect(server.caller.call("POST", path, {}), 200, {})
        _closes_with(wire, 4009)


def _wrong_signature(server: Server) -> None:
    forger = replace(server.app, secret=server.app.secret + "x")
    _expect(server.caller.call("GET", "/channels", app=forger), 401)


def _unknown_key(server: Server) -> None:
    stranger = replace(server.app, key=server.name())
    _expect(server.caller.call("GET", "/channels", app=stranger), 401)


def _old_timestamp(server: Server) -> None:
    skew = 2 * REQUEST_AGE_SECONDS
    for now in (time.time() - skew, time.time() + skew):
        _expect(server.caller.call("GET", "/channels", now=now), 401)


def _clock(server: Server) -> None:
    """Whether calls would still pass if the clock of this machine were somewhat off."""
    margin = REQUEST_AGE_SECONDS / 2
    for now in (time.time() - margin, time.time() + margin):
        _expect(server.caller.call("GET", "/channels", now=now), 200)


def _not_found(server: Server) -> None:
    for path in ("/channels/", "/nothing", "//apps/"):
        _expect(server.caller.call("GET", path), 404)


def _no_cors(server: Server) -> None:
    headers = {"Origin": "https://elsewhere.example"}
    for method in ("GET", "OPTIONS"):
        answer = server.caller.send(method, f"/apps/{server.app.id}/channels", headers=headers)
        allowed = answer.headers.get("access-control-allow-origin")
        _check(allowed is None, f"pages of {allowed} may read answers that are for back ends")


def _auth_endpoints(server: Server) -> None:
    for path in ("/pusher/auth", "/pusher/user-auth"):
        _expect(server.caller.send("POST", path, b'{"socket_id":"1.1"}'), 403)


def _health(server: Server) -> None:
    _expect(server.caller.send("GET", "/realtime/up"), 200)
    _expect(server.caller.send("GET", "/realtime/ready"), 200)


# ---- clients ----------------------------------------------------------------------------


def _handshake(server: Server) -> None:
    with server.open() as wire:
        left, _, right = wire.socket_id.partition(".")
        _check(left.isdecimal() and right.isdecimal(), f"socket_id {wire.socket_id!r}")


def _unknown_app(server: Server) -> None:
    try:
        Wire(server.url, replace(server.app, key=server.name())).close()
    except WireLost as error:
        _check(error.code == 4001, str(error))
    else:
        raise Failed("a key that belongs to no app was accepted")


def _ping(server: Server) -> None:
    with server.open() as wire:
        wire.say("pusher:ping")
        wire.wait_for("pusher:pong")


def _public(server: Server) -> None:
    _event_arrives(server, server.name())


def _private(server: Server) -> None:
    _event_arrives(server, server.name("private-"))


def _event_arrives(server: Server, channel: str) -> None:
    with server.open() as wire:
        wire.subscribe(channel)
        server.trigger(channel, "greet")
        message = wire.wait_for("greet", channel)
        _check(message["data"] == '{"n":1}', f"data arrived as {message['data']!r}")


def _excluded(server: Server) -> None:
    with server.open() as wire:
        wire.subscribe(server.name())
        server.trigger(server.name(), "own", socket_id=wire.socket_id)
        server.trigger(server.name(), "last")
        message = wire.receive()
        _check(message["event"] == "last", f"got {message['event']!r}, from which it was excluded")


def _forged_subscription(server: Server) -> None:
    with server.open() as wire:
        wire.ask(server.name("private-"), auth=f"{server.app.key}:{'0' * 64}")
        message = wire.receive()
        refused = message["event"] in ("pusher:subscription_error", "pusher:error")
        _check(refused, f"a wrong signature was answered with {message['event']}")


def _presence(server: Server) -> None:
    channel, user = server.name("presence-"), server.name()
    with server.open() as first, server.open() as second:
        first.subscribe(channel, json.dumps({"user_id": user}))
        listed = second.subscribe(channel, json.dumps({"user_id": f"{user}-2"}))
        ids = sorted(listed.get("presence", {}).get("ids", []))
        _check(ids == [user, f"{user}-2"], f"the members are given as {listed}")
        first.wait_for("pusher_internal:member_added", channel)


def _client_event(server: Server) -> None:
    if not server.app.client_events:
        raise Skipped("client events are off")
    channel = server.name("private-")
    with server.open() as sender, server.open() as other:
        sender.subscribe(channel)
        other.subscribe(channel)
        sender.say("client-greet", {"n": 1}, channel=channel)
        other.wait_for("client-greet", channel)
        try:
            echo = sender.receive(SILENCE_SECONDS)
        except TimeoutError:
            return
        raise Failed(f"the sender got {echo['event']}")


def _sign_in(server: Server) -> None:
    user = server.name()
    with server.open() as wire:
        wire.sign_in(json.dumps({"id": user}))
        wire.subscribe(user_channel(user))  # as pusher-js does by itself
        server.trigger(user_channel(user), "greet")
        wire.wait_for("greet")


def _closes_with(wire: Wire, code: int) -> None:
    try:
        while True:
            wire.receive()
    except WireLost as error:
        _check(error.code == code, f"{error} instead of {code}")


TRIALS: Final[dict[str, Callable[[Server], None]]] = {
    "the process is up and ready": _health,
    "connect": _handshake,
    "connect with a key that belongs to no app: 4001": _unknown_app,
    "ping": _ping,
    "public channel: subscribe, receive an event": _public,
    "private channel: subscribe, receive an event": _private,
    "private channel: a wrong signature is refused": _forged_subscription,
    "presence channel: members are listed and announced": _presence,
    "client event: reaches the others, not the sender": _client_event,
    "an event does not reach the excluded socket": _excluded,
    "sign in, receive an event for the user": _sign_in,
    "POST events": _events,
    "POST events: too much data is refused with 413": _too_large,
    "POST batch_events": _batch,
    "GET channels": _channels,
    "GET channel": _channel,
    "GET users": _users,
    "POST terminate_connections": _terminate,
    "POST terminate_connections, as the Python library calls it": _terminate_as_python_does,
    "a wrong signature is refused with 401": _wrong_signature,
    "an unknown key is refused with 401": _unknown_key,
    "a timestamp twenty minutes off is refused with 401": _old_timestamp,
    "the clocks agree within five minutes": _clock,
    "unknown paths answer 404, without a redirect": _not_found,
    "pages of other origins cannot read the HTTP API": _no_cors,
    "the auth endpoints answer 403 to strangers": _auth_endpoints,
}
"""By what is tried."""
