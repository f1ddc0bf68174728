"""What users show of themselves, read and changed by the site.

Pusher has no such call: there the data of a user live in the connection that signed in.
Here they are kept in the row of the user.  What is set through the server holds in place of
what later sign-ins say, until it is deleted; where the authorization of a channel gives data
of its own, that goes first in that channel.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from channels.db import database_sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, transaction

from realtime import applications, layer, loops, queries
from realtime.layer import PublishFailed
from realtime.models import Member, RealtimeUser
from realtime.presence import shown
from realtime.presence.announcer import envelope_of
from realtime.presence.changes import Change
from realtime.protocol.app import App
from realtime.protocol.errors import DataTooLarge, InvalidTrigger, RealtimeError

logger = logging.getLogger(__name__)

T = TypeVar("T")


class UnknownUser(RealtimeError, LookupError):
    """Nobody with that id has signed in, joined a presence channel or been banned."""


def user_data(user_id: str, *, app_id: str | None = None) -> dict[str, Any] | None:
    """What is kept about a user, or ``None`` where nobody knows that id.

    Returns:
        ``id``, ``user_info`` (a dictionary or ``None``), ``online``, ``first_seen_at``,
        ``last_seen_at``, ``banned``, and ``channels``, the presence channels the user is in.
    """
    app = applications.default(app_id)
    queries.settle()
    return _described(app, user_id)


def update_user_data(
    user_id: str, user_info: Mapping[str, Any], *, app_id: str | None = None
) -> dict[str, Any]:
    """Show *user_info* as what the user says at sign-in, now and from now on.

    Returns:
        what ``user_data`` does.

    Raises:
        UnknownUser: nobody knows that id.
        InvalidTrigger: *user_info* is no mapping, or cannot be written as JSON.
        DataTooLarge: it is larger than the app allows.
    """
    app = applications.default(app_id)
    text = encode_user_info(app, user_info)
    queries.settle()
    announce(_known(shown.override(app.id, user_id, text)))
    return _known(_described(app, user_id))


def delete_user_data(user_id: str, *, app_id: str | None = None) -> None:
    """Keep nothing of what a user shows; the next sign-in counts again.  A ban stays.

    Raises:
        UnknownUser: nobody knows that id.
    """
    app = applications.default(app_id)
    queries.settle()
    announce(_known(shown.forget(app.id, user_id)))


async def auser_data(user_id: str, *, app_id: str | None = None) -> dict[str, Any] | None:
    """``user_data`` for coroutines."""
    return await database_sync_to_async(user_data)(user_id, app_id=app_id)


async def aupdate_user_data(
    user_id: str, user_info: Mapping[str, Any], *, app_id: str | None = None
) -> dict[str, Any]:
    """``update_user_data`` for coroutines."""
    return await database_sync_to_async(update_user_data)(user_id, user_info, app_id=app_id)


async def adelete_user_data(user_id: str, *, app_id: str | None = None) -> None:
    """``delete_user_data`` for coroutines."""
    await database_sync_to_async(delete_user_data)(user_id, app_id=app_id)


def encode_user_info(app: App, user_info: object) -> str:
    """The JSON text of *user_info*, within the limits of *app*.

    Raises:
        InvalidTrigger: it is no mapping, or cannot be written as JSON.
        DataTooLarge: it is larger than the app allows.
    """
    if not isinstance(user_info, Mapping):
        raise InvalidTrigger("user_info must be an object")
    try:
        text = json.dumps(
            dict(user_info), cls=DjangoJSONEncoder, separators=(",", ":"), allow_nan=False
        )
    except (TypeError, ValueError, RecursionError):
        raise InvalidTrigger("user_info cannot be written as JSON") from None
    limit = app.limits.presence_user_info_bytes
    # Kept as ASCII, which half of a surrogate pair survives, but not measured so.
    plain = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    if len(plain.encode("utf-8", "surrogatepass")) > limit:
        raise DataTooLarge(f"user_info is larger than {limit} bytes")
    return text


def announce(changes: Sequence[Change]) -> None:
    """Tell every process of *changes* once the current transaction has committed.

    What the layer does not take is logged: the processes look the rows up.
    """
    # Of a sign-in it is no news that it shows something else, only that it is over.
    news = [item for item in changes if item.channel != Member.ONLINE or not item.present]
    envelopes = [envelope_of(item) for item in news]
    if not envelopes:
        return
    publish = partial(_publish, envelopes)
    if connection.in_atomic_block:
        transaction.on_commit(publish, robust=True)
    else:
        publish()


def _known(found: T | None) -> T:
    if found is None:
        raise UnknownUser("No such user")
    return found


def _described(app: App, user_id: str) -> dict[str, Any] | None:
    user = RealtimeUser.objects.filter(pk=RealtimeUser.key_of(app.id, user_id)).first()
    if user is None:
        return None
    channels = Member.objects.alive().filter(user=user).values_list("channel", flat=True)
    return {
        "id": user.user_id,
        "user_info": user.info,
        "online": bool(channels),
        "first_seen_at": user.first_seen_at,
        "last_seen_at": user.last_seen_at,
        "banned": user.banned,
        "channels": sorted(set(channels) - {Member.ONLINE}),
    }


def _publish(envelopes: Sequence[layer.Envelope]) -> None:
    try:
        loops.from_sync(partial(layer.publish, envelopes))
    except PublishFailed as error:
        logger.warning("presence is not announced, others look it up: %s", error)
