"""The bus on the real pub/sub layer, when that goes deaf without saying so."""

import asyncio

import pytest
from channels.layers import channel_layers

from realtime import conf
from realtime.bus import Bus
from tests import services

GROUP = "realtime.room"
EVENT = {"type": "realtime.event"}


@pytest.fixture(scope="module")
def valkey():
    with services.valkey() as address:
        yield address


@pytest.fixture
def redis_layer(settings, valkey):
    host = {"address": valkey, "socket_timeout": None}
    backend = "channels_redis.pubsub.RedisPubSubChannelLayer"
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": {"hosts": [host]}}}
    settings.REALTIME = {**settings.REALTIME, "WATCHDOG_SECONDS": 0.1}
    assert conf.get().watchdog_seconds == 0.1


def receive_task():
    """The task of the layer of which nobody hears when it ends."""
    [shard] = channel_layers["default"]._shards
    return shard._receive_task


async def until(condition):
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


async def recover(monkeypatch, end):
    heard = []
    bus = Bus(heard.append)
    await bus.start()
    await bus.join(GROUP)
    dead = receive_task()

    if end == "cancelled":
        dead.cancel()
    else:
        [shard] = channel_layers["default"]._shards
        monkeypatch.setattr(shard, "_receive_message", _time_out)
    await until(lambda: bus.recoveries == 1 and bus.listening)

    await channel_layers["default"].group_send(GROUP, EVENT)
    await until(lambda: heard == [EVENT])
    assert receive_task() is not dead
    await bus.stop()
    await channel_layers["default"].flush()


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_a_receiver_that_ended_is_replaced(redis_layer, monkeypatch, end):
    asyncio.run(recover(monkeypatch, end))


def _time_out(message):
    raise TimeoutError
