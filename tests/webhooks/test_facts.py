"""Facts in the transaction that caused them."""

import pytest
from django.db import transaction

from realtime import applications
from realtime.models import ChannelState, Member, PendingFact, Server
from realtime.presence import store
from realtime.presence.store import Join, Leave, Occupy
from realtime.protocol import messages
from realtime.protocol.facts import Fact
from realtime.webhooks import deliveries, facts
from tests.conftest import ID
from tests.webhooks.conftest import client_event, later, pending

pytestmark = pytest.mark.django_db(transaction=True)

URL = "https://example.com/hook"
ROOM = "presence-room"


def join(user="ann", socket_id="1.1", channel=ROOM):
    return Join(ID, channel, socket_id, messages.Member(user, None))


def leave(user="ann", socket_id="1.1", channel=ROOM):
    return Leave(ID, channel, socket_id, user)


def occupy(count, channel="room"):
    return Occupy(ID, channel, count)


@pytest.fixture
def told(endpoints):
    endpoints(URL)


@pytest.mark.spec(199)
def test_the_first_and_the_last_connection_of_a_user_are_facts(told, apply):
    apply(join())
    apply(join(socket_id="1.2"), on=1)
    apply(leave())
    assert pending() == ["member_added"]
    deliveries.collect()

    apply(leave(socket_id="1.2"), on=1)

    [row] = PendingFact.objects.all()
    assert facts.read(row) == Fact(app_id=ID, kind="member_removed", channel=ROOM, user_id="ann")


@pytest.mark.spec(196)
def test_a_channel_is_occupied_once_in_the_cluster(told, apply):
    apply(occupy(1))
    apply(occupy(1), on=1)
    apply(occupy(2))
    assert pending() == ["channel_occupied"]
    deliveries.collect()

    apply(occupy(0))
    assert pending() == []
    apply(occupy(0), on=1)

    assert pending() == ["channel_vacated"]


@pytest.mark.spec(197, 198)
@pytest.mark.parametrize(
    ("come", "go", "first"),
    [
        (join(), leave(), "member_added"),
        (occupy(1), occupy(0), "channel_occupied"),
    ],
)
def test_who_comes_back_soon_was_never_away(told, apply, come, go, first):
    apply(come)
    assert pending() == [first]
    deliveries.collect()

    apply(go)
    apply(come, on=1)

    assert pending() == []


@pytest.mark.parametrize(("come", "go"), [(join(), leave()), (occupy(1), occupy(0))])
def test_who_comes_back_late_is_told_of(told, apply, come, go):
    apply(come)
    deliveries.collect()
    apply(go)
    assert deliveries.collect() == 0
    later(3)
    assert deliveries.collect() == 1

    apply(come)

    assert len(pending()) == 1


def test_somebody_else_takes_nothing_back(told, apply):
    apply(join(), join("bob", "1.2"))
    deliveries.collect()
    apply(leave())

    apply(join("cy", "1.3"), join(channel="presence-other", socket_id="1.4"))

    assert sorted(pending()) == ["member_added", "member_added", "member_removed"]


def test_a_process_that_died_leaves_facts(told, apply, servers):
    apply(join(), occupy(1), occupy(1, "other"), on=0)
    apply(occupy(1, "other"), on=1)
    deliveries.collect()
    Server.objects.filter(pk=servers[0]).update(expires_at="2020-01-01T00:00Z")

    store.reap()

    assert sorted(pending()) == ["channel_vacated", "member_removed"]


def test_a_portion_of_many_channels_is_reaped_at_a_time(told, apply, servers, monkeypatch):
    monkeypatch.setattr(store, "REAPED", 2)
    apply(*(occupy(1, f"room{number}") for number in range(5)))
    deliveries.collect()
    Server.objects.filter(pk=servers[0]).update(expires_at="2020-01-01T00:00Z")

    while store.reap() is not None:
        pass

    assert pending() == ["channel_vacated"] * 5
    assert not ChannelState.objects.filter(occupied=True).exists()


def test_what_was_rolled_back_did_not_happen(told, servers):
    with transaction.atomic():
        store.apply(servers[0], [join(), occupy(1)], 60)
        transaction.set_rollback(True)

    assert pending() == []


def test_nobody_wants_to_know_so_nothing_is_written(apply):
    apply(join(), join(channel=Member.ONLINE), occupy(1), client_event())

    assert pending() == []
    assert not ChannelState.objects.exists()


def test_a_channel_that_was_occupied_before_anybody_wanted_to_know_is_no_news(endpoints, apply):
    apply(occupy(1))
    endpoints(URL)
    apply(occupy(1), on=1)
    apply(occupy(0))
    assert pending() == []

    apply(occupy(0), on=1)

    assert pending() == ["channel_vacated"]


def test_only_what_somebody_wants_is_written(endpoints, apply):
    endpoints({"URL": URL, "KINDS": ["member_added"], "CHANNEL_PREFIXES": ["presence-room"]})

    apply(join(), join(channel="presence-other"), occupy(1), client_event())

    assert pending() == ["member_added"]


def test_a_departure_is_written_for_the_arrival_that_takes_it_back(endpoints, apply):
    endpoints({"URL": URL, "KINDS": ["member_added"]})
    apply(join())
    deliveries.collect()
    apply(leave())
    apply(join())

    assert pending() == []


def test_signing_in_is_a_fact_for_signals_only(told, heard, apply):
    apply(join(channel=Member.ONLINE))
    assert pending() == []

    heard("user_online")
    apply(join("bob", channel=Member.ONLINE), leave(channel=Member.ONLINE))

    assert sorted(pending()) == ["user_offline", "user_online"]
    assert {row.channel for row in PendingFact.objects.all()} == {""}


def test_channels_for_users_are_no_news(told, apply):
    apply(occupy(1, "#server-to-user-ann"))

    assert pending() == []


# ---- what other code tells --------------------------------------------------------------


def miss(channel="cache-room"):
    return Fact(app_id=ID, kind="cache_miss", channel=channel)


@pytest.mark.spec(201)
def test_a_cache_miss_is_told_once_in_ten_seconds(told, apply):
    apply(miss())
    apply(miss(), miss(), miss("cache-other"), on=1)
    assert pending() == ["cache_miss"] * 2
    deliveries.collect()
    apply(miss())
    assert pending() == []

    state = ChannelState.objects.get(channel="cache-room")
    for moment in ("2020-01-01T00:00Z", "2100-01-01T00:00Z"):
        ChannelState.objects.filter(pk=state.pk).update(cache_missed_at=moment)
        apply(miss())

    assert pending() == ["cache_miss"] * 2


def test_what_is_told_is_written_with_the_group(told, apply):
    apply(client_event(data="\0\ud800"), Fact(
        app_id=ID, kind="subscription_count", channel="room", subscription_count=7
    ))  # fmt: skip

    first, second = PendingFact.objects.order_by("pk")
    assert facts.read(first) == client_event(data="\0\ud800")
    assert facts.read(second).subscription_count == 7


def test_what_a_newer_version_adds_to_a_fact_is_left_out(told):
    facts.write([client_event()])
    row = PendingFact.objects.get()
    row.details = row.details.replace("{", '{"of_tomorrow": {"a": 1}, ')

    assert facts.read(row) == client_event()


def test_whether_something_is_wanted_is_known_without_the_database(
    endpoints, django_assert_num_queries
):
    endpoints({"URL": URL, "KINDS": ["client_event"], "CHANNEL_PREFIXES": ["private-"]})
    app = applications.default()

    with django_assert_num_queries(0):
        assert facts.wanted(app, "client_event", "private-room")
        assert not facts.wanted(app, "client_event", "presence-room")
        assert not facts.wanted(app, "cache_miss", "private-room")


def test_a_receiver_of_a_signal_wants_to_know(heard):
    app = applications.default()
    assert not facts.wanted(app, "client_event", "private-room")

    heard("client_event")

    assert facts.wanted(app, "client_event", "private-room")
