"""pusher-js in Node without a WebSocket, on each HTTP transport alone."""

import threading

import pytest

from tests.e2e import sites as site_module
from tests.e2e.conftest import http_library

RETRY_MS = 1_500
RETURN_SECONDS = {"xhr_streaming": 10, "xhr_polling": 30}
"""How long a client that is gone is waited for: one that polls may go between two polls."""

LATE_SECONDS = 15
"""What that may take longer on a slow machine."""

LARGE = "x" * 9_000
ENOUGH = 80
"""Large events until pusher-js has asked for its next response at least twice."""

transports = pytest.mark.parametrize("transport", ["xhr_streaming", "xhr_polling"])


@pytest.fixture
def connect_by(entrance, connect):
    """Makes connected clients over one transport."""

    def start(transport, user=None, **options):
        return connect(user, at=entrance, enabledTransports=[transport], **options)

    return start


@transports
@pytest.mark.spec(208, 209, 210, 212)
def test_public_channel(connect_by, pusher, channel, transport):
    client = connect_by(transport)
    client.subscribe(channel)

    for number in range(5):
        pusher.trigger(channel, "greet", {"number": number})

    assert [client.wait_for("greet", on=channel).data["number"] for _ in range(5)] == [*range(5)]


@transports
@pytest.mark.spec(209, 216)
def test_nothing_is_lost_where_one_response_follows_another(connect_by, pusher, channel, transport):
    client = connect_by(transport)
    client.subscribe(channel)

    for number in range(ENOUGH):
        pusher.trigger(channel, "large", [number, LARGE])

    numbers = [client.wait_for("large", on=channel).data[0] for _ in range(ENOUGH)]
    assert numbers == [*range(ENOUGH)]
    assert client.call("state") == "connected"


@transports
def test_private_channel_and_client_events(connect_by, connect, site, unique, transport):
    channel = unique("private-")
    sender, receiver = connect_by(transport, site.new_user()), connect(site.new_user())
    sender.subscribe(channel)
    receiver.subscribe(channel)

    sender.trigger(channel, "client-wave", {"hand": "left"})
    receiver.trigger(channel, "client-wave", {"hand": "right"})

    assert receiver.wait_for("client-wave", on=channel).data == {"hand": "left"}
    assert sender.wait_for("client-wave", on=channel).data == {"hand": "right"}


@transports
@pytest.mark.spec(215)
def test_presence_and_a_client_that_leaves(connect_by, connect, site, unique, transport):
    channel, user = unique("presence-own-data-"), site.new_user()
    witness = connect(site.new_user())
    witness.subscribe(channel)

    client = connect_by(transport, user)
    members = client.subscribe(channel)
    witness.wait_for("pusher:member_added", on=channel)
    client.call("disconnect")

    assert members["count"] == 2
    patience = RETURN_SECONDS[transport] + LATE_SECONDS
    left = witness.wait_for("pusher:member_removed", on=channel, patience=patience)
    assert left.data["id"] == user.id


@transports
def test_a_signed_in_user_is_reached_and_terminated(connect_by, site, pusher, transport):
    user = site.new_user()
    client = connect_by(transport, user)
    client.sign_in()
    client.wait_for_frame("pusher_internal:subscription_succeeded")

    pusher.send_to_user(user.id, "order", {"number": 7})
    assert client.wait_for("order", on="user").data == {"number": 7}
    pusher.terminate_user_connections(user.id)

    assert client.wait_for_frame("pusher:error")["data"]["code"] == 4009
    client.wait_for_state("disconnected")
    client.expect_nothing(
        "connecting", on="connection", until=lambda: client.call("wait", ms=RETRY_MS)
    )


@transports
@pytest.mark.spec(213)
def test_a_refused_client_does_not_come_back(entrance, new_client, transport):
    client = new_client(entrance, "unknown-key", enabledTransports=[transport])

    client.wait_for("error", on="connection", where=lambda seen: "4001" in str(seen.data))

    client.wait_for_state("disconnected")
    client.expect_nothing(
        "connecting", on="connection", until=lambda: client.call("wait", ms=RETRY_MS)
    )


@pytest.mark.parametrize("kind", ["daphne-memory", "uvicorn-redis"])
def test_a_server_that_stops_sends_its_clients_elsewhere(kind, tmp_path, new_client, channel):
    with site_module.running(kind, tmp_path) as site:
        clients = [
            new_client(site.first, site.app.key, enabledTransports=[transport])
            for transport in ("xhr_streaming", "xhr_polling")
        ]
        for client in clients:
            client.subscribe(channel)

        stopping = threading.Thread(target=site.first.stop)
        stopping.start()

        for client in clients:
            assert client.wait_for_frame("pusher:error")["data"]["code"] == 4200
        stopping.join(30)
        assert not stopping.is_alive()


def test_a_server_that_stops_ends_the_streams_of_others(tmp_path, new_client, channel):
    """A second receive request, at another process than the first, is fed from there."""
    with (
        site_module.running("uvicorn-redis", tmp_path) as site,
        site_module.balancing(site.servers, tmp_path) as balancer,
    ):
        client = new_client(balancer, site.app.key, enabledTransports=["xhr_streaming"])
        client.subscribe(channel)
        for number in range(ENOUGH):
            http_library(site.app, site.last).trigger(channel, "large", [number, LARGE])
            client.wait_for("large", on=channel)

        stopping = [threading.Thread(target=server.stop) for server in site.servers]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join(30)
            assert not thread.is_alive()


def test_a_process_that_is_killed_ends_the_connections_that_it_had(tmp_path, new_client, channel):
    with site_module.running("uvicorn-redis", tmp_path, may_log_tracebacks=True) as site:
        client = new_client(site.first, site.app.key, enabledTransports=["xhr_streaming"])
        client.subscribe(channel)

        site.first.process.kill()
        site.first.process.wait()

        client.wait_for_state("connecting")
