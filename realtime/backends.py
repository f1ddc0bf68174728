"""What particular channel layers hide, and how to see it.

The interface of Channels knows neither connections nor hosts, and lets a layer drop what does
not fit.  Here is all that we know about the inside of channels-redis 4.3; of any other layer
nothing is assumed.
"""

import asyncio
import functools
import itertools
import logging
import math
from collections.abc import Callable
from typing import Any, Final

from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer, InMemoryChannelLayer

from realtime import metrics
from realtime.logs import OncePerSecond

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

PUBSUB: Final = "channels_redis.pubsub"
QUEUE: Final = "channels_redis.core"

RECEIVER_ENDED: Final = "its receiving task has ended"
LINK_LOST: Final = "its connection is lost"


class InMemoryLayer(InMemoryChannelLayer):
    """The layer in memory of Channels, for a process that reads all it is sent at one place.

    There ``group_send`` drops the message without a word when its reader is behind; here it
    says so to the sender.  There each message is copied, and with each the groups are searched
    for members that have expired; here who gets a message must not change it, and nobody expires.
    """

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Send to one channel.

        Raises:
            ChannelFull: its reader is behind.
        """
        queue = self.channels.get(channel)
        if queue is None:
            queue = self.channels[channel] = asyncio.Queue(self.get_capacity(channel))
        try:
            queue.put_nowait((math.inf, message))
        except asyncio.QueueFull:
            raise ChannelFull(channel) from None

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send to every channel of *group*.

        Raises:
            ChannelFull: one of them took nothing; the others got the message.
        """
        full = 0
        for channel in [*self.groups.get(group, ())]:
            try:
                await self.send(channel, message)
            except ChannelFull:
                full += 1
        if full:
            count_drops("memory", full)
            raise ChannelFull(f"{full} readers of the layer in memory are behind")

    def _clean_expired(self) -> None:
        """Nothing: it takes as long as there are groups, and every ``receive`` asks for it."""


def comes_from(layer: object, module: str) -> bool:
    """Whether the class of *layer*, or one that it extends, is defined in *module*."""
    return any(ancestor.__module__ == module for ancestor in type(layer).__mro__)


# ---- hosts and connections --------------------------------------------------------------


def groups_on_every_host(layer: BaseChannelLayer, prefix: str) -> list[str]:
    """One group for each Redis host of *layer*, which spreads groups over its hosts by name."""
    found: dict[int, str] = {}
    hosts, host_of = _spread(layer)
    for number in itertools.count():
        group = f"{prefix}.{number}"
        found.setdefault(host_of(group), group)
        if len(found) == hosts:
            return [*found.values()]
    raise AssertionError("count() never ends")


def _spread(layer: Any) -> tuple[int, Callable[[str], int]]:  # Any: private names of the layer
    """How many hosts there are, and on which of them a group is."""
    if comes_from(layer, PUBSUB):
        shards = layer._shards

        def of_pubsub(group: str) -> int:
            return int(shards.index(layer._get_shard(layer._get_group_channel_name(group))))

        return len(shards), of_pubsub
    if comes_from(layer, QUEUE):
        return len(layer.hosts), layer.consistent_hash
    return 1, lambda group: 0


class Links:
    """The connections through which *layer* hears, as they can be seen without asking it.

    Args:
        layer: joined to a group on every host, so that it has made them all.
    """

    def __init__(self, layer: BaseChannelLayer) -> None:
        self._shards = _shards(layer)
        self._made_anew = False
        for shard in self._shards:
            if (connection := _subscription(shard)) is not None:
                # redis-py holds the method weakly: it is called as long as this object is there.
                connection.register_connect_callback(self._on_connect)

    def fault(self) -> str:
        """Why messages may be missed, or nothing where no fault is seen."""
        for shard in self._shards:
            if shard._receive_task is not None and shard._receive_task.done():
                return RECEIVER_ENDED
            connection = _subscription(shard)
            if connection is not None and not connection.is_connected:
                return LINK_LOST
        return LINK_LOST if self._made_anew else ""

    def _on_connect(self, connection: object) -> None:
        self._made_anew = True


def is_joined_at_once(layer: BaseChannelLayer) -> bool:
    """Whether all that is sent to a group after ``group_add`` returned reaches who joined.

    So it is where that waits for ZADD; a class that does it otherwise may not.
    """
    definer = next((kind for kind in type(layer).__mro__ if "group_add" in vars(kind)), None)
    return definer is not None and definer.__module__ == QUEUE


async def is_member(layer: Any, group: str, channel: str) -> bool:
    """Whether *channel* is in *group* by the books of *layer*; of those unknown here, no.

    Redis may forget the groups of the queue layer, and those that are joined after that are
    heard.  The groups of the pub/sub layer last as long as its connection.
    """
    if comes_from(layer, QUEUE):
        books = layer.connection(layer.consistent_hash(group))
        return await books.zscore(layer._group_key(group), channel) is not None
    if isinstance(layer, InMemoryChannelLayer):
        return channel in layer.groups.get(group, ())
    return comes_from(layer, PUBSUB)


def must_be_replaced(layer: BaseChannelLayer) -> bool:
    """Whether *layer*, once deaf, may stay so until another takes its place.

    Not the one in memory, which has no connections, nor the queue layer, which can drop its own.
    """
    return not isinstance(layer, InMemoryChannelLayer) and not comes_from(layer, QUEUE)


async def close(replaced: Any) -> None:
    """Close the connections of a layer that is not used any more.

    Only the pub/sub layer: with others ``flush()`` deletes what is in Redis, or the database.
    """
    for shard in _shards(replaced):
        # flush() would raise for ever what the receiving task died of.
        if shard._receive_task is not None and shard._receive_task.done():
            shard._receive_task = None
    if comes_from(replaced, PUBSUB):
        await replaced.flush()


async def drop_connections(layer: Any) -> None:
    """Let *layer*, if it is the queue layer, make its connections anew when it needs them."""
    if comes_from(layer, QUEUE):
        for host in range(layer.ring_size):
            await layer.connection(host).connection_pool.disconnect()


def _shards(layer: Any) -> list[Any]:
    return list(layer._shards) if comes_from(layer, PUBSUB) else []


def _subscription(shard: Any) -> Any:
    """The connection of redis-py on which *shard* hears, once there is one."""
    return None if shard._pubsub is None else shard._pubsub.connection


# ---- drops ------------------------------------------------------------------------------


def count_drops(layer: str, number: int) -> None:
    """Count and log messages that a full layer did not take."""
    metrics.count("layer_messages_dropped", number)
    logger.warning("%d messages dropped: the %s layer is full", number, layer)


@functools.cache
def see_drops_of_the_queue() -> None:
    """Count what the queue layer drops, of which it tells only its own log."""
    queue_log = logging.getLogger(QUEUE)
    queue_log.addFilter(_count_over_capacity)
    if not queue_log.isEnabledFor(logging.INFO):
        queue_log.setLevel(logging.INFO)


def _count_over_capacity(record: logging.LogRecord) -> bool:
    """Take over the lines about full channels of our groups; let any other pass."""
    match record.args:
        case (int(full), int(), str(group)) if group.startswith("realtime."):
            count_drops("queue", full)
            return False
    return True
