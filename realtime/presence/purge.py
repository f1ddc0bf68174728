"""Rows about people who have not been here for long, and about channels empty for long.

Absent members and unknown users are kept, so that staff find who was here and versions go
on from where they were.  Nothing needs them for ever.

Rows are locked in the order in which ``store`` locks them, users before members: who joins
while we delete waits, and then makes the rows anew.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import Exists, OuterRef, QuerySet

from realtime.database import lock
from realtime.models import ChannelState, Member, Membership, RealtimeUser, RealtimeUserQuerySet
from realtime.presence.occupancy import vacant_since

BATCH_ROWS: Final = 500
"""Ours: rows deleted in one transaction, so that nobody waits long for the locks."""


@dataclass(frozen=True, slots=True)
class Purged:
    """How many rows were deleted, or would be."""

    members: int
    users: int
    channels: int = 0


def count(before: datetime) -> Purged:
    """What ``delete`` would delete now."""
    return Purged(
        _members(before).count(),
        _users(before, _members(before)).count(),
        vacant_since(before).count(),
    )


def delete(before: datetime) -> Purged:
    """Delete who was last seen before *before*, in batches; the banned stay."""
    members = users = channels = 0
    while found := _delete_members(before):
        members += found
    while found := _delete_users(before):
        users += found
    while found := _delete_channels(before):
        channels += found
    return Purged(members, users, channels)


def _members(before: datetime) -> QuerySet[Member]:
    """Absent members; the second condition is for a clock that was ahead at the time.

    A row made anew starts from the clock, so its version must be past that of the old one.
    """
    version = int(before.timestamp() * 1_000_000)
    held = Membership.objects.filter(member=OuterRef("pk"))
    return Member.objects.filter(
        ~Exists(held), present=False, changed_at__lt=before, version__lt=version
    )


def _users(before: datetime, doomed: QuerySet[Member]) -> RealtimeUserQuerySet:
    """Users of whom nothing else is known; *doomed* members do not count.

    What the site set through the server holds until the site takes it back.
    """
    staying = Member.objects.filter(user=OuterRef("pk")).exclude(pk__in=doomed.values("pk"))
    unseen = RealtimeUser.objects.filter(
        ~Exists(staying), last_seen_at__lt=before, user_info_override=None
    )
    return unseen.exclude(pk__in=RealtimeUser.objects.banned().values("pk"))


def _delete_members(before: datetime) -> int:
    with transaction.atomic():
        found = dict(_members(before).values_list("pk", "user")[:BATCH_ROWS])
        # Whoever joins writes the row of the user first.
        list(lock(RealtimeUser.objects.filter(pk__in=set(found.values())).order_by("pk")))
        absent = lock(_members(before).filter(pk__in=list(found)).order_by("pk"))
        Member.objects.filter(pk__in=[member.pk for member in absent]).delete()
    return len(found)


def _delete_users(before: datetime) -> int:
    with transaction.atomic():
        unseen = _users(before, Member.objects.none())
        found = list(unseen.values_list("pk", flat=True)[:BATCH_ROWS])
        known = lock(unseen.filter(pk__in=found).order_by("pk"))
        RealtimeUser.objects.filter(pk__in=[user.pk for user in known]).delete()
    return len(found)


def _delete_channels(before: datetime) -> int:
    with transaction.atomic():
        found = list(vacant_since(before).values_list("pk", flat=True)[:BATCH_ROWS])
        vacant = lock(vacant_since(before).filter(pk__in=found).order_by("pk"))
        ChannelState.objects.filter(pk__in=[state.pk for state in vacant]).delete()
    return len(found)
