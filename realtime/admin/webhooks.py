"""Who is told what happens in the apps, and how the telling went."""

from datetime import datetime

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import display_for_value
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from realtime.admin.base import ModelAdmin, ModelForm, ReadOnlyAdmin
from realtime.models import WebhookDelivery, WebhookEndpoint
from realtime.protocol.app import WEBHOOK_KINDS
from realtime.webhooks import deliveries

STYLE = {"all": ["realtime/admin.css"]}


class EndpointForm(ModelForm):
    """An endpoint, whose kinds are chosen from a list."""

    url = forms.URLField(label=_("URL"), max_length=2_000, assume_scheme="https")
    kinds = forms.MultipleChoiceField(
        label=_("kinds"),
        choices=[(kind, kind) for kind in WEBHOOK_KINDS],
        initial=WEBHOOK_KINDS,
        widget=forms.CheckboxSelectMultiple,
    )

    class Meta:
        model = WebhookEndpoint
        fields = ("app_id", "url", "kinds", "channel_prefixes", "enabled")


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ModelAdmin):
    """Endpoints besides those in the settings."""

    form = EndpointForm
    list_display = ("url", "app_id", "told", "enabled")
    list_filter = ("enabled", "app_id")
    search_fields = ("url",)

    class Media:
        css = STYLE

    @admin.display(description=_("kinds"))
    def told(self, endpoint: WebhookEndpoint) -> str:
        return ", ".join(map(str, endpoint.kinds))


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnlyAdmin):
    """Requests to endpoints: those that wait, those that were sent, and those given up."""

    list_display = (
        "created_at",
        "status",
        "url",
        "response_status",
        "error",
        "attempts",
        "next_try",
        "breaker",
        "events",
        "app_id",
    )
    list_select_related = ("queue",)
    list_filter = ("status", "app_id", "response_status", "created_at")
    search_fields = ("url", "body")
    actions = ("send_selected_again",)
    fields = (
        "url",
        "app_id",
        "status",
        "attempts",
        "created_at",
        "next_try",
        "breaker",
        "expires_at",
        "finished_at",
        "sent_body",
        "response_status",
        "error",
        "response",
    )
    readonly_fields = fields

    class Media:
        css = STYLE

    @admin.display(description=_("next attempt"), ordering="next_attempt_at")
    def next_try(self, delivery: WebhookDelivery) -> str:
        waiting = delivery.status == WebhookDelivery.Status.WAITING
        return _shown(delivery.next_attempt_at if waiting else None)

    @admin.display(description=_("breaker open until"))
    def breaker(self, delivery: WebhookDelivery) -> str:
        """Until when nothing is sent there, because the endpoint is down."""
        waiting = delivery.status == WebhookDelivery.Status.WAITING
        return _shown(delivery.queue.paused_until if waiting and delivery.queue.failures else None)

    @admin.display(description=_("body"))
    def sent_body(self, delivery: WebhookDelivery) -> SafeString:
        return format_html("<pre>{}</pre>", delivery.body)

    @admin.display(description=_("response"))
    def response(self, delivery: WebhookDelivery) -> SafeString:
        return format_html("<pre>{}</pre>", delivery.response_excerpt)

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("realtime.resend_webhookdelivery")

    @admin.action(description=_("Send again"), permissions=["resend"])
    def send_selected_again(
        self, request: HttpRequest, queryset: QuerySet[WebhookDelivery]
    ) -> None:
        # Those that wait are sent anyway.
        done = list(queryset.exclude(status=WebhookDelivery.Status.WAITING).order_by("pk"))
        sent = deliveries.send_again(done)
        text = ngettext("%d webhook will be sent again.", "%d webhooks will be sent again.", sent)
        self.message_user(request, text % sent, messages.SUCCESS)
        if left_out := len(done) - sent:
            text = ngettext(
                "%d was left out: its endpoint was removed.",
                "%d were left out: their endpoints were removed.",
                left_out,
            )
            self.message_user(request, text % left_out, messages.WARNING)


def _shown(when: datetime | None) -> str:
    """As the admin shows the times of fields."""
    return str(display_for_value(when, "-"))
