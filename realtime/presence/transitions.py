"""What happens in a process and is to be written."""

from dataclasses import dataclass
from uuid import UUID

from realtime.models import Member
from realtime.presence.occupancy import Occupy
from realtime.protocol import messages
from realtime.protocol.facts import Fact


@dataclass(frozen=True, slots=True)
class Move:
    """A connection, in a channel with members."""

    app_id: str
    channel: str
    socket_id: str

    @property
    def subscription(self) -> tuple[str, str, str]:
        """App id, channel and socket id."""
        return (self.app_id, self.channel, self.socket_id)


@dataclass(frozen=True, slots=True)
class Join(Move):
    """A connection subscribed as a member."""

    member: messages.Member
    limit: int | None = None
    """Members the channel may have; ``None`` for any number."""
    from_sign_in: bool = False
    """Whether the member shows what was said at sign-in."""

    @property
    def member_key(self) -> UUID:
        """The primary key of the member."""
        return Member.key_of(self.app_id, self.channel, self.member.user_id)


@dataclass(frozen=True, slots=True)
class Leave(Move):
    """A connection left."""

    user_id: str

    @property
    def member_key(self) -> UUID:
        """The primary key of the member."""
        return Member.key_of(self.app_id, self.channel, self.user_id)


Transition = Join | Leave | Occupy | Fact
