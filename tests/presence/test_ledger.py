"""What happens in a process on its way into the database, and back as announcements."""

import asyncio
import json
import uuid

import pytest
from asgiref.sync import sync_to_async
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from realtime import hub as hub_module
from realtime import metrics
from realtime.layer import layer_group, publish
from realtime.models import Member, Membership, Occupancy, PendingFact, RealtimeUser, Server
from realtime.presence import census, lease, store
from realtime.presence import ledger as ledger_module
from realtime.presence.announcer import envelope_of
from realtime.presence.ledger import PresenceUnavailable
from realtime.presence.store import Join, Leave
from realtime.protocol import messages
from realtime.protocol.errors import LimitReached, SubscriptionRefused
from realtime.protocol.facts import Fact
from realtime.webhooks import facts
from tests.conftest import ID, PATIENCE, Peer, soon, until, until_async
from tests.presence.conftest import members_in

ROOM = "presence-room"


@pytest.fixture
async def ledger(database):
    return ledger_module.current()


def joining(user, socket_id="1.1", channel=ROOM, limit=None):
    return Join(ID, channel, socket_id, messages.Member(user), limit)


def leaving(user, socket_id="1.1", channel=ROOM):
    return Leave(ID, channel, socket_id, user)


def reap_everybody():
    """What another process does with all it takes for dead; servers are locked first."""
    with transaction.atomic():
        Server.objects.update(expires_at=Now() - timezone.timedelta(seconds=1))
        return store.reap()


def announced(layer):
    """Announcements as who came and who went."""
    names = {"member_added": "+", "member_removed": "-"}
    return [
        names[message["text"].split('"')[3].removeprefix("pusher_internal:")] + message["member"][0]
        for message in layer.events()
    ]


async def join_all(ledger, *joins):
    return await soon(asyncio.gather(*(ledger.join(item) for item in joins)))


# ---- joins and leaves -------------------------------------------------------------------


async def test_a_join_returns_once_it_is_committed(ledger):
    roster = await soon(ledger.join(joining("ann")))

    assert members_in(roster)["ids"] == ["ann"]
    assert await Membership.objects.filter(socket_id="1.1").aexists()


async def test_a_sign_in_gets_no_roster(ledger):
    assert await soon(ledger.join(joining("ann", channel=Member.ONLINE))) is None


async def test_what_changed_is_announced_after_the_commit(ledger, layer, database):
    database.open.clear()
    waiting = asyncio.ensure_future(ledger.join(joining("ann")))
    await until(database.waiting.is_set)
    assert layer.events() == []

    database.open.set()
    await soon(waiting)
    await until(layer.events)

    [message] = layer.events()
    assert message["text"] == (
        '{"event":"pusher_internal:member_added","channel":"presence-room",'
        '"data":"{\\"user_id\\":\\"ann\\"}"}'
    )
    assert message["except"] is None  # the list of members has told who joined
    assert [group for group, _ in layer.sent] == [layer_group(ID, ROOM)]


async def test_sign_ins_are_told_to_processes_only(ledger, layer):
    await soon(ledger.join(joining("ann", channel=Member.ONLINE)))
    await until(layer.sign_ins)

    assert layer.events() == []
    assert layer.sign_ins()[0][::2] == ["ann", True]


async def test_comings_and_goings_keep_their_order(ledger, layer):
    for number in range(5):
        await soon(ledger.join(joining("ann", f"1.{number}")))
        ledger.leave(leaving("ann", f"1.{number}"))
        await soon(ledger.flushed())

    await until(lambda: announced(layer) == ["+ann", "-ann"] * 5)


async def test_an_announcement_the_layer_does_not_take_does_not_stop_the_ledger(
    ledger, layer, caplog
):
    layer.broken = True
    await soon(ledger.join(joining("ann")))
    await soon(ledger.flushed())
    await until(lambda: "presence is not announced" in caplog.text)

    layer.broken = False
    await soon(ledger.join(joining("bob", "1.2")))
    await soon(ledger.flushed())

    await until(lambda: announced(layer) == ["+bob"])


async def test_banned_users_and_full_channels_refuse(ledger):
    await RealtimeUser.objects.acreate(app_id=ID, user_id="bad", banned_at=timezone.now())
    await soon(ledger.join(joining("ann", limit=1)))

    with pytest.raises(SubscriptionRefused, match="This user is banned"):
        await soon(ledger.join(joining("bad", "1.2")))
    with pytest.raises(LimitReached, match="Presence channel is full: 1 members at most"):
        await soon(ledger.join(joining("bob", "1.3", limit=1)))


async def test_only_the_last_count_of_a_channel_is_written(ledger, database):
    for count in range(1, 101):
        ledger.occupy(ID, "room", count)
    await soon(ledger.flushed())

    assert await Occupancy.objects.values_list("subscriptions", flat=True).aget() == 100
    assert database.writes_of("realtime_occupancy") == 1
    ledger.occupy(ID, "room", 0)
    await soon(ledger.flushed())
    assert not await Occupancy.objects.aexists()


async def test_flushing_an_idle_ledger_returns_at_once(ledger):
    await soon(ledger.flushed())


# ---- groups -----------------------------------------------------------------------------


async def test_what_comes_while_a_group_commits_gathers_in_the_next(ledger, database):
    await soon(ledger.join(joining("first", "0.0")))
    await soon(ledger.flushed())
    database.statements.clear()
    database.open.clear()
    waiting = asyncio.ensure_future(ledger.join(joining("second", "0.1")))
    await until(database.waiting.is_set)

    gathered = asyncio.gather(
        *(ledger.join(joining(f"u{number}", f"1.{number}")) for number in range(200))
    )
    await asyncio.sleep(0)
    database.open.set()
    await soon(waiting)
    await soon(gathered)

    assert database.writes_of("realtime_server") == 2
    assert len(database.statements) < 40
    assert await Membership.objects.acount() == 202


async def test_a_group_has_an_upper_size(ledger, database, configure):
    configure(GROUP_TRANSITIONS=10)

    await join_all(ledger, *(joining(f"u{number}", f"1.{number}") for number in range(25)))

    assert database.writes_of("realtime_server") == 1 + 3  # the lease, and a renewal per group


# ---- the database is away ---------------------------------------------------------------


@pytest.fixture
def no_pauses(monkeypatch):
    """Repeat at once."""
    monkeypatch.setattr(ledger_module, "_RETRY_SECONDS", (0,))


@pytest.fixture
def little_patience(configure):
    """Joins wait a twentieth of a second for the database."""
    configure(JOIN_SECONDS=0.05)


async def test_a_short_absence_of_the_database_is_not_noticed(
    ledger, database, layer, no_pauses, caplog
):
    database.away = True
    waiting = asyncio.ensure_future(ledger.join(joining("ann")))
    await until(lambda: database.refusals > 5)

    database.away = False

    assert members_in(await soon(waiting))["ids"] == ["ann"]
    await soon(ledger.flushed())
    await until(lambda: announced(layer) == ["+ann"])
    assert caplog.text.count("presence cannot be written, trying again") == 1


async def test_without_a_database_joins_are_given_up(little_patience, ledger, database, no_pauses):
    database.away = True

    with pytest.raises(PresenceUnavailable, match="not be written in time"):
        await soon(ledger.join(joining("ann")))


async def test_a_join_that_was_given_up_leaves_nothing_behind(
    little_patience, ledger, database, layer, no_pauses
):
    database.away = True
    with pytest.raises(PresenceUnavailable):
        await soon(ledger.join(joining("ann")))
    ledger.leave(leaving("ann"))

    database.away = False
    await soon(ledger.flushed())

    assert not await Membership.objects.aexists()
    # The last try may have been under way when the caller gave up.
    assert announced(layer) in ([], ["+ann", "-ann"])


async def test_without_a_database_no_departure_is_lost(ledger, database, layer, no_pauses):
    await join_all(ledger, joining("ann"), joining("bob", "1.2"))
    await soon(ledger.flushed())
    database.away = True
    ledger.leave(leaving("ann"))
    ledger.occupy(ID, "room", 3)
    await until(lambda: database.refusals > 5)

    database.away = False
    await soon(ledger.flushed())

    await until(lambda: announced(layer) == ["+ann", "+bob", "-ann"])
    assert await Occupancy.objects.values_list("subscriptions", flat=True).aget() == 3


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_join_is_undone_by_its_leave(ledger, database, no_pauses, fails):
    database.open.clear()
    waiting = asyncio.ensure_future(ledger.join(joining("ann")))
    await until(database.waiting.is_set)
    waiting.cancel()
    await asyncio.wait([waiting])
    ledger.leave(leaving("ann"))
    database.away = fails
    database.open.set()
    await until(lambda: database.refusals or not fails)

    database.away = False
    await soon(ledger.flushed())

    assert not await Membership.objects.aexists()


async def test_a_join_that_can_never_be_written_does_not_block_the_others(
    ledger, no_pauses, caplog
):
    unwritable = Join(ID, ROOM, "1.1", messages.Member("ann", ["no text"]))
    with pytest.raises(PresenceUnavailable):
        await soon(ledger.join(unwritable))
    ledger.leave(leaving("ann"))

    assert await soon(ledger.join(joining("bob", "1.2")))
    assert "presence cannot be written" in caplog.text


async def test_flushing_without_a_database_does_not_wait_for_ever(
    ledger, database, no_pauses, monkeypatch
):
    monkeypatch.setattr(ledger_module, "FLUSH_SECONDS", 0.01)
    database.away = True
    ledger.occupy(ID, "room", 1)

    await soon(ledger.flushed())

    await until(lambda: database.refusals)
    database.away = False
    await soon(ledger.flushed())


# ---- leases -----------------------------------------------------------------------------


async def test_a_process_is_one_living_server(ledger):
    await join_all(ledger, joining("ann"), joining("bob", "1.2"))

    assert await Server.objects.alive().acount() == 1


async def test_a_reaped_process_records_its_subscriptions_again(ledger, layer, caplog):
    await join_all(ledger, joining("ann", "1.1"), joining("bob", "1.2"))
    ledger.occupy(ID, "room", 2)
    ledger.leave(leaving("bob", "1.2"))
    await soon(ledger.flushed())
    assert [item.present for item in await sync_to_async(reap_everybody)()] == [False]

    roster = await soon(ledger.join(joining("cy", "1.3")))
    await soon(ledger.flushed())

    assert "lease lost" in caplog.text
    assert set(roster.view.present) == {"ann", "cy"}
    await until(lambda: announced(layer)[-2:] == ["+ann", "+cy"])
    assert await Occupancy.objects.values_list("subscriptions", flat=True).aget() == 2


async def test_who_leaves_as_the_lease_is_found_lost_does_not_stay(quick_heart, ledger):
    for number in range(20):
        await soon(ledger.join(joining("ann", f"1.{number}")))
        await sync_to_async(reap_everybody)()
        ledger.leave(leaving("ann", f"1.{number}"))
        await soon(ledger.flushed())

    await until(lambda: ledger.moving() == (set(), set()))
    assert not ledger.held
    assert not await Membership.objects.aexists()
    assert not await Member.objects.filter(present=True).aexists()


async def test_who_was_let_in_is_recorded_again_though_the_channel_is_full(ledger):
    await soon(ledger.join(joining("ann", limit=1)))
    await sync_to_async(reap_everybody)()
    await sync_to_async(elsewhere)(joining("bob", "9.9", limit=1))

    ledger.leave(leaving("nobody", "1.9"))
    await soon(ledger.flushed())

    assert sorted(await sync_to_async(census.user_ids)(ID, ROOM)) == ["ann", "bob"]


async def test_all_tabs_of_a_user_hear_that_it_was_taken_for_gone(observer):
    ledger, hub, tab = ledger_module.current(), hub_module.current(), Peer("7.8")
    await soon(hub.join(ID, ROOM, tab.socket))
    roster = await soon(ledger.join(joining("ann", "7.8")))
    hub.release(ID, ROOM, tab.socket, roster.view)
    await soon(ledger.flushed())

    await publish([envelope_of(change) for change in await sync_to_async(reap_everybody)()])

    await until(lambda: seen(observer) == seen(tab) == ["-ann", "+ann"])


@pytest.fixture
def quick_heart(configure):
    """A heartbeat every tenth of a second."""
    configure(LEASE_SECONDS=0.3)


async def eventually(question):
    """Ask the database until the answer is yes."""
    async with asyncio.timeout(PATIENCE):
        while not await question():
            continue


async def test_the_heartbeat_renews_the_lease(quick_heart, ledger):
    await soon(ledger.join(joining("ann")))
    await soon(ledger.flushed())
    first = await Server.objects.aget()

    await eventually(Server.objects.filter(expires_at__gt=first.expires_at).aexists)


async def test_the_heartbeat_notices_that_it_was_taken_for_dead(quick_heart, ledger, caplog):
    await soon(ledger.join(joining("ann")))
    await soon(ledger.flushed())
    first = await Server.objects.aget()

    await sync_to_async(reap_everybody)()

    await eventually(Membership.objects.exclude(server=first.pk).aexists)
    assert "lease lost" in caplog.text


async def test_a_process_without_a_lease_has_no_heartbeat(configure, ledger, database, no_pauses):
    configure(LEASE_SECONDS=0.003)
    await soon(ledger.join(joining("ann")))
    await soon(ledger.flushed())
    database.refused_start = 'INSERT INTO "realtime_server"'
    await sync_to_async(reap_everybody)()
    await until(lambda: database.refusals > 100)

    database.refused_start = None
    configure(LEASE_SECONDS=30)
    await soon(ledger.flushed())

    assert await Membership.objects.filter(socket_id="1.1").aexists()


async def test_the_heartbeat_reaps_and_announces(quick_heart, database, layer):
    began = asyncio.get_running_loop().time()
    ledger = ledger_module.current()
    dead = uuid.uuid4()
    await sync_to_async(lease.take)(dead, 60)
    await sync_to_async(store.apply)(dead, [joining("ghost", "9.9")], 60)
    await Server.objects.all().aupdate(expires_at=Now())
    await soon(ledger.join(joining("ann")))

    await until(lambda: "-ghost" in announced(layer))
    # Not before a living process had the time to renew its lease.
    assert asyncio.get_running_loop().time() - began >= 0.3


@pytest.fixture
async def observer(quick_heart, process):
    """A socket that was told of ann, and that nobody tells anything through the layer."""
    ledger, hub = ledger_module.current(), hub_module.current()
    peer = Peer("7.7")
    await hub.start()
    await soon(hub.join(ID, ROOM, peer.socket))
    roster = await soon(ledger.join(joining("ann", "7.7")))
    hub.release(ID, ROOM, peer.socket, roster.view)
    await soon(ledger.flushed())
    return peer


def elsewhere(*transitions):
    """What another process commits, and dies before it announces."""
    other = uuid.uuid4()
    lease.take(other, 60)
    store.apply(other, transitions, 60)


def seen(peer):
    """Who came and who went, as *peer* was told."""
    events = [json.loads(text) for text in peer.texts]
    signs = {"pusher_internal:member_added": "+", "pusher_internal:member_removed": "-"}
    return [signs[item["event"]] + json.loads(item["data"])["user_id"] for item in events]


async def test_a_change_that_was_never_announced_is_found_in_the_rows(observer):
    await sync_to_async(elsewhere)(joining("bob", "9.9"))
    await until(lambda: seen(observer) == ["+bob"])

    await sync_to_async(elsewhere)(leaving("bob", "9.9"))
    await until(lambda: seen(observer) == ["+bob", "-bob"])


async def test_changes_are_heard_while_the_layer_is_away(observer, layer):
    layer.broken = True
    await sync_to_async(elsewhere)(joining("bob", "9.9"), joining("cy", "9.8"))
    await until(lambda: sorted(seen(observer)) == ["+bob", "+cy"])


async def test_what_was_heard_is_not_heard_again_from_the_rows(observer, layer):
    ledger = ledger_module.current()
    before = metrics.snapshot()["realtime_announcements_recovered_total"][""]
    await soon(ledger.join(joining("bob", "9.9")))
    await until(lambda: seen(observer) == ["+bob"])
    lease_ends = (await Server.objects.aget()).expires_at

    # Two more heartbeats, each with a look at the rows.
    for _ in range(2):
        await eventually(Server.objects.filter(expires_at__gt=lease_ends).aexists)
        lease_ends = (await Server.objects.aget()).expires_at

    assert seen(observer) == ["+bob"]
    after = metrics.snapshot()["realtime_announcements_recovered_total"][""]
    assert after - before <= 1


async def test_nobody_is_reaped_after_a_database_that_hung(configure, database, layer, monkeypatch):
    """A heartbeat that waits with everybody else for the database knows nothing of the dead."""
    configure(LEASE_SECONDS=2)  # others have two leases to renew theirs
    monkeypatch.setattr(ledger_module, "REAP_SECONDS", 0.05)
    ledger = ledger_module.current()
    await soon(ledger.join(joining("ann")))
    await sync_to_async(elsewhere)(joining("bob", "9.9"))
    loop = asyncio.get_running_loop()
    started = loop.time()
    await until(lambda: loop.time() - started > 2.1)  # the process may reap from now on
    await Server.objects.aupdate(expires_at=Now() + timezone.timedelta(seconds=1))
    database.open.clear()
    await until(database.waiting.is_set)
    hung = loop.time()
    await until(lambda: loop.time() - hung > 1.1)  # all leases have run out meanwhile

    database.open.set()
    await soon(ledger.join(joining("cy", "1.3")))
    await Server.objects.aupdate(expires_at=Now() + timezone.timedelta(seconds=60))
    lease_ends = Now() + timezone.timedelta(seconds=59)
    await eventually(Server.objects.filter(expires_at__lt=lease_ends).aexists)

    assert await Server.objects.acount() == 2
    assert "-bob" not in announced(layer)
    assert "-ann" not in announced(layer)


async def test_a_heartbeat_that_comes_late_does_not_reap_itself(configure, ledger):
    configure(LEASE_SECONDS=0.05)  # run out before most looks for the dead
    await soon(ledger.join(joining("ann")))
    first = await Server.objects.aget()
    other = uuid.uuid4()
    for _ in range(5):
        await sync_to_async(lease.take)(other, 0)
        await eventually(lambda: missing(other))

    assert await Server.objects.aget() == first


async def missing(server):
    return not await Server.objects.filter(pk=server).aexists()


async def test_the_heartbeat_survives_a_database_that_is_away(
    configure, ledger, database, caplog, no_pauses
):
    configure(LEASE_SECONDS=3)  # two beats before the lease has run out
    await soon(ledger.join(joining("ann")))
    await soon(ledger.flushed())
    database.away = True
    await until(lambda: "presence cannot be written" in caplog.text)

    database.away = False

    roster = await soon(ledger.join(joining("bob", "1.2")))
    assert members_in(roster)["ids"] == ["ann", "bob"]


# ---- the end ----------------------------------------------------------------------------


async def test_stopping_writes_what_is_left_and_gives_the_lease_back(ledger, database):
    await soon(ledger.join(joining("ann")))
    ledger.leave(leaving("ann"))

    await soon(ledger.stop())
    await soon(ledger.stop())

    assert not await Membership.objects.aexists()
    lease_ends = (await Server.objects.aget()).expires_at
    assert lease_ends < timezone.now() + timezone.timedelta(seconds=5)


async def test_a_stop_writes_counts_that_could_wait(ledger):
    ledger.occupy(ID, "room", 1)
    await soon(ledger.flushed())
    ledger.occupy(ID, "room", 2)

    await soon(ledger.stop())

    assert await Occupancy.objects.values_list("subscriptions", flat=True).aget() == 2


async def test_a_stopped_ledger_refuses_joins_and_leaves_the_rest_to_the_reaper(ledger):
    await soon(ledger.join(joining("ann")))
    await soon(ledger.stop())

    ledger.leave(leaving("ann"))
    ledger.occupy(ID, "room", 1)
    with pytest.raises(PresenceUnavailable, match="stopping"):
        await soon(ledger.join(joining("bob", "1.2")))

    assert [item.present for item in await sync_to_async(reap_everybody)()] == [False]


async def test_a_departure_within_the_stop_has_not_happened_yet(ledger, layer):
    await soon(ledger.join(joining("ann")))
    ledger.drain()

    ledger.leave(leaving("ann"))
    await soon(ledger.stop())

    assert await Membership.objects.aexists()
    await until(lambda: announced(layer) == ["+ann"])


async def test_who_comes_back_on_the_same_connection_has_not_left(ledger, monkeypatch):
    monkeypatch.setattr(ledger_module, "TRAVEL_SECONDS", 0.05)
    await soon(ledger.join(joining("ann")))
    ledger.drain()
    loop = asyncio.get_running_loop()
    left_at = loop.time()
    ledger.leave(leaving("ann"))
    await soon(ledger.join(joining("ann")))
    await until(lambda: loop.time() - left_at > 0.1)
    await soon(ledger.flushed())

    assert await Membership.objects.filter(socket_id="1.1").aexists()


async def test_who_does_not_arrive_elsewhere_has_left(ledger, layer, monkeypatch):
    monkeypatch.setattr(ledger_module, "TRAVEL_SECONDS", 0.01)
    await soon(ledger.join(joining("ann")))
    ledger.drain()

    ledger.leave(leaving("ann"))

    await until(lambda: announced(layer) == ["+ann", "-ann"])


async def test_a_process_that_cannot_renew_holds_no_lease_for_long(configure, ledger, database):
    configure(LEASE_SECONDS=1)
    assert ledger.holds_lease
    await soon(ledger.join(joining("ann")))
    assert ledger.holds_lease

    database.away = True

    await until(lambda: not ledger.holds_lease)


async def test_a_ledger_that_wrote_nothing_stops(ledger):
    await soon(ledger.stop())

    assert not await Server.objects.aexists()


async def test_stopping_without_a_database_is_logged(ledger, database, caplog):
    await soon(ledger.join(joining("ann")))
    await soon(ledger.flushed())
    database.away = True

    await soon(ledger.stop())

    assert "could not give the lease back" in caplog.text


async def test_there_is_one_ledger_per_loop(ledger):
    assert ledger_module.current() is ledger
    assert ledger_module.peek() is ledger


async def test_what_waits_and_the_lease_can_be_asked_for(ledger, database, configure):
    configure(LEASE_SECONDS=60)
    assert ledger.state() == (0, float("inf"))

    database.open.clear()
    waiting = asyncio.ensure_future(join_all(ledger, joining("ann"), joining("bob", "1.2")))
    await until(lambda: database.waiting.is_set())
    ledger.occupy(ID, ROOM, 2)
    assert ledger.state()[0] == 3

    database.open.set()
    await soon(waiting)
    await soon(ledger.flushed())
    queue, seconds = ledger.state()
    assert queue == 0
    assert 0 < seconds <= 60


# ---- facts ------------------------------------------------------------------------------


def fact(channel="private-room", kind="client_event"):
    return Fact(app_id=ID, kind=kind, channel=channel, event="client-x", data="1", socket_id="1.2")


async def facts_written(count):
    async def look():
        return await PendingFact.objects.acount() == count

    await until_async(look)


async def test_a_fact_is_written_with_the_group_if_somebody_wants_it(ledger, configure):
    ledger.tell(fact())
    await soon(ledger.join(joining("ann")))
    assert await PendingFact.objects.acount() == 0
    configure(WEBHOOKS=[{"URL": "https://example.com/"}])

    ledger.tell(fact())

    await facts_written(1)


async def test_facts_outlast_a_short_absence_of_the_database_up_to_a_number(
    ledger, database, configure, no_pauses, monkeypatch, counted
):
    monkeypatch.setattr(ledger_module, "TOLD", 3)
    configure(WEBHOOKS=[{"URL": "https://example.com/"}])
    database.away = True
    for _ in range(5):
        ledger.tell(fact())
    await until(lambda: database.refusals)
    assert counted("facts_dropped") == 2

    database.away = False
    await facts_written(3)
    await until(lambda: ledger._writer is None)
    ledger.tell(fact())

    await facts_written(4)


async def test_a_fact_that_can_never_be_written_holds_nobody_up(
    ledger, configure, no_pauses, monkeypatch, counted
):
    configure(WEBHOOKS=[{"URL": "https://example.com/"}])
    monkeypatch.setattr(facts, "write", raise_value_error)
    ledger.tell(fact())
    await until(lambda: counted("facts_dropped") == 1)
    monkeypatch.undo()

    ledger.record([leaving("nobody")])

    assert await soon(ledger.join(joining("ann")))


def raise_value_error(found):
    if found:
        raise ValueError("not this one")
