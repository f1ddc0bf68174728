"""Staff's view: who is online, where, through which process; and what may be done about it.

The actions translate and delegate to ``moderation``; nothing here changes presence.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.widgets import AdminSplitDateTime
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import Count, Exists, F, Min, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from realtime import moderation
from realtime.layer import PublishFailed
from realtime.models import Application, Member, Membership, Occupancy, RealtimeUser, Server

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = admin.ModelAdmin  # generic for the type checker only


class ReasonForm(forms.Form):
    """Asked before staff act on a user."""

    reason = forms.CharField(
        label=_("Reason"), max_length=200, required=False, help_text=_("Kept in the log.")
    )


class BanForm(ReasonForm):
    """Asked before a ban."""

    until = forms.SplitDateTimeField(
        label=_("Until"),
        required=False,
        widget=AdminSplitDateTime,
        help_text=_("Empty means for good."),
    )

    def clean_until(self) -> Any:
        """A ban ends in the future, or never."""
        until = self.cleaned_data["until"]
        if until is not None and until <= timezone.now():
            raise forms.ValidationError(_("A ban must end in the future."))
        return until


class ReadOnlyAdmin(ModelAdmin):
    """Rows that the server writes and people only read."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class OnlineFilter(admin.SimpleListFilter):
    """By presence."""

    title = _("presence")
    parameter_name = "online"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Online")), ("no", _("Offline"))]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[RealtimeUser]
    ) -> QuerySet[RealtimeUser]:
        online = RealtimeUser.objects.online().values("pk")
        match self.value():
            case "yes":
                return queryset.filter(pk__in=online)
            case "no":
                return queryset.exclude(pk__in=online)
            case _:
                return queryset


class BannedFilter(admin.SimpleListFilter):
    """By ban."""

    title = _("ban")
    parameter_name = "banned"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Banned")), ("no", _("Not banned"))]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[RealtimeUser]
    ) -> QuerySet[RealtimeUser]:
        banned = RealtimeUser.objects.banned().values("pk")
        match self.value():
            case "yes":
                return queryset.filter(pk__in=banned)
            case "no":
                return queryset.exclude(pk__in=banned)
            case _:
                return queryset


@admin.register(RealtimeUser)
class RealtimeUserAdmin(ReadOnlyAdmin):
    """Users, their connections and channels; kick, ban and lift."""

    list_display = ("user_id", "name", "app_id", "online", "connections", "ban", "last_seen_at")
    list_filter = (OnlineFilter, BannedFilter, "app_id")
    search_fields = ("user_id", "user_info")
    actions = ("kick_selected", "ban_selected", "lift_selected")
    readonly_fields = (
        "user_id",
        "name",
        "app_id",
        "user_info",
        "first_seen_at",
        "last_seen_at",
        "where",
        "ban",
        "ban_reason",
        "banned_by",
    )
    fields = readonly_fields

    def get_queryset(self, request: HttpRequest) -> Any:
        return (
            super()
            .get_queryset(request)
            .annotate(
                sockets=Count(
                    "members__memberships__socket_id",
                    filter=Q(members__memberships__server__expires_at__gt=Now()),
                    distinct=True,
                ),
                online_now=Exists(Member.objects.alive().filter(user=OuterRef("pk"))),
            )
        )

    @admin.display(description=_("name"))
    def name(self, user: RealtimeUser) -> str:
        return user.display_name or "-"

    @admin.display(description=_("online"), boolean=True)
    def online(self, user: Any) -> bool:
        return bool(user.online_now)

    @admin.display(description=_("connections"), ordering="sockets")
    def connections(self, user: Any) -> int:
        return int(user.sockets)

    @admin.display(description=_("ban"))
    def ban(self, user: RealtimeUser) -> str:
        if not user.banned:
            return "-"
        if user.banned_until is None:
            return str(_("for good"))
        until = timezone.localtime(user.banned_until)
        return str(_("until %s") % date_format(until, "DATETIME_FORMAT"))

    @admin.display(description=_("connections and channels"))
    def where(self, user: RealtimeUser) -> SafeString | str:
        rows = (
            Membership.objects.filter(member__user=user, server__in=Server.objects.alive())
            .select_related("member", "server")
            .order_by("socket_id", "joined_at")
        )
        items = format_html_join(
            "",
            "<li>{}: {} ({}, {})</li>",
            (
                (
                    row.socket_id,
                    _("signed in") if row.member.channel == Member.ONLINE else row.member.channel,
                    row.server.name,
                    date_format(timezone.localtime(row.joined_at), "DATETIME_FORMAT"),
                )
                for row in rows
            ),
        )
        return format_html("<ul>{}</ul>", items) if items else "-"

    def has_kick_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("realtime.kick_realtimeuser")

    def has_ban_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("realtime.ban_realtimeuser")

    def has_lift_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("realtime.lift_realtimeuser")

    @admin.action(description=_("Kick selected users"), permissions=["kick"])
    def kick_selected(
        self, request: HttpRequest, queryset: QuerySet[RealtimeUser]
    ) -> HttpResponse | None:
        def act(form: ReasonForm) -> str:
            closed = moderation.kick(
                queryset, by=_staff(request), reason=form.cleaned_data["reason"]
            )
            return ngettext("%d connection closed.", "%d connections closed.", closed) % closed

        return self._confirm(request, queryset, ReasonForm, _("Kick"), act)

    @admin.action(description=_("Ban selected users"), permissions=["ban"])
    def ban_selected(
        self, request: HttpRequest, queryset: QuerySet[RealtimeUser]
    ) -> HttpResponse | None:
        def act(form: ReasonForm) -> str:
            users = list(queryset)
            moderation.ban(users, by=_staff(request), **form.cleaned_data)
            return ngettext("%d user banned.", "%d users banned.", len(users)) % len(users)

        return self._confirm(request, queryset, BanForm, _("Ban"), act)

    @admin.action(description=_("Lift bans of selected users"), permissions=["lift"])
    def lift_selected(
        self, request: HttpRequest, queryset: QuerySet[RealtimeUser]
    ) -> HttpResponse | None:
        def act(form: ReasonForm) -> str:
            lifted = moderation.lift(
                queryset, by=_staff(request), reason=form.cleaned_data["reason"]
            )
            return ngettext("%d ban lifted.", "%d bans lifted.", lifted) % lifted

        return self._confirm(request, queryset, ReasonForm, _("Lift the ban"), act)

    def _confirm(
        self,
        request: HttpRequest,
        queryset: QuerySet[RealtimeUser],
        form_class: type[ReasonForm],
        verb: Any,
        act: Callable[[Any], str],
    ) -> HttpResponse | None:
        """Name the users and ask for a reason; act once that is confirmed."""
        form = form_class(request.POST if "confirmed" in request.POST else None)
        if form.is_bound and form.is_valid():
            try:
                self.message_user(request, act(form), messages.SUCCESS)
            except PublishFailed:
                text = _("The channel layer does not answer: connections may still be open.")
                self.message_user(request, text, messages.ERROR)
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": verb,
            "verb": verb,
            "opts": self.opts,
            "form": form,
            "media": self.media + form.media,
            "users": queryset,
            "action": request.POST["action"],
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "admin/realtime/realtimeuser/confirm.html", context)


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


@admin.register(Server)
class ServerAdmin(ReadOnlyAdmin):
    """Server processes and their leases."""

    list_display = ("name", "alive", "started_at", "expires_at", "subscribed")

    def get_queryset(self, request: HttpRequest) -> Any:
        total = Coalesce(Sum("occupancies__subscriptions"), 0)
        return super().get_queryset(request).annotate(total=total)

    @admin.display(description=_("alive"), boolean=True)
    def alive(self, server: Server) -> bool:
        return server.expires_at > timezone.now()

    @admin.display(description=_("subscriptions"), ordering="total")
    def subscribed(self, server: Any) -> int:
        return int(server.total)


@admin.register(Application)
class ApplicationAdmin(ModelAdmin):
    """Apps besides those in the settings; the secret is shown once, when it is made."""

    list_display = ("name", "app_id", "key", "enabled", "client_events", "tls_only")
    list_filter = ("enabled",)
    fields = (
        "name",
        "app_id",
        "key",
        "enabled",
        "client_events",
        "tls_only",
        "allowed_origins",
        "max_connections",
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return () if obj is None else ("app_id", "key")

    def save_model(self, request: HttpRequest, obj: Application, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            text = _("The secret of this app, shown only now: %s")
            self.message_user(request, text % obj.secret, messages.WARNING)


def _staff(request: HttpRequest) -> AbstractBaseUser:
    """Who is logged in; the admin lets nobody else come this far."""
    assert isinstance(request.user, AbstractBaseUser)  # noqa: S101 - narrows a union
    return request.user


def _per_channel(rows: Any, aggregate: Any) -> Any:  # Any: querysets of dictionaries
    """One aggregated value per channel, as a subquery."""
    return rows.order_by().values("channel").annotate(value=aggregate).values("value")[:1]
