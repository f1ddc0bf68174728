"""How many events an app may send through the HTTP API of this process."""

import math
import threading
from time import monotonic
from typing import Final

from rest_framework.exceptions import APIException

from realtime.protocol.app import App
from realtime.protocol.bucket import Bucket

_lock: Final = threading.Lock()
_budgets: Final[dict[tuple[str, int], Bucket]] = {}
"""By app id and limit: a limit that was changed begins anew."""


class TooManyEvents(APIException):
    """The app has sent what it may for now; nothing of this call was sent."""

    status_code = 429

    def __init__(self, seconds: float) -> None:
        self.wait = max(1, math.ceil(seconds))
        """Whole seconds, for ``Retry-After``."""
        super().__init__(f"Too many events, try again in {self.wait} s")


def spend(app: App, events: int) -> None:
    """Take *events* from what *app* may send in a second; the last call may overdraw it.

    Raises:
        TooManyEvents: nothing is left; nothing was taken.
    """
    rate = app.limits.api_events_per_second
    if rate is None:
        return
    now = monotonic()
    with _lock:
        budget = _budgets.setdefault((app.id, rate), Bucket(rate, rate, now))
        if not budget.take(now, events):
            raise TooManyEvents(budget.seconds_to_next(now))
