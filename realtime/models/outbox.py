"""Durable events: written with the data of their caller, sent afterwards."""

import uuid

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from realtime.conf import STORED_NAME_CHARS
from realtime.models.keys import row_id


class OutboxChannel(models.Model):
    """The numbering of the durable events of one channel, and who sends them now."""

    id = models.UUIDField(primary_key=True, editable=False)
    last_position = models.BigIntegerField(_("last position"), default=0)
    """Starts from the clock, so the positions of a row made anew still grow."""
    purged_position = models.BigIntegerField(_("purged up to"), default=0)
    """Whoever has seen less than this cannot be given all that was missed."""
    claimed_by = models.UUIDField(_("claimed by"), null=True)
    claimed_until = models.DateTimeField(_("claimed until"), null=True)

    class Meta:
        verbose_name = _("channel of the outbox")

    def __str__(self) -> str:
        return str(self.id)

    @staticmethod
    def key_of(app_id: str, channel: str) -> uuid.UUID:
        """The primary key of a channel."""
        return row_id("outbox", app_id, channel)


class OutboxEntryQuerySet(models.QuerySet["OutboxEntry"]):
    """Entries by how far they got."""

    def unsent(self) -> "OutboxEntryQuerySet":
        """Those that no layer has taken yet, as far as is known."""
        return self.filter(sent_at=None)

    def backlog(self, most: int) -> tuple[int, float]:
        """How many are unsent, counted up to *most*, and for how many seconds the oldest is."""
        unsent = self.unsent().order_by("pk")
        oldest = unsent.annotate(now=Now()).values_list("created_at", "now").first()
        if oldest is None:
            return 0, 0.0
        created_at, now = oldest
        return unsent[:most].count(), max(0.0, (now - created_at).total_seconds())

    def after(self, app_id: str, channel: str, position: int) -> "OutboxEntryQuerySet":
        """What a channel got after *position*, oldest first."""
        found = self.filter(stream=OutboxChannel.key_of(app_id, channel), position__gt=position)
        return found.order_by("position")


class OutboxEntry(models.Model):
    """One durable event for one channel: written with the caller's data, then sent."""

    stream = models.ForeignKey(
        OutboxChannel, on_delete=models.DO_NOTHING, db_constraint=False, related_name="entries"
    )
    """Its row may not exist yet: a caller's transaction locks nothing that others need."""
    position = models.BigIntegerField(_("position"), null=True)
    """The place in its channel, given when it is sent: that is the order of the commits."""
    app_id = models.CharField(_("app id"), max_length=20)
    channel = models.CharField(_("channel"), max_length=STORED_NAME_CHARS)
    text = models.TextField(_("text"))
    except_socket_id = models.CharField(_("except"), max_length=41, blank=True)
    created_at = models.DateTimeField(_("created"), db_default=Now())
    sent_at = models.DateTimeField(_("sent"), null=True)

    objects = OutboxEntryQuerySet.as_manager()

    class Meta:
        verbose_name = _("durable event")
        ordering = ("pk",)
        constraints = (
            models.UniqueConstraint(fields=("stream", "position"), name="realtime_outbox_position"),
        )
        indexes = (
            models.Index(fields=("id",), name="realtime_outbox_unsent", condition=Q(sent_at=None)),
            models.Index(
                fields=("stream", "id"), name="realtime_outbox_stream", condition=Q(sent_at=None)
            ),
            models.Index(fields=("sent_at",), name="realtime_outbox_sent"),
        )

    def __str__(self) -> str:
        return f"{self.channel} {self.position or ''}"
