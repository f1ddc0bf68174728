"""From facts to requests: what is due becomes rows, which are sent in order and kept.

Requests of one endpoint are made one after the other.  One that failed is repeated with the
same bytes, ever more slowly; meanwhile those wait that share a channel with it, and no others.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Min, Q, QuerySet
from django.db.models.functions import Now

from realtime import applications, conf, metrics, signals
from realtime.database import lock
from realtime.models import PendingFact, WebhookDelivery, WebhookQueue
from realtime.protocol.app import Token
from realtime.protocol.facts import Fact, encode_body
from realtime.webhooks import claims, facts

FACTS: Final = 500
"""Ours: facts collected, or rows deleted, in one transaction."""

EVENTS: Final = 20
"""Pusher support: events of one request."""

KEPT_SECONDS: Final = 300
"""Pusher docs, "Webhooks": how long a request is repeated; Python's library takes none older."""

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
"""Ours: pauses double from the first to the longest."""

LAST_ATTEMPT_SECONDS: Final = 5.0
"""Ours: what the last attempt needs before the end."""

LOOKED_AT: Final = 2_000
"""Ours: waiting requests of an endpoint among which the next one is looked for."""

FEW: Final = 20
"""Ours: the same where nothing has failed, which is nearly always."""

QUEUES: Final = 200
"""Ours: endpoints that one look finds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How an attempt went."""

    status: int | None = None
    """Of HTTP; ``None`` where there was no answer."""
    excerpt: str = ""
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the endpoint has taken it."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that is to be made now."""

    pk: int
    url: str
    body: bytes
    token: Token | None
    """Names the app and signs for it; ``None`` where there is no such app any more."""


def collect() -> int:
    """Make requests of facts that are due; return how many facts there were."""
    due = PendingFact.objects.filter(collected=False, due_at__lte=Now())
    if not due.exists():
        return 0
    with transaction.atomic():
        _be_the_only_one()
        # Those that are locked are just being taken back.
        rows = list(lock(due.order_by("due_at", "pk"), skip_locked=True)[:FACTS])
        # Whoever wrote them may know of an endpoint that this process has not heard of yet.
        applications.refresh()
        by_app: dict[str, list[Fact]] = defaultdict(list)
        for row in rows:
            by_app[row.app_id].append(facts.read(row))
        made = [made for app_id, found in by_app.items() for made in _requests(app_id, found)]
        queues = sorted({delivery.queue_id for delivery in made})
        WebhookQueue.objects.bulk_create(
            [WebhookQueue(id=queue) for queue in queues], ignore_conflicts=True
        )
        WebhookDelivery.objects.bulk_create(made)
        heard = {kind for kind, signal in signals.BY_KIND.items() if signal.has_listeners()}
        taken = PendingFact.objects.filter(pk__in=[row.pk for row in rows])
        taken.filter(kind__in=heard).update(collected=True)
        taken.exclude(kind__in=heard).delete()
    return len(rows)


def ready() -> list[UUID]:
    """Queues with requests whose time has come, which nobody works on; oldest first."""
    waiting = WebhookDelivery.objects.filter(
        ~claims.held("queue__"), status=WebhookDelivery.Status.WAITING, next_attempt_at__lte=Now()
    )
    by_queue = waiting.values("queue").annotate(first=Min("pk")).order_by("first")
    return list(by_queue.values_list("queue", flat=True)[:QUEUES])


def next_attempt(queue: UUID, token: UUID) -> Attempt | None:
    """What is to be sent next by the holder of a claim; ``None`` if nothing, or it lost it."""
    with transaction.atomic():
        if not claims.renew(queue, token):
            return None
        waiting = WebhookDelivery.objects.filter(queue=queue, status=WebhookDelivery.Status.WAITING)
        given_up = waiting.filter(expires_at__lte=Now())
        lost = given_up.update(status=WebhookDelivery.Status.FAILED, finished_at=Now())
        metrics.count("webhook_attempts", lost, result="failed")
        found = _first_free(waiting)
        if found is None:
            return None
        delivery = WebhookDelivery.objects.get(pk=found)
    app = applications.by_id(delivery.app_id)
    signer = app.tokens[0] if app is not None else None
    return Attempt(delivery.pk, delivery.url, delivery.body.encode(), signer)


def settle(pk: int, answer: Answer) -> None:
    """Write down how an attempt went, and when the next one is due if there is one."""
    with transaction.atomic():
        # First a write: SQLite takes its one write lock here, and waits for it.
        WebhookDelivery.objects.filter(pk=pk).update(
            response_status=answer.status,
            response_excerpt=_storable(answer.excerpt),
            error=_storable(answer.error)[:200],
        )
        # A row that staff deleted meanwhile is no error.
        for delivery in WebhookDelivery.objects.filter(pk=pk).annotate(now=Now()):
            delivery.attempts += 1
            delivery.status = _status_after(delivery, answer, delivery.now)
            if delivery.status != WebhookDelivery.Status.WAITING:
                delivery.finished_at = delivery.now
            delivery.save(update_fields=["attempts", "status", "next_attempt_at", "finished_at"])
            results = {"sent": "sent", "failed": "failed", "waiting": "retried"}
            metrics.count("webhook_attempts", result=results[delivery.status])


def send_again(chosen: Iterable[WebhookDelivery]) -> int:
    """Send what is in *chosen* as new requests; return how many.

    With the time of now: official libraries refuse a body that is older than five minutes.
    """
    again = [
        WebhookDelivery(
            queue_id=delivery.queue_id,
            app_id=delivery.app_id,
            url=delivery.url,
            body=_of_now(delivery.body),
            events=delivery.events,
            channels=delivery.channels,
            next_attempt_at=Now(),
            expires_at=Now() + timedelta(seconds=KEPT_SECONDS),
        )
        for delivery in chosen
    ]
    WebhookDelivery.objects.bulk_create(again)
    return len(again)


def purge() -> int:
    """Delete what was sent, or never told, long enough ago; a portion, and how many that were."""
    before = Now() - timedelta(seconds=conf.get().webhook_retention_seconds)
    sent = WebhookDelivery.objects.filter(
        status=WebhookDelivery.Status.SENT, finished_at__lt=before
    )
    untold = PendingFact.objects.filter(due_at__lt=before)
    deleted = 0
    for rows in (sent, untold):
        keys = list(rows.order_by("pk").values_list("pk", flat=True)[:FACTS])
        rows.filter(pk__in=keys).delete()
        deleted += len(keys)
    return deleted


def delete_failed(before: datetime) -> int:
    """Delete requests that were given up before *before*; return how many."""
    return _failed(before).delete()[0]


def count_failed(before: datetime) -> int:
    """What ``delete_failed`` would delete now."""
    return _failed(before).count()


def _failed(before: datetime) -> QuerySet[WebhookDelivery]:
    return WebhookDelivery.objects.filter(
        status=WebhookDelivery.Status.FAILED, finished_at__lt=before
    )


def _be_the_only_one() -> None:
    """Wait until no other process collects; without that, requests could overtake each other.

    It is a write, too: SQLite takes its one write lock here.
    """
    WebhookQueue.objects.bulk_create(
        [WebhookQueue(id=WebhookQueue.COLLECTOR)],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["claimed_until"],
    )


def _requests(app_id: str, found: Sequence[Fact]) -> Iterator[WebhookDelivery]:
    """The requests that tell *found*, per endpoint in order."""
    endpoints = defaultdict(list)
    for endpoint in applications.webhooks(app_id):
        endpoints[endpoint.url].append(endpoint)  # one URL is told once, however often listed
    app = applications.by_id(app_id)
    size = EVENTS if app is not None and app.webhook_batching else 1
    for url, entries in endpoints.items():
        told = [
            fact for fact in found if any(item.wants(fact.kind, fact.channel) for item in entries)
        ]
        for start in range(0, len(told), size):
            part = told[start : start + size]
            yield WebhookDelivery(
                queue_id=WebhookQueue.key_of(app_id, url),
                app_id=app_id,
                url=url,
                body=encode_body(_now_ms(), part),
                events=len(part),
                channels=sorted({fact.channel for fact in part}),
                next_attempt_at=Now(),
                expires_at=Now() + timedelta(seconds=KEPT_SECONDS),
            )


def _first_free(waiting: QuerySet[WebhookDelivery]) -> int | None:
    """The first one that is due and shares no channel with one before it."""
    due = ExpressionWrapper(Q(next_attempt_at__lte=Now()), output_field=BooleanField())
    rows = waiting.annotate(due=due).order_by("pk").values_list("pk", "channels", "due")
    for most in (FEW, LOOKED_AT):
        held_back: set[str] = set()
        for pk, channels, is_due in rows[:most]:
            if is_due and held_back.isdisjoint(channels):
                return int(pk)
            held_back.update(channels)
    return None


def _status_after(delivery: WebhookDelivery, answer: Answer, now: datetime) -> str:
    if answer.ok:
        return WebhookDelivery.Status.SENT
    left = (delivery.expires_at - now).total_seconds() - LAST_ATTEMPT_SECONDS
    if left <= 0:
        return WebhookDelivery.Status.FAILED
    pause = FIRST_PAUSE_SECONDS * 2 ** min(delivery.attempts - 1, 10)
    delivery.next_attempt_at = now + timedelta(seconds=min(pause, LONGEST_PAUSE_SECONDS, left))
    return WebhookDelivery.Status.WAITING


def _storable(text: str) -> str:
    """*text* without NUL, which PostgreSQL does not keep."""
    return text.replace("\0", "\ufffd")


def _of_now(body: str) -> str:
    return json.dumps({**json.loads(body), "time_ms": _now_ms()}, separators=(",", ":"))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
