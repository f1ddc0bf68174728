"""This process's end of the channel layer, and the watch over it."""

import asyncio
import time

import pytest

from realtime import backends, faults, metrics
from realtime import bus as bus_module
from realtime import layer as layer_module
from realtime.bus import Bus
from realtime.layer import CONTROL_GROUP, MARKER, Envelope, PublishFailed, layer_group, publish
from tests.conftest import LateLayer, MarkerlessLayer, SpyLayer, soon, until

GROUP = layer_group("3", "room")
HELLO = {"type": "hello"}


@pytest.fixture
async def start(use_layer):
    """Starts buses: ``await start(layer class)`` returns bus, layer and messages."""
    started = []

    async def start(layer_class=SpyLayer):
        layer, messages = use_layer(layer_class), []
        bus = Bus(messages.append)
        await bus.start()
        started.append((bus, layer))
        return bus, layer, messages

    yield start
    for bus, layer in started:
        layer.repair()
        await bus.stop()


@pytest.fixture
def quick_watch(configure):
    """A look at the layer every hundredth of a second."""
    configure(WATCHDOG_SECONDS=0.01)


# ---- listening --------------------------------------------------------------------------


async def test_every_message_but_the_markers_is_passed_on(start):
    bus, layer, messages = await start()
    await soon(bus.join(GROUP))

    await layer.group_send(GROUP, HELLO)
    await layer.group_send(CONTROL_GROUP, {"no": "type"})

    await until(lambda: len(messages) == 2)
    assert messages == [HELLO, {"no": "type"}]


@pytest.mark.parametrize("marker", ["unknown", None, 5, ["x"]])
async def test_a_marker_nobody_waits_for_is_ignored(start, marker):
    _, layer, messages = await start()

    await layer.group_send(CONTROL_GROUP, {"type": MARKER, "marker": marker})
    await layer.group_send(CONTROL_GROUP, HELLO)

    await until(lambda: messages == [HELLO])


async def test_starting_twice_at_the_same_time_listens_once(use_layer):
    layer = use_layer(SpyLayer)
    bus = Bus(lambda message: None)
    layer.gates[CONTROL_GROUP] = asyncio.Event()
    starting = asyncio.gather(bus.start(), bus.start())
    await until(lambda: layer.groups_joined)

    layer.gates[CONTROL_GROUP].set()
    await soon(starting)
    await bus.start()

    assert layer.groups_joined.count(CONTROL_GROUP) == 1
    await bus.stop()


async def test_a_bus_that_was_never_started_can_be_stopped(layer):
    await Bus(lambda message: None).stop()

    assert layer.groups_left == []


async def test_a_join_waits_until_the_layer_listens(start):
    bus, layer, messages = await start(LateLayer)

    await soon(bus.join(GROUP))
    await layer.group_send(GROUP, HELLO)

    await until(lambda: messages == [HELLO])


async def test_a_join_without_an_echo_fails_and_can_be_undone(start, monkeypatch):
    monkeypatch.setattr(bus_module, "ECHO_SECONDS", (0.001, 0.001))
    bus, layer, _ = await start(MarkerlessLayer)

    with pytest.raises(PublishFailed, match="does not echo"):
        await soon(bus.join(GROUP))
    await bus.part(GROUP)
    await bus.part(GROUP)

    assert layer.groups_left == [GROUP]


async def test_a_layer_that_is_done_when_it_says_so_gets_no_marker(start, monkeypatch):
    monkeypatch.setattr(backends, "is_joined_at_once", lambda layer: True)
    bus, layer, _ = await start()
    layer.sent.clear()

    await soon(bus.join(GROUP))

    assert GROUP in layer.groups_joined
    assert [group for group, _ in layer.sent if group == GROUP] == []


async def test_a_deaf_process_wants_a_marker_of_any_layer(start, monkeypatch):
    monkeypatch.setattr(backends, "is_joined_at_once", lambda layer: True)
    monkeypatch.setattr(bus_module, "ECHO_SECONDS", (0.001, 0.001))
    bus, layer, _ = await start()
    layer.deaf, bus.listening = True, False

    with pytest.raises(PublishFailed, match="does not echo"):
        await soon(bus.join(GROUP))


async def test_markers_that_are_slow_to_come_back_are_repeated_later(start, monkeypatch):
    monkeypatch.setattr(bus_module, "ECHO_SECONDS", (0.001, 0.001, 0.02))
    bus, _, _ = await start(MarkerlessLayer)
    began = asyncio.get_running_loop().time()
    bus.round_trip_seconds = 0.008

    with pytest.raises(PublishFailed, match="does not echo"):
        await soon(bus.join(GROUP))
    took = asyncio.get_running_loop().time() - began
    bus.round_trip_seconds = 10
    with pytest.raises(PublishFailed, match="does not echo"):
        await soon(bus.join(GROUP))

    assert took >= 2 * 0.016 + 0.02
    assert asyncio.get_running_loop().time() - began < 10


async def test_stopping_leaves_every_group(start):
    bus, layer, _ = await start()
    await soon(bus.join(GROUP))

    await bus.stop()

    assert layer.groups == {}


async def test_a_receiver_that_fails_is_started_again(use_layer, monkeypatch, caplog):
    layer, messages = use_layer(SpyLayer), []
    receive, failures = layer.receive, [ConnectionError("gone")]

    async def fail_once(channel):
        if failures:
            raise failures.pop()
        return await receive(channel)

    monkeypatch.setattr(layer, "receive", fail_once)
    bus = Bus(messages.append)
    await bus.start()

    await layer.group_send(CONTROL_GROUP, HELLO)

    await until(lambda: messages == [HELLO])
    assert "bus receiver failed; starting it again" in caplog.text
    await bus.stop()


# ---- watching ---------------------------------------------------------------------------


async def test_a_bus_that_hears_itself_stays_as_it_is(quick_watch, start, caplog):
    bus, layer, _ = await start()
    joined = [*layer.groups_joined]

    await until(lambda: len(layer.received) >= 5)

    assert bus.listening
    assert bus.recoveries == 0
    assert layer.groups_joined == joined
    assert caplog.records == []


@pytest.mark.parametrize("fault", ["deaf", "broken"])
async def test_a_deaf_process_refuses_to_publish_until_it_hears_again(
    quick_watch, start, caplog, fault
):
    bus, layer, messages = await start()
    await soon(bus.join(GROUP))
    counted = metrics.snapshot()["realtime_layer_recoveries_total"][""]
    setattr(layer, fault, True)
    await until(lambda: not bus.listening)

    with pytest.raises(PublishFailed, match="does not hear"):
        await publish([Envelope("3", "room", "text")])
    layer.repair()
    await until(lambda: bus.listening)

    await layer.group_send(GROUP, HELLO)
    await until(lambda: HELLO in messages)
    await publish([Envelope("3", "room", "text")])
    assert bus.recoveries == 1
    assert caplog.text.count("the channel layer is not heard (no marker comes back)") == 1
    assert metrics.snapshot()["realtime_layer_recoveries_total"][""] == counted + 1


async def test_a_layer_that_forgot_everything_is_joined_again(quick_watch, start):
    bus, layer, messages = await start()
    await soon(bus.join(GROUP))

    await layer.flush()
    await until(lambda: bus.recoveries)
    await until(lambda: bus.listening and layer.members(GROUP))

    await layer.group_send(GROUP, HELLO)
    await until(lambda: HELLO in messages)


async def test_groups_joined_after_a_layer_forgot_all_do_not_hide_that(quick_watch, start):
    bus, layer, messages = await start()
    await soon(bus.join(GROUP))
    layer.groups.clear()
    await layer.group_add("realtime.newcomer", bus._channel)

    async def be_busy():
        while True:
            await layer.group_send("realtime.newcomer", HELLO)
            await asyncio.sleep(0)

    busy = asyncio.create_task(be_busy())
    await until(lambda: bus.recoveries)
    busy.cancel()

    assert messages
    assert layer.members(GROUP)


async def test_a_layer_that_hides_dead_connections_is_given_new_ones(
    quick_watch, start, monkeypatch
):
    bus, deaf_layer, messages = await start()
    await soon(bus.join(GROUP))
    monkeypatch.setattr(backends, "must_be_replaced", lambda site_layer: True)
    deaf_layer.deaf = True

    await until(lambda: bus.recoveries and bus.listening)

    layer = layer_module.channel_layer()
    assert layer is not deaf_layer
    assert len(layer.members(GROUP)) == 1
    await layer.group_send(GROUP, HELLO)
    await until(lambda: HELLO in messages)


async def test_a_marker_behind_a_long_queue_is_late_and_not_lost(quick_watch, start):
    """As long as anything arrives from the only host the layer is heard."""
    bus, layer, messages = await start()
    layer.markerless = True
    watched = asyncio.get_running_loop().time() + 0.1

    while asyncio.get_running_loop().time() < watched:
        await layer.group_send(CONTROL_GROUP, HELLO)
        await asyncio.sleep(0)

    assert messages
    assert bus.recoveries == 0


async def test_one_deaf_host_of_several_is_deafness(quick_watch, start, monkeypatch):
    monkeypatch.setattr(backends, "groups_on_every_host", lambda layer, prefix: ["one", "two"])
    bus, layer, messages = await start()
    layer.deaf_groups = {"two"}

    await until(lambda: not bus.listening)

    await layer.group_send(CONTROL_GROUP, HELLO)
    await until(lambda: HELLO in messages)
    assert not bus.listening
    layer.deaf_groups = set()
    await until(lambda: bus.listening)


async def test_a_bus_that_hears_nothing_at_first_does_not_start(use_layer, monkeypatch):
    monkeypatch.setattr(bus_module, "ECHO_SECONDS", (0.001, 0.001))
    layer, messages = use_layer(SpyLayer), []
    layer.deaf = True
    bus = Bus(messages.append)

    with pytest.raises(PublishFailed, match="does not echo"):
        await bus.start()

    assert not bus.listening
    assert layer.groups == {}
    layer.repair()
    await bus.start()
    assert bus.listening
    await bus.stop()
    assert not bus.listening


async def test_the_length_of_a_deafness_counts_from_the_last_proof_of_hearing(quick_watch, start):
    bus, layer, _ = await start()
    now = asyncio.get_running_loop().time
    began = now()
    layer.deaf = True
    await until(lambda: not bus.listening)
    layer.repair()

    await until(lambda: bus.recoveries)

    assert bus.deaf_seconds > 0
    assert began - bus.deaf_seconds < now()


async def test_a_message_lost_in_our_hands_is_a_deafness(
    start, settings, configure, monkeypatch, caplog
):
    settings.REALTIME_ALLOW_FAULTS = True
    configure(WATCHDOG_SECONDS=0.01)
    bus, layer, messages = await start()
    monkeypatch.setenv(faults.VARIABLE, "bus.receive=raise")
    faults._armed.cache_clear()

    await until(lambda: bus.recoveries == 1 and bus.listening)
    await layer.group_send(CONTROL_GROUP, HELLO)

    await until(lambda: messages == [HELLO])
    assert "the channel layer is not heard (our receiver failed)" in caplog.text


async def test_groups_that_redis_forgot_while_our_receiver_failed_are_joined_again_soon(
    start, settings, configure, monkeypatch
):
    settings.REALTIME_ALLOW_FAULTS = True
    configure(WATCHDOG_SECONDS=1)
    bus, layer, _ = await start()
    await soon(bus.join(GROUP))
    monkeypatch.setenv(faults.VARIABLE, "bus.receive=raise")
    faults._armed.cache_clear()
    await until(lambda: bus._receiver_failed)
    layer.groups.clear()
    began = asyncio.get_running_loop().time()

    await until(lambda: bus.recoveries == 1)

    assert asyncio.get_running_loop().time() - began < sum(bus_module.ECHO_SECONDS)
    assert layer.members(GROUP)


async def test_groups_are_renewed_before_a_layer_forgets_them(start, monkeypatch):
    monkeypatch.setattr(bus_module, "RENEWAL_SECONDS", 0.01)
    bus, layer, messages = await start()
    await soon(bus.join(GROUP))
    tomorrow = time.time() + 26 * 3600
    monkeypatch.setattr("channels.layers.time.time", lambda: tomorrow)
    before = len(layer.groups_joined)
    await until(lambda: len(layer.groups_joined) >= before + 4)

    await layer.group_send(GROUP, HELLO)

    await until(lambda: HELLO in messages)


async def test_the_way_of_the_last_marker_is_measured(quick_watch, start):
    bus, *_ = await start()
    first = bus.round_trip_seconds
    assert 0 < first < 1

    await until(lambda: bus.round_trip_seconds != first)

    assert 0 < bus.round_trip_seconds < 1
