"""A member who came or went: as everybody in the channel hears of it, and as a fact."""

from dataclasses import dataclass

from realtime.models import Member
from realtime.protocol import messages
from realtime.protocol.facts import Fact


@dataclass(frozen=True, slots=True)
class Change:
    """What everybody in the channel must hear."""

    app_id: str
    channel: str
    member: messages.Member
    present: bool
    version: int
    shown_since: int = 0
    """The version with which the member began to show what it shows."""

    @property
    def fact(self) -> Fact:
        """What endpoints and receivers of signals are told."""
        user_id = self.member.user_id
        if self.channel == Member.ONLINE:
            kind = "user_online" if self.present else "user_offline"
            return Fact(app_id=self.app_id, kind=kind, user_id=user_id)
        kind = "member_added" if self.present else "member_removed"
        return Fact(app_id=self.app_id, kind=kind, channel=self.channel, user_id=user_id)


def change_of(member: Member) -> Change:
    """What *member*, with its user, has become."""
    shown = messages.Member(member.user.user_id, member.user_info)
    return Change(
        member.app_id, member.channel, shown, member.present, member.version, member.shown_since
    )
