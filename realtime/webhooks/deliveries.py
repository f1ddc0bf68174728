"""From facts to requests: what is due becomes rows, which are sent in order and kept.

Requests of one endpoint are made one after the other.  One that failed is repeated with the
same bytes, ever more slowly; meanwhile those wait that share a channel with it, and no others.
Only an endpoint that does not answer at all is left alone as a whole, for some seconds.
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
from django.db.models.expressions import Combinable
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

LONGEST_PAUSE_SECONDS: Final = 60.0
"""Ours: the longest pause between two attempts."""

LAST_ATTEMPT_SECONDS: Final = 5.0
"""Ours: what the last attempt needs before the end."""

FAILED_KEPT_SECONDS: Final = 30 * 86_400
"""Ours: how long what was given up stays, for people."""

REMOVED: Final = "endpoint was removed"
"""Ours: the error of requests that wait for an endpoint that is disabled or not there any more."""

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
    unreachable: bool = False
    """Whether it timed out or could not connect: the whole endpoint is down, for all channels."""

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
    collector = WebhookQueue(id=WebhookQueue.COLLECTOR)
    WebhookQueue.objects.bulk_create([collector], ignore_conflicts=True)
    with transaction.atomic():
        # Two that collect could let requests overtake each other.  It is a write, too: SQLite
        # takes its one write lock here.
        if not claims.unlocked(WebhookQueue.COLLECTOR).update(claimed_until=None):
            return 0
        # Those that are locked are just being taken back.
        rows = list(lock(due.order_by("due_at", "pk"), skip_locked=True)[:FACTS])
        # Whoever wrote them may know of an endpoint that this process has not heard of yet.
        applications.refresh()
        heard = {kind for kind, signal in signals.BY_KIND.items() if signal.has_listeners()}
        kept = []
        by_app: dict[str, list[Fact]] = defaultdict(list)
        for row in rows:
            if (fact := facts.read(row)) is not None:
                by_app[row.app_id].append(fact)
                if row.kind in heard:
                    kept.append(row.pk)
        made = [made for app_id, found in by_app.items() for made in _requests(app_id, found)]
        queues = sorted({delivery.queue_id for delivery in made})
        WebhookQueue.objects.bulk_create(
            [WebhookQueue(id=queue) for queue in queues], ignore_conflicts=True
        )
        WebhookDelivery.objects.bulk_create(made)
        PendingFact.objects.filter(pk__in=kept).update(collected=True)
        taken = PendingFact.objects.filter(pk__in=[row.pk for row in rows])
        taken.exclude(pk__in=kept).delete()
    return len(rows)


def ready() -> list[UUID]:
    """Queues with requests whose time has come, which nobody works on and which are not paused.

    Those of endpoints that answer come first, then the oldest.
    """
    waiting = WebhookDelivery.objects.filter(
        ~claims.held("queue__"),
        ~claims.paused("queue__"),
        status=WebhookDelivery.Status.WAITING,
        next_attempt_at__lte=Now(),
    )
    by_queue = waiting.values("queue").annotate(first=Min("pk"))
    by_queue = by_queue.order_by("queue__failures", "first")
    return list(by_queue.values_list("queue", flat=True)[:QUEUES])


def next_attempt(queue: UUID, token: UUID) -> Attempt | None:
    """What is to be sent next by the holder of a claim; ``None`` if nothing, or it lost it."""
    with transaction.atomic():
        if not claims.renew(queue, token):
            return None
        waiting = WebhookDelivery.objects.filter(queue=queue, status=WebhookDelivery.Status.WAITING)
        _fail(waiting.filter(expires_at__lte=Now()))
        found = _first_free(waiting)
        if found is None:
            return None
        delivery = WebhookDelivery.objects.get(pk=found)
        app = applications.by_id(delivery.app_id)
        if app is not None and not _is_listed(delivery):
            applications.refresh()  # whoever wrote it may have heard of a new endpoint first
            if not _is_listed(delivery):
                _fail(waiting, error=REMOVED)
                return None
    signer = app.tokens[0] if app is not None else None
    return Attempt(delivery.pk, delivery.url, delivery.body.encode(), signer)


def settle(pk: int, answer: Answer) -> None:
    """Write down how an attempt went, and when the next one is due if there is one."""
    queue = WebhookQueue.objects.filter(deliveries=pk)
    with transaction.atomic():
        # First a write: SQLite takes its one write lock here, and waits for it.
        if answer.unreachable:
            claims.pause(queue)
        else:
            claims.resume(queue)
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
    Those whose endpoint was removed are left out.
    """
    applications.refresh()
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
        if _is_listed(delivery)
    ]
    WebhookDelivery.objects.bulk_create(again)
    return len(again)


def give_up() -> int:
    """Fail requests that nobody could send in time; a portion, and how many that were."""
    late = WebhookDelivery.objects.filter(
        status=WebhookDelivery.Status.WAITING, expires_at__lte=Now()
    )
    with transaction.atomic():
        free = lock(late.order_by("pk"), skip_locked=True).values("pk")[:FACTS]
        return _fail(WebhookDelivery.objects.filter(pk__in=free))


def purge() -> int:
    """Delete what was sent, given up, or never heard, long enough ago; a portion, and how many.

    Facts that no request was made of yet stay, however old: processes may have been away.
    """
    before = Now() - timedelta(seconds=conf.get().webhook_retention_seconds)
    given_up = _failed(Now() - timedelta(seconds=FAILED_KEPT_SECONDS))
    sent = WebhookDelivery.objects.filter(
        status=WebhookDelivery.Status.SENT, finished_at__lt=before
    )
    unheard = PendingFact.objects.filter(collected=True, due_at__lt=before)
    deleted = 0
    for rows in (sent, given_up, unheard):
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


def _failed(before: datetime | Combinable) -> QuerySet[WebhookDelivery]:
    return WebhookDelivery.objects.filter(
        status=WebhookDelivery.Status.FAILED, finished_at__lt=before
    )


def _fail(waiting: QuerySet[WebhookDelivery], **changes: str) -> int:
    """Give requests up; return how many."""
    lost = waiting.update(status=WebhookDelivery.Status.FAILED, finished_at=Now(), **changes)
    metrics.count("webhook_attempts", lost, result="failed")
    return lost


def _is_listed(delivery: WebhookDelivery) -> bool:
    """Whether its endpoint is still there and enabled, as far as is known."""
    return any(each.url == delivery.url for each in applications.webhooks(delivery.app_id))


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
    """The first one that is due and shares no channel with one before it.

    If there is none, those that are due are put off until the first of the others: a look
    before that would find the same.
    """
    due = ExpressionWrapper(Q(next_attempt_at__lte=Now()), output_field=BooleanField())
    rows = waiting.annotate(due=due).order_by("pk")
    found = rows.values_list("pk", "channels", "next_attempt_at", "due")
    for most in (FEW, LOOKED_AT):
        held_back: set[str] = set()
        behind, times = [], []
        for pk, channels, time_of_it, is_due in found[:most]:
            if is_due and held_back.isdisjoint(channels):
                return int(pk)
            held_back.update(channels)
            if is_due:
                behind.append(pk)
            else:
                times.append(time_of_it)
    if behind:
        # What is further back than anybody looks waits with them.
        unseen = Q(pk__gt=pk) if len(behind) + len(times) == LOOKED_AT else Q()
        later = Q(pk__in=behind) | unseen
        waiting.filter(later, next_attempt_at__lte=Now()).update(next_attempt_at=min(times))
    return None


def _status_after(delivery: WebhookDelivery, answer: Answer, now: datetime) -> str:
    if answer.ok:
        return WebhookDelivery.Status.SENT
    left = (delivery.expires_at - now).total_seconds() - LAST_ATTEMPT_SECONDS
    if left <= 0:
        return WebhookDelivery.Status.FAILED
    pause = claims.pause_seconds(delivery.attempts, min(LONGEST_PAUSE_SECONDS, left))
    delivery.next_attempt_at = now + timedelta(seconds=pause)
    return WebhookDelivery.Status.WAITING


def _storable(text: str) -> str:
    """*text* without NUL, which PostgreSQL does not keep."""
    return text.replace("\0", "\ufffd")


def _of_now(body: str) -> str:
    return json.dumps({**json.loads(body), "time_ms": _now_ms()}, separators=(",", ":"))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
