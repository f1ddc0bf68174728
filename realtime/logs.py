"""A log that a flood cannot fill."""

import logging
import time
from typing import Final

QUIET_SECONDS: Final = 1
"""Ours: how often the same sentence is worth a line."""


class OncePerSecond(logging.Filter):
    """Lets each sentence of a logger through once a second, and says how many it held back.

    A sentence is the text before its arguments are put in, so what peers send makes no new
    ones.  The counters of ``metrics`` have the exact numbers.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[int, str], float] = {}
        self._held_back: dict[tuple[int, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log *record*."""
        key, now = (record.levelno, str(record.msg)), time.monotonic()
        if now - self._last.get(key, -QUIET_SECONDS) < QUIET_SECONDS:
            self._held_back[key] = self._held_back.get(key, 0) + 1
            return False
        self._last[key] = now
        if held_back := self._held_back.pop(key, 0):
            record.msg = f"{record.msg} (and {held_back} more like it)"
        return True
