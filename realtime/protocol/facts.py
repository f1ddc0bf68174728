"""What happened in an app, and how a webhook says it.

Source: Pusher docs, "Webhooks".
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from realtime.protocol.app import WEBHOOK_KINDS
from realtime.protocol.effects import Publish

ARRIVALS: Final = {
    "channel_occupied": "channel_vacated",
    "member_added": "member_removed",
    "user_online": "user_offline",
}
"""What each arrival takes back, if it comes soon enough."""

DEPARTURES: Final = {departure: arrival for arrival, departure in ARRIVALS.items()}

KINDS: Final = (*WEBHOOK_KINDS, "user_online", "user_offline")
"""Webhooks do not tell the last two, Django signals do."""

DETAILS: Final = ("event", "data", "socket_id", "user_id", "subscription_count")
"""What a fact may have beyond kind and channel, in the order of Pusher's examples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """Something that happened.  What a kind does not have is ``None``."""

    app_id: str
    kind: str
    channel: str = ""
    """Empty where it is about a signed-in user."""
    event: str | None = None
    data: str | None = None
    socket_id: str | None = None
    user_id: str | None = None
    subscription_count: int | None = None

    @property
    def details(self) -> dict[str, Any]:
        """What there is of ``DETAILS``."""
        found = {name: getattr(self, name) for name in DETAILS}
        return {name: value for name, value in found.items() if value is not None}


def of_client_event(app_id: str, socket_id: str, event: Publish) -> Fact:
    """A connection sent *event* to the others of its channel."""
    return Fact(
        app_id=app_id,
        kind="client_event",
        channel=event.channel,
        event=event.event,
        data=event.data,
        socket_id=socket_id,
        user_id=event.user_id,
    )


def encode_body(time_ms: int, facts: Iterable[Fact]) -> str:
    """The body of one webhook request: ASCII, so every receiver counts the same bytes.

    >>> encode_body(1, [Fact(app_id="3", kind="channel_occupied", channel="room")])
    '{"time_ms":1,"events":[{"name":"channel_occupied","channel":"room"}]}'
    """
    events = [{"name": fact.kind, "channel": fact.channel, **fact.details} for fact in facts]
    return json.dumps({"time_ms": time_ms, "events": events}, separators=(",", ":"))
