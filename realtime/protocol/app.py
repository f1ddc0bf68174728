"""A Pusher app as the protocol sees it: credentials, switches and limits."""

from dataclasses import dataclass, field
from typing import Final, NamedTuple


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
    watchlist_user_ids: int = 100
    """Pusher docs, "Watchlist events": users one connection may watch."""
    authorization_seconds: int = 30
    """soketi, sockudo: how long a connection may go without sign-in or private channel."""


WEBHOOK_KINDS: Final = (
    "channel_occupied",
    "channel_vacated",
    "member_added",
    "member_removed",
    "client_event",
    "cache_miss",
    "subscription_count",
)
"""Pusher docs, "Webhooks": what an endpoint can be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """An endpoint that is told what happens in an app."""

    url: str
    kinds: tuple[str, ...] = WEBHOOK_KINDS
    channel_prefixes: tuple[str, ...] = ()
    """Only channels whose names start with one of these; empty means all channels."""

    def wants(self, kind: str, channel: str) -> bool:
        """Whether this endpoint is told of *kind* on *channel*."""
        return kind in self.kinds and (
            not self.channel_prefixes or channel.startswith(self.channel_prefixes)
        )


class Token(NamedTuple):
    """A key and the secret that signs for it."""

    key: str
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One tenant: the owner of a key, a secret and a name space of channels."""

    id: str
    """Decimal digits: the official Python library refuses anything else."""
    key: str
    """Public; part of every WebSocket URL."""
    secret: str = field(repr=False)
    """Signs everything; never shown, logged or sent."""
    old_key: str = ""
    """A key that is about to be retired: accepted, but nothing new is signed with it."""
    old_secret: str = field(default="", repr=False)
    enabled: bool = True
    client_events: bool = True
    """Whether browsers may send ``client-…`` events on private and presence channels."""
    subscription_counts: bool = False
    """Whether subscribers are told how many connections their channel has."""
    watchlists: bool = True
    """Whether signed-in users are told when those on their watchlist come and go."""
    authorized_connections: bool = False
    """Whether connections must sign in or join a private channel, or end with 4009."""
    tls_only: bool = False
    """Whether plain ``ws`` connections are refused with 4000."""
    allowed_origins: tuple[str, ...] = ()
    """``scheme://host[:port]`` each, or ``*``; empty means the hosts in ``ALLOWED_HOSTS``."""
    max_connections: int | None = None
    """Connections of this app per server process; more are refused with 4004."""
    encryption_master_key: bytes = field(default=b"", repr=False)
    """32 bytes, from which the keys of encrypted channels are made; empty: none can be."""
    webhooks: tuple[Webhook, ...] = ()
    webhook_batching: bool = True
    """Whether one webhook request may tell several things."""
    limits: Limits = field(default_factory=Limits)

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The pairs of key and secret that are accepted, the oldest first."""
        old = (Token(self.old_key, self.old_secret),) if self.old_key and self.old_secret else ()
        return (*old, Token(self.key, self.secret))
