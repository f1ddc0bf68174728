"""What happened, whom to tell, and how the telling went."""

import uuid
from typing import Final

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from realtime import conf
from realtime.conf import STORED_NAME_CHARS
from realtime.models.keys import row_id
from realtime.protocol.app import WEBHOOK_KINDS


def every_kind() -> list[str]:
    """All kinds of webhooks, as a new endpoint is told them."""
    return list(WEBHOOK_KINDS)


class WebhookEndpoint(models.Model):
    """An endpoint besides those in the settings."""

    app_id = models.CharField(_("app id"), max_length=20)
    url = models.URLField(_("URL"), max_length=2_000)
    kinds = models.JSONField(
        _("kinds"),
        default=every_kind,
        help_text=_("A list of what it is told: %s.") % ", ".join(WEBHOOK_KINDS),
    )
    channel_prefixes = models.JSONField(
        _("channel prefixes"),
        default=list,
        blank=True,
        help_text=_('A list such as ["presence-"]; empty means all channels.'),
    )
    enabled = models.BooleanField(_("enabled"), default=True)

    class Meta:
        verbose_name = _("webhook endpoint")
        verbose_name_plural = _("webhook endpoints")
        ordering = ("app_id", "pk")

    def __str__(self) -> str:
        return self.url

    def clean(self) -> None:
        """Refuse what the settings would refuse."""
        try:
            conf.read_webhook(
                {"url": self.url, "kinds": self.kinds, "channel_prefixes": self.channel_prefixes}
            )
        except ImproperlyConfigured as error:
            raise ValidationError(str(error)) from None


class PendingFact(models.Model):
    """Something that happened and was not told to everybody yet."""

    app_id = models.CharField(_("app id"), max_length=20)
    kind = models.CharField(_("kind"), max_length=20)
    channel = models.CharField(_("channel"), max_length=STORED_NAME_CHARS, blank=True)
    subject = models.UUIDField(_("subject"))
    """Computed from app, channel and user: by it an arrival finds the departure it takes back."""
    details = models.TextField(_("details"))
    """JSON in ASCII: a column for JSON refuses the NUL that a client event may hold."""
    due_at = models.DateTimeField(_("due"))
    collected = models.BooleanField(_("collected"), default=False)
    """Whether requests were made of it, so that only the receivers of signals are left."""

    class Meta:
        verbose_name = _("pending fact")
        ordering = ("due_at", "pk")
        indexes = (
            models.Index(fields=("collected", "due_at", "id"), name="realtime_fact_due"),
            models.Index(
                fields=("subject",), name="realtime_fact_subject", condition=Q(collected=False)
            ),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.channel}".rstrip()

    @staticmethod
    def subject_of(app_id: str, channel: str, user_id: str) -> uuid.UUID:
        """What a fact is about."""
        return row_id("fact", app_id, channel, user_id)


class WebhookQueue(models.Model):
    """The requests to one URL for one app, and which process makes them now."""

    SIGNALS: Final = row_id("signals")
    """The row of whoever sends the signals."""
    COLLECTOR: Final = row_id("collector")
    """The row of whoever makes requests of facts; locked for that transaction."""

    id = models.UUIDField(primary_key=True, editable=False)
    claimed_by = models.UUIDField(_("claimed by"), null=True)
    claimed_until = models.DateTimeField(_("claimed until"), null=True)
    failures = models.PositiveIntegerField(_("failures"), default=0)
    """Attempts in a row that the endpoint did not answer at all."""
    paused_until = models.DateTimeField(_("paused until"), null=True)
    """The breaker: until then the endpoint counts as down and gets no requests."""

    class Meta:
        verbose_name = _("webhook queue")

    def __str__(self) -> str:
        return str(self.id)

    @staticmethod
    def key_of(app_id: str, url: str) -> uuid.UUID:
        """The primary key of a queue."""
        return row_id("webhooks", app_id, url)


class WebhookDelivery(models.Model):
    """One request to an endpoint, with every attempt to make it."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("waiting")
        SENT = "sent", _("sent")
        FAILED = "failed", _("failed")

    queue = models.ForeignKey(
        WebhookQueue, on_delete=models.CASCADE, related_name="deliveries", verbose_name=_("queue")
    )
    app_id = models.CharField(_("app id"), max_length=20)
    url = models.TextField(_("URL"))
    body = models.TextField(_("body"))
    """The very bytes: an attempt repeats them."""
    events = models.PositiveIntegerField(_("events"))
    channels = models.JSONField(_("channels"))
    """While one request waits, later ones that share a channel with it wait too."""
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.WAITING
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    response_status = models.PositiveIntegerField(_("response status"), null=True)
    response_excerpt = models.TextField(_("response"), blank=True)
    error = models.CharField(_("error"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=Now())
    next_attempt_at = models.DateTimeField(_("next attempt"))
    expires_at = models.DateTimeField(_("given up at"))
    finished_at = models.DateTimeField(_("finished"), null=True)

    class Meta:
        verbose_name = _("webhook delivery")
        verbose_name_plural = _("webhook deliveries")
        ordering = ("-pk",)
        indexes = (
            models.Index(
                fields=("queue", "id"),
                name="realtime_webhook_waiting",
                condition=Q(status="waiting"),
            ),
            models.Index(fields=("status", "finished_at"), name="realtime_webhook_finished"),
        )
        permissions = (("resend_webhookdelivery", _("Can send webhooks again")),)

    def __str__(self) -> str:
        return f"{self.url} {self.pk or ''}".rstrip()
