"""The Redis of one contestant: what it did, and how much CPU that took."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import redis

from tests import services
from tests.bench import machine

# ZADD: the queue layer writes each message to one list per receiver.
_MESSAGES = ("cmdstat_publish", "cmdstat_spublish", "cmdstat_zadd")


class Look(NamedTuple):
    """What a Redis had done at some time."""

    cpu: float
    """Seconds."""
    messages: int
    """Messages of a channel layer that it took."""


class Bus:
    """A running Redis."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self._client = redis.Redis.from_url(url)
        self._pid = int(self._info("server")["process_id"])

    def look(self) -> Look:
        """What it has done so far."""
        stats = self._info("commandstats")
        messages = sum(stats[name]["calls"] for name in _MESSAGES if name in stats)
        return Look(machine.cpu_seconds(self._pid), messages)

    def close(self) -> None:
        """Let go of it."""
        self._client.close()

    def _info(self, part: str) -> Any:  # Any: whatever the version at hand tells
        return self._client.info(part)


@contextmanager
def bus() -> Iterator[Bus]:
    """A Redis-compatible server of its own, on the core of the load."""
    with ExitStack() as stack:
        with machine.on(machine.cores().load):
            url = stack.enter_context(services.valkey_on_tcp())
        made = Bus(url)
        stack.callback(made.close)
        yield made
