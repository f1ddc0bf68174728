"""pusher-js without a WebSocket, in Node and in Chromium, each HTTP transport alone."""

import threading
import time

import pytest
from playwright.sync_api import sync_playwright

from tests.e2e import sites as site_module
from tests.e2e.balancer import balancing
from tests.e2e.conftest import http_library
from tests.e2e.sites import ROOT
from tests.e2e.test_demo import CHROMIUM, FLAGS, PATIENCE_MS
from tests.e2e.wire import wire

PUSHER_JS = ROOT / "node_modules/pusher-js/dist/web/pusher.js"
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
def entrance(site):
    """Where clients connect to: where there are two processes, each request goes to the next."""
    with balancing(site.servers) as balancer:
        yield balancer


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


@pytest.mark.timeout(120)
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


@pytest.mark.timeout(120)
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


@pytest.mark.timeout(120)
def test_a_server_that_stops_ends_the_streams_of_others(tmp_path, new_client, channel):
    """A second receive request, at another process than the first, is fed from there."""
    with (
        site_module.running("uvicorn-redis", tmp_path) as site,
        balancing(site.servers) as balancer,
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


# ---- Chromium ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


CONNECT = """([key, port, transports, options]) => {
    window.seen = [];
    window.pusher = new Pusher(key, {
        cluster: "", forceTLS: false,
        wsHost: "127.0.0.1", wsPort: port, httpHost: "127.0.0.1", httpPort: port,
        enabledTransports: transports,
        ...options,
    });
    pusher.connection.bind("state_change", ({ current }) => seen.push(current));
}"""


@pytest.fixture
def open_page(browser, site):
    """Opens a page of the first process with pusher-js, connected to *port*."""
    windows = []

    def start(port, transports, **options):
        window = browser.new_context(bypass_csp=True)
        window.set_default_timeout(PATIENCE_MS)
        windows.append(window)
        page = window.new_page()
        page.goto(f"{site.first.url}/realtime/up")
        page.add_script_tag(path=PUSHER_JS)
        page.evaluate(CONNECT, [site.app.key, port, transports, options])
        page.wait_for_function("pusher.connection.state === 'connected'")
        return page

    yield start
    for window in windows:
        window.close()


def subscribe(page, channel):
    page.evaluate(
        """channel => new Promise(resolve => {
            window.events = [];
            const subscription = pusher.subscribe(channel);
            subscription.bind("pusher:subscription_succeeded", resolve);
            subscription.bind("large", ([number]) => events.push(number));
        })""",
        channel,
    )


@transports
@pytest.mark.spec(209, 214, 216)
def test_a_page_of_another_origin(open_page, entrance, pusher, channel, transport):
    """With a preflight before each request; and with more than one response holds."""
    page = open_page(entrance.port, [transport])
    subscribe(page, channel)

    for number in range(ENOUGH):
        pusher.trigger(channel, "large", [number, LARGE])

    page.wait_for_function(f"events.length >= {ENOUGH}")
    assert page.evaluate("events") == [*range(ENOUGH)]
    assert page.evaluate("seen") == ["connected"]


@transports
def test_a_page_that_may_open_no_websocket(open_page, entrance, site, pusher, channel, transport):
    other = {"xhr_streaming": "xhr_polling", "xhr_polling": "xhr_streaming"}[transport]
    page = open_page(
        entrance.port, None, disabledTransports=["ws", "wss", "sockjs", other], enableStats=True,
        statsHost=f"127.0.0.1:{site.first.port}",
    )  # fmt: skip
    subscribe(page, channel)

    with wire(site.last, site.app.key) as witness:
        witness.subscribe(channel)
        pusher.trigger(channel, "large", [1, "x"])
        witness.wait_for("large")

    page.wait_for_function("events.length === 1")


def test_a_page_that_is_left_is_gone(open_page, entrance, connect, site, unique):
    channel, library, clock = unique("room-"), http_library(site.app, site.last), connect()
    page = open_page(entrance.port, ["xhr_streaming"])
    subscribe(page, channel)

    page.close()

    deadline = time.monotonic() + RETURN_SECONDS["xhr_streaming"] + LATE_SECONDS
    while library.channel_info(channel)["occupied"]:
        assert time.monotonic() < deadline
        clock.call("wait", ms=200)
