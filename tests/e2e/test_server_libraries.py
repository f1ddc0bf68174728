"""The official server libraries of PyPI and npm, unmodified, against another process.

Every public method, and every error they know.
"""

import json
import time
from pathlib import Path

import pusher as pusher_http
import pytest
from pusher.errors import PusherBadAuth, PusherBadRequest, PusherBadStatus, PusherForbidden

from realtime.applications import FRESH_SECONDS
from tests.conftest import hmac_hex
from tests.e2e.conftest import http_library
from tests.e2e.nodejs import SCRIPTS, LibraryError, Node
from tests.e2e.sites import App, manage


@pytest.fixture(scope="session")
def npm_process(tmp_path_factory):
    process = Node("server_library.mjs", tmp_path_factory.mktemp("node") / "library.log")
    yield process
    process.close()


@pytest.fixture
def npm(npm_process, site):
    """The npm library, pointed at another process than the clients, where there is one."""
    npm_process.call(
        "configure",
        appId=site.app.id,
        key=site.app.key,
        secret=site.app.secret,
        host="127.0.0.1",
        port=str(site.last.port),
    )
    return npm_process


OTHER_FUNCTIONS = {
    *("Token", "RequestError", "WebHookError"),  # of the npm library: types
    "forCluster",  # leads to a host of pusher.com and nowhere else
    "channelSharedSecret",  # of encrypted channels
}
"""What a library offers without calling a server such as this one."""


def test_every_public_method_is_called(npm):
    here, script = Path(__file__).read_text(), (SCRIPTS / "server_library.mjs").read_text()
    of_python = {name for name in vars(pusher_http.Pusher) if not name.startswith("_")}
    of_npm = set(npm.call("methods")) - OTHER_FUNCTIONS

    assert {name for name in of_python if f".{name}(" not in here} == set()
    assert {name for name in of_npm if f"usher.{name}(" not in script} == set()


@pytest.fixture
def room(connect, site, unique):
    """A presence channel with one user in two tabs, and a public one with a subscriber."""
    presence, public, user = unique("presence-own-data-"), unique("room-"), site.new_user()
    tab, other_tab = connect(user), connect(user, at=site.last)
    tab.subscribe(presence)
    other_tab.subscribe(presence)
    other_tab.subscribe(public)  # which that process knows at once
    return presence, public, user, tab


@pytest.fixture(scope="session")
def disabled(unique):
    """Makes an app of a site that is switched off."""

    def make(site):
        app = App(unique("40"), unique("off-"), "off")
        fields = f"app_id={app.id!r}, name='Off', key={app.key!r}, secret={app.secret!r}"
        code = f"Application.objects.create({fields}, enabled=False)"
        manage(site.environment, "shell", "-c", f"from realtime.models import Application; {code}")
        deadline = time.monotonic() + FRESH_SECONDS + 5
        while not is_known(app, site):
            assert time.monotonic() < deadline
        return app

    return make


def is_known(app, site):
    """Whether the process that is called has read the rows again."""
    try:
        http_library(app, site.last).channels_info()
    except PusherForbidden:
        return True
    except PusherBadAuth:
        return False


def webhook(site, **changes):
    """Key, signature and body of a webhook that a site sends now."""
    events = [{"name": "channel_occupied", "channel": "room"}]
    body = json.dumps({"time_ms": int(time.time() * 1000), "events": events} | changes)
    return site.app.key, hmac_hex(body, site.app.secret), body


@pytest.mark.spec(166, 177, 227)
def test_python_trigger(connect, pusher, channel):
    client = connect()
    client.subscribe(channel)

    assert pusher.trigger([channel, f"{channel}-unused"], "greet", "hello") == {}

    assert client.wait_for("greet", on=channel).data == "hello"


@pytest.mark.spec(178, 227)
def test_python_trigger_batch(connect, pusher, channel):
    client = connect()
    client.subscribe(channel)

    pusher.trigger_batch(
        [
            {"channel": channel, "name": "greet", "data": "one"},
            {"channel": channel, "name": "greet", "data": "two"},
        ]
    )

    assert [client.wait_for("greet", on=channel).data for _ in range(2)] == ["one", "two"]


@pytest.mark.spec(181, 182, 227)
def test_python_channels_info(room, pusher):
    presence, public, *_ = room

    of_presence = pusher.channels_info("presence-", ["user_count"])["channels"]
    of_public = pusher.channels_info(public)["channels"]

    assert of_presence[presence] == {"user_count": 1}
    assert of_public == {public: {}}


@pytest.mark.spec(82, 185, 186, 227)
def test_python_channel_info(room, pusher, unique):
    presence, public, *_ = room

    attributes = ["user_count", "subscription_count"]
    of_presence = pusher.channel_info(presence, ["user_count"])
    of_public = pusher.channel_info(public, attributes[1:])
    of_unused = pusher.channel_info(unique("unused-"))

    assert of_presence == {"occupied": True, "user_count": 1}
    assert of_public["occupied"] is True
    assert of_unused == {"occupied": False}


@pytest.mark.spec(186, 227)
def test_python_channel_info_of_the_wrong_kind_is_a_bad_request(pusher, channel):
    with pytest.raises(PusherBadRequest):
        pusher.channel_info(channel, ["user_count"])


@pytest.mark.spec(188, 227)
def test_python_users_info(room, pusher):
    presence, _, user, _ = room

    assert pusher.users_info(presence) == {"users": [{"id": user.id}]}


@pytest.mark.spec(190, 227)
def test_python_terminate_user_connections(connect, site, pusher):
    user = site.new_user()
    client = connect(user)
    client.sign_in()

    assert pusher.terminate_user_connections(user.id) == {}

    client.wait_for_state("disconnected")


@pytest.mark.spec(145, 173, 227)
def test_python_send_to_user(connect, site, pusher):
    user = site.new_user()
    client = connect(user)
    client.sign_in()
    client.wait_for_frame("pusher_internal:subscription_succeeded")

    pusher.send_to_user(user.id, "order", {"number": 7})

    assert client.wait_for("order", on="user").data == {"number": 7}


@pytest.mark.spec(80, 97, 227)
def test_python_authenticate(open_wire, pusher, unique):
    wire, channel = open_wire(), unique("presence-")
    member = {"user_id": "7", "user_info": {"name": "Zoë"}}

    answer = pusher.authenticate(channel, wire.socket_id, member)
    wire.send("pusher:subscribe", {"channel": channel, **answer})

    success = wire.wait_for("pusher_internal:subscription_succeeded")
    assert json.loads(success["data"])["presence"]["hash"] == {"7": {"name": "Zoë"}}


@pytest.mark.spec(63, 227)
def test_python_authenticate_for_a_private_channel(open_wire, pusher, unique):
    wire, channel = open_wire(), unique("private-")

    wire.send(
        "pusher:subscribe",
        {"channel": channel, **pusher.authenticate(channel, wire.socket_id)},
    )

    wire.wait_for("pusher_internal:subscription_succeeded")


@pytest.mark.spec(137, 227)
def test_python_authenticate_user(open_wire, pusher, unique):
    wire = open_wire()

    wire.send("pusher:signin", pusher.authenticate_user(wire.socket_id, {"id": unique("user-")}))

    wire.wait_for("pusher:signin_success")


@pytest.mark.spec(118, 227)
def test_python_trigger_excludes_a_socket(connect, pusher, channel):
    sender, other = connect(), connect()
    for client in (sender, other):
        client.subscribe(channel)

    pusher.trigger(channel, "greet", {}, sender.socket_id)
    pusher.trigger(channel, "fence", {})

    other.wait_for("greet", on=channel)
    sender.expect_nothing("greet", on=channel, until=lambda: sender.wait_for("fence", on=channel))


@pytest.mark.spec(227)
def test_python_from_url_and_from_env(site, monkeypatch):
    url = f"http://{site.app.key}:{site.app.secret}@127.0.0.1/apps/{site.app.id}"
    monkeypatch.setenv("PUSHER_URL", url)

    # The library reads no port from the URL.
    for library in (
        pusher_http.Pusher.from_url(url, port=site.last.port),
        pusher_http.Pusher.from_env(port=site.last.port),
    ):
        assert library.trigger("room", "greet", {}) == {}


@pytest.mark.spec(227)
def test_python_validates_what_is_signed_with_the_secret_and_is_fresh(site, pusher):
    key, signature, body = webhook(site)

    assert pusher.validate_webhook(key, signature, body) == json.loads(body)
    assert pusher.validate_webhook(key, signature, body + " ") is None
    assert pusher.validate_webhook("other", signature, body) is None
    assert pusher.validate_webhook(*webhook(site, time_ms=1)) is None


@pytest.mark.spec(169, 227)
def test_python_hears_of_too_much_data(pusher, channel):
    with pytest.raises(PusherBadStatus, match=r"413: The data content of this event exceeds"):
        # The library counts characters, the server bytes.
        pusher.trigger(channel, "greet", "é" * 10_000)


@pytest.mark.spec(192, 227, 228)
def test_a_disabled_app_is_forbidden(site, npm, disabled):
    app = disabled(site)

    with pytest.raises(PusherForbidden, match="Application disabled"):
        http_library(app, site.last).trigger("room", "greet", {})
    npm.call("configureByUrl", url=url_of(app, site.last))
    with pytest.raises(LibraryError) as refusal:
        npm.call("trigger", channels=["room"], event="greet", data={})
    assert refusal.value.details["status"] == 403


def url_of(app, server):
    return f"http://{app.key}:{app.secret}@127.0.0.1:{server.port}/apps/{app.id}"


@pytest.mark.spec(154, 161, 227)
@pytest.mark.parametrize("wrong", [{"key": "nobody"}, {"secret": "guessed"}], ids=["key", "secret"])
def test_python_with_a_wrong_credential_is_refused(site, wrong):
    options = {"key": site.app.key, "secret": site.app.secret, **wrong}
    stranger = pusher_http.Pusher(
        app_id=site.app.id, host="127.0.0.1", port=site.first.port, ssl=False, **options
    )

    with pytest.raises(PusherBadAuth):
        stranger.trigger("room", "greet", {})


@pytest.mark.spec(162)
def test_python_with_another_app_id_is_refused(site):
    stranger = http_library(site.app, site.first)
    stranger._pusher_client._app_id = "4711"

    with pytest.raises(PusherBadAuth):
        stranger.trigger("room", "greet", {})


@pytest.mark.spec(166, 228)
def test_npm_trigger(connect, npm, channel):
    client = connect()
    client.subscribe(channel)

    answer = npm.call("trigger", channels=[channel], event="greet", data={"text": "hello"})

    assert answer == {"status": 200, "body": {}}
    assert client.wait_for("greet", on=channel).data == {"text": "hello"}


@pytest.mark.spec(118, 228)
def test_npm_trigger_excludes_a_socket(connect, npm, channel):
    sender, other = connect(), connect()
    sender.subscribe(channel)
    other.subscribe(channel)

    params = {"socket_id": sender.socket_id}
    npm.call("trigger", channels=[channel], event="greet", data={}, params=params)
    npm.call("trigger", channels=[channel], event="fence", data={})

    other.wait_for("greet", on=channel)
    sender.expect_nothing("greet", on=channel, until=lambda: sender.wait_for("fence", on=channel))


@pytest.mark.spec(178, 228)
def test_npm_trigger_batch(connect, npm, channel):
    client = connect()
    client.subscribe(channel)

    events = [{"channel": channel, "name": "greet", "data": text} for text in ("one", "two")]
    answer = npm.call("triggerBatch", batch=events)

    assert answer == {"status": 200, "body": {}}
    assert [client.wait_for("greet", on=channel).data for _ in range(2)] == ["one", "two"]


@pytest.mark.spec(181, 182, 228)
def test_npm_channels(room, npm):
    presence, *_ = room

    params = {"filter_by_prefix": presence, "info": "user_count"}
    answer = npm.call("get", path="/channels", params=params)

    assert answer == {"status": 200, "body": {"channels": {presence: {"user_count": 1}}}}


@pytest.mark.spec(186, 228)
def test_npm_channel(room, npm):
    presence, *_ = room

    answer = npm.call("get", path=f"/channels/{presence}", params={"info": "user_count"})

    assert answer == {"status": 200, "body": {"occupied": True, "user_count": 1}}


@pytest.mark.spec(188, 228)
def test_npm_users(room, npm):
    presence, _, user, _ = room

    answer = npm.call("get", path=f"/channels/{presence}/users")

    assert answer == {"status": 200, "body": {"users": [{"id": user.id}]}}


@pytest.mark.spec(145, 228)
def test_npm_send_to_user(connect, site, npm):
    user = site.new_user()
    client = connect(user)
    client.sign_in()
    client.wait_for_frame("pusher_internal:subscription_succeeded")

    npm.call("sendToUser", userId=user.id, event="order", data={"number": 7})

    assert client.wait_for("order", on="user").data == {"number": 7}


@pytest.mark.spec(146, 189, 228)
def test_npm_terminate_user_connections(connect, site, npm):
    user = site.new_user()
    client = connect(user)
    client.sign_in()

    assert npm.call("terminateUserConnections", userId=user.id)["status"] == 200

    client.wait_for_state("disconnected")


@pytest.mark.spec(168, 228)
def test_npm_error_carries_status_and_reason(npm):
    with pytest.raises(LibraryError) as refusal:
        npm.call("trigger", channels=["not a channel"], event="greet", data={})

    assert refusal.value.details["message"].startswith("Invalid channel name")


@pytest.mark.spec(186, 228)
def test_npm_bad_request_carries_its_status(npm, channel):
    with pytest.raises(LibraryError) as refusal:
        npm.call("get", path=f"/channels/{channel}", params={"info": "user_count"})

    assert refusal.value.details["status"] == 400
    assert refusal.value.details["body"]


@pytest.mark.spec(228)
def test_npm_for_url(connect, site, npm, channel):
    client = connect()
    client.subscribe(channel)

    npm.call("configureByUrl", url=url_of(site.app, site.last))
    npm.call("trigger", channels=channel, event="greet", data="hello")

    assert client.wait_for("greet", on=channel).data == "hello"


@pytest.mark.spec(228)
def test_npm_post(connect, site, npm, channel):
    client = connect(at=site.last)
    client.subscribe(channel)

    body = {"name": "greet", "channel": channel, "data": '"hello"', "info": "subscription_count"}
    answer = npm.call("post", path="/events", body=body)

    assert answer == {"status": 200, "body": {"channels": {channel: {"subscription_count": 1}}}}
    assert client.wait_for("greet", on=channel).data == "hello"


@pytest.mark.spec(63, 80, 228)
@pytest.mark.parametrize("method", ["authorizeChannel", "authenticate"])
def test_npm_authorize_channel(open_wire, npm, unique, method):
    wire, member = open_wire(), {"user_id": "7", "user_info": {"name": "Zoë"}}
    private, presence = unique("private-"), unique("presence-")

    for channel, data in ((private, None), (presence, member)):
        answer = npm.call(method, socketId=wire.socket_id, channel=channel, data=data)
        wire.send("pusher:subscribe", {"channel": channel, **answer})
        success = wire.wait_for("pusher_internal:subscription_succeeded")

    assert json.loads(success["data"])["presence"]["hash"] == {"7": {"name": "Zoë"}}


@pytest.mark.spec(137, 228)
def test_npm_authenticate_user(open_wire, npm, unique):
    wire = open_wire()

    user_data = {"id": unique("user-")}
    answer = npm.call("authenticateUser", socketId=wire.socket_id, userData=user_data)
    wire.send("pusher:signin", answer)

    wire.wait_for("pusher:signin_success")


@pytest.mark.spec(228)
def test_npm_signs_a_query_for_others(site, npm):
    path = f"/apps/{site.app.id}/channels"
    query = npm.call(
        "createSignedQueryString",
        method="GET",
        path=path,
        params={"filter_by_prefix": "nobody-is-here-"},
    )

    assert site.last.request("GET", f"{path}?{query}") == (200, '{"channels":{}}')


@pytest.mark.spec(228)
def test_npm_validates_what_is_signed_with_the_secret(site, npm):
    key, signature, body = webhook(site)
    headers = {
        "x-pusher-key": key,
        "x-pusher-signature": signature,
        "content-type": "application/json",
    }

    valid = npm.call("webhook", headers=headers, rawBody=body)
    forged = npm.call("webhook", headers=headers, rawBody=body + " ")

    assert valid == {
        "isValid": True,
        "time": json.loads(body)["time_ms"],
        "events": json.loads(body)["events"],
    }
    assert forged["isValid"] is False


@pytest.mark.spec(154, 161, 228)
@pytest.mark.parametrize("wrong", [{"key": "nobody"}, {"secret": "guessed"}], ids=["key", "secret"])
def test_npm_with_a_wrong_credential_is_refused(site, npm, wrong):
    credentials = {"key": site.app.key, "secret": site.app.secret, **wrong}

    npm.call("configureByUrl", url=url_of(App(site.app.id, **credentials), site.last))
    with pytest.raises(LibraryError) as refusal:
        npm.call("trigger", channels=["room"], event="greet", data={})

    assert refusal.value.details["status"] == 401
    assert refusal.value.details["body"]


@pytest.mark.spec(169, 228)
def test_npm_hears_of_too_much_data(npm, channel):
    with pytest.raises(LibraryError) as refusal:
        npm.call("trigger", channels=[channel], event="greet", data="x" * 10_241)

    assert refusal.value.details["status"] == 413
