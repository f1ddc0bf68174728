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
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise InvalidUrl(f"{url!r} is not a URL like http://127.0.0.1:8000")
        self._app = app
        self._host, self._port, self._is_secure = parts.hostname, port, parts.scheme == "https"
        self._prefix = parts.path.rstrip("/")

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
            OSError: the server cannot be reached.
        """
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=CALL_SECONDS)
        try:
            given = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, quote(self._prefix) + target, raw or None, given)
            answer = connection.getresponse()
            text = answer.read().decode("utf-8", "replace")
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, text, found)
        except http.client.HTTPException as error:
            raise OSError(f"no answer of HTTP: {error!r}") from error
        finally:
            connection.close()
