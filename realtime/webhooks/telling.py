"""Facts on their way to the receivers of Django signals.

One process at a time sends, in order.  A fact is deleted once its receivers have returned, so
they hear of it once more if the process dies meanwhile.
"""

import time
from typing import Final
from uuid import UUID

from realtime import signals
from realtime.models import PendingFact, WebhookQueue
from realtime.protocol.facts import Fact
from realtime.webhooks import claims, facts

FACTS: Final = 20
"""Ours: facts told between two looks at whether somebody else has taken over."""


def has_news() -> bool:
    """Whether there are facts that receivers have not heard of."""
    return PendingFact.objects.filter(collected=True).exists()


def tell_some(token: UUID) -> int:
    """Send signals for the next facts; return how many, which is 0 without the claim *token*.

    What a receiver raises is logged by Django, with its name.
    """
    if not claims.renew(WebhookQueue.SIGNALS, token):
        return 0
    until = time.monotonic() + claims.CLAIM_SECONDS
    told = 0
    for row in PendingFact.objects.filter(collected=True).order_by("due_at", "pk")[:FACTS]:
        if time.monotonic() > until:
            break  # others may send by now
        if (fact := facts.read(row)) is not None:
            _tell(fact)
        PendingFact.objects.filter(pk=row.pk).delete()
        told += 1
    return told


def _tell(fact: Fact) -> None:
    named = {} if fact.kind in ("user_online", "user_offline") else {"channel": fact.channel}
    arguments = {"app_id": fact.app_id, **named, **fact.details}
    if fact.kind == "client_event":
        arguments.setdefault("user_id", None)
    signals.BY_KIND[fact.kind].send_robust(sender=None, **arguments)
