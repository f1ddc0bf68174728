"""What users show of themselves, changed by the site while they are there.

Concerns the presence channels that show what was said at sign-in.  Where the authorization of
a channel gave data of its own, that stays.

Rows are locked in the order in which ``store`` locks them, the user before the members.
"""

from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Greatest, Now

from realtime.database import lock
from realtime.models import Member, MemberQuerySet, RealtimeUser
from realtime.presence.changes import Change, change_of
from realtime.presence.store import clock


def override(app_id: str, user_id: str, user_info: str) -> list[Change] | None:
    """Show *user_info*, JSON text, from now on, whatever later sign-ins say.

    Returns:
        what others must hear; ``None`` where nobody knows the user.
    """
    with transaction.atomic():
        # First a write: SQLite takes its one write lock here, and waits for it.
        if not _users(app_id, user_id).update(user_info_override=user_info):
            return None
        return _show(_members(app_id, user_id).filter(from_sign_in=True), user_info)


def forget(app_id: str, user_id: str) -> list[Change] | None:
    """Keep nothing of what a user shows; the next sign-in counts again.

    Returns:
        what others must hear; ``None`` where nobody knows the user.
    """
    with transaction.atomic():
        if not _users(app_id, user_id).update(user_info=None, user_info_override=None):
            return None
        members = _members(app_id, user_id)
        changes = _show(members.filter(from_sign_in=True), None)
        members.filter(present=False).update(user_info=None)
    return changes


def _users(app_id: str, user_id: str) -> QuerySet[RealtimeUser]:
    return RealtimeUser.objects.filter(pk=RealtimeUser.key_of(app_id, user_id))


def _members(app_id: str, user_id: str) -> MemberQuerySet:
    return Member.objects.filter(user=RealtimeUser.key_of(app_id, user_id))


def _show(members: MemberQuerySet, user_info: str | None) -> list[Change]:
    """Write what *members* show; return those of them who are there and showed another thing."""
    present = lock(members.present().order_by("pk"))
    found = [member.pk for member in present if member.user_info != user_info]
    version = Greatest(F("version") + 1, clock())
    rows = Member.objects.filter(pk__in=found)
    rows.update(user_info=user_info, version=version, shown_since=version, changed_at=Now())
    return [change_of(member) for member in rows.select_related("user").order_by("pk")]
