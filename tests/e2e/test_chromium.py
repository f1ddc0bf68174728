"""pusher-js in Chromium, on each transport alone."""

import time

import pytest

from tests.e2e.chromium import PATIENCE_MS, Tab
from tests.e2e.conftest import http_library
from tests.e2e.test_fallbacks import ENOUGH, LARGE, LATE_SECONDS, RETURN_SECONDS
from tests.e2e.test_features import encrypting_library, trigger_durably
from tests.e2e.test_users import RETRY_MS
from tests.e2e.wire import wire

every_transport = pytest.mark.parametrize("transport", ["ws", "xhr_streaming", "xhr_polling"])
http_transports = pytest.mark.parametrize("transport", ["xhr_streaming", "xhr_polling"])


@pytest.fixture
def open_tab(browser, site, entrance):
    """Opens a page of the first process with pusher-js, connected through the entrance."""
    windows = []

    def start(user=None, *, build="pusher.js", **options):
        window = browser.new_context(bypass_csp=True)
        window.set_default_timeout(PATIENCE_MS)
        windows.append(window)
        page = window.new_page()
        page.goto(f"{site.first.url}/realtime/up")
        tab = Tab(page)
        tab.connect(site.app.key, entrance.port, user, build, options)
        return tab

    yield start
    for window in windows:
        window.close()


@every_transport
@pytest.mark.spec(208, 209, 224)
def test_presence_client_events_sign_in_and_kick(
    open_tab, connect, site, pusher, unique, transport
):
    channel, user = unique("presence-own-data-"), site.new_user()
    witness = connect(site.new_user(), at=site.last)
    witness.subscribe(channel)
    tab = open_tab(user, enabledTransports=[transport])
    assert tab.transport == transport

    members = tab.subscribe(channel)
    assert members["count"] == 2
    assert members["members"][user.id]["name"] == user.name
    assert witness.wait_for("pusher:member_added", on=channel).data["id"] == user.id

    tab.trigger(channel, "client-wave", {"hand": "left"})
    witness.trigger(channel, "client-wave", {"hand": "right"})
    assert witness.wait_for("client-wave", on=channel).data == {"hand": "left"}
    assert tab.wait_for("client-wave", on=channel) == {"hand": "right"}

    tab.sign_in(user)
    pusher.send_to_user(user.id, "order", {"number": 7})
    assert tab.wait_for("order", on="user") == {"number": 7}

    status, _ = site.last.request(
        "POST", f"/realtime/users/{user.id}/kick", token=site.staff.token, body={"reason": "Rude"}
    )
    assert status == 200
    assert tab.wait_for_frame("pusher:error")["data"]["code"] == 4009
    assert witness.wait_for("pusher:member_removed", on=channel).data["id"] == user.id
    tab.page.wait_for_function("pusher.connection.state === 'disconnected'")
    witness.call("wait", ms=RETRY_MS)
    assert tab.state == "disconnected"


@every_transport
@pytest.mark.spec(69, 220, 224)
def test_encrypted_events(open_tab, site, unique, transport):
    """Of the official library, and of our own ``trigger``."""
    channel = unique("private-encrypted-")
    tab = open_tab(
        site.new_user(), build="pusher-with-encryption.js", enabledTransports=[transport]
    )
    tab.subscribe(channel)

    encrypting_library(site).trigger(channel, "theirs", {"text": "Grüße"})
    trigger_durably(site, channel, "ours", {"text": "Süßes"})

    assert tab.wait_for("theirs", on=channel) == {"text": "Grüße"}
    assert tab.wait_for("ours", on=channel)["text"] == "Süßes"


@http_transports
@pytest.mark.spec(209, 214, 216)
def test_a_page_of_another_origin(open_tab, pusher, channel, transport):
    """With a preflight before each request; and with more than one response holds."""
    tab = open_tab(enabledTransports=[transport])
    tab.subscribe(channel)

    for number in range(ENOUGH):
        pusher.trigger(channel, "large", [number, LARGE])

    seen = tab.data_of("large", on=channel, count=ENOUGH)
    assert [number for number, _ in seen] == [*range(ENOUGH)]
    states = tab.data_of("state_change", on="connection", count=1)
    assert [state["current"] for state in states] == ["connected"]


@http_transports
def test_a_page_that_may_open_no_websocket(open_tab, site, pusher, channel, transport):
    other = {"xhr_streaming": "xhr_polling", "xhr_polling": "xhr_streaming"}[transport]
    tab = open_tab(
        disabledTransports=["ws", "wss", "sockjs", other],
        enableStats=True,
        statsHost=f"127.0.0.1:{site.first.port}",
    )
    tab.subscribe(channel)

    with wire(site.last, site.app.key) as witness:
        witness.subscribe(channel)
        pusher.trigger(channel, "greet", 1)
        witness.wait_for("greet")

    assert tab.data_of("greet", on=channel, count=1) == [1]
    assert tab.transport == transport


def test_a_page_that_is_left_is_gone(open_tab, connect, site, unique):
    channel, library, clock = unique("room-"), http_library(site.app, site.last), connect()
    tab = open_tab(enabledTransports=["xhr_streaming"])
    tab.subscribe(channel)

    tab.page.close()

    deadline = time.monotonic() + RETURN_SECONDS["xhr_streaming"] + LATE_SECONDS
    while library.channel_info(channel)["occupied"]:
        assert time.monotonic() < deadline
        clock.call("wait", ms=200)
