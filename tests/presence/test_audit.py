"""Whether the rows say what the server processes really hold; mending where they do not."""

import asyncio
import uuid

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from realtime import hub as hub_module
from realtime.models import Member, Membership, Occupancy, RealtimeUser, Server
from realtime.presence import audit, census, lease, store
from realtime.presence import ledger as ledger_module
from realtime.presence.audit import Differences, Holding
from realtime.presence.store import Join, Leave, Occupy
from realtime.protocol import messages
from tests.conftest import ID, soon, until

ROOM = "presence-room"
NOTHING = {"missing": 0, "surplus": 0, "counts": 0}
STILL = (set(), set())
"""Nothing is on its way into the database."""


@pytest.fixture(autouse=True)
def slow_heart(configure):
    """Nobody but the test has the process answer."""
    configure(LEASE_SECONDS=60)


async def audited(*, repair=False):
    """The answer of this process."""
    ledger = ledger_module.current()
    await soon(ledger.flushed())
    server = await Server.objects.alive().aget()
    await sync_to_async(audit.ask)([server.pk], "r", repair=repair)
    await soon(audit.answer(ledger, server.pk))
    await server.arefresh_from_db()
    assert server.audited_at >= server.audit_asked_at
    return server.audit


async def members():
    await soon(ledger_module.current().flushed())
    return await sync_to_async(census.user_ids)(ID, ROOM)


async def add_row(socket_id, user_id, channel=ROOM, server=None):
    """A subscription in the rows that no socket has."""
    server = server or await Server.objects.alive().aget()
    joining = Join(ID, channel, socket_id, messages.Member(user_id))
    await sync_to_async(store.apply)(server.pk, [joining], 60)


async def remove_rows(socket_id, channel=ROOM):
    """Take a subscription out of the rows behind the back of its process."""
    server = await Server.objects.alive().aget()
    rows = Membership.objects.filter(socket_id=socket_id, member__channel=channel)
    leaves = [
        Leave(ID, channel, socket_id, row.member.user.user_id)
        async for row in rows.select_related("member__user")
    ]
    await sync_to_async(store.apply)(server.pk, leaves, 60)


@pytest.fixture
async def ann(connect):
    """A client in a presence channel, in another channel, and signed in."""
    client = await connect()
    await client.subscribe(ROOM, {"user_id": "ann", "user_info": {"n": 1}})
    await client.subscribe("room")
    await client.sign_in("ann")
    return client


# ---- what is found ----------------------------------------------------------------------


async def test_nobody_asked(ann):
    server = await Server.objects.aget()

    await soon(audit.answer(ledger_module.current(), server.pk))

    await server.arefresh_from_db()
    assert (server.audit, server.audited_at) == (None, None)


async def test_rows_that_are_right(ann, connect):
    other_tab = await connect()
    await other_tab.subscribe(ROOM, {"user_id": "ann"})
    gone = await connect()
    await gone.subscribe(ROOM, {"user_id": "bob"})
    await gone.leave()

    answer = await audited(repair=True)

    assert answer == {
        "request": "r", "repair": True, "totals": NOTHING, "mended": 0,
        "missing": [], "surplus": [], "counts": [],
    }  # fmt: skip


async def test_everything_that_differs_is_told(ann):
    await remove_rows(ann.socket_id)
    await remove_rows(ann.socket_id, Member.ONLINE)
    await add_row("6.6", "ghost")
    await add_row("7.7", "ghost", Member.ONLINE)
    await Occupancy.objects.filter(channel="room").aupdate(subscriptions=5)

    answer = await audited()

    assert answer["totals"] == {"missing": 2, "surplus": 2, "counts": 1}
    assert answer["missing"] == [
        [ID, Member.ONLINE, ann.socket_id, "ann"], [ID, ROOM, ann.socket_id, "ann"],
    ]  # fmt: skip
    assert answer["surplus"] == [
        [ID, Member.ONLINE, "7.7", "ghost"], [ID, ROOM, "6.6", "ghost"],
    ]  # fmt: skip
    assert answer["counts"] == [[ID, "room", 5, 1]]
    assert answer["mended"] == 0
    assert await members() == ["ghost"]


async def test_rows_of_other_processes_are_theirs(ann):
    other = uuid.uuid4()
    await sync_to_async(lease.take)(other, 60)
    bob = Join(ID, ROOM, "5.5", messages.Member("bob"))
    await sync_to_async(store.apply)(other, [bob, Occupy(ID, "room", 3)], 60)
    mine = await Server.objects.exclude(pk=other).aget()
    await sync_to_async(audit.ask)([mine.pk, other], "r", repair=True)

    await soon(audit.answer(ledger_module.current(), mine.pk))

    await mine.arefresh_from_db()
    assert mine.audit["totals"] == NOTHING
    assert sorted(await members()) == ["ann", "bob"]


async def test_a_process_that_is_reaped_meanwhile_compares_nothing(ann):
    ledger = ledger_module.current()
    await soon(ledger.flushed())
    server = await Server.objects.aget()
    await sync_to_async(audit.ask)([server.pk], "r", repair=True)

    def reap_first(execute, sql, params, many, context):
        if sql.startswith('UPDATE "realtime_server" SET "expires_at"'):
            context["connection"].execute_wrappers.remove(reap_first)
            Server.objects.filter(pk=server.pk).delete()
        return execute(sql, params, many, context)

    await ledger.in_thread(lambda: connection.execute_wrappers.append(reap_first))
    await soon(audit.answer(ledger, server.pk))

    await server.arefresh_from_db()  # the transaction did not commit
    assert server.audited_at is None
    assert await members() == ["ann"]


def test_an_answer_lists_so_many_and_counts_them_all():
    surplus = {(ID, ROOM, f"1.{number}", "ann") for number in range(audit.LISTED + 5)}

    report = Differences(surplus=surplus).report()

    assert report["totals"]["surplus"] == audit.LISTED + 5
    assert len(report["surplus"]) == audit.LISTED


# ---- what is on its way -----------------------------------------------------------------


@pytest.fixture
def holding():
    """One confirmed subscription of ann, one of bob that may be refused yet."""
    held = Holding(None)
    held.confirmed = {(ID, ROOM, "1.1")}
    held.waiting = {(ID, ROOM, "1.2")}
    held.shown = {(ID, "1.1", "ann"), (ID, "1.2", "bob")}
    held.counts = {(ID, ROOM): (1, 2)}
    return held


ANN, BOB = (ID, ROOM, "1.1", "ann"), (ID, ROOM, "1.2", "bob")


@pytest.mark.parametrize("rows", [{ANN}, {ANN, BOB}])
@pytest.mark.parametrize("count", [1, 2])
def test_a_subscription_that_waits_may_have_a_row_or_not(holding, rows, count):
    assert not holding.compare(rows, {(ID, ROOM): count}, {}, STILL).total


@pytest.mark.parametrize("user_id", ["ann", "bob", "eve"])
def test_a_row_must_show_the_right_user(holding, user_id):
    found = holding.compare({(ID, ROOM, "1.1", user_id)}, {(ID, ROOM): 1}, {}, STILL)

    assert bool(found.surplus) is (user_id != "ann")


def test_what_moves_is_left_out(holding):
    rows, counts = {BOB, (ID, ROOM, "9.9", "eve")}, {(ID, ROOM): 7}
    assert holding.compare(rows, counts, {}, STILL).total == 3

    moving = {(ID, ROOM, "1.1"), (ID, ROOM, "9.9")}, {(ID, ROOM)}

    assert not holding.compare(rows, counts, {}, moving).total


async def test_what_is_being_written_and_what_waits_for_it_moves(ann, database, connect):
    ledger = ledger_module.current()
    await soon(ledger.flushed())
    other = await connect()
    database.open.clear()
    await other.ask(ROOM, {"user_id": "bob"})
    await until(lambda: ledger.moving()[0])
    await until(lambda: not ledger._pending)
    await ann.say("pusher:unsubscribe", {"channel": ROOM})
    await until(lambda: ledger._pending)

    subscriptions, channels = ledger.moving()

    assert subscriptions == {(ID, ROOM, other.socket_id), (ID, ROOM, ann.socket_id)}
    assert (ID, ROOM) in channels
    database.open.set()
    await until(lambda: ledger.moving() == STILL)


async def test_late_departures_of_a_process_that_stops_are_no_difference(ann):
    ledger_module.current().drain()
    await ann.say("pusher:unsubscribe", {"channel": ROOM})
    await ann.is_silent()

    answer = await audited(repair=True)

    assert answer["totals"] == NOTHING
    assert await members() == ["ann"]


# ---- what is mended ---------------------------------------------------------------------


async def test_rows_and_counts_are_mended(ann, layer):
    await remove_rows(ann.socket_id)
    await remove_rows(ann.socket_id, Member.ONLINE)
    await add_row("6.6", "ghost")
    await Occupancy.objects.filter(channel="room").aupdate(subscriptions=5)

    answer = await audited(repair=True)

    assert answer["mended"] == 4
    assert await members() == ["ann"]
    assert await Membership.objects.acount() == 2
    assert await sync_to_async(census.subscriptions)(ID, ["room"]) == {"room": 1}
    assert (await audited())["totals"] == NOTHING
    await until(lambda: len(layer.events()) == 3)
    told = [message["member"][0] for message in layer.events()]
    assert sorted(told) == ["ann", "ann", "ghost"]


async def test_a_member_who_was_let_in_is_not_refused_because_the_channel_is_full(
    connect, configure
):
    configure(LIMITS={"PRESENCE_MEMBERS": 1})
    client = await connect()
    await client.subscribe(ROOM, {"user_id": "ann"})
    await remove_rows(client.socket_id)
    await add_row("6.6", "bob")

    assert (await audited(repair=True))["mended"] == 2

    assert await members() == ["ann"]


async def test_a_client_the_ledger_forgot_is_asked_to_come_again(ann):
    await soon(ledger_module.current().flushed())
    await remove_rows(ann.socket_id)
    ledger_module.current()._held.clear()

    answer = await audited(repair=True)

    assert answer["missing"] == [[ID, ROOM, ann.socket_id, ""]]
    while (message := await ann.receive_output())["type"] != "websocket.close":
        assert message["type"] == "websocket.send"
    assert message["code"] == 4200


async def test_members_whose_presence_is_wrong_are_settled(ann, layer):
    ghost = await RealtimeUser.objects.acreate(app_id=ID, user_id="ghost")
    await Member.objects.acreate(
        pk=Member.key_of(ID, ROOM, "ghost"), user=ghost, app_id=ID, channel=ROOM, present=True
    )
    await Member.objects.filter(user__user_id="ann").aupdate(present=False)

    answer = await audited(repair=True)

    assert answer["mended"] == 3  # ann is hidden here and among the signed-in
    assert await members() == ["ann"]
    assert not await Member.objects.filter(user=ghost, present=True).aexists()
    await until(lambda: len(layer.events()) == 3)
    told = [message["member"][0] for message in layer.events()]
    assert sorted(told) == ["ann", "ann", "ghost"]


async def test_who_came_meanwhile_is_not_sent_away(ann):
    """Seen as surplus, and there when it is about to be mended."""
    ledger, row = ledger_module.current(), (ID, ROOM, ann.socket_id, "ann")

    mended = audit._mend(ledger, Differences(surplus={row, (*row[:3], "eve")}))

    assert mended == 1
    assert await members() == ["ann"]


async def test_who_left_meanwhile_is_not_brought_back(ann):
    ledger, key = ledger_module.current(), (ID, ROOM, ann.socket_id)
    joining = ledger.held[key]
    await ann.say("pusher:unsubscribe", {"channel": ROOM})
    await ann.is_silent()
    ledger._held[key] = joining

    assert audit._mend(ledger, Differences(missing={key: "ann"})) == 0

    assert await members() == []


async def test_repairs_beside_normal_traffic_touch_nobody_who_is_there(connect, layer):
    steady = await connect()
    await steady.subscribe(ROOM, {"user_id": "steady"})
    going, rounds = asyncio.Event(), 0

    async def come_and_go(name):
        nonlocal rounds
        while not going.is_set():
            client = await connect()
            await client.subscribe(ROOM, {"user_id": name})
            await client.sign_in(name)
            if rounds % 2:
                await client.say("pusher:unsubscribe", {"channel": ROOM})
                await client.say("pusher:subscribe", {"channel": "room"})
            await client.leave()
            rounds += 1

    crowd = [asyncio.ensure_future(come_and_go(f"u{number % 3}")) for number in range(6)]
    found = []
    for number in range(20):
        await add_row(f"0.{number}", "ghost")
        answer = await audited(repair=True)
        found.append(answer["totals"])
    going.set()
    await soon(asyncio.gather(*crowd))

    assert found == [{"missing": 0, "surplus": 1, "counts": 0}] * 20
    assert rounds > 20
    assert await members() == ["steady"]
    assert [item["member"][0] for item in layer.events()].count("steady") == 1
    assert (await audited())["totals"] == NOTHING


# ---- what no process sees ---------------------------------------------------------------


@pytest.mark.django_db
def test_strays(apply, servers):
    apply(Join(ID, ROOM, "1.1", messages.Member("ann")), Occupy(ID, "room", 2))
    apply(Join(ID, ROOM, "1.2", messages.Member("bob")), on=1)
    apply(Join(ID, ROOM, "1.3", messages.Member("cy")), on=1)
    assert not any(audit.strays(6).values())
    Membership.objects.filter(socket_id="1.2").delete()
    Member.objects.filter(user__user_id="cy").update(present=False)
    Server.objects.filter(pk=servers[0]).update(
        expires_at=Now() - timezone.timedelta(seconds=7), name="dead"
    )

    assert audit.strays(6) == {
        "ghosts": [[ID, ROOM, "bob"]],
        "hidden": [[ID, ROOM, "cy"]],
        "unreaped": [["dead", 1, 1]],
    }
    # It may be that nobody had the time yet.
    assert audit.strays(8)["unreaped"] == []


@pytest.mark.django_db
def test_where_no_process_runs_the_rows_are_mended_alone(apply, servers):
    apply(
        Join(ID, ROOM, "1.1", messages.Member("ann")), Join(ID, ROOM, "1.2", messages.Member("b"))
    )
    Membership.objects.filter(socket_id="1.2").delete()
    Server.objects.update(expires_at=Now() - timezone.timedelta(seconds=60))

    audit.mend_alone(6)

    assert not any(audit.strays(6).values())
    assert not Member.objects.present().exists()
    assert not Server.objects.exists()


async def test_a_ledger_answers_at_its_next_heartbeat(connect, configure):
    configure(LEASE_SECONDS=0.3)
    client = await connect()
    await client.subscribe(ROOM, {"user_id": "ann"})
    server = await Server.objects.aget()

    await sync_to_async(audit.ask)([server.pk], "r", repair=False)

    async with asyncio.timeout(20):
        while not await Server.objects.filter(audited_at__isnull=False).aexists():
            continue
    assert hub_module.current().connections() == 1
