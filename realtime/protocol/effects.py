"""What a connection decides, for its caller to do, in order."""

from dataclasses import dataclass, field

from realtime.protocol.messages import Member, User


@dataclass(frozen=True, slots=True)
class Send:
    """Push this text to the client."""

    text: str
    refused: str = field(default="", compare=False)
    """What it refuses, one word for the counters; empty for everything but errors."""


@dataclass(frozen=True, slots=True)
class Join:
    """Add the connection to a channel; answer with ``joined`` or ``refused``."""

    channel: str
    member: Member | None
    """Who it is on a presence channel; ``None`` on every other."""
    from_sign_in: bool = False
    """Whether the member is who signed in, and no ``channel_data`` was given."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Take the connection out of a channel."""

    channel: str
    member: Member | None


@dataclass(frozen=True, slots=True)
class Publish:
    """Send a client event to the other subscribers of a channel."""

    channel: str
    event: str
    data: str
    user_id: str | None
    """The sender's member id on presence channels, from our record of it."""


@dataclass(frozen=True, slots=True)
class Identify:
    """Attach a user to the connection; answer with ``identified`` or ``sign_in_refused``."""

    user: User


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection once everything sent before has left."""

    code: int
    reason: str
    """At most 123 bytes of UTF-8, the most a close frame can carry."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Tell the client who of these users is online now, and when that changes."""

    user_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Authorized:
    """From now on the connection counts: it signed in, or joined a private channel."""


Effect = Send | Join | Leave | Publish | Identify | Watch | Authorized | Close
