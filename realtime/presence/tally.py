"""How many subscriptions each channel has in this process, and which of that is not written.

That a channel has any, or none any more, is written at once; another number a little later:
a crowd that arrives is not to keep the database busy.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from realtime.presence.occupancy import Channel, Occupy

COUNT_SECONDS: Final = 0.5
"""Ours: how long others may not know that a channel has more subscriptions here, or fewer."""


class Tally:
    """The counts of one process.

    Args:
        wake: called when some of them are to be written.
    """

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._counts: dict[Channel, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_time = False
        self.changed: set[Channel] = set()
        """Channels whose count is not written as it is."""

    def set(self, channel: Channel, subscriptions: int) -> None:
        """Only the last number of a channel counts."""
        was_occupied = channel in self._counts
        if subscriptions:
            self._counts[channel] = subscriptions
        else:
            self._counts.pop(channel, None)
        self.changed.add(channel)
        if not was_occupied or not subscriptions:
            self.hurry()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(COUNT_SECONDS, self.hurry)

    def hurry(self) -> None:
        """Have written what is not."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_time = bool(self.changed)
        self._wake()

    @property
    def due(self) -> bool:
        """Whether something is to be written now."""
        return self._is_time and bool(self.changed)

    def take(self, most: int) -> list[Occupy]:
        """What is due, to be written by the caller; no more than *most*."""
        if not self.due:
            return []
        taken = [*self.changed][:most]
        self.changed.difference_update(taken)
        self._is_time = bool(self.changed)
        return [Occupy(*channel, self._counts.get(channel, 0)) for channel in taken]

    def restore(self, channels: Iterable[Channel] | None = None) -> None:
        """*channels*, or all there are, were not written, or are no more."""
        self.changed.update(self._counts if channels is None else channels)
        self._is_time = bool(self.changed)
