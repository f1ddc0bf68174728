"""Signed-in users: private notices, kick, ban and lift."""

from datetime import UTC, datetime, timedelta

import pytest

# pusher-js tries again a second after it lost a connection, unless it was told to stay away.
RETRY_MS = 1_500


@pytest.fixture
def signed_in(connect):
    """Makes connected clients that have signed in as *user*."""

    def start(user, **options):
        client = connect(user, **options)
        client.sign_in()
        return client

    return start


@pytest.fixture
def staff_do(site):
    """Staff acts on a user over HTTP, at another process than the clients'."""

    def act(action, user, token=None, **body):
        path = f"/realtime/users/{user.id}/{action}"
        return site.last.request("POST", path, token=token or site.staff.token, body=body)

    return act


def stays_away(client):
    client.wait_for_state("disconnected")
    client.expect_nothing(
        "connecting", on="connection", until=lambda: client.call("wait", ms=RETRY_MS)
    )
    return True


@pytest.mark.spec(137, 138, 221, 224)
def test_sign_in(connect, site):
    user = site.new_user()
    client = connect(user)

    client.call("signin")

    assert '"id"' in client.wait_for_frame("pusher:signin_success")["data"]["user_data"]


@pytest.mark.spec(145, 224)
def test_notice_reaches_every_tab_of_the_user_and_nobody_else(signed_in, site, pusher):
    user, other = site.new_user(), site.new_user()
    tabs = [signed_in(user, at=site.first), signed_in(user, at=site.last)]
    bystander = signed_in(other)
    for client in (*tabs, bystander):
        client.wait_for_frame("pusher_internal:subscription_succeeded")

    pusher.send_to_user(user.id, "order", {"number": 7})
    pusher.send_to_user(other.id, "fence", {})

    for tab in tabs:
        assert tab.wait_for("order", on="user").data == {"number": 7}
    bystander.expect_nothing(
        "order", on="user", until=lambda: bystander.wait_for("fence", on="user")
    )


@pytest.mark.spec(102, 103)
def test_notices_of_somebody_else_cannot_be_subscribed(open_wire, site):
    wire = open_wire()

    wire.send("pusher:subscribe", {"channel": f"#server-to-user-{site.staff.id}"})

    assert wire.wait_for("pusher:error")["data"]["code"] is None
    assert wire.answers_ping()


@pytest.mark.spec(144, 146, 147, 190, 227, 224)
def test_terminating_a_user_closes_all_and_only_its_connections(signed_in, connect, site, pusher):
    user = site.new_user()
    tabs = [signed_in(user, at=site.first), signed_in(user, at=site.last)]
    not_signed_in, bystander = connect(user), signed_in(site.new_user())

    pusher.terminate_user_connections(user.id)

    for tab in tabs:
        assert tab.wait_for_frame("pusher:error")["data"]["code"] == 4009
        assert stays_away(tab)
    assert not_signed_in.call("state") == bystander.call("state") == "connected"


@pytest.mark.spec(148)
def test_terminating_an_unknown_user_is_fine(pusher):
    assert pusher.terminate_user_connections("nobody-has-this-id") == {}


def test_kicked_user_is_disconnected_and_may_return(signed_in, site, staff_do):
    user = site.new_user()
    tabs = [signed_in(user, at=site.first), signed_in(user, at=site.last)]

    status, _ = staff_do("kick", user, reason="Please cool down")

    assert status == 200
    assert all(stays_away(tab) for tab in tabs)
    signed_in(user)


def test_kicked_member_leaves_the_channel_of_others(signed_in, site, staff_do, unique):
    user, channel = site.new_user(), unique("presence-signed-in-")
    witness = signed_in(site.new_user())
    witness.subscribe(channel)
    signed_in(user, at=site.last).subscribe(channel)
    witness.wait_for("pusher:member_added", on=channel)

    staff_do("kick", user, reason="Please cool down")

    assert witness.wait_for("pusher:member_removed", on=channel).data["id"] == user.id


def test_banned_user_is_disconnected_and_refused_on_return(signed_in, connect, site, staff_do):
    user = site.new_user()
    client = signed_in(user)

    status, _ = staff_do("ban", user, reason="Spam", until=None)

    assert status == 200
    assert stays_away(client)
    returned = connect(user, at=site.last)
    returned.call("signin")
    refusal = returned.wait_for("pusher:signin_error", on="user").data
    assert refusal["status"] == 403


def test_banned_user_is_refused_private_channels(signed_in, connect, site, staff_do, unique):
    user, channel = site.new_user(), unique("private-")
    signed_in(user)
    until = datetime.now(UTC) + timedelta(hours=1)
    staff_do("ban", user, reason="Spam", until=until.isoformat())

    returned = connect(user)
    returned.call("subscribe", channel=channel)

    assert returned.wait_for("pusher:subscription_error", on=channel).data["status"] == 403


def test_lifting_a_ban_lets_the_user_in_again(signed_in, site, staff_do):
    user = site.new_user()
    signed_in(user)
    staff_do("ban", user, reason="Spam", until=None)

    status, _ = staff_do("lift", user, reason="It was a mistake")

    assert status == 200
    signed_in(user)


@pytest.mark.parametrize("action", ["kick", "ban", "lift"])
def test_moderation_needs_permission(signed_in, site, staff_do, action):
    user = site.new_user()
    client = signed_in(user)

    status, _ = staff_do(action, user, token=site.new_user().token, reason="I want to")

    assert status == 403
    assert client.call("state") == "connected"
