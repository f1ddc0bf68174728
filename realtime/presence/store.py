"""One transaction: what happened in a process goes in, what thereby changed comes out.

Plain synchronous Django.  Groups of different processes may run at the same time: member
rows are locked in key order, so they cannot deadlock, and counted only under the lock, so
two processes never both see a user's first connection.
"""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count, F, QuerySet
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from realtime.database import lock
from realtime.models import Member, Membership, RealtimeUser, Server, row_id
from realtime.presence import lease, occupancy
from realtime.presence.changes import Change, change_of
from realtime.presence.occupancy import Occupy
from realtime.presence.transitions import Join, Leave, Transition
from realtime.protocol import messages
from realtime.protocol.attendance import OVERTAKING_SECONDS, View
from realtime.protocol.facts import Fact
from realtime.webhooks import facts

REAPED: Final = 1_000
"""Ours: subscriptions of dead processes removed in one transaction."""


@dataclass(frozen=True, slots=True)
class Roster:
    """The members of one channel as of one commit."""

    text: str
    """Encoded as the message ``subscription_succeeded``, once for all who join in one group."""
    view: View
    """The same with versions, and who has just gone."""


@dataclass(slots=True)
class Outcome:
    """What a group brought about."""

    changes: list[Change] = field(default_factory=list)
    rosters: dict[tuple[str, str], Roster] = field(default_factory=dict)
    """By app id and channel, for every channel somebody joined."""
    banned: set[Join] = field(default_factory=set)
    crowded: set[Join] = field(default_factory=set)
    waited_seconds: float = 0.0
    """How long the database took to let us begin."""


def apply(server_id: UUID, transitions: Sequence[Transition], lease_seconds: float) -> Outcome:
    """Write *transitions* in order, in one transaction; return what became visible.

    A member becomes present with its first membership anywhere and absent with its last.

    Raises:
        LeaseLost: this server was reaped meanwhile; nothing was written.
    """
    outcome = Outcome()
    began = time.monotonic()
    with transaction.atomic():
        # First a write: SQLite takes its one write lock here, and waits for it.
        lease.renew(server_id, lease_seconds)
        outcome.waited_seconds = time.monotonic() - began
        joins = [item for item in transitions if isinstance(item, Join)]
        outcome.banned = _banned(joins)
        outcome.crowded = _crowded([join for join in joins if join not in outcome.banned])
        refused = outcome.banned | outcome.crowded
        moves = [
            item for item in transitions if isinstance(item, Join | Leave) and item not in refused
        ]
        admitted = [join for join in joins if join not in refused]
        _write_users(admitted)
        outcome.changes = _move(server_id, _as_overridden(moves))
        moved = occupancy.write(
            server_id, [item for item in transitions if isinstance(item, Occupy)]
        )
        told = [item for item in transitions if isinstance(item, Fact)]
        _write_facts(outcome.changes, moved, told, server_id)
        outcome.rosters = rosters(
            {(join.app_id, join.channel) for join in admitted if join.channel != Member.ONLINE}
        )
    return outcome


def reap(own: UUID | None = None, patience_seconds: float = math.inf) -> list[Change] | None:
    """Remove servers whose lease ran out, and everybody only they held, a portion at a time.

    Args:
        own: the server that asks.  It is late, not dead.
        patience_seconds: for the database.  Whoever had to wait for it cannot tell the dead
            from the living, who waited as well.

    Returns:
        who has gone thereby; ``None`` where nobody is dead.
    """
    began = time.monotonic()
    with transaction.atomic():
        lease.shorten()  # first a write, as in ``apply``
        gone = Server.objects.dead() if own is None else Server.objects.dead().exclude(pk=own)
        dead = [server.pk for server in lock(gone, skip_locked=True)]
        if not dead or time.monotonic() - began > patience_seconds:
            return None
        held = Membership.objects.filter(server__in=dead).select_related("member__user")[:REAPED]
        leaves = [
            Leave(
                membership.member.app_id,
                membership.member.channel,
                membership.socket_id,
                membership.member.user.user_id,
            )
            for membership in held
        ]
        # All in one go: member rows must be locked in key order, whosever they were.
        changes = _move(dead[0], leaves)
        channels = occupancy.reap(dead, REAPED)
        _write_facts(changes, dict.fromkeys(channels, False), [])
        if max(len(leaves), len(channels)) < REAPED:
            Server.objects.filter(pk__in=dead).delete()
    return changes


def changed_within(seconds: float, channels: Collection[str]) -> list[Change]:
    """Members of *channels* whose presence changed in the last *seconds*, as they are now."""
    return [change_of(member) for member in _recent(seconds).filter(channel__in=channels)]


def roster(app_id: str, channel: str) -> Roster:
    """Who is in a presence channel."""
    return rosters([(app_id, channel)])[app_id, channel]


def rosters(keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], Roster]:
    """Who is in each of several presence channels, by app id and name."""
    members: dict[tuple[str, str], list[messages.Member]] = {key: [] for key in keys}
    views = {key: View() for key in keys}
    for app_id in {app_id for app_id, _ in keys}:
        channels = [channel for app, channel in keys if app == app_id]
        there = Member.objects.filter(app_id=app_id, channel__in=channels)
        present = there.present().order_by("changed_at", "pk")
        columns = ("channel", "user__user_id", "user_info", "version")
        for channel, user_id, user_info, version in present.values_list(*columns):
            members[app_id, channel].append(messages.Member(user_id, user_info))
            views[app_id, channel].present[user_id] = version
        just_gone = _recent(OVERTAKING_SECONDS).filter(
            app_id=app_id, channel__in=channels, present=False
        )
        for channel, user_id, version in just_gone.values_list(
            "channel", "user__user_id", "version"
        ):
            views[app_id, channel].departed[user_id] = version
    return {
        key: Roster(messages.encode_subscription_succeeded(key[1], members[key]), views[key])
        for key in keys
    }


# ---- inside the transaction -------------------------------------------------------------


def _banned(joins: Sequence[Join]) -> set[Join]:
    keys = {RealtimeUser.key_of(join.app_id, join.member.user_id): join for join in joins}
    if not keys:
        return set()
    found = set(
        RealtimeUser.objects.banned().filter(pk__in=list(keys)).values_list("pk", flat=True)
    )
    return {
        join for join in joins if RealtimeUser.key_of(join.app_id, join.member.user_id) in found
    }


def _crowded(joins: Sequence[Join]) -> set[Join]:
    """The joins that would take a channel over its limit, counted in order."""
    limited = [join for join in joins if join.limit is not None]
    _lock_channels({(join.app_id, join.channel) for join in limited})
    inside: dict[tuple[str, str], set[str]] = {}
    crowded = set()
    for join in limited:
        key = (join.app_id, join.channel)
        if key not in inside:
            present = Member.objects.present().filter(app_id=key[0], channel=key[1])
            inside[key] = set(present.values_list("user__user_id", flat=True))
        users = inside[key]
        if join.member.user_id in users:
            continue
        if join.limit is not None and len(users) >= join.limit:
            crowded.add(join)
        else:
            users.add(join.member.user_id)
    return crowded


def _lock_channels(keys: set[tuple[str, str]]) -> None:
    """Let one process at a time fill a channel, so that none is filled beyond its limit.

    SQLite has one writer anyway.  On other databases than PostgreSQL processes that admit
    members at the same instant may pass the limit by a few.
    """
    if not keys or connection.vendor != "postgresql":
        return
    numbers = sorted(int.from_bytes(row_id("channel", *key).bytes[:8], signed=True) for key in keys)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(number)"
            " FROM (SELECT unnest(%s::bigint[]) AS number ORDER BY 1) AS numbers",
            [numbers],
        )


def _write_users(joins: Sequence[Join]) -> None:
    """Remember the users; what they show of themselves comes from the latest join."""
    now = timezone.now()
    latest = {RealtimeUser.key_of(join.app_id, join.member.user_id): join for join in joins}
    if not latest:
        return
    RealtimeUser.objects.bulk_create(
        [
            RealtimeUser(
                id=key,
                app_id=join.app_id,
                user_id=join.member.user_id,
                user_info=join.member.user_info,
                first_seen_at=now,
                last_seen_at=now,
            )
            for key, join in sorted(latest.items())
        ],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["user_info", "last_seen_at"],
    )


def _as_overridden(moves: Sequence[Join | Leave]) -> list[Join | Leave]:
    """*moves*, showing what was set through the server where they show the sign-in.

    The rows of the users are written, so locked: nobody sets anything meanwhile.
    """
    signed_in = {
        RealtimeUser.key_of(move.app_id, move.member.user_id)
        for move in moves
        if isinstance(move, Join) and move.from_sign_in
    }
    if not signed_in:
        return list(moves)
    rows = RealtimeUser.objects.filter(pk__in=signed_in, user_info_override__isnull=False)
    overrides = {
        (app_id, user_id): info
        for app_id, user_id, info in rows.values_list("app_id", "user_id", "user_info_override")
    }
    return [
        replace(move, member=replace(move.member, user_info=overrides[key]))
        if isinstance(move, Join)
        and move.from_sign_in
        and (key := (move.app_id, move.member.user_id)) in overrides
        else move
        for move in moves
    ]


def _recent(seconds: float) -> QuerySet[Member]:
    earliest = Now() - timedelta(seconds=seconds)
    return Member.objects.filter(changed_at__gt=earliest).select_related("user")


def _move(server_id: UUID, moves: Sequence[Join | Leave]) -> list[Change]:
    """Write memberships in and out; return who came and who went."""
    if not moves:
        return []
    last: dict[tuple[UUID, str], Join | Leave] = {}
    """The last word about each subscription: a join and its leave cancel each other."""
    for move in moves:
        key = (move.member_key, move.socket_id)
        last.pop(key, None)
        last[key] = move
    joins = {key: move for key, move in last.items() if isinstance(move, Join)}
    leaves = [key for key, move in last.items() if isinstance(move, Leave)]
    _insert_members(joins)
    keys = sorted({member_key for member_key, _ in last})
    members = {
        member.pk: member
        for member in lock(Member.objects.filter(pk__in=keys).select_related("user").order_by("pk"))
    }
    if leaves:
        Membership.objects.filter(pk__in=[Membership.key_of(*key) for key in leaves]).delete()
    Membership.objects.bulk_create(
        [
            Membership(
                id=Membership.key_of(*key),
                member_id=key[0],
                server_id=server_id,
                socket_id=key[1],
            )
            for key in joins
        ],
        ignore_conflicts=True,
    )
    return _settle(members, last)


def _insert_members(joins: dict[tuple[UUID, str], Join]) -> None:
    missing: dict[UUID, Member] = {}
    earliest = clock()
    for (member_key, _), join in joins.items():
        if member_key not in missing:
            missing[member_key] = Member(
                id=member_key,
                user_id=RealtimeUser.key_of(join.app_id, join.member.user_id),
                app_id=join.app_id,
                channel=join.channel,
                user_info=join.member.user_info,
                from_sign_in=join.from_sign_in,
                # Somebody may still show an earlier row, of somebody erased.
                shown_since=earliest,
            )
    Member.objects.bulk_create([missing[key] for key in sorted(missing)], ignore_conflicts=True)


def _settle(
    members: dict[UUID, Member], last: dict[tuple[UUID, str], Join | Leave]
) -> list[Change]:
    """Count the memberships of locked *members*; write and return whose presence changed."""
    counts = dict(
        Membership.objects.filter(member__in=list(members))
        .values_list("member_id")
        .annotate(total=Count("pk"))
    )
    earliest = clock()
    changed, renamed = [], []
    for (member_key, _), move in last.items():
        member = members.get(member_key)
        if member is None or member.present == (counts.get(member_key, 0) > 0):
            continue
        member.present = not member.present
        member.version = max(member.version + 1, earliest)
        changed.append(member)
        if not isinstance(move, Join):
            continue
        shown = (move.member.user_info, move.from_sign_in)
        if (member.user_info, member.from_sign_in) != shown:
            if member.user_info != move.member.user_info:
                member.shown_since = member.version
            member.user_info, member.from_sign_in = shown
            renamed.append(member)
    for present in (False, True):
        # One statement for all of them: with a value for each it would grow with the square.
        Member.objects.filter(
            pk__in=[item.pk for item in changed if item.present is present]
        ).update(present=present, version=Greatest(F("version") + 1, earliest), changed_at=Now())
    columns = ["user_info", "from_sign_in", "shown_since"]
    Member.objects.bulk_update(renamed, columns, batch_size=100)
    return [change_of(member) for member in changed]


def _write_facts(
    changes: Sequence[Change],
    moved: Mapping[occupancy.Channel, bool],
    told: list[Fact],
    server_id: UUID | None = None,
) -> None:
    """Write what came of the group, and what was told, if anybody wants to know."""
    told = facts.keep_wanted(told)
    misses = [fact for fact in told if fact.kind == "cache_miss"]
    found = [Fact(app_id=key[0], kind="channel_occupied", channel=key[1]) for key in moved]
    wanted = {(fact.app_id, fact.channel) for fact in facts.keep_wanted(found)}
    settled = occupancy.settle({key: moved[key] for key in wanted}, misses, server_id)
    others = [fact for fact in told if fact.kind != "cache_miss"]
    facts.write(facts.keep_wanted(change.fact for change in changes) + settled + others)


def clock() -> int:
    """The least version of a change made now."""
    return int(timezone.now().timestamp() * 1_000_000)
