"""Incoming and outgoing messages of the Pusher protocol, versions 5 to 7.

Pure: text in, dataclasses out, and back.  Knows nothing of sockets, Django or time.

``data`` is a JSON *string holding JSON* in every message we send, except in
``pusher:error``, where it is an object: clients in typed languages cast it.  What we send
is ASCII, so a lone surrogate that a client smuggled in stays an escape and harms nobody.

Source: Pusher docs, "Channels protocol"; pusher-js 8, ``core/connection/protocol``.
"""

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from json import dumps as quote
from typing import Any, Final, NoReturn

from realtime.protocol.errors import BadMessage, ProtocolError, SubscriptionRefused
from realtime.protocol.names import is_encodable

# ---- incoming ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ping:
    """``pusher:ping``"""


@dataclass(frozen=True, slots=True)
class Pong:
    """``pusher:pong``"""


@dataclass(frozen=True, slots=True)
class Subscribe:
    """``pusher:subscribe``"""

    channel: str
    auth: str = ""
    channel_data: str | None = None
    """JSON text, kept verbatim: it is part of what was signed."""


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """``pusher:unsubscribe``"""

    channel: str


@dataclass(frozen=True, slots=True)
class SignIn:
    """``pusher:signin``"""

    auth: str
    user_data: str
    """JSON text, kept verbatim: it is part of what was signed."""


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """``client-…``"""

    event: str
    channel: str
    data: str
    """The sender's string, or the JSON text of whatever else it sent."""


Message = Ping | Pong | Subscribe | Unsubscribe | SignIn | ClientEvent


@dataclass(frozen=True, slots=True)
class Member:
    """A user as a presence channel shows it."""

    user_id: str
    user_info: str | None = None
    """JSON text of an object, exactly as it was signed; ``None`` when there was none."""


@dataclass(frozen=True, slots=True)
class User:
    """A signed-in user."""

    member: Member
    user_data: str
    """JSON text as signed; returned to the client verbatim."""
    watchlist: tuple[str, ...] = ()
    """Users whose coming and going the client wants to know, each once, as signed."""


def decode(text: str) -> Message:
    """Turn one text frame into a message.

    Raises:
        BadMessage: for anything else.  No other exception leaves this function.
    """
    body = load_json(text)
    if not isinstance(body, dict):
        raise BadMessage("Message is not a JSON object")
    event = body.get("event")
    if not isinstance(event, str):
        raise BadMessage("Message has no event name")
    if event.startswith("client-"):
        return _client_event(event, body, text)
    match event:
        case "pusher:ping":
            return Ping()
        case "pusher:pong":
            return Pong()
        case "pusher:subscribe":
            return _subscribe(_parameters(body))
        case "pusher:unsubscribe":
            return Unsubscribe(_required(_parameters(body), "channel"))
        case "pusher:signin":
            data = _parameters(body)
            return SignIn(_required(data, "auth"), _required(data, "user_data"))
        case _:
            raise BadMessage(f"Unsupported event received on socket: {ascii(event[:60])[1:-1]}")


def load_json(text: str) -> Any:  # Any: JSON may be anything
    """Parse JSON as strictly as browsers do.

    Python's parser alone would accept ``NaN`` and ``1e999``, which are no JSON once they
    are written again, and would raise three kinds of error.

    Raises:
        BadMessage: not JSON, nested too deeply, or a number out of range.
    """
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        raise BadMessage("Message is not valid JSON") from None


def raw_member(text: str, name: str) -> str | None:
    """The JSON text of member *name* of the object *text*, as it was written.

    Parsing and encoding again would change numbers (``1e2``, long integers) and key order.
    *text* must be a JSON object that ``load_json`` accepted.
    """
    found = None
    at = _gap(text, text.index("{") + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        start = _gap(text, _gap(text, at) + 1)
        _, end = _DECODER.raw_decode(text, start)
        if key == name:
            found = text[start:end]
        at = _gap(text, end)
        if text[at] == ",":
            at = _gap(text, at + 1)
    return found


def read_member(channel_data: str, *, id_key: str = "user_id") -> tuple[object, str | None]:
    """The id and the raw ``user_info`` of ``channel_data`` or, by ``"id"``, of ``user_data``.

    The id is returned unchecked: what is allowed differs between the two.

    Raises:
        BadMessage: not a JSON object, or ``user_info`` that is none.
    """
    body = load_json(channel_data)
    if not isinstance(body, dict):
        raise BadMessage("channel_data and user_data must be JSON objects")
    info = body.get("user_info")
    if info is None:
        return body.get(id_key), None
    if not isinstance(info, dict):
        raise BadMessage(
            "user_info supplied to presence subscription is invalid"
            " - if supplied it must be a type of hash"
        )
    return body.get(id_key), raw_member(channel_data, "user_info")


def read_watchlist(user_data: str) -> tuple[str, ...]:
    """The user ids of ``watchlist`` in the JSON object *user_data*, each once.

    Raises:
        BadMessage: ``watchlist`` is no list of texts.
    """
    listed = load_json(user_data).get("watchlist") or ()
    if not isinstance(listed, list | tuple) or not all(
        isinstance(item, str) and is_encodable(item) for item in listed
    ):
        raise BadMessage("watchlist must be an array of user ids that are strings")
    return tuple(dict.fromkeys(listed))


def _client_event(event: str, body: dict[str, Any], text: str) -> ClientEvent:
    channel = body.get("channel")
    if not isinstance(channel, str) or not is_encodable(event):
        raise BadMessage("Invalid client event (must contain channel and data)")
    data = body.get("data")
    if isinstance(data, str):
        return ClientEvent(event, channel, data)
    # Without data pusher.com refuses the event, yet Laravel Echo's whisper sends it so; a
    # frame without data makes the Java client throw.
    return ClientEvent(event, channel, raw_member(text, "data") or "{}")


def _subscribe(data: dict[str, Any]) -> Subscribe:
    channel = _required(data, "channel")
    try:
        return Subscribe(channel, _text(data, "auth") or "", _text(data, "channel_data"))
    except BadMessage:
        # No site signed that: refused by the channel where a signature is needed, so that the
        # channel hears of it, and ignored where none is.
        return Subscribe(channel)


def _parameters(body: dict[str, Any]) -> dict[str, Any]:
    """``data`` of a ``pusher:`` message: an object, or a string holding one."""
    data = body.get("data")
    if isinstance(data, str) and data:
        data = load_json(data)
    return data if isinstance(data, dict) else {}


def _text(data: dict[str, Any], name: str) -> str | None:
    value = data.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not is_encodable(value):
        raise BadMessage(f"Invalid parameter: data.{name} must be a string")
    return value


def _required(data: dict[str, Any], name: str) -> str:
    value = _text(data, name)
    if value is None:
        raise BadMessage(f"Missing parameter: data.{name}")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("number out of range")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _gap(text: str, at: int) -> int:
    """The first index from *at* on that is not JSON white space."""
    match = _WHITE_SPACE.match(text, at)
    return match.end() if match else at


_WHITE_SPACE: Final = re.compile(r"[ \t\n\r]*")
_DECODER: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)

# ---- outgoing ---------------------------------------------------------------------------

PING: Final = '{"event":"pusher:ping","data":"{}"}'
PONG: Final = '{"event":"pusher:pong","data":"{}"}'


def encode_connection_established(socket_id: str, activity_timeout: int) -> str:
    """The first message of every connection; the timeout is in seconds and never 0.

    >>> encode_connection_established("1.2", 120)
    '{"event":"pusher:connection_established","data":"{\\\\"socket_id\\\\":\\\\"1.2\\\\",\\\\"activity_timeout\\\\":120}"}'
    """
    data = f'{{"socket_id":"{socket_id}","activity_timeout":{activity_timeout}}}'
    return f'{{"event":"pusher:connection_established","data":{quote(data)}}}'


def encode_error(error: ProtocolError) -> str:
    """The answer to a refused message: ``data`` is an object here, and only here.

    >>> encode_error(BadMessage("no"))
    '{"event":"pusher:error","data":{"code":null,"message":"no"}}'
    """
    code = "null" if error.code is None else error.code
    return f'{{"event":"pusher:error","data":{{"code":{code},"message":{quote(str(error))}}}}}'


def encode_subscription_error(channel: str, error: SubscriptionRefused) -> str:
    """Tells the channel why it is refused, as clones do; Pusher's own error names no channel.

    >>> encode_subscription_error("private-x", SubscriptionRefused("no"))
    '{"event":"pusher:subscription_error","channel":"private-x","data":"{\\\\"type\\\\":\\\\"AuthError\\\\",\\\\"error\\\\":\\\\"no\\\\",\\\\"status\\\\":401}"}'
    """
    data = f'{{"type":"{error.type}","error":{quote(error.summary)},"status":{error.status}}}'
    return encode_event("pusher:subscription_error", channel, data)


def encode_subscription_succeeded(channel: str, members: Iterable[Member] | None = None) -> str:
    """The answer to ``pusher:subscribe``; *members* on presence channels, once per user.

    >>> encode_subscription_succeeded("room")
    '{"event":"pusher_internal:subscription_succeeded","channel":"room","data":"{}"}'
    """
    data = "{}" if members is None else encode_members(members)
    return encode_event("pusher_internal:subscription_succeeded", channel, data)


def encode_members(members: Iterable[Member]) -> str:
    """The members of a presence channel as its subscribers get them.

    >>> encode_members([Member("10", '{"name":"Ann"}'), Member("11")])
    '{"presence":{"count":2,"ids":["10","11"],"hash":{"10":{"name":"Ann"},"11":null}}}'
    """
    pairs = {quote(member.user_id): member.user_info or "null" for member in members}
    entries = ",".join(f"{user_id}:{info}" for user_id, info in pairs.items())
    return f'{{"presence":{{"count":{len(pairs)},"ids":[{",".join(pairs)}],"hash":{{{entries}}}}}}}'


def encode_member_added(channel: str, member: Member) -> str:
    """A user came.

    >>> encode_member_added("presence-x", Member("11"))
    '{"event":"pusher_internal:member_added","channel":"presence-x","data":"{\\\\"user_id\\\\":\\\\"11\\\\"}"}'
    """
    info = f',"user_info":{member.user_info}' if member.user_info else ""
    data = f'{{"user_id":{quote(member.user_id)}{info}}}'
    return encode_event("pusher_internal:member_added", channel, data)


def encode_member_removed(channel: str, user_id: str) -> str:
    """A user's last connection left.

    >>> encode_member_removed("presence-x", "11")
    '{"event":"pusher_internal:member_removed","channel":"presence-x","data":"{\\\\"user_id\\\\":\\\\"11\\\\"}"}'
    """
    data = f'{{"user_id":{quote(user_id)}}}'
    return encode_event("pusher_internal:member_removed", channel, data)


def encode_watchlist_events(online: Iterable[str], offline: Iterable[str]) -> str | None:
    """Who of those a user watches is online and who is not; ``None`` if that is nobody.

    >>> encode_watchlist_events(["7"], [])
    '{"event":"pusher_internal:watchlist_events","data":"{\\\\"events\\\\":[{\\\\"name\\\\":\\\\"online\\\\",\\\\"user_ids\\\\":[\\\\"7\\\\"]}]}"}'
    """
    lists = {"online": list(online), "offline": list(offline)}
    events = ",".join(
        f'{{"name":"{name}","user_ids":[{",".join(map(quote, user_ids))}]}}'
        for name, user_ids in lists.items()
        if user_ids
    )
    data = f'{{"events":[{events}]}}'
    return (
        f'{{"event":"pusher_internal:watchlist_events","data":{quote(data)}}}' if events else None
    )


def encode_subscription_count(channel: str, count: int) -> str:
    """How many connections are subscribed.

    >>> encode_subscription_count("x", 5)
    '{"event":"pusher_internal:subscription_count","channel":"x","data":"{\\\\"subscription_count\\\\":5}"}'
    """
    data = f'{{"subscription_count":{count}}}'
    return encode_event("pusher_internal:subscription_count", channel, data)


def encode_cache_miss(channel: str) -> str:
    """A cache channel has no event yet.

    >>> encode_cache_miss("cache-x")
    '{"event":"pusher:cache_miss","channel":"cache-x","data":"{}"}'
    """
    return encode_event("pusher:cache_miss", channel, "{}")


def encode_signin_success(user_data: str) -> str:
    """The answer to ``pusher:signin``: the very text the client sent, inside two strings.

    >>> encode_signin_success('{}')
    '{"event":"pusher:signin_success","data":"{\\\\"user_data\\\\":\\\\"{}\\\\"}"}'
    """
    data = f'{{"user_data":{quote(user_data)}}}'
    return f'{{"event":"pusher:signin_success","data":{quote(data)}}}'


def encode_event(event: str, channel: str, data: str, *, user_id: str | None = None) -> str:
    """One channel event as the text of one frame.

    ``data`` is text already, usually JSON.  The protocol carries it as a JSON string, so it
    is quoted here and never parsed.

    >>> encode_event("greet", "room", "[1]")
    '{"event":"greet","channel":"room","data":"[1]"}'
    """
    sender = "" if user_id is None else f',"user_id":{quote(user_id)}'
    return f'{{"event":{quote(event)},"channel":{quote(channel)},"data":{quote(data)}{sender}}}'
