"""What staff do to users, one function each; admin, API and site code call the same.

A ban is committed first and the connections are closed then; sign-in and subscription look
at the bans after the connection can be found, so nobody slips through between the two.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from channels.db import database_sync_to_async
from django.apps import apps
from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from realtime import applications, layer, loops
from realtime.conf import STORED_NAME_CHARS
from realtime.layer import PublishFailed
from realtime.models import RealtimeUser, RealtimeUserQuerySet
from realtime.presence import census
from realtime.protocol.errors import InvalidTrigger
from realtime.protocol.names import is_signin_user_id

logger = logging.getLogger(__name__)


def terminate_user_connections(user_id: str, *, app_id: str | None = None) -> None:
    """Close all connections signed in as *user_id*; pusher-js does not come back by itself.

    Raises:
        InvalidTrigger: *user_id* cannot sign in.
        PublishFailed: the channel layer did not take the request.
    """
    app = applications.default(app_id)
    if not is_signin_user_id(user_id, app.limits):
        raise InvalidTrigger("Invalid user id")
    loops.from_sync(partial(layer.publish_termination, app.id, user_id, members=False))


async def aterminate_user_connections(user_id: str, *, app_id: str | None = None) -> None:
    """``terminate_user_connections`` for coroutines."""
    app = await database_sync_to_async(applications.default)(app_id)
    if not is_signin_user_id(user_id, app.limits):
        raise InvalidTrigger("Invalid user id")
    await layer.publish_termination(app.id, user_id, members=False)


def kick(users: Iterable[RealtimeUser], *, by: AbstractBaseUser, reason: str = "") -> int:
    """Close every connection of *users* now, signed in or only shown as present.

    Returns:
        How many connections they had.

    Raises:
        PublishFailed: the channel layer did not take the request.
    """
    kicked = list(users)
    closed = sum(census.connection_count(user.app_id, user.user_id) for user in kicked)
    close_connections(kicked)
    log(kicked, by, _("Kicked."), reason)
    return closed


def ban(
    users: Iterable[RealtimeUser],
    *,
    by: AbstractBaseUser,
    reason: str = "",
    until: datetime | None = None,
) -> int:
    """Kick *users* and keep them out, until a time or for good.

    Returns:
        How many connections they had.

    Raises:
        ValueError: *until* is past.
        PublishFailed: the channel layer did not take the request; the ban holds.
    """
    if until is not None and until <= timezone.now():
        raise ValueError("a ban must end in the future")
    banned = list(users)
    closed = sum(census.connection_count(user.app_id, user.user_id) for user in banned)
    with transaction.atomic():
        # Somebody not seen for long may have been purged since the caller read the row.
        RealtimeUser.objects.bulk_create(
            sorted(banned, key=lambda user: user.pk), ignore_conflicts=True
        )
        _locked(banned).update(
            banned_at=timezone.now(), banned_until=until, ban_reason=reason, banned_by=by.pk
        )
        text = _("Banned until %s.") % until.isoformat() if until else _("Banned for good.")
        log(banned, by, text, reason)
    close_connections(banned)
    return closed


def lift(users: Iterable[RealtimeUser], *, by: AbstractBaseUser, reason: str = "") -> int:
    """End the bans of *users*; return how many were banned."""
    with transaction.atomic():
        rows = _locked(list(users))
        lifted = list(rows.banned())
        rows.update(banned_at=None, banned_until=None, ban_reason="", banned_by=None)
        log(lifted, by, _("Ban lifted."), reason)
    return len(lifted)


def known_user(user_id: str, *, app_id: str | None = None) -> RealtimeUser:
    """The row of a user, made where there is none: staff may ban whom they never saw.

    Raises:
        InvalidTrigger: nobody can have that id.
    """
    app = applications.default(app_id)
    if not user_id or len(user_id) > STORED_NAME_CHARS or "\0" in user_id:
        raise InvalidTrigger("Invalid user id")
    return RealtimeUser.objects.get_or_create(app_id=app.id, user_id=user_id)[0]


def _locked(users: Sequence[RealtimeUser]) -> RealtimeUserQuerySet:
    """The rows of *users*, locked in the order in which presence locks them."""
    rows = RealtimeUser.objects.filter(pk__in=[user.pk for user in users])
    if connection.features.has_select_for_update:
        list(rows.order_by("pk").select_for_update().values_list("pk"))
    return rows


def close_connections(users: Sequence[RealtimeUser]) -> None:
    """Close the connections of *users* once the current transaction has committed.

    Raises:
        PublishFailed: the channel layer did not take the request.  Within a transaction
            this is logged instead.
    """
    for user in users:
        close = partial(layer.publish_termination, user.app_id, user.user_id, members=True)
        if connection.in_atomic_block:
            transaction.on_commit(partial(_close_or_log, close), robust=True)
        else:
            loops.from_sync(close)


def _close_or_log(close: Callable[[], Awaitable[None]]) -> None:
    try:
        loops.from_sync(close)
    except PublishFailed as error:
        logger.error("the connections of a user may still be open: %s", error)


def log(users: Sequence[RealtimeUser], by: AbstractBaseUser, text: str, reason: str = "") -> None:
    """Write an entry per user to Django's admin log, where the site has it."""
    if not users or not apps.is_installed("django.contrib.admin"):
        return
    from django.contrib.admin.models import CHANGE, LogEntry

    message: Any = f"{text} {reason}".strip()
    LogEntry.objects.log_actions(
        user_id=by.pk, queryset=users, action_flag=CHANGE, change_message=message
    )
