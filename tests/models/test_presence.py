"""Users, processes, and who is where."""

import datetime

import pytest
from django.core.management import call_command
from django.utils import timezone

from realtime.models import Member, Membership, Occupancy, RealtimeUser, Server

pytestmark = pytest.mark.django_db


@pytest.fixture
def server():
    return Server.objects.create(
        name="host:1", expires_at=timezone.now() + datetime.timedelta(minutes=1)
    )


def test_a_user_is_saved_under_its_key():
    user = RealtimeUser.objects.create(app_id="3", user_id="ann")

    assert user.pk == RealtimeUser.key_of("3", "ann")
    assert str(user) == "ann"


@pytest.mark.parametrize(
    ("user_info", "name"),
    [
        ('{"name":"Ann"}', "Ann"),
        ('{"name":5}', ""),
        ("{}", ""),
        ("[]", ""),
        ("no json", ""),
        (None, ""),
    ],
)
def test_a_user_is_shown_by_the_name_it_gave(user_info, name):
    assert RealtimeUser(user_info=user_info).display_name == name


@pytest.mark.parametrize(
    ("banned", "hours", "expected"),
    [(False, None, False), (True, None, True), (True, 1, True), (True, -1, False)],
)
def test_a_ban_holds_until_its_end(banned, hours, expected):
    now = timezone.now()
    user = RealtimeUser.objects.create(
        app_id="3",
        user_id="ann",
        banned_at=now if banned else None,
        banned_until=now + datetime.timedelta(hours=hours) if hours else None,
    )

    assert user.banned is expected
    assert RealtimeUser.objects.banned().exists() is expected


def test_a_user_is_online_while_a_living_process_holds_it(server):
    user = RealtimeUser.objects.create(app_id="3", user_id="ann")
    member = Member.objects.create(
        id=Member.key_of("3", Member.ONLINE, "ann"), user=user, app_id="3", channel=Member.ONLINE
    )
    Membership.objects.create(
        id=Membership.key_of(member.pk, "1.1"), member=member, server=server, socket_id="1.1"
    )
    assert not RealtimeUser.objects.online().exists()
    assert str(member) == "ann: signed in"

    Member.objects.update(present=True)
    assert RealtimeUser.objects.online().get() == user

    Server.objects.update(expires_at=timezone.now() - datetime.timedelta(seconds=1))
    assert not RealtimeUser.objects.online().exists()


def test_the_rows_of_a_server_go_with_it(server):
    user = RealtimeUser.objects.create(app_id="3", user_id="ann")
    member = Member.objects.create(
        id=Member.key_of("3", "presence-room", "ann"), user=user, app_id="3"
    )
    membership = Membership.objects.create(
        id=Membership.key_of(member.pk, "1.1"), member=member, server=server, socket_id="1.1"
    )
    occupancy = Occupancy.objects.create(
        server=server, app_id="3", channel="presence-room", subscriptions=1
    )
    assert (str(membership), str(occupancy), str(server)) == ("1.1", "presence-room", "host:1")

    server.delete()

    assert not Membership.objects.exists()
    assert not Occupancy.objects.exists()
    assert Member.objects.exists()


@pytest.mark.parametrize(("seconds", "alive"), [(60, True), (-60, False)])
def test_a_server_lives_as_long_as_its_lease(server, seconds, alive):
    Server.objects.update(expires_at=timezone.now() + datetime.timedelta(seconds=seconds))

    assert Server.objects.alive().exists() is alive
    assert Server.objects.dead().exists() is not alive


def test_occupancies_count_while_their_server_lives(server):
    Occupancy.objects.create(server=server, app_id="3", channel="room", subscriptions=1)
    assert Occupancy.objects.live().exists()

    Server.objects.update(expires_at=timezone.now() - datetime.timedelta(seconds=1))

    assert not Occupancy.objects.live().exists()


def test_the_migrations_are_complete():
    call_command("makemigrations", "realtime", check=True, dry_run=True, verbosity=0)
