"""One transaction: what happened goes in, what became visible comes out."""

import pytest
from django.db.models.functions import Now
from django.utils import timezone

from realtime.models import Member, Membership, Occupancy, RealtimeUser, Server
from realtime.presence import census, lease, store
from realtime.presence.store import Join, Leave, Occupy
from realtime.protocol import messages
from realtime.protocol.app import Limits
from tests.presence.conftest import members_in

pytestmark = pytest.mark.django_db

APP = "3"
ROOM = "presence-room"


def join(user, socket_id="1.1", channel=ROOM, limit=None, info=None):
    return Join(APP, channel, socket_id, messages.Member(user, info), limit)


def leave(user, socket_id="1.1", channel=ROOM):
    return Leave(APP, channel, socket_id, user)


def seen(changes):
    """Changes as who came and who went."""
    return [("+" if item.present else "-") + item.member.user_id for item in changes]


def kill(server):
    Server.objects.filter(pk=server).update(expires_at=Now())


# ---- members ----------------------------------------------------------------------------


@pytest.mark.spec(93)
def test_the_first_connection_of_a_user_comes(apply):
    [change] = apply(join("ann", info='{"n":1}')).changes

    assert change.member == messages.Member("ann", '{"n":1}')
    assert change.present
    assert (change.app_id, change.channel) == (APP, ROOM)


@pytest.mark.spec(94, 95)
@pytest.mark.parametrize("other", [0, 1])
def test_further_connections_come_and_go_unheard(apply, other):
    apply(join("ann", "1.1"))

    assert apply(join("ann", "1.2"), on=other).changes == []
    assert apply(leave("ann", "1.1")).changes == []


@pytest.mark.spec(96)
@pytest.mark.parametrize("other", [0, 1])
def test_the_last_connection_of_a_user_goes(apply, other):
    apply(join("ann", "1.1"))
    apply(join("ann", "1.2"), on=other)
    apply(leave("ann", "1.1"))

    assert seen(apply(leave("ann", "1.2"), on=other).changes) == ["-ann"]


def test_a_group_is_written_in_order(apply):
    outcome = apply(join("ann", "1.1"), join("bob", "1.2"), leave("ann", "1.1"), join("cy", "1.3"))

    assert seen(outcome.changes) == ["+bob", "+cy"]


def test_a_join_and_its_leave_in_one_group_cancel_each_other(apply):
    assert apply(join("ann"), leave("ann")).changes == []
    assert not Membership.objects.exists()


def test_a_leave_and_a_new_join_in_one_group_change_nothing(apply):
    apply(join("ann"))

    assert apply(leave("ann"), join("ann")).changes == []
    assert Membership.objects.count() == 1


def test_transitions_may_be_repeated(apply):
    apply(join("ann"))

    assert apply(join("ann")).changes == []
    assert Membership.objects.count() == 1
    apply(leave("ann"))
    assert apply(leave("ann")).changes == []


def test_a_leave_of_somebody_unknown_does_nothing(apply):
    assert apply(leave("nobody")).changes == []


def test_an_empty_group_only_renews_the_lease(apply, servers):
    kill(servers[0])

    assert apply().changes == []

    assert servers[0] in Server.objects.alive().values_list("pk", flat=True)


def test_channels_and_apps_are_apart(apply):
    other_app = Join("4", ROOM, "1.1", messages.Member("ann"))

    outcome = apply(join("ann"), join("ann", channel="presence-other"), other_app)

    assert seen(outcome.changes) == ["+ann"] * 3


@pytest.mark.parametrize("user_id", ["Ann", "ann ", "ä", "a\u0308", "x" * 200])
def test_user_ids_are_compared_exactly(apply, user_id):
    apply(join("ann"), join("a\u0308" if user_id == "ä" else "ä"))

    assert seen(apply(join(user_id, "1.2")).changes) in ([f"+{user_id}"], [])
    assert user_id in census.user_ids(APP, ROOM)


def test_versions_grow_with_every_change(apply):
    versions = [
        apply(transition).changes[0].version
        for transition in (join("ann"), leave("ann"), join("ann"), leave("ann"))
    ]

    assert versions == sorted(set(versions))


def test_versions_grow_even_when_the_row_was_made_anew(apply):
    before = apply(join("ann")).changes[0].version
    RealtimeUser.objects.all().delete()

    assert apply(join("ann")).changes[0].version > before


def test_versions_grow_even_when_the_clock_goes_back(apply, monkeypatch):
    before = apply(join("ann")).changes[0].version
    past = timezone.now() - timezone.timedelta(hours=1)
    monkeypatch.setattr("django.utils.timezone.now", lambda: past)

    assert apply(leave("ann")).changes[0].version == before + 1


def test_a_member_keeps_what_it_showed_first(apply):
    apply(join("ann", "1.1", info='{"n":1}'))
    apply(join("ann", "1.2", info='{"n":2}'))

    assert members_in(store.roster(APP, ROOM))["hash"] == {"ann": {"n": 1}}


def test_a_user_who_comes_back_shows_itself_anew(apply):
    apply(join("ann", info='{"n":1}'))
    apply(leave("ann"))

    [change] = apply(join("ann", info='{"n":2}')).changes

    assert change.member.user_info == '{"n":2}'


def test_users_are_remembered_with_what_they_showed_last(apply):
    apply(join("ann", "1.1", info='{"n":1}'))
    first_seen = RealtimeUser.objects.get().first_seen_at
    apply(join("ann", "1.2", channel=Member.ONLINE, info='{"n":2}'), leave("ann", "1.1"))

    user = RealtimeUser.objects.get()
    assert (user.user_id, user.user_info) == ("ann", '{"n":2}')
    assert user.first_seen_at == first_seen
    assert user.last_seen_at >= first_seen


# ---- the roster -------------------------------------------------------------------------


@pytest.mark.spec(81, 82)
def test_a_joiner_gets_the_members_with_itself_in_the_order_they_came(apply):
    apply(join("bob", "1.2", info='{"n":1}'))

    outcome = apply(join("ann"))

    roster = outcome.rosters[APP, ROOM]
    assert members_in(roster) == {
        "count": 2,
        "ids": ["bob", "ann"],
        "hash": {"bob": {"n": 1}, "ann": None},
    }
    assert roster.view.present["ann"] == outcome.changes[0].version


def test_the_members_are_encoded_once_for_all_who_join_together(apply, monkeypatch):
    encode, lengths = messages.encode_members, []

    def counted(members):
        lengths.append(len(members))
        return encode(members)

    monkeypatch.setattr(messages, "encode_members", counted)
    apply(*(join(f"u{number}", f"1.{number}") for number in range(5)))

    assert lengths == [5]


def test_the_users_who_are_signed_in_are_no_roster(apply):
    assert apply(join("ann", channel=Member.ONLINE)).rosters == {}


# ---- bans and limits --------------------------------------------------------------------


def banned(user_id, **more):
    RealtimeUser.objects.create(app_id=APP, user_id=user_id, banned_at=timezone.now(), **more)


def test_a_banned_user_is_refused_and_the_others_are_not(apply):
    banned("ann")
    refused = [join("ann", "1.1"), join("ann", "1.2")]

    outcome = apply(*refused, join("bob", "1.3"))

    assert outcome.banned == set(refused)
    assert seen(outcome.changes) == ["+bob"]
    assert "ann" not in census.user_ids(APP, ROOM)


@pytest.mark.parametrize(("minutes", "refused"), [(1, True), (-1, False), (None, True)])
def test_a_ban_holds_until_its_time(apply, minutes, refused):
    until = None
    if minutes is not None:
        until = timezone.now() + timezone.timedelta(minutes=minutes)
    banned("ann", banned_until=until)

    assert bool(apply(join("ann")).banned) is refused


@pytest.mark.spec(91, 92)
def test_a_full_channel_takes_only_its_members(apply):
    apply(join("ann", limit=2))

    outcome = apply(
        join("bob", "2.1", limit=2), join("cy", "2.2", limit=2), join("ann", "2.3", limit=2)
    )

    assert outcome.crowded == {join("cy", "2.2", limit=2)}
    assert seen(outcome.changes) == ["+bob"]


@pytest.mark.spec(91)
def test_unless_said_otherwise_a_channel_holds_a_hundred_members(apply):
    limit = Limits().presence_members
    joins = [join(f"user-{number}", f"1.{number}", limit=limit) for number in range(101)]

    outcome = apply(*joins)

    assert len(outcome.changes) == 100
    assert outcome.crowded == {joins[-1]}


def test_a_banned_user_takes_no_place(apply):
    banned("ann")

    outcome = apply(join("ann", limit=1), join("bob", "1.2", limit=1))

    assert outcome.crowded == set()


# ---- occupancy --------------------------------------------------------------------------


def test_the_last_number_of_a_channel_counts(apply):
    apply(Occupy(APP, "room", 1), Occupy(APP, "room", 3), Occupy(APP, "other", 1))
    apply(Occupy(APP, "room", 2))

    assert census.subscriptions(APP, ["room", "other", "unknown"]) == {"room": 2, "other": 1}


def test_a_vacated_channel_has_no_row(apply):
    apply(Occupy(APP, "room", 1), Occupy(APP, "other", 1))

    apply(Occupy(APP, "room", 0), Occupy(APP, "never", 0))

    assert list(Occupancy.objects.values_list("channel", flat=True)) == ["other"]


# ---- leases -----------------------------------------------------------------------------


def test_a_server_that_was_reaped_writes_nothing(apply, servers):
    Server.objects.filter(pk=servers[0]).delete()

    with pytest.raises(lease.LeaseLost):
        apply(join("ann"), Occupy(APP, "room", 1))

    assert not RealtimeUser.objects.exists()
    assert not Occupancy.objects.exists()


def test_writing_renews_the_lease(apply, servers):
    Server.objects.update(expires_at=timezone.now() + timezone.timedelta(seconds=5))

    apply(join("ann"))

    expiries = Server.objects.in_bulk(servers)
    assert expiries[servers[0]].expires_at > expiries[servers[1]].expires_at


def test_reaping_removes_the_users_that_only_the_dead_server_held(apply, servers):
    apply(join("ann", "1.1"), join("bob", "1.2"), Occupy(APP, "room", 2))
    apply(join("bob", "2.1"), join("cy", "2.2"), on=1)
    kill(servers[0])

    assert seen(store.reap()) == ["-ann"]

    assert set(Server.objects.values_list("pk", flat=True)) == set(servers[1:])
    assert census.user_ids(APP, ROOM) == ["bob", "cy"]
    assert census.occupied(APP) == {}


def test_reaping_two_dead_servers_announces_a_shared_user_once(apply, servers):
    apply(join("ann", "1.1"))
    apply(join("ann", "2.1"), on=1)
    for server in servers[:2]:
        kill(server)

    assert seen(store.reap()) == ["-ann"]
    assert store.reap() is None


def test_nobody_reaps_himself(apply, servers):
    apply(join("ann"))
    kill(servers[0])

    assert store.reap(servers[0]) is None
    assert seen(store.reap(servers[1])) == ["-ann"]


def test_reaping_after_a_long_wait_spares_everybody(apply, servers):
    apply(join("ann"))
    kill(servers[0])

    assert store.reap(patience_seconds=-1) is None
    assert seen(store.reap(patience_seconds=60)) == ["-ann"]


def test_a_big_process_is_reaped_in_portions(apply, servers, monkeypatch):
    monkeypatch.setattr(store, "REAPED", 3)
    apply(*(join(f"u{number}", f"1.{number}") for number in range(8)), Occupy(APP, "room", 8))
    apply(join("u7", "2.7"), on=1)
    kill(servers[0])

    portions = []
    while (changes := store.reap()) is not None:
        portions.append(seen(changes))

    assert [len(portion) for portion in portions] in ([3, 3, 1], [3, 2, 2], [2, 3, 2])
    assert sorted(name for portion in portions for name in portion) == [
        f"-u{number}" for number in range(7)
    ]
    assert census.user_ids(APP, ROOM) == ["u7"]
    assert not Server.objects.filter(pk=servers[0]).exists()
    assert not Occupancy.objects.exists()


def test_a_lease_from_before_the_clock_was_put_back_begins_anew(apply, servers):
    apply(join("ann"))
    Server.objects.filter(pk=servers[0]).update(expires_at=Now() + timezone.timedelta(hours=1))

    assert store.reap() is None
    expires_at = Server.objects.get(pk=servers[0]).expires_at
    assert expires_at < timezone.now() + timezone.timedelta(seconds=60)


def test_reaping_spares_the_living(apply):
    apply(join("ann"))

    assert store.reap() is None


@pytest.mark.django_db(transaction=True)
def test_reaping_and_coming_back_alternate(apply, servers):
    story = seen(apply(join("ann")).changes)
    kill(servers[0])
    story += seen(store.reap())
    lease.take(servers[0], 60)
    story += seen(apply(join("ann")).changes)

    assert story == ["+ann", "-ann", "+ann"]


# ---- cost -------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 80])
def test_the_number_of_statements_does_not_grow_with_the_group(
    apply, servers, size, django_assert_max_num_queries
):
    transitions = [
        transition
        for number in range(size)
        for transition in (
            join(f"u{number}", f"1.{number}", limit=1_000),
            Occupy(APP, f"room{number}", 1),
        )
    ]

    with django_assert_max_num_queries(22):
        apply(*transitions)

    with django_assert_max_num_queries(14):
        apply(*(leave(f"u{number}", f"1.{number}") for number in range(size)))


# ---- what members show ------------------------------------------------------------------


def test_whoever_comes_back_with_other_data_shows_it_since_then(apply):
    apply(join("ann", info="{}"), leave("ann", "9.9"))
    apply(leave("ann"))
    [same] = apply(join("ann", info="{}")).changes
    apply(leave("ann"))

    [other] = apply(join("ann", info='{"n":1}')).changes

    assert same.shown_since < same.version
    assert other.shown_since == other.version


def test_a_member_written_anew_shows_nothing_old(apply):
    [before] = apply(join("ann", info="{}")).changes
    Member.objects.all().delete()

    [after] = apply(join("ann", info="{}")).changes

    assert before.version < after.shown_since <= after.version
