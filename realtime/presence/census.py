"""Questions about who is where, over all living processes.

Nothing is counted in memory: two processes can never count one user twice, and a process
that died counts no more once its lease ran out, reaped or not.
"""

from collections.abc import Iterable

from django.db.models import Count, Sum
from django.db.models.functions import Now

from realtime.models import Member, Membership, Occupancy, RealtimeUser


def occupied(app_id: str, prefix: str = "") -> dict[str, int]:
    """Subscriptions by channel, of channels that have any."""
    rows = (
        Occupancy.objects.live()
        .filter(app_id=app_id, channel__startswith=prefix)
        .values_list("channel")
        .annotate(total=Sum("subscriptions"))
        .order_by("channel")
    )
    # SQLite compares LIKE without case; Pusher's names have case.
    return {channel: total for channel, total in rows if channel.startswith(prefix)}


def subscriptions(app_id: str, channels: Iterable[str]) -> dict[str, int]:
    """Subscriptions of *channels*; those without any are missing."""
    rows = (
        Occupancy.objects.live()
        .filter(app_id=app_id, channel__in=list(channels))
        .values_list("channel")
        .annotate(total=Sum("subscriptions"))
    )
    return dict(rows)


def user_counts(app_id: str, channels: Iterable[str]) -> dict[str, int]:
    """Distinct members of *channels*; those without any are missing."""
    rows = (
        Member.objects.alive()
        .filter(app_id=app_id, channel__in=list(channels))
        .values_list("channel")
        .annotate(total=Count("pk"))
    )
    return dict(rows)


def user_ids(app_id: str, channel: str) -> list[str]:
    """The members of one presence channel."""
    return list(
        Member.objects.alive()
        .filter(app_id=app_id, channel=channel)
        .order_by("changed_at", "pk")
        .values_list("user__user_id", flat=True)
    )


def connection_count(app_id: str, user_id: str) -> int:
    """Connections of a user anywhere: signed in, or in a presence channel."""
    return (
        Membership.objects.filter(
            member__user=RealtimeUser.key_of(app_id, user_id),
            server__expires_at__gt=Now(),
        )
        .values("socket_id")
        .distinct()
        .count()
    )
