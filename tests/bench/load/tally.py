"""What all subscribers of one load process have received together."""

import asyncio
import sys
import time
from typing import Final

STALL_SECONDS: Final = 10.0
"""After so long without a frame, those that are missing are lost."""


class Tally:
    """Counts frames, keeps sampled latencies, and wakes whoever waits for a number of frames."""

    __slots__ = ("_news", "frames", "reached_at", "samples", "target")

    def __init__(self) -> None:
        self.frames = 0
        self.target = sys.maxsize
        """The number of frames that somebody waits for."""
        self.reached_at = 0.0
        """When what was last waited for had come."""
        self.samples: list[int] = []
        """Nanoseconds from publish to receipt, of the subscribers that look."""
        self._news = asyncio.Event()

    def reached(self) -> None:
        """Called where ``frames`` passes ``target``."""
        self.reached_at = time.perf_counter()
        self.target = sys.maxsize
        self._news.set()

    async def until(self, frames: int, stall: float = STALL_SECONDS) -> bool:
        """Wait for a total of *frames*; False if none came for *stall* seconds."""
        self.reached_at = time.perf_counter()  # unless there is something to wait for
        while self.frames < frames:
            seen = self.frames
            self.target = min(self.target, frames)
            self._news.clear()
            try:
                async with asyncio.timeout(stall):
                    await self._news.wait()
            except TimeoutError:
                if self.frames == seen:
                    return False
        return True
