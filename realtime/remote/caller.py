"""Calls the HTTP API of a running server as the official libraries do, with nothing but Python."""

import hashlib
import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from realtime.protocol.app import App
from realtime.protocol.errors import RealtimeError
from realtime.protocol.signing import sign_request

CALL_SECONDS: Final = 10.0
"""Ours: how long the server may take to answer."""


class InvalidUrl(RealtimeError, ValueError):
    """No address of a server."""


class Unreachable(OSError):
    """Nobody accepts connections there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    text: str
    headers: Mapping[str, str]
    """By lower-case name."""

    def json(self) -> Any:
        """The body, or ``None`` where it is no JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


class Caller:
    """Signs and sends requests of one app; follows no redirect.

    Args:
        url: where the site includes ``realtime.urls``, like ``http://127.0.0.1:8000``.

    Raises:
        InvalidUrl: it is no URL of HTTP.
    """

    def __init__(self, url: str, app: App) -> None:
        try:
            parts = urlsplit(url)
            host, port, prefix = parts.hostname or "", parts.port, quote(parts.path.rstrip("/"))
            host.encode("idna")  # as it is looked up
            http.client.HTTPConnection(host, 80)  # looks for spaces and the like, connects later
        except (ValueError, http.client.InvalidURL):  # UnicodeError is a ValueError
            host = ""
        if not host or parts.scheme not in ("http", "https"):
            raise InvalidUrl(f"{url!r} is not a URL like http://127.0.0.1:8000")
        self._app = app
        self._host, self._port, self._is_secure = host, port, parts.scheme == "https"
        self._prefix = prefix

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Sequence[tuple[str, str]] = (),
        *,
        app: App | None = None,
        now: float | None = None,
    ) -> Answer:
        """One call below ``/apps/ID``, or of an absolute *path* that begins with two slashes.

        Args:
            app: who signs, if not the one whose path is called.
            now: Unix seconds to sign with, if not those of this machine's clock.

        Raises:
            OSError: the server cannot be reached.
        """
        path = path.removeprefix("/") if path.startswith("//") else f"/apps/{self._app.id}{path}"
        raw = b"" if body is None else json.dumps(body).encode()
        signer = app or self._app
        pairs = [
            *query,
            ("auth_key", signer.key),
            ("auth_timestamp", str(int(time.time() if now is None else now))),
            ("auth_version", "1.0"),
        ]
        if raw:
            # A checksum the protocol asks for, not security: the signature covers it.
            pairs.append(("body_md5", hashlib.md5(raw, usedforsecurity=False).hexdigest()))
        pairs.append(("auth_signature", sign_request(signer, method, path, pairs)))
        return self.send(method, f"{path}?{urlencode(pairs)}", raw)

    def send(
        self, method: str, target: str, raw: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request as it is, below the prefix of the site.

        Raises:
            Unreachable: nobody is there.
            OSError: whoever is there does not answer.
        """
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=CALL_SECONDS)
        try:
            try:
                connection.connect()
            except OSError as error:
                place = f"{connection.host}:{connection.port}"
                raise Unreachable(f"no connection to {place}: {error}") from error
            given = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, self._prefix + target, raw or None, given)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, text, found)
        except http.client.HTTPException as error:
            raise OSError(f"no answer of HTTP: {error!r}") from error
        finally:
            connection.close()
