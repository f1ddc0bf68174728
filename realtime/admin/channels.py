"""Where users are: channels, and the connections of users in them."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, F, Min, OuterRef, Subquery, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from realtime.admin.base import ReadOnlyAdmin
from realtime.models import Member, Membership, Occupancy


@admin.register(Occupancy)
class ChannelAdmin(ReadOnlyAdmin):
    """Occupied channels, added up over all server processes."""

    list_display = ("channel", "app_id", "total", "members")
    list_filter = ("app_id",)
    search_fields = ("channel",)
    fields = ("channel", "app_id", "total", "members")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> Any:
        same = Occupancy.objects.live().filter(
            app_id=OuterRef("app_id"), channel=OuterRef("channel")
        )
        present = Member.objects.alive().filter(
            app_id=OuterRef("app_id"), channel=OuterRef("channel")
        )
        return (
            super()
            .get_queryset(request)
            .alias(first=Subquery(_per_channel(same, Min("pk"))))
            .filter(pk=F("first"))
            .annotate(
                subscribed=Subquery(_per_channel(same, Sum("subscriptions"))),
                users=Coalesce(Subquery(_per_channel(present, Count("pk"))), 0),
            )
        )

    @admin.display(description=_("subscriptions"), ordering="subscribed")
    def total(self, row: Any) -> int:
        return int(row.subscribed)

    @admin.display(description=_("members"), ordering="users")
    def members(self, row: Any) -> int | str:
        return int(row.users) if row.channel.startswith("presence-") else "-"


@admin.register(Membership)
class MembershipAdmin(ReadOnlyAdmin):
    """Subscriptions of users: which connection and channel, which process, since when."""

    list_display = ("socket_id", "user", "channel", "server", "joined_at")
    fields = list_display
    list_filter = ("server",)
    search_fields = ("socket_id", "member__user__user_id", "member__channel")
    list_select_related = ("member__user", "server")

    @admin.display(description=_("user"), ordering="member__user__user_id")
    def user(self, membership: Membership) -> str:
        return str(membership.member.user)

    @admin.display(description=_("channel"), ordering="member__channel")
    def channel(self, membership: Membership) -> Any:
        channel = membership.member.channel
        return _("signed in") if channel == Member.ONLINE else channel


def _per_channel(rows: Any, aggregate: Any) -> Any:  # Any: querysets of dictionaries
    """One aggregated value per channel, as a subquery."""
    return rows.order_by().values("channel").annotate(value=aggregate).values("value")[:1]
