"""Who works on a queue: one process at a time, for some seconds unless it says more.

Nobody works on a queue that is paused because its endpoint is down.
"""

from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from realtime.database import holds, lock
from realtime.models import WebhookQueue

CLAIM_SECONDS: Final = 15.0
"""Ours: how long a process that died holds a queue up; an attempt takes five at most."""

FIRST_PAUSE_SECONDS: Final = 1.0
"""Ours: how long is waited after the first failure; doubles with each one after it."""

LONGEST_PAUSE_SECONDS: Final = 30.0
"""Ours: how long an endpoint that is down is left alone at most."""


def take(queue: UUID, token: UUID) -> bool:
    """Claim a queue unless it is paused or somebody else's; whether that was possible."""
    WebhookQueue.objects.bulk_create([WebhookQueue(id=queue)], ignore_conflicts=True)
    with transaction.atomic():
        return bool(unlocked(queue).filter(~held(), ~paused()).update(**_claimed_by(token)))


def renew(queue: UUID, token: UUID) -> bool:
    """Hold on to a queue; ``False`` if somebody else has taken it meanwhile."""
    ours = WebhookQueue.objects.filter(pk=queue, claimed_by=token)
    return bool(ours.update(**_claimed_by(token)))


def release(queue: UUID, token: UUID) -> None:
    """Let others have a queue."""
    ours = WebhookQueue.objects.filter(pk=queue, claimed_by=token)
    ours.update(claimed_by=None, claimed_until=None)


def unlocked(queue: UUID) -> QuerySet[WebhookQueue]:
    """The row of a queue, locked by an update; none if somebody else's transaction has it.

    That process may be frozen, so nobody waits for it.  To be used in a transaction.
    """
    free = lock(WebhookQueue.objects.filter(pk=queue), skip_locked=True)
    return WebhookQueue.objects.filter(pk__in=free.values("pk"))


def pause(queues: QuerySet[WebhookQueue]) -> None:
    """Leave endpoints alone that are down; longer with each time in a row."""
    queues.update(failures=F("failures") + 1)
    for pk, failures in queues.values_list("pk", "failures"):
        until = Now() + timedelta(seconds=pause_seconds(failures, LONGEST_PAUSE_SECONDS))
        WebhookQueue.objects.filter(pk=pk).update(paused_until=until)


def pause_seconds(failures: int, longest: float) -> float:
    """How long to wait after so many failures in a row, *longest* at most."""
    return min(FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10), longest)


def resume(queues: QuerySet[WebhookQueue]) -> None:
    """Pause no more: the endpoints answer."""
    queues.filter(failures__gt=0).update(failures=0, paused_until=None)


def held(prefix: str = "") -> Q:
    """Whether somebody's claim on a queue holds."""
    return holds(f"{prefix}claimed_until", timedelta(seconds=CLAIM_SECONDS))


def paused(prefix: str = "") -> Q:
    """Whether a queue is paused."""
    return holds(f"{prefix}paused_until", timedelta(seconds=LONGEST_PAUSE_SECONDS))


def _claimed_by(token: UUID) -> dict[str, object]:
    return {"claimed_by": token, "claimed_until": Now() + timedelta(seconds=CLAIM_SECONDS)}
