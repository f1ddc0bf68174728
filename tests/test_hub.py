"""The one way events reach the subscribers of a process."""

import asyncio
import json
import logging
import time

import pytest

from realtime import bus as bus_module
from realtime import hub as hub_module
from realtime import metrics
from realtime.holding import EVENT_CHARS
from realtime.layer import (
    CONTROL_GROUP,
    EVENT,
    MARKER,
    RELAY,
    Envelope,
    PublishFailed,
    layer_group,
    publish,
    publish_termination,
)
from realtime.protocol import messages
from realtime.protocol.attendance import Announcement, View
from realtime.protocol.frames import Frame
from realtime.protocol.messages import encode_event, encode_member_removed
from tests.conftest import ID, LateLayer, MarkerlessLayer, Peer, soon, until

ROOM = layer_group(ID, "room")


@pytest.fixture
def hub(local_hub):
    return local_hub


@pytest.fixture
def subscribe(hub):
    """Subscribes a peer: joined and released."""

    async def subscribe(peer, channel="room", listed=None):
        hub.admit(peer.socket)
        await soon(hub.join(ID, channel, peer.socket))
        hub.release(ID, channel, peer.socket, listed)
        return peer

    return subscribe


def event(text, channel="room", **more):
    return Envelope(ID, channel, text, **more)


def came(version, user_id="u1", **more):
    """The announcement that a member came; its text says so."""
    news = Announcement(user_id, version, present=True)
    return event(f"+{user_id}", announcement=news, **more)


def went(version, user_id="u1", **more):
    """The announcement that a member went."""
    news = Announcement(user_id, version, present=False)
    return event(f"-{user_id}", announcement=news, **more)


# ---- events -----------------------------------------------------------------------------


async def test_an_event_reaches_every_subscriber_of_its_channel(hub, subscribe):
    first, second = await subscribe(Peer("1.1")), await subscribe(Peer("1.2"))

    await publish([event("hello")])

    await first.has("hello")
    await second.has("hello")


async def test_an_event_reaches_no_subscriber_of_another_channel(hub, subscribe):
    here, elsewhere = await subscribe(Peer("1.1")), await subscribe(Peer("1.2"), "other")

    await publish([event("hello"), event("last", "other")])

    await here.has("hello")
    await elsewhere.has("last")


@pytest.mark.spec(79)
async def test_an_event_of_another_app_stays_there(hub, subscribe):
    peer = await subscribe(Peer("1.1"))

    await publish([Envelope("4", "room", "foreign"), event("own")])

    await peer.has("own")


@pytest.mark.spec(118)
async def test_the_excluded_socket_gets_nothing(hub, subscribe):
    sender, other = await subscribe(Peer("1.1")), await subscribe(Peer("1.2"))

    await publish([event("one", except_socket_id="1.1"), event("two")])

    await other.has("one", "two")
    await sender.has("two")


async def test_an_event_without_subscribers_is_dropped(hub):
    hub.deliver(event("nobody"))

    assert hub.subscriptions(ID, "room") == 0


async def test_one_event_costs_one_layer_message_and_one_encoding(
    hub, layer, subscribe, monkeypatch
):
    encoded = []
    monkeypatch.setattr(messages, "quote", lambda value: encoded.append(value) or json.dumps(value))
    peers = [await subscribe(Peer(f"1.{number}")) for number in range(1_000)]
    layer.received.clear()

    await publish([event(encode_event("greet", "room", "{}"))])

    await until(lambda: all(peer.texts for peer in peers))
    assert layer.groups_joined.count(ROOM) == 1
    assert [message["type"] for message in layer.received if message["type"] != MARKER] == [EVENT]
    assert encoded == ["greet", "room", "{}"]
    assert len({id(peer.texts[0]) for peer in peers}) == 1


@pytest.mark.parametrize("frames", [200])
async def test_a_peer_that_stops_reading_does_not_delay_the_others(hub, subscribe, frames):
    stuck = await subscribe(Peer("1.1", reads=False, backlog_chars=frames * 1_000))
    lively = await subscribe(Peer("1.2", backlog_chars=2_000))

    for number in range(1, frames + 2):
        hub.deliver(event("x" * 1_000))
        await until(lambda number=number: len(lively.texts) == number)

    assert stuck.drops == 1
    assert stuck.texts == []
    assert lively.drops == 0


async def test_writers_get_their_turn_during_a_burst(hub, subscribe):
    peer = await subscribe(Peer("1.1", backlog_chars=bus_module.BURST * 2))

    await publish([event("x")] * bus_module.BURST * 5)

    await until(lambda: len(peer.texts) == bus_module.BURST * 5)
    assert peer.drops == 0


# ---- joining ----------------------------------------------------------------------------


async def test_nothing_is_delivered_before_the_release_and_nothing_is_lost(hub):
    peer = Peer("1.1")
    await soon(hub.join(ID, "room", peer.socket))
    hub.deliver(event("one"))
    hub.deliver(event("two"))
    peer.socket.push(Frame("success"))

    hub.release(ID, "room", peer.socket)
    hub.deliver(event("three"))

    await peer.has("success", "one", "two", "three")


async def test_a_socket_is_registered_before_the_layer_answers(hub, layer):
    layer.gates[ROOM] = asyncio.Event()
    peer = Peer("1.1")
    joining = asyncio.ensure_future(hub.join(ID, "room", peer.socket))
    await until(lambda: ROOM in layer.groups_joined)

    hub.deliver(event("early"))
    layer.gates[ROOM].set()
    await soon(joining)
    hub.release(ID, "room", peer.socket)

    await peer.has("early")


async def test_sockets_that_join_together_join_the_group_once(hub, layer):
    peers = [Peer(f"1.{number}") for number in range(20)]

    await soon(asyncio.gather(*(hub.join(ID, "room", peer.socket) for peer in peers)))

    assert layer.groups_joined.count(ROOM) == 1
    assert hub.subscriptions(ID, "room") == 20


async def test_a_join_waits_until_the_layer_really_listens(use_layer):
    layer = use_layer(LateLayer)
    hub = hub_module.current()
    await hub.start()
    peer = Peer("1.1")

    await soon(hub.join(ID, "room", peer.socket))
    hub.release(ID, "room", peer.socket)
    await publish([event("hello")])

    await peer.has("hello")
    assert layer.members(ROOM)
    await hub.stop()


@pytest.mark.parametrize("failure", ["broken", "deaf"])
async def test_a_join_the_layer_does_not_take_is_undone(use_layer, monkeypatch, failure):
    monkeypatch.setattr(bus_module, "ECHO_SECONDS", (0.001, 0.001))
    layer = use_layer(MarkerlessLayer)
    hub = hub_module.current()
    await hub.start()
    layer.broken = failure == "broken"

    with pytest.raises(PublishFailed):
        await soon(hub.join(ID, "room", Peer("1.1").socket))

    assert hub.subscriptions(ID, "room") == 0
    layer.broken = False
    await hub.stop()


@pytest.mark.parametrize("failure", ["deaf", "cancelled"])
async def test_a_failed_join_does_not_stay_in_the_group(use_layer, configure, monkeypatch, failure):
    configure(LINGER_SECONDS=0)
    if failure == "deaf":
        monkeypatch.setattr(bus_module, "ECHO_SECONDS", (0.001, 0.001))
    layer = use_layer(MarkerlessLayer)
    hub = hub_module.current()
    await hub.start()
    joining = asyncio.ensure_future(hub.join(ID, "room", Peer("1.1").socket))
    await until(lambda: layer.members(ROOM))
    if failure == "cancelled":
        joining.cancel()
    await asyncio.wait([joining])

    await until(lambda: not layer.members(ROOM))

    await hub.stop()


async def test_a_cancelled_join_is_undone(hub, layer):
    layer.gates[ROOM] = asyncio.Event()
    joining = asyncio.ensure_future(hub.join(ID, "room", Peer("1.1").socket))
    await until(lambda: ROOM in layer.groups_joined)

    joining.cancel()
    await asyncio.wait([joining])

    assert hub.subscriptions(ID, "room") == 0


async def test_after_a_failed_join_the_next_one_joins_the_group(hub, layer, subscribe):
    layer.broken = True
    with pytest.raises(PublishFailed):
        await hub.join(ID, "room", Peer("1.1").socket)
    layer.broken = False

    peer = await subscribe(Peer("1.2"))

    await publish([event("hello")])
    await peer.has("hello")


@pytest.mark.parametrize(("held", "code"), [(10, None), (11, 4100)])
async def test_a_socket_for_which_too_much_is_held_is_sent_away(hub, held, code):
    peer = Peer("1.1", backlog_chars=10 * (1 + EVENT_CHARS))
    await soon(hub.join(ID, "room", peer.socket))

    for _ in range(held):
        hub.deliver(event("x"))

    await until(lambda: peer.close_code == code)
    hub.release(ID, "room", peer.socket)  # the consumer does not know yet


# ---- leaving ----------------------------------------------------------------------------


@pytest.mark.spec(75)
async def test_a_socket_that_left_gets_nothing_more(hub, subscribe):
    gone, stays = await subscribe(Peer("1.1")), await subscribe(Peer("1.2"))

    hub.leave(ID, "room", gone.socket)
    await publish([event("hello")])

    await stays.has("hello")
    assert gone.texts == []


async def test_leaving_a_channel_nobody_joined_does_nothing(hub):
    hub.leave(ID, "room", Peer("1.1").socket)

    assert hub.subscriptions(ID, "room") == 0


async def test_an_empty_channel_leaves_its_group_after_the_linger(hub, layer, subscribe, configure):
    configure(LINGER_SECONDS=0)
    peer = await subscribe(Peer("1.1"))

    hub.leave(ID, "room", peer.socket)
    assert layer.members(ROOM)

    await until(lambda: not layer.members(ROOM))
    assert layer.groups_left == [ROOM]


async def test_a_page_change_within_the_linger_costs_the_layer_nothing(
    hub, layer, subscribe, configure
):
    configure(LINGER_SECONDS=0.01)
    before = await subscribe(Peer("1.1"))

    hub.leave(ID, "room", before.socket)
    after = await subscribe(Peer("1.2"))
    probe = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.02, probe.set_result, None)
    await probe

    await publish([event("hello")])
    await after.has("hello")
    assert layer.groups_joined.count(ROOM) == 1
    assert layer.groups_left == []


async def test_a_join_that_comes_while_the_group_is_left_joins_it_again(
    hub, layer, subscribe, configure
):
    configure(LINGER_SECONDS=0)
    first, second, third = (Peer(f"1.{number}") for number in range(3))
    hub.leave(ID, "room", (await subscribe(first)).socket)
    hub.leave(ID, "room", (await subscribe(second)).socket)
    layer.gates[ROOM] = asyncio.Event()
    await until(lambda: ROOM in layer.groups_left)

    joining = asyncio.ensure_future(subscribe(third))
    await until(lambda: hub.subscriptions(ID, "room"))
    layer.gates[ROOM].set()
    await soon(joining)

    await publish([event("hello")])
    await third.has("hello")
    assert layer.groups_left == [ROOM]


async def test_an_empty_channel_is_left_once_however_often_it_was_deserted(
    hub, layer, subscribe, configure
):
    configure(LINGER_SECONDS=0)
    for number in range(3):
        hub.leave(ID, "room", (await subscribe(Peer(f"1.{number}"))).socket)

    await until(lambda: not layer.members(ROOM))
    await asyncio.sleep(0)

    assert layer.groups_left == [ROOM]


# ---- news about members -----------------------------------------------------------------


async def test_news_older_than_what_was_delivered_is_dropped(hub, subscribe):
    peer = await subscribe(Peer("1.1"), listed=View())

    for envelope in (came(2), went(1), came(2), went(3)):
        hub.deliver(envelope)

    await peer.has("+u1", "-u1")


async def test_news_that_overtook_each_other_still_come_and_go_in_turns(hub, subscribe):
    peer = await subscribe(Peer("1.1"), listed=View())

    for envelope in (came(1), came(3), went(2), went(5), came(4), came(6)):
        hub.deliver(envelope)

    await peer.has("+u1", "-u1", "+u1")


async def test_a_joiner_hears_only_news_that_its_list_does_not_have(hub):
    peer = Peer("1.1")
    await soon(hub.join(ID, "room", peer.socket))
    for envelope in (went(3), went(5), came(1, "u2")):
        hub.deliver(envelope)

    hub.release(ID, "room", peer.socket, View({"u1": 4}))

    await peer.has("-u1", "+u2")


async def test_late_news_reaches_those_who_need_it_and_not_the_joiner_who_knows(hub, subscribe):
    early = await subscribe(Peer("1.1"), listed=View())
    joiner = await subscribe(Peer("1.2"), listed=View({"u1": 4}))

    hub.deliver(came(4))
    hub.deliver(went(6))

    await early.has("+u1", "-u1")
    await joiner.has("-u1")


async def test_a_joiner_that_was_not_told_of_a_member_is_not_told_that_it_went(hub, subscribe):
    early = await subscribe(Peer("1.1"), listed=View({"u1": 4}))
    joiner = await subscribe(Peer("1.2"), listed=View())

    hub.deliver(went(5))
    hub.deliver(came(6))

    await early.has("-u1", "+u1")
    await joiner.has("+u1")


async def test_news_is_kept_from_its_cause_and_held_for_those_who_wait(hub, subscribe):
    cause = await subscribe(Peer("1.1"), listed=View())
    waiting = Peer("1.3")
    await soon(hub.join(ID, "room", waiting.socket))

    hub.deliver(came(5, except_socket_id="1.1"))
    hub.deliver(came(6, "u2", except_socket_id="1.3"))
    hub.release(ID, "room", waiting.socket, View())

    await waiting.has("+u1")
    await cause.has("+u2")


async def test_a_member_that_shows_something_else_goes_and_comes(hub, subscribe):
    observer = await subscribe(Peer("1.1"), listed=View({"u1": 4}))
    joiner = await subscribe(Peer("1.2"), listed=View({"u1": 5}))
    waiting = Peer("1.3")
    await soon(hub.join(ID, "room", waiting.socket))
    departure = encode_member_removed("room", "u1")

    hub.deliver(event("+u1", announcement=Announcement("u1", 5, True, 5)))
    hub.release(ID, "room", waiting.socket, View({"u1": 4}))
    hub.deliver(event("bye"))

    await observer.has(departure, "+u1", "bye")
    await waiting.has(departure, "+u1", "bye")
    await joiner.has("bye")


async def test_an_ordinary_event_reaches_a_joiner_ahead_of_the_others(hub, subscribe):
    await subscribe(Peer("1.1"), listed=View())
    joiner = await subscribe(Peer("1.2"), listed=View({"u1": 4}))

    hub.deliver(event("hello"))

    await joiner.has("hello")


# ---- users ------------------------------------------------------------------------------


@pytest.mark.spec(146)
@pytest.mark.parametrize("members", [False, True])
async def test_a_termination_closes_all_and_only_the_connections_of_a_user(hub, members):
    phone, laptop, shown, other = (Peer(f"1.{number}") for number in range(4))
    hub.identify("u1", phone.socket)
    hub.identify("u1", laptop.socket)
    hub.show("u1", shown.socket)
    hub.identify("u2", other.socket)

    await publish_termination(ID, "u1", members=members)

    await until(lambda: phone.close_code and laptop.close_code)
    assert (phone.close_code, laptop.close_code) == (4009, 4009)
    assert shown.close_code == (4009 if members else None)
    assert other.messages == []


async def test_a_terminated_connection_is_told_why_before_it_is_closed(hub):
    peer = Peer("1.1")
    hub.identify("u1", peer.socket)

    hub.terminate(ID, "u1", members=False)

    await until(lambda: peer.close_code)
    assert peer.texts == [
        '{"event":"pusher:error","data":{"code":4009,"message":"You got disconnected by the app."}}'
    ]
    assert peer.messages[-1]["reason"] == "You got disconnected by the app."


async def test_a_forgotten_connection_is_not_terminated(hub):
    signed_out, hidden = Peer("1.1"), Peer("1.2")
    hub.identify("u1", signed_out.socket)
    hub.show("u1", hidden.socket)

    hub.forget("u1", signed_out.socket)
    hub.hide("u1", hidden.socket)
    hub.terminate(ID, "u1", members=True)

    assert not signed_out.socket.over
    assert not hidden.socket.over


async def test_forgetting_somebody_unknown_does_nothing(hub):
    hub.forget("nobody", Peer("1.1").socket)

    hub.terminate(ID, "nobody", members=True)


# ---- the process ------------------------------------------------------------------------


async def test_connections_are_counted_by_app_and_together(hub):
    first, second = Peer("1.1"), Peer("1.2")
    hub.admit(first.socket)
    hub.admit(second.socket)

    assert (hub.connections(), hub.connections(ID), hub.connections("4")) == (2, 2, 0)

    hub.dismiss(first.socket)
    hub.dismiss(second.socket)
    assert (hub.connections(), hub.connections(ID)) == (0, 0)


async def test_a_process_that_stops_sends_everybody_to_another_one(hub):
    peer = Peer("1.1")
    hub.admit(peer.socket)

    await soon(hub.drain(0.01))

    await until(lambda: peer.close_code)
    assert peer.close_code == 4200
    assert hub.stopping


async def test_deserted_waits_for_the_last_connection(hub):
    peer = Peer("1.1")
    hub.admit(peer.socket)
    waiting = asyncio.ensure_future(hub.deserted())
    await asyncio.sleep(0)
    assert not waiting.done()

    hub.dismiss(peer.socket)

    await soon(waiting)


async def test_a_hub_without_connections_is_deserted(hub):
    await soon(hub.deserted())


async def test_starting_twice_listens_once(layer):
    hub = hub_module.current()
    layer.gates[CONTROL_GROUP] = asyncio.Event()
    starting = asyncio.gather(hub.start(), hub.start())
    await until(lambda: layer.groups_joined)

    layer.gates[CONTROL_GROUP].set()
    await starting
    await hub.start()

    assert layer.groups_joined.count(CONTROL_GROUP) == 1
    await hub.stop()


async def test_a_hub_that_cannot_start_says_so_and_can_start_later(layer):
    hub = hub_module.current()
    layer.broken = True
    with pytest.raises(PublishFailed):
        await hub.start()

    layer.broken = False
    await hub.start()

    assert layer.members(CONTROL_GROUP)
    await hub.stop()


async def test_stopping_leaves_every_group(hub, layer, subscribe):
    await subscribe(Peer("1.1"))

    await hub.stop()
    await hub.stop()

    assert layer.groups == {}
    assert {ROOM, CONTROL_GROUP} <= set(layer.groups_left)


async def test_a_hub_knows_whether_it_hears_the_layer(hub, layer, configure):
    assert hub.listening
    configure(WATCHDOG_SECONDS=0.01)
    deaf = hub_module.Hub()
    await deaf.start()

    layer.deaf = True
    await until(lambda: not deaf.listening)

    layer.repair()
    await deaf.stop()


async def test_there_is_one_hub_per_loop(hub):
    assert hub_module.current() is hub
    assert hub_module.peek() is hub


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        ({"type": "somebody.elses"}, "unknown message type 'somebody.elses'"),
        ({"type": None}, "unknown message type None"),
        ({"type": "realtime.event", "app": ID}, "malformed message"),
        ({**event("").message(), "member": 5}, "malformed message"),
        ({**event("").message(), "member": []}, "malformed message"),
        ({"type": "realtime.terminate", "app": ID}, "malformed message"),
        ({"type": "realtime.events"}, "malformed message"),
        ({"type": "realtime.events", "events": [7]}, "malformed message"),
        ({"type": "realtime.events", "events": [{"app": ID}]}, "malformed message"),
    ],
)
async def test_what_is_not_ours_on_the_layer_is_logged_and_survived(
    hub, layer, subscribe, caplog, counted, message, complaint
):
    peer = await subscribe(Peer("1.1"))

    await layer.group_send(ROOM, message)
    await publish([event("hello")])

    await peer.has("hello")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert complaint in record.getMessage()
    assert counted("layer_messages_unreadable") == 1


async def test_one_event_of_several_that_is_not_ours_takes_no_other_with_it(
    hub, layer, subscribe, counted
):
    peer = await subscribe(Peer("1.1"))
    events = [event("a").message(), {"app": ID}, event("b").message()]

    await layer.group_send(ROOM, {"type": "realtime.events", "events": events})

    await peer.has("a", "b")
    assert counted("layer_messages_unreadable") == 1


async def test_an_echo_nobody_waits_for_is_ignored(hub, layer, subscribe, caplog):
    peer = await subscribe(Peer("1.1"))
    [marker] = [sent for group, sent in layer.sent if group == ROOM]

    await layer.group_send(ROOM, marker)
    await publish([event("hello")])

    await peer.has("hello")
    assert caplog.records == []


async def test_a_channel_that_outlives_the_expiry_of_its_group_keeps_its_events(layer, monkeypatch):
    monkeypatch.setattr(bus_module, "RENEWAL_SECONDS", 0.01)
    hub, peer = hub_module.current(), Peer("1.1")
    await hub.start()
    await soon(hub.join(ID, "room", peer.socket))
    hub.release(ID, "room", peer.socket)
    hub.identify("u1", peer.socket)
    tomorrow = time.time() + 26 * 3600
    monkeypatch.setattr("channels.layers.time.time", lambda: tomorrow)
    before = len(layer.groups_joined)
    await until(lambda: len(layer.groups_joined) >= before + 4)

    await publish([event("hello")])
    await publish_termination(ID, "u1", members=False)

    await until(lambda: peer.close_code)
    assert peer.texts[0] == "hello"
    await hub.stop()


async def test_the_first_subscriber_starts_from_the_list_it_was_given(hub, subscribe):
    peer = await subscribe(Peer("1.1"), listed=View({"u1": 7}))

    await publish([went(6), went(8)])

    await peer.has("-u1")


async def test_many_clients_are_not_sent_away_at_once(hub, monkeypatch):
    monkeypatch.setattr(hub_module, "DRAIN_PER_SECOND", 1)
    peers = [Peer(f"1.{number}") for number in range(10)]
    for peer in peers:
        hub.admit(peer.socket)

    draining = asyncio.ensure_future(hub.drain(0.2))
    await until(lambda: peers[0].close_code)
    assert peers[-1].close_code is None

    await soon(draining)
    await until(lambda: all(peer.close_code == 4200 for peer in peers))


# ---- what is measured -------------------------------------------------------------------


async def test_copies_are_counted_for_each_app_without_those_left_out(hub, subscribe):
    first, _ = await subscribe(Peer("1.1")), await subscribe(Peer("1.2"))

    await publish([event("one"), event("two", except_socket_id="1.1")])
    await publish([event("three", except_socket_id="9.9")])

    await first.has("one", "three")
    assert hub.delivered == {ID: 5}


async def test_what_was_held_counts_when_it_is_handed_over(hub):
    peer = Peer("1.1")
    await soon(hub.join(ID, "room", peer.socket))
    hub.deliver(event("held"))
    assert hub.delivered[ID] == 0

    hub.release(ID, "room", peer.socket)

    assert hub.delivered[ID] == 1


async def test_news_counts_for_those_who_get_it(hub, subscribe):
    await subscribe(Peer("1.1"), "presence-room", View({"u1": 1}, {}))
    await subscribe(Peer("1.2"), "presence-room", View({"u1": 1}, {}))

    hub.deliver(came(1, channel="presence-room"))
    assert hub.delivered[ID] == 0

    hub.deliver(went(2, channel="presence-room"))
    assert hub.delivered[ID] == 2


async def test_connections_are_counted_for_each_app(hub, subscribe):
    await subscribe(Peer("1.1"))

    assert hub.connections_by_app() == {ID: 1}


@pytest.fixture
def fan_out(monkeypatch):
    histogram = metrics.Histogram((1, 10))
    monkeypatch.setattr(metrics, "FAN_OUT", histogram)
    return histogram


async def test_the_way_of_an_event_is_timed_from_its_publish(hub, subscribe, fan_out):
    peer = await subscribe(Peer("1.1"))

    await publish([event("hello")])

    await peer.has("hello")
    assert fan_out.counts == [1, 0, 0]
    assert 0 < fan_out.total < 1


@pytest.mark.parametrize(("ago", "counts"), [(5, [0, 1, 0]), (-50, [1, 0, 0]), (None, [0, 0, 0])])
async def test_a_clock_that_is_ahead_or_says_nothing_does_no_harm(
    hub, layer, subscribe, fan_out, ago, counts
):
    peer = await subscribe(Peer("1.1"))
    message = event("hello").message()
    if ago is not None:
        message["at"] = time.time() - ago

    await layer.group_send(ROOM, message)

    await peer.has("hello")
    assert fan_out.counts == counts
    assert fan_out.total >= 0


async def test_a_group_that_is_no_channel_has_a_reader(hub, layer):
    heard = []
    await hub.listen("realtime.other", heard.append)

    await layer.group_send("realtime.other", {"type": RELAY, "group": "realtime.other", "n": 1})
    await until(lambda: heard)
    await hub.unlisten("realtime.other")
    await layer.group_send("realtime.control", {"type": RELAY, "group": "realtime.other", "n": 2})
    await layer.group_send("realtime.control", {"type": "unknown"})
    await until(lambda: {"type": "unknown"} in layer.received)

    assert [message["n"] for message in heard] == [1]
    assert "realtime.other" in layer.groups_left


async def test_a_reader_that_could_not_listen_leaves_nothing(hub, layer):
    layer.broken = True
    with pytest.raises(PublishFailed):
        await hub.listen("realtime.other", print)
    layer.repair()

    await hub.unlisten("realtime.other")

    assert "realtime.other" not in layer.groups
