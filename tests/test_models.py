"""What is remembered beyond one process."""

import datetime
import uuid

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.utils import timezone

from realtime.models import (
    Application,
    Member,
    Membership,
    Occupancy,
    RealtimeUser,
    Server,
    row_id,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def server():
    return Server.objects.create(
        name="host:1", expires_at=timezone.now() + datetime.timedelta(minutes=1)
    )


def test_the_key_of_a_row_follows_from_what_it_stands_for():
    assert row_id("user", "3", "ann") == row_id("user", "3", "ann")
    assert len({row_id("a", "bc"), row_id("ab", "c"), row_id("abc"), row_id("a", "b", "c")}) == 4


def test_keys_are_the_same_in_every_release():
    assert RealtimeUser.key_of("3", "ann") == uuid.UUID("f58d6cc9-52e6-5b71-bc50-bf94ca669aae")


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


def test_an_app_gets_credentials_nobody_can_guess():
    first, second = (Application.objects.create(app_id=number, name="App") for number in "12")

    assert len({first.key, second.key, first.secret, second.secret}) == 4
    assert len(first.secret) == 64
    assert str(first) == "App (1)"


@pytest.mark.parametrize("app_id", ["x", "1\n", "", "٣"])
def test_an_app_id_is_a_number(app_id):
    with pytest.raises(ValidationError) as caught:
        Application(app_id=app_id, name="App").full_clean()

    assert set(caught.value.message_dict) == {"app_id"}


@pytest.mark.parametrize("origins", ["https://example.com", [5], {"a": 1}])
def test_origins_are_a_list_of_texts(origins):
    with pytest.raises(ValidationError) as caught:
        Application(app_id="1", name="App", allowed_origins=origins).full_clean()

    assert set(caught.value.message_dict) == {"allowed_origins"}


def test_an_app_that_is_right_can_be_saved():
    Application(app_id="1", name="App", allowed_origins=["https://example.com"]).full_clean()


def test_the_migrations_are_complete():
    call_command("makemigrations", "realtime", check=True, dry_run=True, verbosity=0)
