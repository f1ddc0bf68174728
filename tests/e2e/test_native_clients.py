"""Clients that behave as the official ones for Java, Swift and .NET do, after their sources.

What they share: they read the data of every message as a string, that of errors as an object.
Java speaks protocol 5, pings without data and sends strings.  Swift offers a sub-protocol and
pings with the WebSocket's own pings.  .NET speaks protocol 5 and pings once a second.
"""

import http.client
import json
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest

from tests.e2e.wire import PATIENCE, Wire, wire


@dataclass(frozen=True)
class Kind:
    """How the clients of one platform connect and talk."""

    query: str
    subprotocols: tuple[str, ...] = ()
    pings_in_messages: bool = False
    sends_strings: bool = False


KINDS = {
    "Java": Kind(
        "client=java-client&protocol=5&version=2.4.4", pings_in_messages=True, sends_strings=True
    ),
    "Swift": Kind(
        "client=swift&version=10.1.5&protocol=7", subprotocols=("pusher-channels-protocol-7",)
    ),
    ".NET": Kind("protocol=5&client=pusher-dotnet-client&version=2.1.0"),
}


class Native:
    """A connection that trips over data of the wrong type, as the native clients do."""

    def __init__(self, kind: Kind, connection: Wire, server, pusher) -> None:
        self.kind = kind
        self.wire = connection
        self._server = server
        self._pusher = pusher

    def read(self, event):
        """The next message, which is *event*, with its data decoded."""
        message = self.wire.receive()
        assert message["event"] == event, message
        if event == "pusher:error":
            assert isinstance(message["data"], dict)
            return message
        assert isinstance(message["data"], str), message
        return {**message, "data": json.loads(message["data"])}

    def subscribe(self, channel, **authorization):
        self.wire.send("pusher:subscribe", {"channel": channel, **authorization})
        return self.read("pusher_internal:subscription_succeeded")["data"]

    def subscribe_signed(self, channel, member=None):
        """Subscribe with what a back end signs."""
        return self.subscribe(
            channel, **self._pusher.authenticate(channel, self.wire.socket_id, member)
        )

    def ask_site(self, channel, user):
        """What the auth endpoint of the site answers to the form all three post."""
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=PATIENCE)
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Authorization": f"Token {user.token}",
        }
        form = urlencode({"channel_name": channel, "socket_id": self.wire.socket_id})
        try:
            connection.request("POST", "/pusher/auth", form, headers)
            answer = connection.getresponse()
            assert answer.status == 200
            return json.loads(answer.read())
        finally:
            connection.close()

    def trigger(self, channel, event, data):
        """A client event; the Java client turns *data* into a string first."""
        self.wire.send(
            event, json.dumps(data) if self.kind.sends_strings else data, channel=channel
        )

    def is_alive(self):
        """The answer to the ping of this kind of client is next, or there is none."""
        if not self.kind.pings_in_messages:
            return self.wire.socket.ping().wait(PATIENCE)
        self.wire.socket.send('{"event": "pusher:ping"}')
        return self.wire.receive() == {"event": "pusher:pong", "data": "{}"}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def kind(request):
    return request.param


@pytest.fixture
def new_native(site, kind, pusher):
    """Makes connected clients of one kind."""
    with ExitStack() as stack:

        def start(*, at=None):
            server = at or site.first
            options = {"subprotocols": kind.subprotocols or None, "ping_interval": None}
            connection = stack.enter_context(wire(server, site.app.key, kind.query, **options))
            return Native(kind, connection, server, pusher)

        yield start


@pytest.mark.spec(6, 26, 48, 49, 229)
def test_it_connects_and_stays(new_native, kind):
    client = new_native()

    assert client.wire.socket.subprotocol == next(iter(kind.subprotocols), None)
    # As many pings as a .NET client sends in half a minute.
    assert all(client.is_alive() for _ in range(30))


@pytest.mark.spec(62, 229)
def test_it_gets_the_events_of_a_public_channel(new_native, pusher, channel):
    client = new_native()
    assert client.subscribe(channel) == {}

    pusher.trigger(channel, "greet", {"text": "Grüße"})

    assert client.read("greet")["data"] == {"text": "Grüße"}


@pytest.mark.spec(84, 97, 229)
def test_it_reads_who_is_there_and_who_comes_and_goes(new_native, site, unique):
    channel = unique("presence-")
    witness, other = new_native(), new_native(at=site.last)

    shown = witness.subscribe_signed(channel, {"user_id": "1", "user_info": {"name": "Ann"}})
    other.subscribe_signed(channel, {"user_id": "2"})
    added = witness.read("pusher_internal:member_added")
    other.wire.send("pusher:unsubscribe", {"channel": channel})
    removed = witness.read("pusher_internal:member_removed")

    assert shown["presence"] == {"count": 1, "ids": ["1"], "hash": {"1": {"name": "Ann"}}}
    assert added["data"]["user_id"] == "2"
    assert removed["data"] == {"user_id": "2"}


@pytest.mark.spec(124, 130, 229)
@pytest.mark.parametrize("prefix", ["private-", "presence-"])
def test_it_sends_and_gets_client_events(new_native, site, unique, prefix):
    channel = unique(prefix)
    sender, other = new_native(), new_native(at=site.last)
    member = {"user_id": "1"} if prefix == "presence-" else None
    for client in (sender, other):
        client.subscribe_signed(channel, member)

    sender.trigger(channel, "client-typing", {"on": True})

    event = other.read("client-typing")
    assert (event["data"], event.get("user_id")) == ({"on": True}, "1" if member else None)


@pytest.mark.spec(223, 229)
def test_it_asks_the_site(new_native, site, unique):
    client, user = new_native(), site.new_user()
    private, presence = unique("private-"), unique("presence-own-data-")

    client.subscribe(private, **client.ask_site(private, user))
    shown = client.subscribe(presence, **client.ask_site(presence, user))

    assert shown["presence"]["ids"] == [user.id]


@pytest.mark.spec(32, 229)
def test_it_survives_a_refusal(new_native, unique):
    client = new_native()

    client.wire.send("pusher:subscribe", {"channel": unique("private-"), "auth": "e2e-key:00"})

    assert client.read("pusher:error")["data"]["code"] is None
    assert client.read("pusher:subscription_error")["data"]["status"] == 401
    assert client.is_alive()
