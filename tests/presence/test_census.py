"""Questions about who is where, over all living processes."""

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from realtime.models import Server
from realtime.presence import census
from realtime.presence.store import Join, Leave, Occupy
from realtime.protocol import messages

pytestmark = pytest.mark.django_db

APP = "3"
ROOM = "presence-room"
ONLINE = "#online"


def join(user, socket_id="1.1", channel=ROOM):
    return Join(APP, channel, socket_id, messages.Member(user))


def leave(user, socket_id="1.1", channel=ROOM):
    return Leave(APP, channel, socket_id, user)


def kill(server):
    past = Now() - timezone.timedelta(seconds=1)
    Server.objects.filter(pk=server).update(expires_at=past)


def test_subscriptions_are_added_up_over_living_servers(apply, servers):
    for number in range(3):
        apply(Occupy(APP, "room", 10**number), on=number)
    kill(servers[2])

    assert census.subscriptions(APP, ["room"]) == {"room": 11}


@pytest.mark.spec(182)
@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("", {"Room": 1, "room-1": 1, "room_1": 1, "x": 1}),
        ("room", {"room-1": 1, "room_1": 1}),
        ("room_", {"room_1": 1}),
        ("%", {}),
        ("R", {"Room": 1}),
    ],
)
def test_occupied_channels_are_found_by_prefix(apply, prefix, found):
    apply(*(Occupy(APP, name, 1) for name in ("Room", "room-1", "room_1", "x")))

    assert census.occupied(APP, prefix) == found


def test_another_app_has_its_own_channels(apply):
    apply(Occupy("4", "room", 1))

    assert census.occupied(APP) == {}


@pytest.mark.spec(186)
def test_users_are_counted_once(apply):
    apply(join("ann", "1.1"), join("ann", "1.2"), join("bob", "1.3"), leave("cy", "1.4"))

    assert census.user_counts(APP, [ROOM, "presence-empty"]) == {ROOM: 2}
    assert census.user_ids(APP, ROOM) == ["ann", "bob"]


def test_the_connections_of_a_user_are_counted_once(apply):
    apply(join("ann", "1.1"), join("ann", "1.1", channel=ONLINE), join("bob", "1.2"))
    apply(join("ann", "1.3"), on=1)

    assert census.connection_count(APP, "ann") == 2
    assert census.connection_count(APP, "nobody") == 0


def test_whom_only_a_dead_process_holds_does_not_count(apply, servers):
    apply(join("ann", "1.1"), join("bob", "1.2"))
    apply(join("bob", "2.1"), on=1)

    kill(servers[0])

    assert census.user_ids(APP, ROOM) == ["bob"]
    assert census.user_counts(APP, [ROOM]) == {ROOM: 1}
