"""The official server libraries of PyPI and npm, unmodified, against another process."""

import json

import pusher as pusher_http
import pytest
from pusher.errors import PusherBadRequest, PusherForbidden

from tests.e2e.conftest import http_library
from tests.e2e.nodejs import LibraryError, Node


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


@pytest.fixture
def room(connect, site, unique):
    """A presence channel with one user in two tabs, and a public one with a subscriber."""
    presence, public, user = unique("presence-own-data-"), unique("room-"), site.new_user()
    tab, other_tab = connect(user), connect(user, at=site.last)
    tab.subscribe(presence)
    other_tab.subscribe(presence)
    tab.subscribe(public)
    return presence, public, user, tab


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


@pytest.mark.spec(186)
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


@pytest.mark.spec(80, 97)
def test_python_authenticate(open_wire, pusher, unique):
    wire, channel = open_wire(), unique("presence-")
    member = {"user_id": "7", "user_info": {"name": "Zoë"}}

    answer = pusher.authenticate(channel, wire.socket_id, member)
    wire.send("pusher:subscribe", {"channel": channel, **answer})

    success = wire.wait_for("pusher_internal:subscription_succeeded")
    assert json.loads(success["data"])["presence"]["hash"] == {"7": {"name": "Zoë"}}


@pytest.mark.spec(137)
def test_python_authenticate_user(open_wire, pusher, unique):
    wire = open_wire()

    wire.send("pusher:signin", pusher.authenticate_user(wire.socket_id, {"id": unique("user-")}))

    wire.wait_for("pusher:signin_success")


@pytest.mark.spec(154, 161)
@pytest.mark.parametrize("wrong", [{"key": "nobody"}, {"secret": "guessed"}], ids=["key", "secret"])
def test_python_with_a_wrong_credential_is_refused(site, wrong):
    options = {"key": site.app.key, "secret": site.app.secret, **wrong}
    stranger = pusher_http.Pusher(
        app_id=site.app.id, host="127.0.0.1", port=site.first.port, ssl=False, **options
    )

    with pytest.raises((PusherBadRequest, pusher_http.errors.PusherBadAuth)):
        stranger.trigger("room", "greet", {})


@pytest.mark.spec(162)
def test_python_with_another_app_id_is_refused(site):
    stranger = http_library(site.app, site.first)
    stranger._pusher_client._app_id = "4711"

    with pytest.raises((PusherBadRequest, PusherForbidden, pusher_http.errors.PusherBadAuth)):
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
