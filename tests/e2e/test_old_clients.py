"""Clients of third parties and of years ago, unmodified: they still find what they expect.

npm pusher-client 1.1.0 and PyPI Pysher 1.0.8 sign by themselves, with the secret, or ask the
site.  The plugin pusher-js-auth 4.0.1 asks for many channels at once.
"""

import json
import logging
from collections import deque
from threading import Condition

import pysher
import pytest

from tests.e2e.nodejs import PATIENCE, Client, Node


@pytest.fixture(scope="session")
def old_node(tmp_path_factory):
    """A process full of npm pusher-client clients."""
    process = Node("old_client.mjs", tmp_path_factory.mktemp("node") / "old.log")
    yield process
    process.close()


@pytest.fixture
def old_client(old_node, site, unique):
    """Makes connected clients of npm pusher-client: ``old_client(user, **options)``."""
    made = []

    def start(user=None, *, at=None, **options):
        client = Client(old_node, unique("old-"))
        client.connect(at or site.first, site.app.key, user, **options)
        made.append(client)
        client.wait_for_state("connected")
        return client

    yield start
    for client in made:
        client.call("disconnect")


# ---- npm pusher-client ------------------------------------------------------------------


@pytest.mark.spec(225)
def test_pusher_client_signs_for_private_channels_by_itself(old_client, site, pusher, unique):
    channel = unique("private-")
    sender, other = (old_client(secret=site.app.secret, at=at) for at in (site.first, site.last))
    for client in (sender, other):
        client.subscribe(channel)
        for event in ("greet", "client-typing"):
            client.call("bind", channel=channel, event=event)

    pusher.trigger(channel, "greet", {"text": "Grüße"})
    assert other.wait_for("greet", on=channel).data == {"text": "Grüße"}

    sender.trigger(channel, "client-typing", {"on": True})
    assert other.wait_for("client-typing", on=channel).data == {"on": True}


@pytest.mark.spec(225)
def test_pusher_client_shows_its_channel_data(old_client, site, unique):
    channel = unique("presence-")
    ann, bob = (
        {"user_id": name, "user_info": {"name": name.upper()}} for name in (unique("ann-"), "bob")
    )
    witness = old_client(secret=site.app.secret, channel_data=ann)
    witness.subscribe(channel)
    newcomer = old_client(secret=site.app.secret, channel_data=bob, at=site.last)

    members = newcomer.subscribe(channel)

    assert members["count"] == 2
    assert members["myID"] == "bob"
    assert members["members"] == {item["user_id"]: item["user_info"] for item in (ann, bob)}
    added = witness.wait_for("pusher:member_added", on=channel).data
    assert added == {"id": "bob", "info": {"name": "BOB"}}
    newcomer.call("unsubscribe", channel=channel)
    assert witness.wait_for("pusher:member_removed", on=channel).data["id"] == "bob"


@pytest.mark.spec(225)
def test_pusher_client_asks_the_site(old_client, site, unique):
    user, channel = site.new_user(), unique("presence-own-data-")
    client = old_client(user)

    client.subscribe(unique("private-"))
    members = client.subscribe(channel)

    assert members["myID"] == user.id
    assert members["members"][user.id]["name"] == user.name


@pytest.mark.spec(225)
def test_pusher_client_survives_a_refusal(old_client, site, pusher, unique, channel):
    client = old_client(secret="guessed")

    client.call("subscribe", channel=unique("private-"))

    assert client.wait_for("error", on="connection").data["data"]["code"] is None
    assert client.wait_for("pusher:subscription_error").data["status"] == 401
    client.subscribe(channel)


# ---- Pysher -----------------------------------------------------------------------------


class Pysher:
    """A Pysher client whose messages are kept until somebody waits for them."""

    def __init__(self, server, key, **options):
        self.pusher = pysher.Pusher(
            key,
            secure=False,
            custom_host="127.0.0.1",
            port=server.port,
            log_level=logging.ERROR,
            **options,
        )
        self.connection = self.pusher.connection
        self._changed = Condition()
        self._seen = deque()
        for event in ("pusher:connection_established", "pusher:pong", "pusher:error"):
            self.connection.bind(event, lambda data, event=event: self._keep(event, data, None))
        # A subscription is answered before its channel can be bound to, so this looks earlier.
        handle = self.connection.event_handler

        def look(event, data, channel):
            self._keep(event, data, channel)
            handle(event, data, channel)

        self.connection.event_handler = look

    def connect(self):
        self.pusher.connect()
        self.wait_for("pusher:connection_established")
        return self

    def subscribe(self, channel):
        """Subscribe; return the decoded data of the answer."""
        self.pusher.subscribe(channel)
        return json.loads(self.wait_for("pusher_internal:subscription_succeeded", channel))

    def wait_for(self, event, channel=None):
        """The data of the first unread *event*, now or soon."""

        def find():
            return next((item for item in self._seen if item[::2] == (event, channel)), None)

        with self._changed:
            found = self._changed.wait_for(find, PATIENCE)
            assert found, f"no {event} on {channel}, only {self._seen}"
            self._seen.remove(found)
            return found[1]

    def close(self):
        """Say goodbye, and wait until the server has answered.

        Pysher's own ``disconnect`` closes the socket under the thread that reads it, which may
        then sleep on for a hundred seconds.
        """
        socket = self.connection.socket.sock
        self.connection.disconnect_called = True
        socket.send_close()
        self.connection.join(PATIENCE)
        socket.shutdown()
        assert not self.connection.is_alive()

    def _keep(self, event, data, channel):
        with self._changed:
            self._seen.append((event, data, channel))
            self._changed.notify_all()


@pytest.fixture
def new_pysher(site):
    """Makes connected Pysher clients: ``new_pysher(user_data=…, at=server)``."""
    made = []

    def start(*, at=None, **options):
        options.setdefault("secret", site.app.secret)
        client = Pysher(at or site.first, site.app.key, **options)
        made.append(client)
        return client.connect()

    yield start
    for client in made:
        client.close()


@pytest.mark.spec(24, 226)
def test_pysher_pings_before_it_has_read_anything(new_pysher):
    client = new_pysher()

    client.wait_for("pusher:pong")
    assert client.connection.state == "connected"


@pytest.mark.spec(6, 226)
def test_pysher_on_public_and_private_channels(new_pysher, site, pusher, channel, unique):
    private = unique("private-")
    client, other = new_pysher(), new_pysher(at=site.last)
    assert client.subscribe(channel) == {}
    assert client.subscribe(private) == other.subscribe(private) == {}

    pusher.trigger(channel, "greet", {"text": "Grüße"})
    assert json.loads(client.wait_for("greet", channel)) == {"text": "Grüße"}

    other.pusher.channel(private).trigger("client-typing", {"on": True})
    assert json.loads(client.wait_for("client-typing", private)) == {"on": True}


@pytest.mark.spec(226)
def test_pysher_shows_its_user_data(new_pysher, site, unique):
    channel = unique("presence-")
    ann, bob = ({"user_id": name, "user_info": {"name": name.upper()}} for name in ("ann", "bob"))
    witness = new_pysher(user_data=ann)
    witness.subscribe(channel)

    newcomer = new_pysher(user_data=bob, at=site.last)

    assert newcomer.subscribe(channel)["presence"]["hash"] == {
        "ann": {"name": "ANN"},
        "bob": {"name": "BOB"},
    }
    added = json.loads(witness.wait_for("pusher_internal:member_added", channel))
    assert added == bob
    newcomer.pusher.unsubscribe(channel)
    removed = json.loads(witness.wait_for("pusher_internal:member_removed", channel))
    assert removed == {"user_id": "bob"}


@pytest.mark.spec(226)
def test_pysher_asks_the_site(new_pysher, site, unique):
    headers = {"Authorization": f"Token {site.new_user().token}"}
    client = new_pysher(
        secret="", auth_endpoint=f"{site.first.url}/pusher/auth", auth_endpoint_headers=headers
    )

    assert client.subscribe(unique("private-")) == {}


@pytest.mark.spec(36, 226)
def test_pysher_stays_after_a_soft_error(new_pysher, unique, channel):
    """It acts on the codes of error messages, whether a close follows or not."""
    client = new_pysher(secret="guessed")

    client.pusher.subscribe(unique("private-"))

    assert client.wait_for("pusher:error")["code"] is None
    assert client.subscribe(channel) == {}
    assert client.connection.state == "connected"


# ---- the plugin pusher-js-auth ----------------------------------------------------------


@pytest.mark.spec(223)
def test_the_plugin_asks_for_many_channels_at_once(connect, site, unique):
    user = site.new_user()
    client = connect(user, batches=True)
    private, presence = unique("private-"), unique("presence-own-data-")
    refused = unique("presence-nobody-wrote-a-rule-")
    channels = [private, presence, refused]

    for channel in channels:
        client.call("subscribe", channel=channel)

    client.wait_for("pusher:subscription_succeeded", on=private)
    members = client.wait_for("pusher:subscription_succeeded", on=presence).data
    assert (members["count"], members["myID"]) == (1, user.id)
    refusal = client.wait_for("pusher:subscription_error", on=refused).data
    assert refusal["type"] == "AuthError"
