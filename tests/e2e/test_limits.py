"""Each limit of an app, hit by a real client, and what it reads then.

``AUTHORIZATION_SECONDS`` is in ``test_features``.
"""

import time
from contextlib import suppress

import pytest
from pusher.errors import PusherBadRequest, PusherBadStatus

from tests.e2e.conftest import http_library
from tests.e2e.sites import App
from tests.e2e.wire import PATIENCE, refusal, wire

NARROW = App("1004", "narrow", "narrow-secret")
SLOW = App("1005", "slow", "slow-secret")
SMALL = App("1006", "small", "small-secret")
IMPATIENT = App("1007", "impatient", "impatient-secret")
ENCRYPTED, LOCAL = "encrypted", "local"
"""Keys of apps that nobody calls."""
LONG = "x" * 400
"""More than an event of the narrow app may have."""


@pytest.fixture
def join(site, new_client):
    """Makes connected clients of an app whose back end says who they are."""

    def start(app, member=None, user=None, *, at=None, **options):
        signing = {"appId": app.id, "secret": app.secret, "member": member, "user": user}
        client = new_client(at or site.first, app.key, signing=signing, **options)
        client.wait_for_state("connected")
        return client

    return start


def refused(client, channel):
    """Type and status of the answer to a subscription."""
    client.call("subscribe", channel=channel)
    error = client.wait_for("pusher:subscription_error", on=channel).data
    return error["type"], error["status"]


def error_of(client):
    """The error that a client reads on its connection."""
    return client.wait_for_frame("pusher:error")["data"]


def member(name, **info):
    return {"user_id": name, "user_info": info}


# ---- names and sizes --------------------------------------------------------------------


def test_a_channel_name_that_is_too_long(join):
    assert refused(join(NARROW), "r" * 41) == ("InvalidChannel", 400)


def test_one_subscription_too_many(join, unique):
    client = join(NARROW)
    client.subscribe(unique("room-"))
    client.subscribe(unique("room-"))

    assert refused(client, unique("room-")) == ("LimitReached", 4100)


def test_a_presence_channel_that_is_full(join, site, unique):
    channel = unique("presence-")
    join(NARROW, member("ann")).subscribe(channel)

    assert refused(join(NARROW, member("bob"), at=site.last), channel) == ("LimitReached", 4100)


@pytest.mark.parametrize(
    "large", [member("a" * 21), member("ann", about="x" * 50)], ids=["user_id", "user_info"]
)
def test_a_member_that_is_too_large(join, unique, large):
    assert refused(join(NARROW, large), unique("presence-")) == ("LimitReached", 4100)


def test_a_user_id_that_is_too_long_to_sign_in(join):
    client = join(NARROW, user={"id": "a" * 21})

    client.call("signin")

    assert error_of(client)["code"] is None
    assert client.call("state") == "connected"


def test_a_watchlist_that_is_too_long(join, unique):
    client = join(NARROW, user={"id": unique("w-"), "watchlist": ["bob", "carol"]})

    client.sign_in()

    assert error_of(client)["code"] == 4302
    assert client.wait_for("offline", on="watchlist").data["user_ids"] == ["bob"]


@pytest.mark.parametrize(
    ("name", "data"), [("client-x", LONG), ("client-" + "x" * 14, {})], ids=["data", "name"]
)
def test_a_client_event_that_is_too_large(join, unique, name, data):
    client, channel = join(NARROW), unique("private-")
    client.subscribe(channel)

    client.trigger(channel, name, data)

    assert error_of(client)["code"] is None
    assert client.call("state") == "connected"


def test_a_message_that_is_too_large(join, site, unique):
    client, channel = join(NARROW), unique("private-")
    client.subscribe(channel)

    client.trigger(channel, "client-x", "x" * 2_100)

    if not site.is_daphne:  # of 1000 pusher-js tells nothing
        assert client.wait_for("error", on="connection").data["data"]["code"] == 1009
    client.wait_for_state("connecting")
    client.wait_for_state("connected")


def test_too_many_messages_that_cannot_be_read(site):
    with wire(site.first, NARROW.key) as client:
        for _ in range(3):
            client.socket.send("nonsense")

        assert client.closing_code() == (1000 if site.is_daphne else 1008)


# ---- rates ------------------------------------------------------------------------------


def test_client_events_that_are_too_many(join, unique):
    client, channel = join(NARROW), unique("private-")
    client.subscribe(channel)

    client.call("trigger_many", channel=channel, event="client-x", count=6)

    assert error_of(client)["code"] == 4301
    assert client.call("state") == "connected"


def test_a_client_that_goes_on_too_fast(join, unique):
    client, channel = join(SLOW), unique("private-")
    client.subscribe(channel)

    codes, deadline = set(), time.monotonic() + PATIENCE
    while 4100 not in codes:
        assert time.monotonic() < deadline
        client.trigger(channel, "client-x", {})
        with suppress(TimeoutError):
            codes.add(client.wait_for_frame("pusher:error", patience=0.05)["data"]["code"])

    client.wait_for_state("connecting")
    client.wait_for_state("connected")


def test_events_of_the_http_api_that_are_too_many(site, unique):
    library, channel = http_library(SLOW, site.first), unique("room-")

    def trigger_often():
        for number in range(5):
            library.trigger(channel, "greet", number)

    with pytest.raises(PusherBadStatus, match="429"):
        trigger_often()


def test_one_connection_too_many(join, new_client, site):
    first = join(SMALL)

    second = new_client(site.first, SMALL.key)

    error = second.wait_for("error", on="connection").data["error"]
    assert error["data"]["code"] == 4004
    second.wait_for_state("disconnected")
    assert first.call("state") == "connected"


def test_a_client_that_does_not_read(sites, unique):
    """It is dropped, and a neighbour in the same channel has everything.

    Not on Daphne, which takes what it is given without a limit.
    """
    site = sites("uvicorn-redis")
    library, channel = http_library(IMPATIENT, site.first), unique("room-")
    with (
        wire(site.first, IMPATIENT.key) as reader,
        wire(site.first, IMPATIENT.key, max_queue=1) as sleeper,
    ):
        reader.subscribe(channel)
        sleeper.subscribe(channel)

        deadline, dropped = time.monotonic() + PATIENCE, f"dropped slow socket {sleeper.socket_id}"
        while dropped not in site.first.log.read_text():
            assert time.monotonic() < deadline
            library.trigger_batch(
                [{"channel": channel, "name": "large", "data": "x" * 10_000}] * 10
            )
            for _ in range(10):
                reader.wait_for("large")

        # Why, as it reads on within LAST_WORD_SECONDS; 1006 where this machine stalls for longer.
        assert sleeper.closing_code() in {4100, 1006}
        assert reader.answers_ping()


# ---- who may connect --------------------------------------------------------------------


@pytest.mark.spec(5)
def test_a_plain_connection_to_an_app_for_tls_only(site):
    code, _, closed_with, _ = refusal(site.first, f"/app/{ENCRYPTED}")

    assert (code, closed_with) == (4000, 4000)
    with wire(site.first, ENCRYPTED, additional_headers={"X-Forwarded-Proto": "https"}) as client:
        assert client.answers_ping()


def test_a_page_of_a_foreign_origin(site):
    code, _, closed_with, _ = refusal(site.first, f"/app/{LOCAL}", origin="https://evil.example")

    assert (code, closed_with) == (4009, 4009)
    with wire(site.first, LOCAL, origin="https://shop.example") as client:
        assert client.answers_ping()


# ---- the HTTP API -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "name", "status"),
    [
        (["a", "b", "c"], "greet", 400),
        (["r" * 41], "greet", 400),
        (["a"], "x" * 21, 400),
        (["a"], "large", 413),
    ],
    ids=["channels", "channel", "name", "data"],
)
def test_an_event_that_is_too_large(site, channels, name, status):
    data = LONG if name == "large" else {}

    with pytest.raises((PusherBadRequest, PusherBadStatus)) as raised:
        http_library(NARROW, site.first).trigger(channels, name, data)

    assert isinstance(raised.value, PusherBadRequest) == (status == 400)
    assert status == 400 or str(status) in str(raised.value)


def test_a_batch_that_is_too_large(site):
    batch = [{"channel": "room", "name": "greet", "data": ""}] * 3

    with pytest.raises(PusherBadRequest):
        http_library(NARROW, site.first).trigger_batch(batch)
