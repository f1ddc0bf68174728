"""Apps: their switches, and their keys, whose secrets are shown once."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from realtime.admin.base import AskingAdmin, ModelForm
from realtime.models import Application


class ApplicationForm(ModelForm):
    """An app; the master key goes in and never comes out."""

    encryption_master_key = forms.CharField(
        label=_("Encryption master key"),
        required=False,
        max_length=44,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text=_(
            "32 bytes in base64, for end-to-end encrypted channels. It is never shown;"
            " leave this empty to keep the one there is."
        ),
    )
    forget_master_key = forms.BooleanField(label=_("Forget the master key"), required=False)

    class Meta:
        model = Application
        fields = "__all__"

    def clean(self) -> dict[str, Any]:
        """Keep the master key unless there is a new one, or none is wanted."""
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("forget_master_key"):
            cleaned["encryption_master_key"] = ""
        elif not cleaned.get("encryption_master_key") and self.instance.pk:
            kept = Application.objects.values_list("encryption_master_key", flat=True)
            cleaned["encryption_master_key"] = kept.get(pk=self.instance.pk)
        return cleaned


@admin.register(Application)
class ApplicationAdmin(AskingAdmin):
    """Apps besides those in the settings; a secret is shown once, when it is made."""

    form = ApplicationForm
    list_display = ("name", "app_id", "enabled", "client_events", "tls_only", "rotating", "key")
    list_filter = ("enabled",)
    actions = ("rotate_selected", "retire_selected")
    fieldsets = tuple(
        (title, {"fields": tuple(names.split())})
        for title, names in (
            (None, "name app_id enabled"),
            (_("Keys"), "key old_key"),
            (_("Features"), "client_events subscription_counts watchlists webhook_batching"),
            (_("Connections"), "tls_only authorized_connections allowed_origins max_connections"),
            (_("Encryption"), "encryption_master_key forget_master_key"),
            (_("Limits"), "limits"),
        )
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("old_key",) if obj is None else ("app_id", "key", "old_key")

    def save_model(self, request: HttpRequest, obj: Application, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if not change:
            text = _("The secret of this app, shown only now: %s")
            self.message_user(request, text % obj.secret, messages.WARNING)

    @admin.display(description=_("old key accepted"), boolean=True)
    def rotating(self, app: Application) -> bool:
        return bool(app.old_key)

    @admin.action(description=_("Rotate the key"), permissions=["change"])
    def rotate_selected(
        self, request: HttpRequest, queryset: QuerySet[Application]
    ) -> HttpResponse | None:
        def act(form: forms.Form) -> None:
            for app in queryset:
                app.rotate()
                app.save()
                self.log_change(request, app, str(_("Key rotated.")))
                text = _(
                    "The new key of %(app)s is %(key)s; its secret, shown only now: %(secret)s"
                )
                shown = {"app": app, "key": app.key, "secret": app.secret}
                self.message_user(request, text % shown, messages.WARNING)

        warning = _(
            "Each gets a new key and secret. The present ones are accepted until you retire them;"
            " an older pair that still is accepted is retired now."
        )
        return self.confirm(request, queryset, forms.Form, _("Rotate the key"), act, warning)

    @admin.action(description=_("Retire the old key"), permissions=["change"])
    def retire_selected(
        self, request: HttpRequest, queryset: QuerySet[Application]
    ) -> HttpResponse | None:
        def act(form: forms.Form) -> str:
            rotating = [app for app in queryset if app.old_key]
            for app in rotating:
                app.retire()
                app.save()
                self.log_change(request, app, str(_("Old key retired.")))
            total = len(rotating)
            return ngettext("%d old key retired.", "%d old keys retired.", total) % total

        warning = _("Whoever still uses the old key is refused from now on.")
        return self.confirm(request, queryset, forms.Form, _("Retire the old key"), act, warning)
