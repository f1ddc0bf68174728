"""Durable events: written with the caller's data, sent after it committed, whatever breaks."""

import json
import threading
import time
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from channels.layers import BaseChannelLayer
from django.db import OperationalError, connection, connections, transaction
from django.db.models.functions import Now

from realtime import layer as layer_module
from realtime import loops, outbox, trigger
from realtime.layer import PublishFailed, layer_group
from realtime.models import OutboxChannel, OutboxEntry
from realtime.triggers import atrigger, send_to_user, trigger_batch
from tests.conftest import ID, PATIENCE, SpyLayer, until

pytestmark = pytest.mark.django_db(transaction=True)


def send(number, channel="orders", **options):
    trigger(channel, "paid", {"number": number}, durable=True, **options)


def numbers(layer, channel="orders"):
    """The numbers of the events that a channel got so far."""
    frames = [json.loads(message["text"]) for message in layer.events()]
    return [json.loads(frame["data"])["number"] for frame in frames if frame["channel"] == channel]


def ids(layer):
    frames = [json.loads(message["text"]) for message in layer.events()]
    return [json.loads(frame["data"])["event_id"] for frame in frames]


def let_claims_run_out():
    OutboxChannel.objects.update(claimed_until=Now() - timedelta(seconds=1))


def grow_old(seconds):
    """What was sent was sent that much earlier."""
    sent = OutboxEntry.objects.exclude(sent_at=None)
    sent.update(sent_at=Now() - timedelta(seconds=seconds))


# ---- writing ----------------------------------------------------------------------------


def test_an_event_is_written_with_the_data_of_the_caller(layer):
    with transaction.atomic():
        send(1)
        assert OutboxEntry.objects.unsent().count() == 1

    assert OutboxEntry.objects.unsent().count() == 1
    assert outbox.drain() == 1
    assert numbers(layer) == [1]
    assert outbox.drain() == 0


def test_a_rolled_back_event_is_never_sent(layer):
    with transaction.atomic():
        send(1)
        transaction.set_rollback(True)

    assert outbox.drain() == 0
    assert OutboxEntry.objects.count() == 0


def test_every_event_has_an_id_and_all_its_channels_the_same(layer):
    trigger(["a", "b"], "paid", {"number": 1}, durable=True)
    send(2)
    outbox.drain()

    first, second, third = ids(layer)
    assert first == second != third
    assert len(first) == len(third) == 32


def test_an_id_of_the_caller_is_kept(layer):
    trigger("orders", "paid", {"number": 1, "event_id": "order-17"}, durable=True)
    outbox.drain()

    assert ids(layer) == ["order-17"]


@pytest.mark.parametrize("data", ["text", ["list"], 7, None, b"bytes"])
def test_data_that_cannot_hold_an_id_is_refused(layer, data):
    with pytest.raises(TypeError, match="mapping"):
        trigger("orders", "paid", data, durable=True)

    assert OutboxEntry.objects.count() == 0


def test_an_event_of_another_database_is_refused(layer):
    with pytest.raises(ValueError, match="default"):
        send(1, using="archive")


def test_the_sender_does_not_get_its_own_event(layer):
    send(1, socket_id="1.2")
    outbox.drain()

    assert [message["except"] for message in layer.events()] == ["1.2"]


def test_batches_and_events_for_users_can_be_durable(layer):
    trigger_batch(
        [{"channel": "a", "name": "paid", "data": {"number": number}} for number in (1, 2)],
        durable=True,
    )
    send_to_user("ann", "paid", {"number": 3}, durable=True)
    outbox.drain()

    assert numbers(layer, "a") == [1, 2]
    assert numbers(layer, "#server-to-user-ann") == [3]


# ---- order ------------------------------------------------------------------------------


def test_events_of_a_channel_keep_their_order_over_many_claims(layer, monkeypatch):
    monkeypatch.setattr(outbox, "ENTRIES", 3)
    for number in range(10):
        send(number, channel="ab"[number % 2])

    assert outbox.drain() == 10
    assert numbers(layer, "a") == [0, 2, 4, 6, 8]
    assert numbers(layer, "b") == [1, 3, 5, 7, 9]


def test_one_process_at_a_time_sends_to_a_channel(layer):
    send(1)
    claimed = outbox.claim()
    send(2)

    assert [entry.text for entry in claimed.entries] != []
    assert outbox.claim() is None

    claimed.sent = [entry.pk for entry in claimed.entries]
    outbox.settle(claimed)
    assert outbox.drain() == 1
    assert numbers(layer) == [2]


def test_other_channels_do_not_wait_for_a_claimed_one(layer):
    send(1)
    outbox.claim()
    send(2, channel="others")

    assert outbox.drain() == 1
    assert numbers(layer, "others") == [2]


def test_positions_are_those_of_the_sending_not_of_the_writing(layer):
    """An entry written early by a transaction that ends late comes after what was sent."""
    for number in (1, 2):
        send(number)
    late = OutboxEntry.objects.earliest("pk")
    late.pk, key = None, late.pk
    OutboxEntry.objects.filter(pk=key).delete()
    outbox.claim()
    late.pk = key
    late.save(force_insert=True)
    let_claims_run_out()

    assert outbox.drain() == 2
    assert numbers(layer) == [2, 1]
    assert list(
        OutboxEntry.objects.after(ID, "orders", 0).values_list("pk", flat=True)
    ) == [key + 1, key]  # fmt: skip


def test_kept_events_can_be_read_from_any_position(layer):
    for number in range(5):
        send(number)
    send(9, channel="others")
    outbox.drain()

    positions = [entry.position for entry in OutboxEntry.objects.after(ID, "orders", 0)]
    assert positions == list(range(positions[0], positions[0] + 5))

    later = OutboxEntry.objects.after(ID, "orders", positions[2])
    assert [json.loads(json.loads(entry.text)["data"])["number"] for entry in later] == [3, 4]


class HalfLayer(SpyLayer):
    """One of its hosts is away."""

    away = layer_group(ID, "away")

    async def group_send(self, group, message):
        if group == self.away:
            raise ConnectionError("this host is away")
        await super().group_send(group, message)


def test_a_channel_that_nobody_can_send_to_stops_no_other(use_layer, monkeypatch):
    monkeypatch.setattr(outbox, "ENTRIES", 5)
    layer = use_layer(HalfLayer)
    for number in range(12):
        send(number, channel="away")
    for number in range(3):
        send(number)

    with pytest.raises(PublishFailed):
        outbox.drain()
    assert numbers(layer) == [0, 1, 2]

    layer.away = ""
    let_claims_run_out()
    assert outbox.drain() == 12
    assert numbers(layer, "away") == list(range(12))


def test_a_long_queue_of_one_channel_stops_no_other(layer, monkeypatch):
    monkeypatch.setattr(outbox, "ENTRIES", 5)
    for number in range(40):
        send(number, channel="busy")
    send(7)
    first = outbox.claim()

    assert {entry.channel for entry in first.entries} == {"busy", "orders"}


def test_a_channel_whose_events_somebody_else_sent_stays_free(layer):
    """Both looked, the other was faster: nothing is left to claim, so nothing is claimed."""
    send(1)
    stream = OutboxChannel.key_of(ID, "orders")
    assert outbox.drain() == 1

    assert outbox.claim([stream]) is None
    send(2)
    assert outbox.drain() == 1


def test_a_claim_from_before_the_clock_was_put_back_holds_nobody_up(layer):
    send(1)
    outbox.claim()
    OutboxChannel.objects.update(claimed_until=Now() + timedelta(hours=1))

    assert outbox.drain() == 1


# ---- crashes and outages ----------------------------------------------------------------


def test_what_the_layer_did_not_take_waits_with_all_behind_it(layer):
    for number in range(3):
        send(number)
    send(9, channel="others")
    layer.broken = True
    with pytest.raises(PublishFailed):
        outbox.drain()
    layer.broken = False
    let_claims_run_out()

    assert outbox.drain() == 4
    assert numbers(layer) == [0, 1, 2]
    assert numbers(layer, "others") == [9]


def test_a_crash_before_the_mark_repeats_the_same_event(layer):
    send(1)
    crashed = outbox.claim()
    for entry in crashed.entries:
        assert entry.position is not None
    send(2)
    let_claims_run_out()
    repeat = outbox.claim()

    assert [entry.pk for entry in repeat.entries[:1]] == [entry.pk for entry in crashed.entries]
    assert repeat.entries[0].position == crashed.entries[0].position
    assert repeat.entries[0].text == crashed.entries[0].text
    assert repeat.entries[1].position == crashed.entries[0].position + 1


def test_whoever_lost_the_claim_does_not_let_go_of_that_of_another(layer):
    send(1)
    slow = outbox.claim()
    let_claims_run_out()
    other = outbox.claim()
    outbox.settle(slow)

    assert outbox.claim() is None
    outbox.settle(other)
    assert outbox.claim() is not None


def test_a_claim_that_ran_out_is_not_worked_on(layer):
    send(1)
    claimed = outbox.claim(seconds=-1)
    loops.from_sync(lambda: outbox._send(claimed))

    assert layer.events() == []
    assert not claimed.sent
    assert not claimed.refused


# ---- keeping ----------------------------------------------------------------------------


def test_sent_events_are_kept_for_a_time_and_then_deleted(layer, configure):
    configure(OUTBOX_RETENTION_SECONDS=60)
    for number in range(3):
        send(number)
    outbox.drain()
    last = OutboxEntry.objects.latest("position").position
    send(3)
    grow_old(59)
    assert outbox.purge() == 0

    grow_old(61)
    assert outbox.purge() == 3
    assert OutboxEntry.objects.count() == 1
    assert OutboxChannel.objects.get().purged_position == last


def test_unsent_events_are_never_deleted(layer, configure):
    configure(OUTBOX_RETENTION_SECONDS=1)
    send(1)
    OutboxEntry.objects.update(created_at=Now() - timedelta(days=30))

    assert outbox.purge() == 0
    assert outbox.drain() == 1


def test_a_channel_that_was_forgotten_goes_on_with_higher_positions(layer, configure):
    configure(OUTBOX_RETENTION_SECONDS=1)
    send(1)
    outbox.drain()
    before = OutboxEntry.objects.get().position
    grow_old(5)
    outbox.purge()
    assert OutboxChannel.objects.count() == 1

    OutboxChannel.objects.update(claimed_until=Now() - timedelta(days=2))
    outbox.purge()
    assert OutboxChannel.objects.count() == 0

    send(2)
    outbox.drain()
    channel = OutboxChannel.objects.get()
    assert OutboxEntry.objects.get().position > channel.purged_position > before


# ---- the server process -----------------------------------------------------------------


async def test_a_commit_in_a_server_process_is_sent_without_waiting(process, layer, configure):
    configure(OUTBOX_SWEEP_SECONDS=3_600)
    from realtime import hub

    await hub.current().start()
    outbox.current().start()
    await sync_to_async(send)(1)

    await until(lambda: numbers(layer) == [1])


async def test_what_another_process_left_is_swept(process, layer, configure):
    configure(OUTBOX_SWEEP_SECONDS=0.01)
    outbox.current().start()
    await atrigger("orders", "paid", {"number": 1}, durable=True)

    await until(lambda: numbers(layer) == [1])


async def test_the_sweep_outlives_the_layer_and_the_database(database, layer, configure, caplog):
    configure(OUTBOX_SWEEP_SECONDS=0.01)
    layer.broken = True
    outbox.current().start()
    await sync_to_async(send)(1)
    await until(lambda: "durable events wait" in caplog.text)
    database.away = True
    refusals = database.refusals
    await until(lambda: database.refusals > refusals + 3)
    database.away = layer.broken = False

    await sync_to_async(let_claims_run_out)()
    await until(lambda: numbers(layer) == [1])
    assert caplog.text.count("the outbox cannot be read") == 1


async def test_a_stop_settles_what_was_sent(process, layer, configure):
    configure(OUTBOX_SWEEP_SECONDS=0.01)

    def leave():
        for number in range(200):
            send(number)

    await sync_to_async(leave)()
    local = outbox.current()
    local.start()
    await until(lambda: len(layer.events()) > 3)
    await local.stop()

    def rows():
        return (
            OutboxEntry.objects.exclude(sent_at=None).count(),
            OutboxChannel.objects.filter(claimed_until__gt=Now()).count(),
        )

    assert await sync_to_async(rows)() == (len(layer.events()), 0)


async def test_a_server_process_deletes_what_was_kept_long_enough(process, layer, configure):
    configure(OUTBOX_SWEEP_SECONDS=0.01, OUTBOX_RETENTION_SECONDS=1)

    def leave_an_old_one():
        send(1)
        outbox.drain()
        grow_old(5)

    await sync_to_async(leave_an_old_one)()
    outbox.current().start()

    async def deleted():
        return not await OutboxEntry.objects.aexists()

    for _ in range(10_000):
        if await deleted():
            break
    assert await deleted()


# ---- processes without connections ------------------------------------------------------


class RemoteLayer(BaseChannelLayer):
    """A layer that ends in other processes, as Redis does."""

    def __init__(self, **config):
        super().__init__(**config)
        self.local = SpyLayer()

    async def group_send(self, group, message):
        await self.local.group_send(group, message)


def test_a_command_sends_at_once_what_it_committed(settings):
    backend = f"{RemoteLayer.__module__}.{RemoteLayer.__qualname__}"
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend}}
    remote = layer_module.channel_layer().local
    with transaction.atomic():
        send(1)
        assert remote.events() == []

    assert numbers(remote) == [1]


def test_a_command_sends_what_it_committed_and_not_what_others_left(settings, monkeypatch):
    backend = f"{RemoteLayer.__module__}.{RemoteLayer.__qualname__}"
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend}}
    remote = layer_module.channel_layer().local
    remote.broken = True
    send(1, channel="left")
    remote.broken = False
    let_claims_run_out()

    send(2)

    assert numbers(remote) == [2]
    assert numbers(remote, "left") == []
    assert outbox.drain() == 1


def test_an_outage_does_not_break_the_caller(settings, caplog):
    backend = f"{RemoteLayer.__module__}.{RemoteLayer.__qualname__}"
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend}}
    layer_module.channel_layer().local.broken = True
    with transaction.atomic():
        send(1)

    assert OutboxEntry.objects.unsent().count() == 1
    assert "Traceback" not in caplog.text


# ---- side by side -----------------------------------------------------------------------


def test_three_processes_send_everything_once_and_in_order(layer):
    """Threads with a database connection each; the layer takes from all of them."""
    channels, each = 5, 40
    failures = []

    def publish(channel):
        try:
            for number in range(each):
                send(number, channel=channel)
        finally:
            connections.close_all()

    def sweep():
        end = time.monotonic() + PATIENCE
        try:
            while len(layer.events()) < channels * each and time.monotonic() < end:
                try:
                    outbox.drain()
                except OperationalError as error:
                    if connection.vendor != "sqlite":  # which may say that it is locked
                        failures.append(error)
        finally:
            connections.close_all()

    names = [f"channel-{number}" for number in range(channels)]
    threads = [threading.Thread(target=publish, args=[name]) for name in names]
    threads += [threading.Thread(target=sweep) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    for name in names:
        assert numbers(layer, name) == list(range(each))
    # Nobody holds a claim that would keep the next event waiting.
    assert not OutboxChannel.objects.filter(claimed_until__gt=Now()).exists()
