"""Users: who they are, where, and what staff may do about it."""

import json
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.widgets import AdminSplitDateTime
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from realtime import applications, erasure, moderation, profiles
from realtime.admin.base import AskingAdmin, ModelForm, ReadOnlyAdmin, staff
from realtime.models import Member, Membership, RealtimeUser, Server
from realtime.protocol.errors import InvalidTrigger
from realtime.protocol.names import is_encodable


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


class EraseForm(ReasonForm):
    """Asked before everything about a user is erased."""

    keep_ban = forms.BooleanField(
        label=_("Keep the ban"),
        required=False,
        help_text=_("Of users who are banned, keep the id and the ban."),
    )


class UserInfoField(forms.JSONField):
    """JSON for people to edit; nothing where there is none."""

    def prepare_value(self, value: Any) -> Any:
        """The text in the form."""
        if value is None:
            return ""
        text = super().prepare_value(value)
        # JSON may escape half a character, which no page can show.
        return text if is_encodable(text) else json.dumps(value)


class UserForm(ModelForm):
    """What a user shows, as staff may set it."""

    shown_info = UserInfoField(
        label=_("User info"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "cols": 60}),
        help_text=_(
            "A JSON object. It is shown in place of what the site says at sign-in, also at later"
            " ones. Empty it to delete what is kept; then the next sign-in counts again."
        ),
    )

    class Meta:
        model = RealtimeUser
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["shown_info"] = self.instance.info

    def clean_shown_info(self) -> Any:
        """An object within the limits of the app."""
        user_info = self.cleaned_data["shown_info"]
        if user_info is None:
            return None
        app = applications.by_id(self.instance.app_id)
        if app is None:
            raise forms.ValidationError(_("The app of this user is gone."))
        try:
            profiles.encode_user_info(app, user_info)
        except InvalidTrigger as error:
            raise forms.ValidationError(str(error)) from None
        return user_info


class YesNoFilter(admin.SimpleListFilter):
    """By whether users are among those of ``chosen``."""

    answers: tuple[Any, Any]
    chosen: Callable[[], QuerySet[RealtimeUser]]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(zip(("yes", "no"), self.answers, strict=True))

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[RealtimeUser]
    ) -> QuerySet[RealtimeUser]:
        if self.value() not in ("yes", "no"):
            return queryset
        chosen = Q(pk__in=type(self).chosen().values("pk"))
        return queryset.filter(chosen if self.value() == "yes" else ~chosen)


class OnlineFilter(YesNoFilter):
    """By presence."""

    title = _("presence")
    parameter_name = "online"
    answers = (_("Online"), _("Offline"))
    chosen = RealtimeUser.objects.online


class BannedFilter(YesNoFilter):
    """By ban."""

    title = _("ban")
    parameter_name = "banned"
    answers = (_("Banned"), _("Not banned"))
    chosen = RealtimeUser.objects.banned


@admin.register(RealtimeUser)
class RealtimeUserAdmin(AskingAdmin, ReadOnlyAdmin):
    """Users, what they show, their connections and channels; kick, ban, lift and erase."""

    list_display = ("user_id", "name", "app_id", "online", "connections", "ban", "last_seen_at")
    list_filter = (OnlineFilter, BannedFilter, "app_id")
    search_fields = ("user_id", "user_info", "user_info_override")
    actions = ("kick_selected", "ban_selected", "lift_selected", "erase_selected")
    form = UserForm
    readonly_fields = (
        "user_id",
        "name",
        "app_id",
        "first_seen_at",
        "last_seen_at",
        "where",
        "ban",
        "ban_reason",
        "banned_by",
    )
    fields = ("user_id", "name", "app_id", "shown_info", *readonly_fields[3:])

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

    @admin.display(description=_("user info"))
    def shown_info(self, user: RealtimeUser) -> str:
        return user.shown_info or "-"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        editable = self.has_change_permission(request, obj)
        return self.readonly_fields if editable else (*self.readonly_fields, "shown_info")

    def save_model(self, request: HttpRequest, obj: RealtimeUser, form: Any, change: bool) -> None:
        """Set what the user shows; nothing else of the row is staff's to write."""
        user_info = form.cleaned_data["shown_info"]
        if "shown_info" not in form.changed_data:
            return
        if user_info is None:
            profiles.delete_user_data(obj.user_id, app_id=obj.app_id)
        else:
            profiles.update_user_data(obj.user_id, user_info, app_id=obj.app_id)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("realtime.edit_realtimeuser")

    def has_erase_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("realtime.erase_realtimeuser")

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
                queryset, by=staff(request), reason=form.cleaned_data["reason"]
            )
            return ngettext("%d connection closed.", "%d connections closed.", closed) % closed

        return self.confirm(request, queryset, ReasonForm, _("Kick"), act)

    @admin.action(description=_("Ban selected users"), permissions=["ban"])
    def ban_selected(
        self, request: HttpRequest, queryset: QuerySet[RealtimeUser]
    ) -> HttpResponse | None:
        def act(form: ReasonForm) -> str:
            users = list(queryset)
            moderation.ban(users, by=staff(request), **form.cleaned_data)
            return ngettext("%d user banned.", "%d users banned.", len(users)) % len(users)

        return self.confirm(request, queryset, BanForm, _("Ban"), act)

    @admin.action(description=_("Lift bans of selected users"), permissions=["lift"])
    def lift_selected(
        self, request: HttpRequest, queryset: QuerySet[RealtimeUser]
    ) -> HttpResponse | None:
        def act(form: ReasonForm) -> str:
            lifted = moderation.lift(
                queryset, by=staff(request), reason=form.cleaned_data["reason"]
            )
            return ngettext("%d ban lifted.", "%d bans lifted.", lifted) % lifted

        return self.confirm(request, queryset, ReasonForm, _("Lift the ban"), act)

    @admin.action(description=_("Erase selected users"), permissions=["erase"])
    def erase_selected(
        self, request: HttpRequest, queryset: QuerySet[RealtimeUser]
    ) -> HttpResponse | None:
        def act(form: EraseForm) -> str:
            users = list(queryset)
            for user in users:
                erasure.erase_user(
                    user.user_id, app_id=user.app_id, keep_ban=form.cleaned_data["keep_ban"]
                )
            moderation.log(
                [RealtimeUser(pk=user.pk, user_id=user.user_id) for user in users],
                *(staff(request), str(_("Erased.")), form.cleaned_data["reason"]),
            )
            return ngettext("%d user erased.", "%d users erased.", len(users)) % len(users)

        warning = _(
            "Everything kept about them is deleted, what the log says about them too, and their"
            " connections are closed. This cannot be undone."
        )
        return self.confirm(request, queryset, EraseForm, _("Erase"), act, warning)
