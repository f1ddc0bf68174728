"""A WebSocket client of a running server, which signs its subscriptions with the app's secret.

Needs the package ``websockets``, which the extra ``uvicorn`` brings: nothing but the commands
imports this module.
"""

import json
import time
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.sync.client import connect

from realtime.protocol.app import App
from realtime.protocol.errors import RealtimeError
from realtime.protocol.names import kind_of
from realtime.protocol.signing import sign_channel, sign_user

OPEN_SECONDS: Final = 10.0
"""Ours: how long the handshake, and any answer that is waited for, may take."""

CLOSE_SECONDS: Final = 0.5
"""Ours: how long the close may take that follows some errors; nothing else does."""


class WireLost(RealtimeError):
    """The connection could not be made, or has ended; ``code`` is that of the close frame."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class Wire:
    """One connection whose greeting was read.

    Args:
        url: where the site includes ``realtime.urls``, like ``http://127.0.0.1:8000``.

    Raises:
        WireLost: there is no such server, or it refused.
    """

    def __init__(self, url: str, app: App) -> None:
        parts = urlsplit(url)
        scheme = "wss" if parts.scheme == "https" else "ws"
        path = f"{parts.path.rstrip('/')}/app/{app.key}"
        place = urlunsplit((scheme, parts.netloc, path, "", ""))
        self._app = app
        self._open = ExitStack()
        try:
            self._socket = self._open.enter_context(
                # A proxy of the environment is meant for the internet.
                connect(
                    f"{place}?protocol=7&client=realtime-command&version=1",
                    open_timeout=OPEN_SECONDS,
                    max_size=None,
                    proxy=None,
                )
            )
        except (OSError, WebSocketException) as error:
            raise WireLost(f"no WebSocket at {place}: {error}") from error
        try:
            greeting = self.wait_for("pusher:connection_established")
        except BaseException:
            self.close()
            raise
        self.socket_id = str(greeting["data"]["socket_id"])
        self.activity_seconds = float(greeting["data"].get("activity_timeout", 120))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self._open.close()

    def say(self, event: str, data: object = None, **members: object) -> None:
        """Send one message.

        Raises:
            WireLost: the connection has ended.
        """
        try:
            self._socket.send(json.dumps({"event": event, "data": data or {}, **members}))
        except ConnectionClosed as error:
            raise _lost(error) from error

    def receive(self, seconds: float = OPEN_SECONDS) -> dict[str, Any]:
        """The next message; data of ``pusher:`` and ``pusher_internal:`` is parsed.

        Raises:
            TimeoutError: none came.
            WireLost: the connection has ended.
        """
        try:
            message: dict[str, Any] = json.loads(self._socket.recv(timeout=seconds))
        except ConnectionClosed as error:
            raise _lost(error) from error
        data, event = message.get("data"), str(message.get("event"))
        if isinstance(data, str) and event.startswith(("pusher:", "pusher_internal:")):
            message["data"] = json.loads(data)
        return message

    def wait_for(
        self, event: str, channel: str | None = None, seconds: float = OPEN_SECONDS
    ) -> dict[str, Any]:
        """The next message of that name; those before it are dropped.

        Raises:
            TimeoutError: it did not come.
            WireLost: the connection has ended; the message says what the server said last.
        """
        end, complaint = time.monotonic() + seconds, ""
        while (left := end - time.monotonic()) > 0:
            try:
                message = self.receive(left)
            except WireLost as error:
                raise WireLost(f"{error}{complaint}", error.code) from error
            except TimeoutError:
                break
            if message["event"] == event and channel in (None, message.get("channel")):
                return message
            if message["event"] in ("pusher:error", "pusher:subscription_error"):
                complaint = f"; {message['event']} {message.get('data')}"
                end = min(end, time.monotonic() + CLOSE_SECONDS)
        raise TimeoutError(f"no {event}{complaint or f' within {seconds:g} seconds'}")

    def ask(self, channel: str, channel_data: str | None = None, auth: str | None = None) -> None:
        """Subscribe, signed where the channel needs it; do not wait for the answer."""
        data = {"channel": channel}
        if kind_of(channel).needs_auth:
            data["auth"] = auth or sign_channel(
                self._app, socket_id=self.socket_id, channel=channel, channel_data=channel_data
            )
            if channel_data is not None:
                data["channel_data"] = channel_data
        self.say("pusher:subscribe", data)

    def subscribe(self, channel: str, channel_data: str | None = None) -> dict[str, Any]:
        """Subscribe and wait; the data of the success frame."""
        self.ask(channel, channel_data)
        answer = self.wait_for("pusher_internal:subscription_succeeded", channel)
        return dict(answer["data"] or {})

    def sign_in(self, user_data: str) -> None:
        """Sign in as the user in the JSON *user_data*."""
        auth = sign_user(self._app, socket_id=self.socket_id, user_data=user_data)
        self.say("pusher:signin", {"auth": auth, "user_data": user_data})
        self.wait_for("pusher:signin_success")


def _lost(error: ConnectionClosed) -> WireLost:
    code = error.rcvd.code if error.rcvd is not None else None
    reason = f" {error.rcvd.reason}" if error.rcvd is not None and error.rcvd.reason else ""
    return WireLost(f"the connection ended with {code or 'no close frame'}{reason}", code)
