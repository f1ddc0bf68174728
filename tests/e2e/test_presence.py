"""Who is here, told by pusher-js."""

import pytest


def own_data(user, channel):
    """The member data that the rule of ``presence-own-data-`` channels gives."""
    return {"name": user.name, "desk": channel.removeprefix("presence-own-data-")}


@pytest.fixture
def channel(unique):
    return unique("presence-own-data-")


@pytest.mark.spec(80, 81, 82, 84, 99, 224)
def test_subscriber_sees_who_is_there(connect, site, channel):
    early, late = site.new_user(), site.new_user()
    connect(early).subscribe(channel)

    members = connect(late, at=site.last).subscribe(channel)

    assert members == {
        "count": 2,
        "members": {user.id: own_data(user, channel) for user in (early, late)},
        "myID": late.id,
    }


@pytest.mark.spec(93, 97)
def test_others_are_told_of_a_new_member(connect, site, channel):
    newcomer = site.new_user()
    witness = connect(site.new_user())
    witness.subscribe(channel)

    connect(newcomer, at=site.last).subscribe(channel)

    added = witness.wait_for("pusher:member_added", on=channel).data
    assert added == {"id": newcomer.id, "info": own_data(newcomer, channel)}


@pytest.mark.spec(96, 97)
@pytest.mark.parametrize("way", ["unsubscribe", "disconnect"])
def test_others_are_told_when_a_member_leaves(connect, site, channel, way):
    leaver, witness = site.new_user(), connect(site.new_user())
    leaving = connect(leaver, at=site.last)
    leaving.subscribe(channel)
    witness.subscribe(channel)

    leaving.call(way, channel=channel)

    assert witness.wait_for("pusher:member_removed", on=channel).data["id"] == leaver.id
    assert witness.call("members", channel=channel)["count"] == 1


@pytest.mark.spec(82, 94, 95)
def test_second_tab_of_a_member_is_silent(connect, site, channel):
    member, guest = site.new_user(), site.new_user()
    witness = connect(site.new_user())
    witness.subscribe(channel)
    connect(member).subscribe(channel)
    witness.wait_for("pusher:member_added", on=channel)

    tab = connect(member, at=site.last)
    assert tab.subscribe(channel)["count"] == 2
    tab.call("disconnect")
    connect(guest, at=site.last).subscribe(channel)

    assert witness.wait_for("pusher:member_added", on=channel).data["id"] == guest.id
    assert "pusher:member_removed" not in witness.names(channel)


@pytest.mark.spec(98)
def test_signed_in_user_needs_no_channel_data(connect, site, unique):
    channel, user = unique("presence-signed-in-"), site.new_user()
    client = connect(user)
    client.sign_in()

    members = client.subscribe(channel)

    assert members["myID"] == user.id
    assert members["members"][user.id]["name"] == user.name.upper()


@pytest.mark.spec(98)
def test_open_room_of_the_demo_shows_the_signed_in_user(connect, site):
    user = site.new_user()
    client = connect(user)
    client.sign_in()

    members = client.subscribe("presence-room-gaming")["members"]

    assert set(members[user.id]) == {"name", "icon"}


@pytest.mark.spec(99)
def test_business_room_of_the_demo_adds_the_role(connect, site):
    member, staff = connect(site.new_user()), connect(site.staff)
    member.sign_in()
    member.subscribe("presence-room-business")

    members = staff.subscribe("presence-room-business")["members"]

    assert {info["role"] for info in members.values()} == {"member", "admin"}
