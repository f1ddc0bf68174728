"""The bus on the real layers of channels-redis, when they go deaf without saying so."""

import asyncio
import itertools
import time
from contextlib import ExitStack, closing, suppress

import pytest
import redis
from channels.layers import channel_layers

from realtime import layer as layer_module
from realtime.bus import Bus
from realtime.layer import PublishFailed
from tests.chaos.backing import Valkey
from tests.chaos.proxy import Proxy

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
QUEUE = "channels_redis.core.RedisChannelLayer"
GROUPS = [f"realtime.room-{number}" for number in range(10)]
MANY = [f"realtime.room-{number}" for number in range(1_000)]
REJOIN_SECONDS = 2.0
"""What the docs promise: every group is joined again that long after Redis answers."""


@pytest.fixture(scope="module")
def valkeys():
    with ExitStack() as stack:
        yield [Valkey(stack) for _ in range(2)]


@pytest.fixture
def use(settings, valkeys):
    """Makes the site's layer: ``use(backend, number of hosts)``."""

    def make(backend, hosts, watchdog_seconds=0.4):
        addresses = [{"address": valkey.url, "socket_timeout": None} for valkey in valkeys[:hosts]]
        more = {"capacity": 10_000} if backend == QUEUE else {}
        config = {"hosts": addresses, **more}
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}
        settings.REALTIME = {**settings.REALTIME, "WATCHDOG_SECONDS": watchdog_seconds}

    return make


async def until(condition):
    """As in the fast tests, but with pauses: this loop is also the one that is timed."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


class Listener:
    """A started bus, and what it hears."""

    def __init__(self):
        self.heard = []
        self.bus = Bus(self.heard.append)
        self._numbers = itertools.count()

    async def join(self, groups):
        await self.bus.start()
        for start in range(0, len(groups), 50):  # redis-py 8 opens 100 connections at most
            await asyncio.gather(*map(self.bus.join, groups[start : start + 50]))

    async def hears(self, groups):
        """Whether what another process sends to each of *groups* arrives."""
        number = next(self._numbers)
        layer = channel_layers.make_backend("default")
        for group in groups:
            await layer.group_send(group, {"group": group, "number": number})
        due = {(group, number) for group in groups}
        await until(lambda: due <= {(item["group"], item["number"]) for item in self.heard})
        await close(layer)

    async def recovers(self, times=1):
        await until(lambda: self.bus.recoveries >= times and self.bus.listening)

    async def stop(self):
        await self.bus.stop()
        await close(layer_module.channel_layer())


async def close(layer):
    if hasattr(layer, "close_pools"):
        await layer.close_pools()
    else:
        await layer.flush()


def shards():
    return layer_module.channel_layer()._shards


def cancel(shard):
    shard._receive_task.cancel()


def fail(shard):
    def time_out(message):
        raise TimeoutError

    shard._receive_message = time_out


def deafen(shard):
    """All looks well, and nothing arrives."""
    shard._receive_message = lambda message: None


@pytest.mark.parametrize("hosts", [1, 2])
@pytest.mark.parametrize("end", [cancel, fail, deafen])
def test_a_layer_that_hears_nothing_from_one_host_is_replaced(use, hosts, end):
    async def run():
        use(PUBSUB, hosts, watchdog_seconds=1)
        listener = Listener()
        await listener.join(GROUPS)
        deaf = layer_module.channel_layer()
        end(shards()[-1])

        await listener.recovers()

        await listener.hears(GROUPS)
        assert layer_module.channel_layer() is not deaf
        assert listener.bus.recoveries == 1
        assert listener.bus.deaf_seconds > 0
        await listener.stop()

    asyncio.run(run())


@pytest.mark.parametrize("hosts", [1, 2])
def test_a_connection_that_was_made_anew_is_noticed(use, valkeys, hosts):
    """What was sent in between is lost, though redis-py joins again by itself."""

    async def run():
        use(PUBSUB, hosts, watchdog_seconds=1)
        listener = Listener()
        await listener.join(GROUPS)

        with redis.Redis.from_url(valkeys[hosts - 1].url) as client:
            client.client_kill_filter(_type="pubsub")
        await listener.recovers()

        await listener.hears(GROUPS)
        assert listener.bus.recoveries == 1
        await listener.stop()

    asyncio.run(run())


@pytest.mark.parametrize("hosts", [1, 2])
def test_a_host_that_forgot_our_groups_is_noticed(use, valkeys, hosts):
    async def run():
        use(QUEUE, hosts)
        listener = Listener()
        await listener.join(GROUPS)

        valkeys[hosts - 1].call("FLUSHALL")
        await listener.recovers()

        await listener.hears(GROUPS)
        await listener.stop()

    asyncio.run(run())


def test_a_host_that_forgot_our_groups_is_noticed_while_new_ones_are_joined_and_heard(use, valkeys):
    async def run():
        use(QUEUE, 1)
        listener = Listener()
        await listener.join(GROUPS)

        valkeys[0].call("FLUSHALL")
        newcomers = (f"realtime.newcomer-{number}" for number in itertools.count())
        async with asyncio.timeout(10):
            while not listener.bus.recoveries:
                # One that is under way while the connections are replaced may fail, and says so.
                with suppress(PublishFailed):
                    await listener.bus.join(next(newcomers))

        await listener.recovers()
        await listener.hears(GROUPS)
        await listener.stop()

    asyncio.run(run())


@pytest.mark.parametrize("backend", [PUBSUB, QUEUE])
def test_a_half_open_link_is_noticed_and_replaced(use, valkeys, settings, backend):
    async def run(proxy):
        use(backend, 1, watchdog_seconds=1)
        [host] = settings.CHANNEL_LAYERS["default"]["CONFIG"]["hosts"]
        host["address"] = f"redis://127.0.0.1:{proxy.port}"
        listener = Listener()
        await listener.join(GROUPS)

        proxy.black_hole()
        await until(lambda: not listener.bus.listening)
        proxy.heal()
        await listener.recovers()

        await listener.hears(GROUPS)
        await listener.stop()

    with closing(Proxy([valkeys[0].path])) as proxy:
        asyncio.run(run(proxy))


@pytest.mark.parametrize("backend", [PUBSUB, QUEUE])
def test_a_thousand_groups_are_joined_again_soon_after_redis_returns(use, valkeys, backend):
    async def run():
        use(backend, 1, watchdog_seconds=2)
        listener = Listener()
        await listener.join(MANY)

        valkeys[0].kill()
        await until(lambda: not listener.bus.listening)
        valkeys[0].spawn()
        await until(valkeys[0].answers)
        back = time.monotonic()
        await until(lambda: listener.bus.recoveries == 1)
        seconds = time.monotonic() - back
        print(f"{backend}: joined {len(MANY):,} groups again after {seconds:.2f} s")
        assert seconds < REJOIN_SECONDS
        await listener.hears(MANY)
        await listener.recovers()
        await listener.stop()

    asyncio.run(run())
