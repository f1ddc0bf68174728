"""Token buckets: what one peer may do at a rate, and what it may do at once.

They know no clock: *now* is seconds on any clock that only moves forward.
"""

from typing import Final

CALM_SECONDS: Final = 1
"""Ours: a peer that was not held back for so long has ended its flood."""


class Bucket:
    """Tokens that come back steadily, up to a full bucket.

    Args:
        rate: tokens that come back in a second.
        burst: tokens of a full bucket, which it is at first.
    """

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, now: float, tokens: float = 1) -> bool:
        """Take *tokens* if there is one at least; the rest is owed, and paid before the next."""
        self._refill(now)
        if self._tokens < 1:
            return False
        self._tokens -= tokens
        return True

    def owe(self, now: float, tokens: float = 1) -> float:
        """Take *tokens* in any case; the seconds until all that is owed has come back."""
        self._refill(now)
        self._tokens -= tokens
        return max(0.0, -self._tokens / self._rate)

    def seconds_to_next(self, now: float) -> float:
        """How long until ``take`` succeeds."""
        self._refill(now)
        return max(0.0, (1 - self._tokens) / self._rate)

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now


class Pace:
    """How fast one peer is read: beyond the rate a little later, and in the end not at all.

    Args:
        patience: seconds for which a peer may be held back without a second of calm.
    """

    __slots__ = ("_bucket", "_held_at", "_held_since", "_patience")

    def __init__(self, rate: float, burst: float, *, patience: float, now: float) -> None:
        self._bucket = Bucket(rate, burst, now)
        self._patience = patience
        self._held_since: float | None = None
        self._held_at = now

    @property
    def held_since(self) -> float | None:
        """When the flood that goes on now began; ``None`` where there is none."""
        return self._held_since

    def pause(self, now: float, cost: float = 1) -> float:
        """Note a message that was read; the seconds until the next one should be."""
        if now - self._held_at > CALM_SECONDS:
            self._held_since = None
        seconds = self._bucket.owe(now, cost)
        if seconds > 0:
            if self._held_since is None:
                self._held_since = now
            self._held_at = now + seconds
        return seconds

    def is_flooding(self, now: float) -> bool:
        """Whether the peer was held back for longer than anybody honest is."""
        return self._held_since is not None and now - self._held_since > self._patience
