"""Whether the rows say what the server processes really hold; mending where they do not.

Only a process knows its sockets, and not every layer reaches every process.  So they meet in
the database: whoever wants to know asks in the row of each server, and each process answers
there when it renews its lease.

A process compares what it holds at one moment with its rows as of that moment: both are
taken in the order of its own writes, and what is on its way into the database is left out.
What differs is looked at twice, and once more before it is mended.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, QuerySet
from django.db.models.functions import Now

from realtime import conf, hub
from realtime.hub import ChannelKey
from realtime.models import Member, Membership, Occupancy, Server
from realtime.presence import lease, store
from realtime.presence.transitions import Join, Leave
from realtime.protocol.names import Kind, kind_of

T = TypeVar("T")

Subscription = tuple[str, str, str]
"""App id, channel and socket id."""

Row = tuple[str, str, str, str]
"""A subscription and the user id it shows."""

LISTED: Final = 100
"""Ours: differences of each kind that an answer lists; it counts them all."""

MENDED_MEMBERS: Final = 1_000
"""Ours: members that one answer settles at most."""


class Books(Protocol):
    """What a ledger tells about itself, and lets itself be told."""

    @property
    def held(self) -> Mapping[Subscription, Join]:
        """The joins it takes for committed."""

    def moving(self) -> tuple[set[Subscription], set[ChannelKey]]:
        """The subscriptions and counts that are on their way into the database."""

    def record(self, moves: Iterable[Join | Leave]) -> None:
        """Write *moves* after everything that was recorded before."""

    def occupy(self, app_id: str, channel: str, subscriptions: int) -> None:
        """Record how many subscriptions a channel has."""

    async def flushed(self) -> None:
        """Wait until what was recorded so far is committed, but not for long."""

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run *work* in the order of the writes."""


@dataclass(slots=True)
class Differences:
    """Where the rows of one process are not what it holds."""

    missing: dict[Subscription, str] = field(default_factory=dict)
    """Subscriptions without a row, with the user id if that is known."""
    surplus: set[Row] = field(default_factory=set)
    """Rows without a subscription."""
    counts: dict[ChannelKey, tuple[int, int]] = field(default_factory=dict)
    """Subscriptions of a channel: as the row says, and as they are."""

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.missing) + len(self.surplus) + len(self.counts)

    def also_in(self, other: "Differences") -> "Differences":
        """Those that *other* has as well."""
        return Differences(
            {key: user for key, user in self.missing.items() if key in other.missing},
            self.surplus & other.surplus,
            {key: pair for key, pair in self.counts.items() if key in other.counts},
        )

    def report(self) -> dict[str, Any]:
        """As the command reads them."""
        return {
            "totals": {
                "missing": len(self.missing),
                "surplus": len(self.surplus),
                "counts": len(self.counts),
            },
            "missing": sorted([*key, user] for key, user in self.missing.items())[:LISTED],
            "surplus": sorted(list(row) for row in self.surplus)[:LISTED],
            "counts": sorted([*key, *pair] for key, pair in self.counts.items())[:LISTED],
        }


class Holding:
    """What the sockets of this process are subscribed to, at one moment."""

    def __init__(self, local: hub.Hub | None) -> None:
        self.confirmed: set[Subscription] = set()
        """Presence subscriptions that the client was told of."""
        self.waiting: set[Subscription] = set()
        """Those that may be refused yet."""
        self.counts: dict[ChannelKey, tuple[int, int]] = {}
        """Per channel without and with those."""
        self.signed_in: set[Row] = set()
        self.shown: set[tuple[str, str, str]] = set()
        """App id, socket id and user id, shown in whichever presence channels."""
        if local is not None:
            self._read(local)

    def _read(self, local: hub.Hub) -> None:
        for app_id, channel, confirmed, waiting in local.subscribers():
            if not channel.startswith("#"):
                self.counts[app_id, channel] = len(confirmed), len(confirmed) + len(waiting)
            if kind_of(channel) is Kind.PRESENCE:
                self.confirmed.update((app_id, channel, socket_id) for socket_id in confirmed)
                self.waiting.update((app_id, channel, socket_id) for socket_id in waiting)
        for app_id, socket_id, user_id, signed_in in local.identities():
            if signed_in:
                self.signed_in.add((app_id, Member.ONLINE, socket_id, user_id))
            else:
                self.shown.add((app_id, socket_id, user_id))

    def has(self, row: Row) -> bool:
        """Whether a socket is, or is about to be, where *row* says it is."""
        app_id, channel, socket_id, user_id = row
        if channel == Member.ONLINE:
            return row in self.signed_in
        key = (app_id, channel, socket_id)
        subscribed = key in self.confirmed or key in self.waiting
        return subscribed and (app_id, socket_id, user_id) in self.shown

    def compare(
        self,
        rows: set[Row],
        counts: Mapping[ChannelKey, int],
        users: Mapping[Subscription, str],
        moving: tuple[set[Subscription], set[ChannelKey]],
    ) -> Differences:
        """Where *rows* and *counts* differ from this.

        Args:
            users: whom a subscription shows, as far as the ledger knows.
            moving: what to leave out.
        """
        subscriptions, channels = moving
        written = {row[:3] for row in rows}
        missing = {key: users.get(key, "") for key in self.confirmed - written}
        missing |= {row[:3]: row[3] for row in self.signed_in if row[:3] not in written}
        differing: dict[ChannelKey, tuple[int, int]] = {}
        for key in {*counts, *self.counts}:
            least, most = self.counts.get(key, (0, 0))
            if not least <= counts.get(key, 0) <= most:
                differing[key] = counts.get(key, 0), most
        return Differences(
            {key: user for key, user in missing.items() if key not in subscriptions},
            {row for row in rows if row[:3] not in subscriptions and not self.has(row)},
            {key: pair for key, pair in differing.items() if key not in channels},
        )


# ---- in a server process ----------------------------------------------------------------


async def answer(books: Books, server_id: UUID) -> None:
    """Compare this process with its rows, if somebody asked, and mend if they asked for that."""
    request = await books.in_thread(partial(_request, server_id))
    if request is None:
        return
    try:
        await _examine(books, server_id, request)
    except lease.LeaseLost:
        return  # the rows are gone; the writer finds that too, and writes them again


async def _examine(books: Books, server_id: UUID, request: dict[str, Any]) -> None:
    found = await _look(books, server_id)
    if found.total:
        found = found.also_in(await _look(books, server_id))
    mended = 0
    if request["repair"]:
        mended = _mend(books, found) + await _settle_members(books)
        await books.flushed()
    report = {**request, **found.report(), "mended": mended}
    await books.in_thread(partial(_write_answer, server_id, report))


async def _look(books: Books, server_id: UUID) -> Differences:
    holding = Holding(hub.peek())
    users = {key: joining.member.user_id for key, joining in books.held.items()}
    moving = books.moving()
    # No await before this: the rows are read after what was in hand, and before all else.
    rows, counts = await books.in_thread(partial(_rows, server_id))
    return holding.compare(rows, counts, users, moving)


def _mend(books: Books, found: Differences) -> int:
    """Record what is still so; no await, so nobody can join or leave meanwhile."""
    local = hub.peek()
    holding = Holding(local)
    moves: list[Join | Leave] = []
    for key, user_id in found.missing.items():
        joining = books.held.get(key)
        if key not in holding.confirmed and (*key, user_id) not in holding.signed_in:
            continue
        if joining is not None:
            moves.append(replace(joining, limit=None))  # it was let in already
        elif local is not None:  # only the client knows what it showed: let it come again
            local.send_elsewhere(key[0], key[2])
    moves += [Leave(*row) for row in found.surplus if not holding.has(row)]
    books.record(moves)
    for app_id, channel in found.counts:
        total = 0 if local is None else local.subscriptions(app_id, channel)
        books.occupy(app_id, channel, total)
    return len(moves) + len(found.counts)


async def _settle_members(books: Books) -> int:
    """Have the members settled whose presence is wrong, wherever they are connected."""
    wrong = await books.in_thread(_wrong_members)
    # A departure of nobody: the store locks the member and counts its connections again.
    books.record(Leave(app_id, channel, "", user_id) for app_id, channel, user_id in wrong)
    return len(wrong)


# ---- in the thread of the ledger --------------------------------------------------------


def _request(server_id: UUID) -> dict[str, Any] | None:
    asked = Server.objects.filter(pk=server_id, audit_asked_at__isnull=False, audited_at=None)
    return asked.values_list("audit", flat=True).first()


def _rows(server_id: UUID) -> tuple[set[Row], dict[ChannelKey, int]]:
    """The subscriptions and counts that the database has of this process."""
    with transaction.atomic():
        lease.renew(server_id, conf.get().lease_seconds)  # nobody reaps while we read
        memberships = Membership.objects.filter(server=server_id).values_list(
            "member__app_id", "member__channel", "socket_id", "member__user__user_id"
        )
        occupancies = Occupancy.objects.filter(server=server_id)
        return set(memberships), {
            (app_id, channel): subscriptions
            for app_id, channel, subscriptions in occupancies.values_list(
                "app_id", "channel", "subscriptions"
            )
        }


def _wrong_members() -> list[tuple[str, str, str]]:
    wrong = _ghosts() | _hidden()
    return list(wrong.values_list("app_id", "channel", "user__user_id")[:MENDED_MEMBERS])


def _write_answer(server_id: UUID, report: dict[str, Any]) -> None:
    Server.objects.filter(pk=server_id).update(audit=report, audited_at=Now())


# ---- for the command --------------------------------------------------------------------


def ask(server_ids: Iterable[UUID], request: str, *, repair: bool) -> None:
    """Ask the processes to compare, and to mend if *repair*; *request* comes back."""
    Server.objects.filter(pk__in=list(server_ids)).update(
        audit_asked_at=Now(), audited_at=None, audit={"request": request, "repair": repair}
    )


def strays(lease_seconds: float) -> dict[str, list[list[Any]]]:
    """What no single process can see: rows that contradict each other.

    Returns:
        ``ghosts`` are shown as present without a connection, ``hidden`` have one and are
        not shown, each as app id, channel and user id; ``unreaped`` are processes that
        ended a lease ago, with the subscriptions of users and the channels they left.
    """
    overdue = Server.objects.filter(expires_at__lte=Now() - timedelta(seconds=lease_seconds))
    left = overdue.annotate(
        members=Count("memberships", distinct=True), channels=Count("occupancies", distinct=True)
    )
    members = ("app_id", "channel", "user__user_id")
    return {
        "ghosts": [list(row) for row in _ghosts().values_list(*members)],
        "hidden": [list(row) for row in _hidden().values_list(*members)],
        "unreaped": [list(row) for row in left.values_list("name", "members", "channels")],
    }


def mend_alone(lease_seconds: float) -> None:
    """Mend what ``strays`` found, while no process runs and nobody is connected."""
    while store.reap() is not None:
        pass
    wrong = _wrong_members()
    server_id = uuid4()
    lease.take(server_id, lease_seconds)
    try:
        while wrong:
            store.apply(server_id, [Leave(a, c, "", user) for a, c, user in wrong], lease_seconds)
            wrong = _wrong_members()
    finally:
        Server.objects.filter(pk=server_id).delete()


def _ghosts() -> QuerySet[Member]:
    # One statement sees one state of the tables, so commits meanwhile do no harm.
    return Member.objects.present().filter(~Exists(_memberships()))


def _hidden() -> QuerySet[Member]:
    return Member.objects.filter(Exists(_memberships()), present=False)


def _memberships() -> QuerySet[Membership]:
    return Membership.objects.filter(member=OuterRef("pk"))
