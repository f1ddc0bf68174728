"""What the sockets of one presence channel have been told about its members.

Announcements come from several processes, late or in the wrong order.  Each socket must see a
member come and go in turns all the same, and end with the truth.  All sockets share one view,
apart from those that were given a list newer or older than it.

Pure: knows no sockets, only their ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

REMEMBERED_DEPARTURES: Final = 1_000
"""Ours: members of a channel who are gone, before the oldest of them may be forgotten."""

OVERTAKING_SECONDS: Final = 60
"""Ours: how much later than newer news an announcement may still arrive."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """News about a member, which later news makes worthless."""

    user_id: str
    version: int
    """Grows with every change of this member, in the order of the commits; starts from the
    clock, in microseconds."""
    present: bool
    shown_since: int = field(default=0, compare=False)
    """The version with which the member began to show what it shows now."""


class Heard(IntEnum):
    """What news means to somebody."""

    NOTHING = 0
    CHANGE = 1
    """The member has come or gone."""
    RENEWAL = 2
    """The member is there as before and shows something else."""


@dataclass(slots=True)
class View:
    """Who somebody believes to be there, and since which version."""

    present: dict[str, int] = field(default_factory=dict)
    departed: dict[str, int] = field(default_factory=dict)

    def of(self, user_id: str) -> Announcement:
        """The latest news of a user; somebody never heard of is absent."""
        version = self.present.get(user_id)
        if version is not None:
            return Announcement(user_id, version, present=True)
        return Announcement(user_id, self.departed.get(user_id, 0), present=False)

    def lacks(self, news: Announcement) -> bool:
        """Whether *news* is newer than what is believed of its user."""
        known = self.present.get(news.user_id) or self.departed.get(news.user_id, 0)
        return news.version > known

    def hear(self, news: Announcement) -> Heard:
        """Take *news* in if it is newer; what it changes."""
        known = self.of(news.user_id)
        heard = _heard(news, known)
        if news.version <= known.version:
            return heard
        if news.present:
            self.departed.pop(news.user_id, None)
            self.present[news.user_id] = news.version
        else:
            self.present.pop(news.user_id, None)
            self.departed.pop(news.user_id, None)
            self.departed[news.user_id] = news.version
            self._forget(news.version)
        return heard

    def _forget(self, now: int) -> None:
        """Forget departures that nothing can overtake any more, the oldest first."""
        while len(self.departed) > REMEMBERED_DEPARTURES:
            user_id, version = next(iter(self.departed.items()))
            if version >= now - OVERTAKING_SECONDS * 1_000_000:
                return
            del self.departed[user_id]


@dataclass(slots=True, eq=False)
class _Party:
    """Sockets that were told the same, and not what the others were."""

    sockets: set[str]
    apart: dict[str, Announcement]
    """By user: what they were told that the others were not, or not yet."""
    listed: View | None
    """The list they were given, if that is all they were told."""


class Attendance:
    """The shared view of a channel, and where some sockets differ from it."""

    __slots__ = ("_agreed", "_asked", "_parties", "_party_of", "_shared")

    def __init__(self) -> None:
        self._shared = View()
        self._agreed: View | None = None
        """A list that told what all were told, nothing more and nothing less."""
        self._asked: tuple[View, Sequence[Announcement], bool] | None = None
        """A list, news, and whether the list lacked any of it."""
        self._parties: list[_Party] = []
        self._party_of: dict[str, _Party] = {}

    def admit(
        self,
        socket_id: str,
        listed: View,
        held: Sequence[Announcement],
        *,
        first: bool,
    ) -> list[Heard]:
        """Let in a socket that was given a list.

        Args:
            listed: the list, and who had just gone when it was made; not to be changed after.
            held: the news that came while it waited for the list, in order; not to be changed.
            first: whether nobody else is here, so that its view is the one to share.

        Returns:
            for each of *held*, what it means to the socket; nothing where none means anything.
        """
        if not first and self._is_known(listed) and not self._lacks_any(listed, held):
            # One of a crowd that came with one commit.  What was heard since it would be held.
            if party := self._party_with(listed):
                self._enter(party, socket_id)
            return []
        # Late news of how somebody came who has gone since is worth nothing to this socket.
        departed = dict(self._shared.departed)
        for user_id, version in listed.departed.items():
            departed[user_id] = max(version, departed.get(user_id, 0))
        own = View(dict(listed.present), departed)
        wanted = [own.hear(item) for item in held]
        if first:
            self._shared = own
            self._agreed = None
            self._parties.clear()
            self._party_of.clear()
            return wanted
        differing = {user_id for user_id, _ in own.present.items() ^ self._shared.present.items()}
        alike = None if any(wanted) else listed
        if differing:
            apart = {user_id: own.of(user_id) for user_id in differing}
            self._parties.append(_Party(set(), apart, alike))
            self._enter(self._parties[-1], socket_id)
        else:
            self._agreed = alike
        return wanted

    def dismiss(self, socket_id: str) -> None:
        """A socket has left."""
        party = self._party_of.pop(socket_id, None)
        if party is not None:
            party.sockets.discard(socket_id)
            if not party.sockets:
                self._parties.remove(party)

    def misses(self, news: Announcement) -> bool:
        """Whether *news* would be new to anybody here."""
        return news.version > self._shared.of(news.user_id).version or any(
            news.user_id in party.apart and news.version > party.apart[news.user_id].version
            for party in self._parties
        )

    def hear(self, news: Announcement) -> tuple[Heard, dict[str, Heard]]:
        """Take *news* in.

        Returns:
            what it means to the sockets, and those to whom it means something else.
        """
        self._agreed = None
        wanted = self._shared.hear(news)
        shared = self._shared.of(news.user_id)
        own: dict[str, Heard] = {}
        for party in [*self._parties]:
            believed = party.apart.get(news.user_id)
            if believed is None:
                continue
            heard = _heard(news, believed)
            if heard is not wanted:
                own.update(dict.fromkeys(party.sockets, heard))
            if news.version > believed.version:
                party.apart[news.user_id] = news
            if party.apart[news.user_id] == shared:
                del party.apart[news.user_id]
                if not party.apart:
                    self._join_the_others(party)
        return wanted, own

    def _lacks_any(self, listed: View, news: Sequence[Announcement]) -> bool:
        """Whether *listed* lacks any of *news*; each of a crowd that waited together asks this."""
        if (
            self._asked is None
            or self._asked[0] is not listed
            or (self._asked[1] is not news and self._asked[1] != news)
        ):
            self._asked = listed, news, any(map(listed.lacks, news))
        return self._asked[2]

    def _is_known(self, listed: View) -> bool:
        return listed is self._agreed or self._party_with(listed) is not None

    def _party_with(self, listed: View) -> _Party | None:
        return next((party for party in self._parties if party.listed is listed), None)

    def _enter(self, party: _Party, socket_id: str) -> None:
        party.sockets.add(socket_id)
        self._party_of[socket_id] = party

    def _join_the_others(self, party: _Party) -> None:
        self._parties.remove(party)
        for socket_id in party.sockets:
            del self._party_of[socket_id]


def _heard(news: Announcement, known: Announcement) -> Heard:
    """What *news* means to somebody for whom *known* was the latest."""
    if news.version <= known.version:
        return Heard.NOTHING
    if news.present != known.present:
        return Heard.CHANGE
    if news.present and news.shown_since > known.version:
        return Heard.RENEWAL
    return Heard.NOTHING
