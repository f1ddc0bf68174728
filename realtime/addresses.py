"""What one address may take of this process: connections, and attempts to make them."""

from typing import Final

from realtime import conf, loops, metrics
from realtime.protocol.bucket import Bucket
from realtime.protocol.errors import OverCapacity

BURST_SECONDS: Final = 10
"""Ours: how many seconds' worth of attempts may come at once, after a restart for example."""

REMEMBERED_ADDRESSES: Final = 10_000
"""Ours: addresses whose attempts are remembered; the one that was silent longest goes first."""


class Addresses:
    """The addresses with connections in this process; made by ``current()``."""

    def __init__(self) -> None:
        self._connections: dict[str, int] = {}
        self._attempts: dict[str, Bucket] = {}

    def enter(self, address: str | None, now: float) -> None:
        """A connection begins; ``leave`` is called at its end.

        Args:
            address: see ``peer.address``; ``None`` is not counted.

        Raises:
            OverCapacity: the address has enough of them, or tries too often.
        """
        if address is None:
            return
        self._check_rate(address, now)
        count = self._connections.get(address, 0)
        if count >= conf.get().max_connections_per_ip:
            metrics.count("over_capacity", reason="address")
            raise OverCapacity
        self._connections[address] = count + 1

    def leave(self, address: str | None) -> None:
        """A connection that was let in has ended."""
        if address is not None:
            self._connections[address] -= 1
            if not self._connections[address]:
                del self._connections[address]

    def connections(self, address: str) -> int:
        """How many connections *address* has."""
        return self._connections.get(address, 0)

    def _check_rate(self, address: str, now: float) -> None:
        rate = conf.get().connects_per_second_per_ip
        # Put in again, so the dictionary is in the order of the last attempts.
        bucket = self._attempts.pop(address, None) or Bucket(rate, rate * BURST_SECONDS, now)
        self._attempts[address] = bucket
        if len(self._attempts) > REMEMBERED_ADDRESSES:
            del self._attempts[next(iter(self._attempts))]
        if not bucket.take(now):
            metrics.count("over_capacity", reason="address_rate")
            raise OverCapacity


_addresses: loops.PerLoop[Addresses] = loops.PerLoop(Addresses)
current = _addresses.current
