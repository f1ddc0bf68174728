"""Signatures of channel subscriptions, sign-ins and HTTP requests.

All three use one secret, so one must never be taken for another.  Each function takes
typed parts, checks their form, and only then builds the text to sign: a channel name
without colons cannot imitate ``::user::``, and no socket id starts with ``POST``.

Source: Pusher docs, "Auth signatures" and "HTTP API", Generating authentication
signatures; ``pusher/pusher-signature`` for the order of checks and their texts.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl

from realtime.protocol.app import App, Token
from realtime.protocol.errors import BadMessage, SignatureError, StaleTimestamp, SubscriptionRefused
from realtime.protocol.names import is_channel_name, is_socket_id

REQUEST_AGE_SECONDS: Final = 600
"""Pusher HTTP API: how far ``auth_timestamp`` may be from the server's clock."""

_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")


def sign_channel(app: App, *, socket_id: str, channel: str, channel_data: str | None = None) -> str:
    """The ``auth`` of a subscription, ``KEY:HEX``.

    Raises:
        ValueError: *socket_id* or *channel* has not the form of one; nothing was signed.
    """
    if not is_socket_id(socket_id):
        raise ValueError("Invalid socket_id")
    if not is_channel_name(channel, app.limits):
        raise ValueError("Invalid channel name")
    return f"{app.key}:{_hex(app.secret, _channel_text(socket_id, channel, channel_data))}"


def sign_user(app: App, *, socket_id: str, user_data: str) -> str:
    """The ``auth`` of a sign-in, ``KEY:HEX``.

    Raises:
        ValueError: *socket_id* has not the form of one; nothing was signed.
    """
    if not is_socket_id(socket_id):
        raise ValueError("Invalid socket_id")
    return f"{app.key}:{_hex(app.secret, f'{socket_id}::user::{user_data}')}"


def sign_webhook(token: Token, body: bytes) -> str:
    """The ``X-Pusher-Signature`` of a webhook: over the bytes that are sent."""
    return hmac.new(token.secret.encode(), body, hashlib.sha256).hexdigest()


def verify_channel_auth(
    app: App, auth: str, *, socket_id: str, channel: str, channel_data: str | None
) -> None:
    """Check the ``auth`` token of a ``pusher:subscribe`` message.

    The signed text is ``socket_id:channel`` or ``socket_id:channel:channel_data``.
    ``channel_data`` must be the very text the client sent: encoding the JSON again changes
    the bytes and breaks the signature.

    Raises:
        SubscriptionRefused: wrong key or wrong signature.
    """
    text = _channel_text(socket_id, channel, channel_data)
    key, _, signature = auth.partition(":")
    secret = _secret_of(app, key)
    if secret is None:
        raise SubscriptionRefused(
            f"Invalid key in subscription auth data: '{_shown(auth)}'", "Invalid signature"
        )
    if not _same(signature, _hex(secret, text)):
        raise SubscriptionRefused(_mismatch(text, signature), "Invalid signature")


def verify_user_auth(app: App, auth: str, *, socket_id: str, user_data: str) -> None:
    """Check the ``auth`` token of a ``pusher:signin`` message.

    Raises:
        BadMessage: wrong key or wrong signature.
    """
    text = f"{socket_id}::user::{user_data}"
    key, _, signature = auth.partition(":")
    secret = _secret_of(app, key)
    if secret is None:
        raise BadMessage(f"Invalid key in signin auth data: '{_shown(auth)}'")
    if not _same(signature, _hex(secret, text)):
        raise BadMessage(_mismatch(text, signature))


def sign_request(app: App, method: str, path: str, query: Iterable[tuple[str, str]]) -> str:
    """The ``auth_signature`` of an HTTP request, over decoded names and values."""
    return _hex(app.secret, request_text(method, path, query))


def read_query(text: str) -> list[tuple[str, str]]:
    """The parameters of a query string, decoded, in the order received.

    >>> read_query("auth_key=k&name=%C3%A4&empty=")
    [('auth_key', 'k'), ('name', 'ä'), ('empty', '')]
    """
    if "%" in text or "+" in text:
        return parse_qsl(text, keep_blank_values=True)
    # As the official libraries send it: nothing is to be decoded, which is most of the work.
    parts = [part.partition("=") for part in text.split("&") if part]
    return [(name, value) for name, _, value in parts]


def request_text(method: str, path: str, query: Iterable[tuple[str, str]]) -> str:
    """What an HTTP request signs: method, path and sorted parameters, one per line.

    Names are lower-cased; repeated names (``channels[]``) keep their order.
    """
    pairs = sorted(((name.lower(), value) for name, value in query), key=lambda pair: pair[0])
    parameters = "&".join(f"{name}={value}" for name, value in pairs if name != "auth_signature")
    return f"{method.upper()}\n{path}\n{parameters}"


def verify_request(
    app: App,
    *,
    method: str,
    paths: Sequence[str],
    query: Sequence[tuple[str, str]],
    body: bytes,
    now: float,
) -> None:
    """Check the signature of an HTTP API request.

    Args:
        paths: the spellings under which a library may have signed the path: as sent and
            percent-decoded, with and without the prefix the site is mounted below.
        query: decoded once, in the order received.
        body: the bytes as received; encoding the JSON again breaks the digest.
        now: Unix seconds.

    Raises:
        SignatureError: with the text of Pusher's published verifier.
    """
    given = single_parameters(query)
    if "auth_version" not in given:
        raise SignatureError("Version required")
    if given["auth_version"] != "1.0":
        raise SignatureError("Version not supported")
    _check_timestamp(given.get("auth_timestamp"), now)
    _check_body_digest(given.get("body_md5"), body)
    secret = _secret_of(app, given.get("auth_key", app.key))
    if secret is None:
        raise SignatureError("Unknown auth_key")
    signature = given.get("auth_signature", "")
    texts = [request_text(method, path, query) for path in dict.fromkeys(paths)]
    # Every spelling is compared, so the time taken does not tell which one matched.
    matches = [_same(signature, _hex(secret, text)) for text in texts]
    if not any(matches):
        shown = ascii(texts[0][:400])[1:-1]
        raise SignatureError(
            f'Invalid signature: you should have sent HmacSHA256Hex("{shown}", your_secret_key),'
            f' but you sent "{_shown(signature)}"'
        )


def single_parameters(query: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The parameters that are no lists, by lower-cased name.

    Raises:
        SignatureError: a name is repeated; two readers could disagree on its value.
    """
    given: dict[str, str] = {}
    for name, value in query:
        lowered = name.lower()
        if lowered.endswith("[]"):
            continue
        if lowered in given:
            raise SignatureError(f"Repeated parameter: {ascii(lowered[:60])[1:-1]}")
        given[lowered] = value
    return given


def _check_timestamp(text: str | None, now: float) -> None:
    if text is None or not _TIMESTAMP.fullmatch(text):
        raise SignatureError("Timestamp required")
    if abs(now - int(text)) >= REQUEST_AGE_SECONDS:
        given = _iso(int(text))
        raise StaleTimestamp(
            f"Timestamp expired: Given timestamp ({given}) not within {REQUEST_AGE_SECONDS}s"
            f" of server time ({_iso(int(now))})"
        )


def _check_body_digest(digest: str | None, body: bytes) -> None:
    if digest is None:
        if body:
            raise SignatureError("Missing parameter: body_md5")
        return
    # A checksum the protocol asks for, not security: the signature covers it.
    if not _same(digest, hashlib.md5(body, usedforsecurity=False).hexdigest()):
        raise SignatureError("Invalid body_md5: it is not the MD5 of the body received")


def _channel_text(socket_id: str, channel: str, channel_data: str | None) -> str:
    parts = [socket_id, channel] if channel_data is None else [socket_id, channel, channel_data]
    return ":".join(parts)


def _secret_of(app: App, key: str) -> str | None:
    """The secret that signs for *key*, which may be one about to be retired."""
    found = None
    for token in app.tokens:
        if _same(key, token.key):
            found = token.secret
    return found


def _hex(secret: str, text: str) -> str:
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()


def _same(given: str, expected: str) -> bool:
    # On bytes: compare_digest raises for non-ASCII text, which a client may well send.
    return hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())


def _mismatch(text: str, signature: str) -> str:
    return (
        f"Invalid signature: Expected HMAC SHA256 hex digest of {_shown(text, 400)},"
        f" but got {_shown(signature)}"
    )


def _shown(text: str, most: int = 100) -> str:
    """What a peer sent, short enough and printable enough to send back."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:most])


def _iso(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return "out of range"
