"""Who works on a queue: one process at a time, for some seconds unless it says more."""

from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db.models import Q
from django.db.models.functions import Now

from realtime.models import WebhookQueue

CLAIM_SECONDS: Final = 15.0
"""Ours: how long a process that died holds a queue up; an attempt takes five at most."""


def take(queue: UUID, token: UUID) -> bool:
    """Claim a queue unless somebody else has; whether that was possible."""
    WebhookQueue.objects.bulk_create([WebhookQueue(id=queue)], ignore_conflicts=True)
    return bool(WebhookQueue.objects.filter(~held(), pk=queue).update(**_claimed_by(token)))


def renew(queue: UUID, token: UUID) -> bool:
    """Hold on to a queue; ``False`` if somebody else has taken it meanwhile."""
    ours = WebhookQueue.objects.filter(pk=queue, claimed_by=token)
    return bool(ours.update(**_claimed_by(token)))


def release(queue: UUID, token: UUID) -> None:
    """Let others have a queue."""
    ours = WebhookQueue.objects.filter(pk=queue, claimed_by=token)
    ours.update(claimed_by=None, claimed_until=None)


def held(prefix: str = "") -> Q:
    """Whether somebody's claim on a queue holds.

    One from further ahead was made before the clock of the database was put back.
    """
    latest = Now() + timedelta(seconds=CLAIM_SECONDS)
    until = f"{prefix}claimed_until__"
    # The first condition keeps NOT from meaning NULL for queues that nobody ever had.
    return Q(
        **{f"{until}isnull": False, f"{until}gt": Now(), f"{until}lte": latest},
    )


def _claimed_by(token: UUID) -> dict[str, object]:
    return {"claimed_by": token, "claimed_until": Now() + timedelta(seconds=CLAIM_SECONDS)}
