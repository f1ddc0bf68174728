"""What one process counts: its events, and how often it refused, dropped or lost something.

Names and labels follow Prometheus, so that exposing them is a loop over ``snapshot()``.
They start at zero with the process and only grow.  Any thread may count; a histogram is for
one.
"""

import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter, or one per value of its label."""

    meaning: str
    label: str = ""
    values: tuple[str, ...] = ("",)
    """Every value that the label may have: their number is bounded, whatever peers send."""


COUNTERS: Final = {
    "connections_refused": Counter(
        "Connections turned away before the greeting, by close code.",
        "code",
        ("4000", "4001", "4003", "4004", "4005", "4006", "4007", "4008", "4009", "4100"),
    ),
    "connections_closed": Counter(
        "Connections closed by this process after the greeting, by close code.",
        "code",
        ("1003", "1008", "1009", "1011", "4001", "4003", "4009", "4100", "4200", "4201"),
    ),
    "over_capacity": Counter(
        "Why a connection was refused or closed with 4100.",
        "reason",
        (
            *("address", "address_rate", "database", "flood", "held_events", "layer"),
            *("presence", "process", "slow_reader", "stopping"),
        ),
    ),
    "peers_cut": Counter(
        "Peers that `realtime.servers` cut off.",
        "reason",
        (
            *("body_late", "close_unread", "fragments", "handshake", "head_late", "head_long"),
            *("malformed", "message_long", "ping_unanswered", "pipelined", "upgrade_with_body"),
        ),
    ),
    "connections_throttled": Counter("Times a connection that sent too fast was held back."),
    "messages_refused": Counter(
        "Messages of clients answered with an error.",
        "reason",
        (
            "client_event_lost",
            "client_event_rate",
            "malformed",
            "not_allowed",
            "subscription",
            "watchlist",
        ),
    ),
    "api_requests_refused": Counter(
        "Requests of the HTTP API that were not served, by status.",
        "status",
        ("400", "401", "403", "405", "413", "429", "503"),
    ),
    "auth_requests_refused": Counter(
        "Requests for authorization that waited for too long, or behind too many."
    ),
    "events_published": Counter(
        "Events that the channel layer took, one per channel, by where they came from.",
        "source",
        ("api", "client", "durable", "presence", "trigger"),
    ),
    "fallbacks_opened": Counter(
        "Connections over an HTTP fallback, by the request that opened them.",
        "transport",
        ("xhr", "xhr_streaming"),
    ),
    "fallback_requests_refused": Counter(
        "Requests of the HTTP fallbacks that were not served, by status.",
        "status",
        ("400", "404", "405", "408", "413", "503"),
    ),
    "publishes_refused": Counter("Events that the channel layer did not take."),
    "layer_messages_dropped": Counter("Messages that the channel layer dropped unread."),
    "layer_messages_unreadable": Counter("Messages from the channel layer that are none of ours."),
    "layer_recoveries": Counter("Times this process was deaf to the channel layer, and mended it."),
    "announcements_dropped": Counter("Presence announcements that the channel layer did not take."),
    "announcements_recovered": Counter("Presence changes that were found in the rows instead."),
    "sockets_failed": Counter("Connections that ended because their server could not write."),
    "cache_failures": Counter("Times the cache of the last events did not answer."),
    "facts_dropped": Counter(
        "Facts for webhooks and signals that were lost before they were rows, or could not be read."
    ),
    "webhook_attempts": Counter(
        "Requests to webhook endpoints, by how they ended.", "result", ("failed", "retried", "sent")
    ),
    "leases_lost": Counter("Times this process was taken for dead and recorded itself again."),
    "tasks_restarted": Counter("Times a long-lived task failed and was started again."),
}
"""By the name without ``realtime_`` and ``_total``."""


class Histogram:
    """How long something took, counted in buckets.  For one thread: it takes no lock.

    Args:
        bounds: the upper ends of the buckets in seconds, in order; what is longer is counted
            in one more.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        """How many there were in each bucket, and not in those below it."""
        self.total = 0.0
        """Seconds, of all together."""

    def observe(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


FAN_OUT: Final = Histogram((0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5))
"""Ours: the buckets of a web request.  From the publish of an event to the last push of it here."""

_lock = threading.Lock()
_counts: dict[tuple[str, str], int] = {}


def count(name: str, amount: int = 1, /, **label: str) -> None:
    """Add *amount* to a counter of ``COUNTERS``, with the value of its label if it has one."""
    key = (name, next(iter(label.values()), ""))
    with _lock:
        _counts[key] = _counts.get(key, 0) + amount


def snapshot() -> dict[str, dict[str, int]]:
    """Every counter by its Prometheus name; inside by the value of its label, ``""`` for none."""
    with _lock:
        seen = dict(_counts)
    return {
        f"realtime_{name}_total": {value: seen.get((name, value), 0) for value in counter.values}
        for name, counter in COUNTERS.items()
    }
