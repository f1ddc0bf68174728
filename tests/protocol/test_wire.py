"""Conversations with real clients, replayed.  A bug report becomes a line in ``tests/wire``.

The first line of a file says who talked: the client, the query it connected with, the app,
the socket id all signatures are bound to, who else was in a presence channel, and what the
others received of its client events.  Every further line is one message.

``pusher_js_*`` were recorded between pusher-js 8.6.0 and a running server; the native clients
are written by hand after their sources.
"""

import json
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from realtime.protocol.admission import check_handshake
from realtime.protocol.app import App
from realtime.protocol.connection import Connection
from realtime.protocol.effects import Effect, Identify, Join, Publish, Send
from realtime.protocol.messages import Member, encode_event, encode_subscription_succeeded

CONVERSATIONS = sorted((Path(__file__).parent.parent / "wire").glob("*.jsonl"))


class Replay:
    """A server of one connection, whose clock stands still until there is nothing to say."""

    def __init__(self, header: dict[str, Any]) -> None:
        app = App(**header["app"])
        client = check_handshake(app, header["query"], secure=False, connections=0)
        self._connection = Connection(
            app,
            header["socket_id"],
            now=0,
            answers_ping=client == "js",
            ping_seconds=header.get("ping_seconds", 60),
        )
        self._present = header.get("present", {})
        self._now = 0.0
        self._to_send: deque[str] = deque()
        self.published: list[str] = []
        self._apply(self._connection.open())

    @property
    def silent(self) -> bool:
        """Whether the client has got everything."""
        return not self._to_send

    def client(self, text: str) -> None:
        self._apply(self._connection.receive(text, self._now))

    def server(self) -> str:
        """The next message to the client, as soon as there is one."""
        if self.silent:
            self._now += self._connection.seconds_to_tick(self._now) or 0
            self._apply(self._connection.tick(self._now))
        assert self._to_send, "the server has nothing to say"
        return self._to_send.popleft()

    def _apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(text):
                    self._to_send.append(text)
                case Join(channel, member):
                    self._apply(self._connection.joined(channel, self._listed(channel, member)))
                case Identify(user):
                    self._apply(self._connection.identified(user))
                case Publish(channel, event, data, user_id):
                    self.published.append(encode_event(event, channel, data, user_id=user_id))

    def _listed(self, channel: str, member: Member | None) -> str | None:
        if member is None:
            return None
        others = [Member(**other) for other in self._present.get(channel, [])]
        return encode_subscription_succeeded(channel, [*others, member])


@pytest.mark.spec(229)  # by java.jsonl, swift.jsonl and dotnet.jsonl
@pytest.mark.spec(
    *(6, 15, 21, 23, 25, 27, 40, 55, 59, 60, 62, 63, 64, 68, 69, 70, 71, 72, 73, 74, 76, 77),
    *(80, 81, 84, 85, 86, 87, 88, 98, 99, 101, 102, 103, 121, 124, 125, 126, 127, 128, 130, 131),
    *(132, 137, 138, 139, 141, 142, 143),
)
@pytest.mark.parametrize("path", CONVERSATIONS, ids=lambda path: path.stem)
def test_a_conversation_goes_as_it_went(path):
    header, *lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    replay = Replay(header)

    for line in lines:
        if line["from"] == "client":
            replay.client(line["text"])
        else:
            assert replay.server() == line["text"]

    assert replay.silent
    assert replay.published == header["published"]
