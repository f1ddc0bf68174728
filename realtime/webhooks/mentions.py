"""What facts and requests say about one user: found, and taken out.

A request tells of several users, so only what is about this one goes.  Requests that wait are
sent without it; each is signed when it is sent.
"""

import json
from typing import Any

from realtime.database import lock
from realtime.models import PendingFact, WebhookDelivery


def facts_about(app_id: str, user_id: str) -> list[int]:
    """The primary keys of facts about a user."""
    # The database finds more than it should where it takes capitals and small letters as one.
    found = PendingFact.objects.filter(
        app_id=app_id, details__contains=f'"user_id": {json.dumps(user_id)}'
    )
    rows = found.values_list("pk", "details")
    return [pk for pk, details in rows.iterator() if _is_about(json.loads(details), user_id)]


def requests_about(app_id: str, user_id: str) -> dict[int, list[dict[str, Any]]]:
    """The events about a user in requests that wait or are kept, by primary key."""
    found = WebhookDelivery.objects.filter(
        app_id=app_id, body__contains=f'"user_id":{json.dumps(user_id)}'
    )
    about = {
        pk: [item for item in json.loads(body)["events"] if _is_about(item, user_id)]
        for pk, body in found.order_by("pk").values_list("pk", "body").iterator()
    }
    return {pk: events for pk, events in about.items() if events}


def take_out(app_id: str, user_id: str) -> int:
    """Take what is about a user out of the requests, in the current transaction.

    Returns:
        how many requests that were; those of which nothing is left are deleted.
    """
    keys = list(requests_about(app_id, user_id))
    changed = list(lock(WebhookDelivery.objects.filter(pk__in=keys).order_by("pk")))
    for delivery in changed:
        body = json.loads(delivery.body)
        body["events"] = left = [item for item in body["events"] if not _is_about(item, user_id)]
        if not left:
            delivery.delete()
            continue
        delivery.body = json.dumps(body, separators=(",", ":"))
        delivery.events = len(left)
        delivery.channels = sorted({event["channel"] for event in left})
        delivery.response_excerpt = ""  # endpoints may repeat what they were told
        delivery.save(update_fields=["body", "events", "channels", "response_excerpt"])
    return len(changed)


def _is_about(said: dict[str, Any], user_id: str) -> bool:
    return bool(said.get("user_id") == user_id)
