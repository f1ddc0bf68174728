"""Everything that is kept about one user: found, exported, erased.

Found by what the columns are, so that a model that comes later is not forgotten: a user id
beside an app id, a key of a row that belongs to the user, or the channel of the user.  Facts and
requests of webhooks name the user inside a text; ``webhooks.mentions`` finds those.  What events
say about people in other channels is the site's own business.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from channels.db import database_sync_to_async
from django.apps import apps
from django.db import models, transaction
from django.db.models import F, Model, Q, QuerySet
from django.db.models.functions import Greatest, Now

from realtime import applications, moderation, profiles, queries
from realtime.database import lock
from realtime.models import (
    Member,
    OutboxChannel,
    PendingFact,
    RealtimeUser,
    RealtimeUserQuerySet,
    WebhookDelivery,
)
from realtime.presence.changes import Change, change_of
from realtime.presence.store import clock
from realtime.protocol.names import user_channel
from realtime.webhooks import mentions


@dataclass(frozen=True, slots=True)
class Erased:
    """What was kept about a user, as rows by model, and is no more."""

    rows: dict[str, int] = field(default_factory=dict)
    ban_kept: bool = False


def erase_user(user_id: str, *, app_id: str | None = None, keep_ban: bool = False) -> Erased:
    """Erase everything kept about a user, and close the user's connections.

    The user may come back, unless the site or a ban that is kept forbids it.

    Args:
        keep_ban: of a user who is banned, keep the id and the ban.

    Raises:
        PublishFailed: the channel layer did not take the request to close; the rows are gone.
    """
    app = applications.default(app_id)
    queries.settle()
    with transaction.atomic():
        erased, departures = _erase(app.id, user_id, keep_ban=keep_ban)
        profiles.announce(departures)
    moderation.close_connections([RealtimeUser(app_id=app.id, user_id=user_id)])
    return erased


async def aerase_user(user_id: str, *, app_id: str | None = None, keep_ban: bool = False) -> Erased:
    """``erase_user`` for coroutines."""
    return await database_sync_to_async(erase_user)(user_id, app_id=app_id, keep_ban=keep_ban)


def count(user_id: str, *, app_id: str | None = None) -> dict[str, int]:
    """How many rows of each model are about a user; models without any are missing."""
    rows = export(user_id, app_id=app_id)["rows"]
    return {name: len(found) for name, found in rows.items()}


def export(user_id: str, *, app_id: str | None = None) -> dict[str, Any]:
    """Every row that is about a user, by model: for the user to read, as JSON can carry it
    with Django's encoder.  Of requests of webhooks it has the events about this user."""
    app = applications.default(app_id)
    found = {rows.model.__name__: list(rows.values()) for rows in rows_about(app.id, user_id)}
    found[WebhookDelivery.__name__] = [
        {"id": pk, "events": events}
        for pk, events in mentions.requests_about(app.id, user_id).items()
    ]
    return {
        "app_id": app.id,
        "user_id": user_id,
        "rows": {name: rows for name, rows in found.items() if rows},
    }


def rows_about(app_id: str, user_id: str) -> Iterator[QuerySet[Any]]:
    """The rows that are about this user alone, model by model, the user's own row last."""
    for model in apps.get_app_config("realtime").get_models():
        found = about(model, app_id, user_id)
        if found is not None and model is not RealtimeUser:
            yield model._default_manager.filter(found)
    if apps.is_installed("django.contrib.admin"):
        yield _log_entries(app_id, user_id)
    yield RealtimeUser.objects.filter(pk=RealtimeUser.key_of(app_id, user_id))


def about(model: type[Model], app_id: str, user_id: str) -> Q | None:
    """Which rows of *model* are about a user; ``None`` for a model that is about nobody."""
    if model is OutboxChannel:
        return Q(pk=OutboxChannel.key_of(app_id, user_channel(user_id)))
    if model is PendingFact:
        return Q(pk__in=mentions.facts_about(app_id, user_id))
    names = {item.name: item for item in model._meta.concrete_fields}
    found = Q()
    if "app_id" in names and "user_id" in names:
        found |= Q(app_id=app_id, user_id=user_id)
    if "app_id" in names and "channel" in names:
        found |= Q(app_id=app_id, channel=user_channel(user_id))
    for item in names.values():
        path = _path_to_user(item)
        if path:
            found |= Q(**{path: RealtimeUser.key_of(app_id, user_id)})
    return found or None


def _path_to_user(column: "models.Field[Any, Any]") -> str | None:
    """The look-up from *column* to the row of a user, if it leads there."""
    target = column.related_model
    if not isinstance(target, type) or target._meta.app_label != "realtime":
        return None
    if target is RealtimeUser:
        return column.name
    for further in target._meta.concrete_fields:
        path = _path_to_user(further)
        if path:
            return f"{column.name}__{path}"
    return None


def _log_entries(app_id: str, user_id: str) -> QuerySet[Any]:
    """What Django's admin log says about the row of a user; it quotes the name."""
    from django.contrib.admin.models import LogEntry
    from django.contrib.contenttypes.models import ContentType

    return LogEntry.objects.filter(
        content_type=ContentType.objects.get_for_model(RealtimeUser),
        object_id=str(RealtimeUser.key_of(app_id, user_id)),
    )


def _erase(app_id: str, user_id: str, *, keep_ban: bool) -> tuple[Erased, list[Change]]:
    user = RealtimeUser.objects.filter(pk=RealtimeUser.key_of(app_id, user_id))
    # First a write, and the user before the members, as in the presence store.
    user.update(user_info=None, user_info_override=None)
    departures = _depart(user)
    ban_kept = keep_ban and user.banned().exists()
    totals: dict[str, int] = {}
    for rows in rows_about(app_id, user_id):
        if ban_kept and rows.model is RealtimeUser:
            rows.update(first_seen_at=F("banned_at"), last_seen_at=F("banned_at"))
            continue
        for label, deleted in rows.delete()[1].items():
            name = label.rpartition(".")[2]
            totals[name] = totals.get(name, 0) + deleted
    # After the facts, which may just have become requests.
    totals[WebhookDelivery.__name__] = mentions.take_out(app_id, user_id)
    return Erased({name: total for name, total in totals.items() if total}, ban_kept), departures


def _depart(user: RealtimeUserQuerySet) -> list[Change]:
    """Make the members absent that are about to be deleted."""
    present = lock(Member.objects.present().filter(user__in=user).order_by("pk"))
    members = Member.objects.filter(pk__in=[member.pk for member in present])
    members.update(present=False, version=Greatest(F("version") + 1, clock()), changed_at=Now())
    return [change_of(member) for member in members.select_related("user").order_by("pk")]
