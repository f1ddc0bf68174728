"""A Pusher app as the protocol sees it: credentials, switches and limits."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Upper bounds on what one peer may send.  "Ours" marks the numbers no document fixes."""

    channel_name_chars: int = 200
    """Official server libraries; the documentation says 164, a superset breaks nobody."""
    event_name_chars: int = 200
    """Official server libraries."""
    event_data_bytes: int = 10_240
    """Pusher HTTP API, ``data`` of an event, in UTF-8."""
    channels_per_trigger: int = 100
    """Pusher HTTP API, ``channels`` of an event."""
    events_per_batch: int = 10
    """Pusher HTTP API, ``batch_events``."""
    client_events_per_second: int = 10
    """Pusher docs, "Client events": per connection."""
    presence_members: int = 100
    """Pusher docs, "Presence channels": distinct users in one channel."""
    presence_user_id_chars: int = 128
    """Pusher docs, "Presence channels"."""
    presence_user_info_bytes: int = 1_024
    """Pusher docs, "Presence channels": the user object, in UTF-8."""
    signin_user_id_chars: int = 200
    """Official Python library."""
    message_bytes: int = 131_072
    """Ours: one WebSocket message from a client."""
    malformed_messages: int = 100
    """Ours: unreadable messages in a row before a connection is closed with 1008."""
    subscriptions_per_connection: int = 1_000
    """Ours: channels one connection may be subscribed to at a time."""
    messages_per_second: int = 500
    """Ours: messages of one connection; beyond it the server reads no faster."""
    flood_seconds: int = 30
    """Ours: how long a connection may send faster than that before it is closed with 4100."""
    api_events_per_second: int | None = None
    """Ours: events of the HTTP API per server process, one per channel; more get 429."""
    backlog_chars: int = 1_048_576
    """Ours: unsent characters after which a slow socket is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One tenant: the owner of a key, a secret and a name space of channels."""

    id: str
    """Decimal digits: the official Python library refuses anything else."""
    key: str
    """Public; part of every WebSocket URL."""
    secret: str = field(repr=False)
    """Signs everything; never shown, logged or sent."""
    enabled: bool = True
    client_events: bool = True
    """Whether browsers may send ``client-…`` events on private and presence channels."""
    tls_only: bool = False
    """Whether plain ``ws`` connections are refused with 4000."""
    allowed_origins: tuple[str, ...] = ()
    """``scheme://host[:port]`` each, or ``*``; empty means the hosts in ``ALLOWED_HOSTS``."""
    max_connections: int | None = None
    """Connections of this app per server process; more are refused with 4004."""
    limits: Limits = field(default_factory=Limits)
