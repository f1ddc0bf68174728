"""Who of those a user watches is online, and when that changes."""

import pytest

from realtime import hub, layer, watchlists
from realtime.holding import Holding
from realtime.layer import Envelope
from realtime.models import Member
from realtime.presence.announcer import envelope_of
from realtime.presence.store import Change
from realtime.protocol import messages
from realtime.protocol.frames import Frame
from tests.conftest import ID, Peer, soon, until


def states(online=(), offline=()):
    lists = {"online": list(online), "offline": list(offline)}
    return (
        "pusher_internal:watchlist_events",
        {"events": [{"name": name, "user_ids": ids} for name, ids in lists.items() if ids]},
    )


@pytest.fixture
def quick(monkeypatch):
    """Whoever leaves is away at once."""
    monkeypatch.setattr(watchlists, "AWAY_SECONDS", 0)


async def watcher(connect, *user_ids, name="watcher"):
    client = await connect()
    await client.sign_in(name, watchlist=list(user_ids))
    return client


@pytest.mark.spec(149)
async def test_a_watcher_is_told_how_things_are(connect):
    ann = await connect()
    await ann.sign_in("ann")

    client = await watcher(connect, "bob", "ann", "watcher")

    assert await client.event() == states(online=["ann", "watcher"], offline=["bob"])


@pytest.mark.spec(150, 151)
async def test_a_watcher_is_told_of_the_first_sign_in_and_the_last_departure(connect, quick):
    client = await watcher(connect, "ann")
    assert await client.event() == states(offline=["ann"])

    first, second = await connect(), await connect()
    await first.sign_in("ann")
    assert await client.event() == states(online=["ann"])

    await second.sign_in("ann")
    await first.leave()
    await client.is_silent()

    await second.leave()
    assert await client.event() == states(offline=["ann"])


async def test_who_is_back_soon_was_never_away(connect):
    client = await watcher(connect, "ann", "bob")
    await client.event()
    ann = await connect()
    await ann.sign_in("ann")
    await client.event()

    await ann.leave()
    ann = await connect()
    await ann.sign_in("ann")
    bob = await connect()
    await bob.sign_in("bob")

    assert await client.event() == states(online=["bob"])


async def test_nobody_is_told_of_others(connect, quick):
    client = await watcher(connect, "ann")
    await client.event()
    bob = await connect()
    await bob.sign_in("bob")

    await client.is_silent()


async def test_a_list_is_replaced_by_a_later_sign_in(connect, quick):
    client = await watcher(connect, "ann")
    await client.event()
    assert (await client.sign_in("watcher", watchlist=["bob"]))[0] == "pusher:signin_success"
    assert await client.event() == states(offline=["bob"])

    ann, bob = await connect(), await connect()
    await ann.sign_in("ann")
    await bob.sign_in("bob")

    assert await client.event() == states(online=["bob"])


async def test_a_list_that_nobody_can_read_sends_the_client_away(database, connect):
    client = await connect()
    await client.sign_in("watcher")
    database.refused_start = 'SELECT "realtime_realtimeuser"."user_id" AS'
    await client.sign_in("watcher", watchlist=["ann"])

    assert (await client.event())[1]["code"] == 4100
    database.refused_start = None


# ---- news that travels ------------------------------------------------------------------


def news(version, *, online, user_id="ann"):
    return envelope_of(
        Change(ID, Member.ONLINE, messages.Member(user_id), present=online, version=version)
    )


@pytest.fixture
async def peer(process, quick):
    """Watches ann, in a process that listens."""
    peer = Peer("7.7")
    await hub.current().start()
    await soon(watchlists.current().watch(ID, ("ann",), peer.socket))
    await until(lambda: len(peer.texts) == 1)
    return peer


async def test_news_that_is_late_or_comes_twice_is_no_news(peer):
    local = hub.current()
    for version, online in ((5, True), (5, True), (4, False), (6, True)):
        local.deliver(news(version, online=online))
    await until(lambda: len(peer.texts) == 2)
    local.deliver(news(7, online=False))
    await until(lambda: len(peer.texts) == 3)

    assert ["online" in text for text in peer.texts] == [False, True, False]


async def test_news_comes_through_the_layer(peer):
    await soon(layer.publish([news(5, online=True)]))

    await until(lambda: len(peer.texts) == 2)


async def test_who_watches_no_more_hears_nothing(peer):
    lists = watchlists.current()
    lists.unwatch(peer.socket)
    lists.unwatch(peer.socket)

    hub.current().deliver(news(5, online=True))

    assert hub.current().subscriptions(ID, Member.ONLINE) == 0
    assert lists._watched == lists._lists == lists._ears == {}
    assert len(peer.texts) == 1


async def test_many_watchers_that_come_at_once_share_one_ear(process):
    await hub.current().start()
    lists, peers = watchlists.current(), [Peer(f"1.{number}") for number in range(5)]
    for peer in peers:
        await soon(lists.watch(ID, ("ann", "bob"), peer.socket))

    assert hub.current().subscriptions(ID, Member.ONLINE) == 1
    hub.current().deliver(news(5, online=True))
    await until(lambda: all(len(peer.texts) == 2 for peer in peers))


async def test_news_that_comes_while_a_process_begins_to_listen_is_held():
    ear, holding = watchlists._Ear(watchlists.current(), ID), Holding()
    holding.add(ear)
    news = Envelope(ID, Member.ONLINE, '["ann",1,true]')

    holding.note(news, Frame(news.text))

    assert not ear.over
    assert [event for event, _ in holding.take(ear.socket_id)] == [news]
