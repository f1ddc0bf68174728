"""A WebSocket without a client library: sends whatever it is told to."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Never

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.e2e.sites import Server

PATIENCE = 15
QUERY = "protocol=7&client=test&version=8.6.0"


class Wire:
    """One open connection; ``socket_id`` is known and the handshake is read."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        handshake = self.receive()
        assert handshake["event"] == "pusher:connection_established"
        self.socket_id = json.loads(handshake["data"])["socket_id"]

    def send(self, event: str, data: object = None, **members: object) -> None:
        self.socket.send(json.dumps({"event": event, "data": data or {}, **members}))

    def receive(self, patience: float = PATIENCE) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.socket.recv(timeout=patience))
        return message

    def wait_for(self, event: str, patience: float = PATIENCE) -> dict[str, Any]:
        """The next frame *event*; frames before it are read and dropped."""
        while (message := self.receive(patience))["event"] != event:
            pass
        return message

    def closing_code(self) -> int | None:
        """The code the server closes with; frames before it are read and dropped."""
        with pytest.raises(ConnectionClosed):
            self._read_on()
        return self.socket.close_code

    def _read_on(self) -> Never:
        while True:
            self.receive()

    def subscribe(self, channel: str) -> None:
        self.send("pusher:subscribe", {"channel": channel})
        self.wait_for("pusher_internal:subscription_succeeded")

    def answers_ping(self) -> bool:
        self.send("pusher:ping")
        return self.wait_for("pusher:pong") is not None


@contextmanager
def wire(server: Server, key: str, query: str = QUERY, **options: Any) -> Iterator[Wire]:
    """An open connection to *server*."""
    url = f"ws://127.0.0.1:{server.port}/app/{key}?{query}"
    with connect(url, max_size=None, **options) as socket:
        yield Wire(socket)


def refusal(server: Server, path: str, **options: Any) -> tuple[int, str, int | None, str | None]:
    """Code and message of the error by which a handshake is refused, code and reason of the end."""
    with connect(f"ws://127.0.0.1:{server.port}{path}?{QUERY}", **options) as socket:
        error = json.loads(socket.recv(timeout=PATIENCE))
        assert error["event"] == "pusher:error"
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=PATIENCE)
    return error["data"]["code"], error["data"]["message"], socket.close_code, socket.close_reason
