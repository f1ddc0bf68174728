"""What happened, written in the transaction that caused it, if anybody wants to know.

A departure is due a few seconds late.  An arrival within that time takes it back and is not
told either, so a page that is loaded again is no news.

Departures and arrivals of one subject are written under the lock of its row, so they
alternate.  Whoever takes facts away skips those that are locked here.
"""

import json
import logging
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from django.db.models.functions import Now

from realtime import applications, metrics, signals
from realtime.database import lock
from realtime.logs import OncePerSecond
from realtime.models import PendingFact
from realtime.protocol.app import App, Webhook
from realtime.protocol.facts import ARRIVALS, DEPARTURES, DETAILS, KINDS, Fact

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

DEPARTURE_SECONDS: Final = 3
"""Pusher docs, "Webhooks": how long a departure may be taken back."""

CACHE_MISS_SECONDS: Final = 10
"""Ours, the documentation gives no number: how often a channel may miss its cached event."""


def wanted(app: App, kind: str, channel: str) -> bool:
    """Whether anybody wants such a fact, as far as is known without asking the database."""
    return _is_wanted(applications.known_webhooks(app), kind, channel)


def keep_wanted(facts: Iterable[Fact]) -> list[Fact]:
    """Those of *facts* that somebody wants to know; may read the rows of the endpoints."""
    endpoints: dict[str, tuple[Webhook, ...]] = {}
    kept = []
    for fact in facts:
        if fact.app_id not in endpoints:
            endpoints[fact.app_id] = applications.webhooks(fact.app_id)
        if _is_wanted(endpoints[fact.app_id], fact.kind, fact.channel):
            kept.append(fact)
    return kept


def write(facts: Sequence[Fact]) -> None:
    """Write *facts* that somebody wants into the current transaction.

    The rows that *facts* were decided by must be locked in it.
    """
    if not facts:
        return
    returned = _take_back(facts)
    in_a_while = Now() + timedelta(seconds=DEPARTURE_SECONDS)
    PendingFact.objects.bulk_create(
        [
            PendingFact(
                app_id=fact.app_id,
                kind=fact.kind,
                channel=fact.channel,
                subject=_subject(fact),
                details=json.dumps(fact.details),
                due_at=in_a_while if fact.kind in DEPARTURES else Now(),
            )
            for fact in facts
            if (fact.kind, _subject(fact)) not in returned
        ]
    )


def read(row: PendingFact) -> Fact | None:
    """What is in a row; ``None``, counted as dropped, if nothing can be made of it.

    A newer version may have written it: members that are not known here are left out.
    """
    try:
        found = json.loads(row.details)
        if row.kind not in KINDS or not isinstance(found, dict):
            raise ValueError("neither known nor readable")
    except ValueError:
        logger.error("a fact cannot be read and is dropped: row %s, kind %r", row.pk, row.kind)
        metrics.count("facts_dropped")
        return None
    details = {name: found[name] for name in DETAILS if name in found}
    return Fact(app_id=row.app_id, kind=row.kind, channel=row.channel, **details)


def _is_wanted(endpoints: Iterable[Webhook], kind: str, channel: str) -> bool:
    if channel.startswith("#"):
        return False
    # One of a pair is written for the sake of the other, too: it may be what is taken back.
    pair = {kind, ARRIVALS.get(kind, kind), DEPARTURES.get(kind, kind)}
    return any(
        signals.BY_KIND[each].has_listeners()
        or any(endpoint.wants(each, channel) for endpoint in endpoints)
        for each in pair
    )


def _take_back(facts: Iterable[Fact]) -> set[tuple[str, UUID]]:
    """Delete the departures that *facts* take back; return the arrivals that are thereby none."""
    arrivals = {
        (ARRIVALS[fact.kind], _subject(fact)): fact for fact in facts if fact.kind in ARRIVALS
    }
    if not arrivals:
        return set()
    there = PendingFact.objects.filter(
        collected=False, kind__in=DEPARTURES, subject__in={subject for _, subject in arrivals}
    )
    found = [row for row in lock(there.order_by("pk")) if (row.kind, row.subject) in arrivals]
    if found:
        PendingFact.objects.filter(pk__in=[row.pk for row in found]).delete()
    return {(DEPARTURES[row.kind], row.subject) for row in found}


def _subject(fact: Fact) -> UUID:
    return PendingFact.subject_of(fact.app_id, fact.channel, fact.user_id or "")
