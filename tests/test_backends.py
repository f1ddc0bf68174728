"""What particular channel layers hide."""

import asyncio
import functools
import logging
import re
import time

import pytest
from channels.exceptions import ChannelFull
from channels.layers import InMemoryChannelLayer
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

from realtime import backends, metrics

HELLO = {"type": "hello"}
HOSTS = ["redis://127.0.0.1:1", "redis://127.0.0.1:2", "redis://127.0.0.1:3"]


class OwnPubSub(RedisPubSubChannelLayer):
    """A site may extend a layer."""


class OwnQueue(RedisChannelLayer):
    """The same, of the other."""


class LateQueue(RedisChannelLayer):
    """A site may also join in its own way."""

    async def group_add(self, group, channel):
        await super().group_add(group, channel)


class WrappedQueue(RedisChannelLayer):
    """Or join as before, and do more."""

    @functools.wraps(RedisChannelLayer.group_add)
    async def group_add(self, group, channel):
        await super().group_add(group, channel)


class Connection:
    """A connection of redis-py, as far as we look at it."""

    def __init__(self):
        self.is_connected = True
        self._callbacks = []

    def register_connect_callback(self, callback):
        self._callbacks.append(callback)

    def reconnect(self):
        for callback in self._callbacks:
            callback(self)


class Subscription:
    def __init__(self):
        self.connection = Connection()


def dropped():
    return metrics.snapshot()["realtime_layer_messages_dropped_total"][""]


@pytest.fixture
async def listening():
    """A pub/sub layer that listens to three hosts, without any."""
    layer = RedisPubSubChannelLayer(hosts=HOSTS)
    tasks = [asyncio.create_task(asyncio.Event().wait()) for _ in layer._shards]
    for shard, task in zip(layer._shards, tasks, strict=True):
        shard._pubsub, shard._receive_task = Subscription(), task
    yield layer
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


# ---- hosts and connections --------------------------------------------------------------


async def test_groups_on_every_host_are_on_every_host():
    layer = RedisPubSubChannelLayer(hosts=HOSTS)

    groups = backends.groups_on_every_host(layer, "realtime.echo.x")

    shards = [layer._get_shard(layer._get_group_channel_name(group)) for group in groups]
    assert sorted(map(layer._shards.index, shards)) == [0, 1, 2]


def test_the_queue_layer_spreads_groups_in_its_own_way():
    layer = RedisChannelLayer(hosts=HOSTS)

    groups = backends.groups_on_every_host(layer, "realtime.echo.x")

    assert sorted(map(layer.consistent_hash, groups)) == [0, 1, 2]
    assert all(re.fullmatch(r"[a-z0-9.]{1,99}", group) for group in groups)


def test_any_other_layer_is_taken_for_one_host():
    assert backends.groups_on_every_host(InMemoryChannelLayer(), "x") == ["x.0"]


async def test_a_layer_that_listens_shows_no_fault(listening):
    assert backends.Links(listening).fault() == ""


async def test_a_layer_that_listens_to_nothing_yet_shows_no_fault():
    assert backends.Links(RedisPubSubChannelLayer(hosts=HOSTS)).fault() == ""


async def test_the_end_of_one_receiving_task_is_a_fault(listening):
    task = listening._shards[1]._receive_task
    task.cancel()
    await asyncio.wait([task])

    assert backends.Links(listening).fault() == backends.RECEIVER_ENDED


async def test_a_lost_connection_is_a_fault(listening):
    listening._shards[2]._pubsub.connection.is_connected = False

    assert backends.Links(listening).fault() == backends.LINK_LOST


async def test_a_connection_that_was_made_anew_is_a_fault_until_it_is_looked_at_anew(listening):
    links = backends.Links(listening)

    listening._shards[0]._pubsub.connection.reconnect()

    assert links.fault() == backends.LINK_LOST
    assert backends.Links(listening).fault() == ""


@pytest.mark.parametrize("layer_class", [InMemoryChannelLayer, RedisChannelLayer])
def test_of_other_layers_no_fault_is_seen(layer_class):
    assert backends.Links(layer_class()).fault() == ""


async def test_the_layer_in_memory_knows_who_is_in_a_group():
    layer = InMemoryChannelLayer()
    await layer.group_add("room", "us")

    assert await backends.is_member(layer, "room", "us")
    assert not await backends.is_member(layer, "room", "others")
    assert not await backends.is_member(layer, "attic", "us")


async def test_groups_of_the_pubsub_layer_last_as_long_as_its_connection(listening):
    assert await backends.is_member(listening, "room", "us")


async def test_of_other_layers_nobody_knows_who_is_in_a_group():
    assert not await backends.is_member(object(), "room", "us")


@pytest.mark.parametrize(
    ("layer_class", "replaced"),
    [
        (RedisPubSubChannelLayer, True),
        (OwnPubSub, True),
        (RedisChannelLayer, False),
        (InMemoryChannelLayer, False),
    ],
)
def test_layers_that_may_stay_deaf_are_replaced(layer_class, replaced):
    assert backends.must_be_replaced(layer_class()) is replaced


async def test_only_the_layer_of_which_nothing_is_deleted_is_closed():
    class Precious:
        async def flush(self):
            raise AssertionError("it may hold messages of others")

    await backends.close(Precious())
    await backends.close(InMemoryChannelLayer())


async def test_closing_forgets_what_a_receiving_task_died_of(listening):
    async def die():
        raise TimeoutError

    task = listening._shards[0]._receive_task = asyncio.create_task(die())
    await asyncio.wait([task])

    await backends.close(listening)

    assert task.exception()
    assert {shard._receive_task for shard in listening._shards} == {None}


@pytest.mark.parametrize(
    ("layer_class", "at_once"),
    [
        (RedisChannelLayer, True),
        (OwnQueue, True),
        (LateQueue, False),
        (WrappedQueue, False),
        (RedisPubSubChannelLayer, False),
        (OwnPubSub, False),
    ],
)
def test_only_the_queue_layer_says_when_a_group_is_joined(layer_class, at_once):
    assert backends.is_joined_at_once(layer_class()) is at_once


# ---- drops ------------------------------------------------------------------------------


async def test_the_layer_in_memory_says_what_it_cannot_take():
    layer = backends.InMemoryLayer(capacity=2)
    for channel in ("full", "free"):
        await layer.group_add("group", channel)
    await layer.send("full", HELLO)
    await layer.group_send("group", HELLO)
    before = dropped()

    with pytest.raises(ChannelFull):
        await layer.group_send("group", HELLO)

    assert dropped() == before + 1
    assert [await layer.receive("free"), await layer.receive("free")] == [HELLO, HELLO]


class NotSearched(dict):
    """Groups that are looked up, and never gone through."""

    def values(self):
        raise AssertionError("all groups were gone through")

    items = __iter__ = values


async def test_the_layer_in_memory_copies_nothing_and_goes_through_no_groups():
    layer, message = backends.InMemoryLayer(), {"type": "hello", "list": [1]}
    await layer.group_add("group", "channel")
    layer.groups = NotSearched(layer.groups)

    await layer.group_send("group", message)

    assert await layer.receive("channel") is message


async def test_the_layer_in_memory_forgets_nothing_however_late_it_is_read(monkeypatch):
    layer = backends.InMemoryLayer(expiry=0)
    await layer.send("channel", HELLO)
    monkeypatch.setattr(time, "time", lambda: 10.0**10)

    assert await layer.receive("channel") == HELLO


async def test_nobody_in_a_group_is_no_drop():
    await backends.InMemoryLayer().group_send("group", HELLO)


def test_drops_of_the_queue_layer_are_counted_and_logged(caplog):
    backends.see_drops_of_the_queue()
    before = dropped()

    queue_log = logging.getLogger("channels_redis.core")
    queue_log.info("%s of %s channels over capacity in group %s", 2, 3, "realtime.room")
    queue_log.info("%s of %s channels over capacity in group %s", 1, 3, "realtime.room")

    assert dropped() == before + 3
    assert caplog.messages == ["2 messages dropped: the queue layer is full"]


def test_other_groups_of_the_queue_layer_are_none_of_ours(caplog):
    backends.see_drops_of_the_queue()
    before = dropped()

    queue_log = logging.getLogger("channels_redis.core")
    queue_log.info("%s of %s channels over capacity in group %s", 2, 3, "chat")

    assert dropped() == before
    assert caplog.messages == ["2 of 3 channels over capacity in group chat"]
