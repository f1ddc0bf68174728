"""Who is known, and who is where, through which server process."""

import json
import uuid
from typing import Any, Final

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from realtime.conf import STORED_NAME_CHARS
from realtime.models.keys import row_id


class RealtimeUserQuerySet(models.QuerySet["RealtimeUser"]):
    """Users by what holds of them now."""

    def banned(self) -> "RealtimeUserQuerySet":
        """Those who may not sign in or subscribe."""
        forever_or_still = Q(banned_until=None) | Q(banned_until__gt=timezone.now())
        return self.filter(forever_or_still, banned_at__isnull=False)

    def online(self) -> "RealtimeUserQuerySet":
        """Those with a connection: signed in, or shown in a presence channel."""
        return self.filter(models.Exists(Member.objects.alive().filter(user=models.OuterRef("pk"))))


class RealtimeUser(models.Model):
    """A user of one app, known since a first sign-in, presence or ban."""

    id = models.UUIDField(primary_key=True, editable=False)
    app_id = models.CharField(_("app id"), max_length=20)
    user_id = models.CharField(_("user id"), max_length=STORED_NAME_CHARS)
    user_info = models.TextField(_("user info"), null=True, blank=True)  # noqa: DJ001 - as signed
    user_info_override = models.TextField(  # noqa: DJ001 - empty text is no JSON
        _("user info of the server"), null=True, blank=True
    )
    """Set through the server: shown in place of what later sign-ins say."""
    first_seen_at = models.DateTimeField(_("first seen"), default=timezone.now)
    last_seen_at = models.DateTimeField(_("last seen"), default=timezone.now)
    banned_at = models.DateTimeField(_("banned at"), null=True, blank=True)
    banned_until = models.DateTimeField(
        _("banned until"), null=True, blank=True, help_text=_("Empty means for good.")
    )
    ban_reason = models.CharField(_("reason of the ban"), max_length=200, blank=True)
    banned_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("banned by"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
    )

    objects = RealtimeUserQuerySet.as_manager()

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        ordering = ("-last_seen_at",)
        constraints = (
            models.UniqueConstraint(fields=("app_id", "user_id"), name="realtime_user_unique"),
        )
        indexes = (
            models.Index(
                fields=("app_id", "user_id"),
                name="realtime_user_banned",
                condition=Q(banned_at__isnull=False),
            ),
            models.Index(fields=("-last_seen_at",), name="realtime_user_last_seen"),
        )
        permissions = (
            ("kick_realtimeuser", _("Can close the connections of users")),
            ("ban_realtimeuser", _("Can ban users")),
            ("lift_realtimeuser", _("Can lift bans")),
            ("edit_realtimeuser", _("Can change what users show of themselves")),
            ("erase_realtimeuser", _("Can erase everything kept about users")),
        )

    def __str__(self) -> str:
        name = self.display_name
        return f"{name} ({self.user_id})" if name else self.user_id

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save under the key that belongs to the app and the user id."""
        self.id = row_id("user", self.app_id, self.user_id)
        super().save(*args, **kwargs)

    @property
    def banned(self) -> bool:
        """Whether the user may not sign in or subscribe now."""
        if self.banned_at is None:
            return False
        return self.banned_until is None or self.banned_until > timezone.now()

    @property
    def shown_info(self) -> str | None:
        """JSON text of what the user shows where the sign-in is shown."""
        return self.user_info if self.user_info_override is None else self.user_info_override

    @property
    def info(self) -> dict[str, Any] | None:
        """That, read."""
        try:
            info = json.loads(self.shown_info or "")
        except ValueError:
            return None
        return info if isinstance(info, dict) else None

    @property
    def display_name(self) -> str:
        """The name in what the user shows of itself, for people to recognise."""
        name = (self.info or {}).get("name")
        # JSON may escape half a character, which no page can show.
        return name.encode("utf-8", "replace").decode() if isinstance(name, str) else ""

    @staticmethod
    def key_of(app_id: str, user_id: str) -> uuid.UUID:
        """The primary key of a user."""
        return row_id("user", app_id, user_id)


class ServerQuerySet(models.QuerySet["Server"]):
    """Servers by their lease, on the clock of the database."""

    def alive(self) -> "ServerQuerySet":
        """Those whose lease holds."""
        return self.filter(expires_at__gt=Now())

    def dead(self) -> "ServerQuerySet":
        """Those whose lease ran out: anybody may reap them."""
        return self.filter(expires_at__lte=Now())


class Server(models.Model):
    """One server process and its claim to be alive."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(_("name"), max_length=100, help_text=_("Host and process id."))
    started_at = models.DateTimeField(_("started"), db_default=Now())
    expires_at = models.DateTimeField(_("lease until"), db_index=True)
    audit_asked_at = models.DateTimeField(_("audit asked for"), null=True, editable=False)
    audited_at = models.DateTimeField(_("audited"), null=True, editable=False)
    audit = models.JSONField(_("audit"), null=True, editable=False)

    objects = ServerQuerySet.as_manager()

    class Meta:
        verbose_name = _("server process")
        verbose_name_plural = _("server processes")
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class OccupancyQuerySet(models.QuerySet["Occupancy"]):
    """Occupancies that count."""

    def live(self) -> "OccupancyQuerySet":
        """Those of processes whose lease holds."""
        return self.filter(server__expires_at__gt=Now())


class Occupancy(models.Model):
    """How many connections of one process are subscribed to one channel."""

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="occupancies")
    app_id = models.CharField(_("app id"), max_length=20)
    channel = models.CharField(_("channel"), max_length=STORED_NAME_CHARS)
    subscriptions = models.PositiveIntegerField(_("subscriptions"))

    objects = OccupancyQuerySet.as_manager()

    class Meta:
        verbose_name = _("channel")
        verbose_name_plural = _("channels")
        ordering = ("app_id", "channel")
        constraints = (
            models.UniqueConstraint(
                fields=("server", "app_id", "channel"), name="realtime_occupancy_unique"
            ),
        )
        indexes = (models.Index(fields=("app_id", "channel"), name="realtime_occupancy_channel"),)

    def __str__(self) -> str:
        return self.channel


class ChannelState(models.Model):
    """Whether a channel has subscriptions in any process, as was last decided under its lock."""

    id = models.UUIDField(primary_key=True, editable=False)
    app_id = models.CharField(_("app id"), max_length=20)
    channel = models.CharField(_("channel"), max_length=STORED_NAME_CHARS)
    occupied = models.BooleanField(_("occupied"), default=False)
    changed_at = models.DateTimeField(_("changed"), default=timezone.now)
    cache_missed_at = models.DateTimeField(_("cache miss"), null=True)
    """When a subscriber that found an empty cache was last told of."""

    class Meta:
        verbose_name = _("state of a channel")
        verbose_name_plural = _("states of channels")
        indexes = (
            models.Index(
                fields=("changed_at",), name="realtime_channel_vacant", condition=Q(occupied=False)
            ),
        )

    def __str__(self) -> str:
        return self.channel

    @staticmethod
    def key_of(app_id: str, channel: str) -> uuid.UUID:
        """The primary key of a channel."""
        return row_id("channel", app_id, channel)


class MemberQuerySet(models.QuerySet["Member"]):
    """Members by presence."""

    def present(self) -> "MemberQuerySet":
        """Those last announced as having come."""
        return self.filter(present=True)

    def alive(self) -> "MemberQuerySet":
        """Those of them whom a living process holds; the others are about to be reaped."""
        holding = Membership.objects.filter(
            member=models.OuterRef("pk"), server__expires_at__gt=Now()
        )
        return self.present().filter(models.Exists(holding))


class Member(models.Model):
    """A user in a presence channel, once however many connections.

    A signed-in user is also a member of ``ONLINE``, a channel nobody can subscribe to: so
    first-in and last-out are decided in one place.
    """

    ONLINE: Final = "#online"

    id = models.UUIDField(primary_key=True, editable=False)
    user = models.ForeignKey(
        RealtimeUser, on_delete=models.CASCADE, related_name="members", db_column="user_key"
    )
    app_id = models.CharField(_("app id"), max_length=20)
    channel = models.CharField(_("channel"), max_length=STORED_NAME_CHARS)
    user_info = models.TextField(_("user info"), null=True, blank=True)  # noqa: DJ001 - as signed
    from_sign_in = models.BooleanField(_("from sign-in"), default=False, db_default=False)
    """Whether that is what was said at sign-in; else the channel's authorization said it."""
    present = models.BooleanField(_("present"), default=False)
    version = models.BigIntegerField(_("version"), default=0)
    """Grows with every change; starts from the clock, so a row made anew still grows."""
    shown_since = models.BigIntegerField(_("shown since"), default=0, db_default=0)
    """The version with which ``user_info`` became what it is."""
    changed_at = models.DateTimeField(_("changed"), default=timezone.now)

    objects = MemberQuerySet.as_manager()

    class Meta:
        verbose_name = _("member")
        verbose_name_plural = _("members")
        ordering = ("channel", "pk")
        indexes = (
            models.Index(fields=("app_id", "channel", "present"), name="realtime_member_channel"),
            models.Index(fields=("changed_at",), name="realtime_member_changed"),
        )

    def __str__(self) -> str:
        return f"{self.user}: {_('signed in') if self.channel == self.ONLINE else self.channel}"

    @staticmethod
    def key_of(app_id: str, channel: str, user_id: str) -> uuid.UUID:
        """The primary key of a member."""
        return row_id("member", app_id, channel, user_id)


class Membership(models.Model):
    """One subscription of a member: which connection, in which process."""

    id = models.UUIDField(primary_key=True, editable=False)
    member = models.ForeignKey(Member, on_delete=models.CASCADE, related_name="memberships")
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="memberships")
    socket_id = models.CharField(_("socket id"), max_length=41)
    joined_at = models.DateTimeField(_("joined"), default=timezone.now)

    class Meta:
        verbose_name = _("subscription of a user")
        verbose_name_plural = _("subscriptions of users")
        ordering = ("joined_at",)
        indexes = (models.Index(F("socket_id"), name="realtime_membership_socket"),)

    def __str__(self) -> str:
        return self.socket_id

    @staticmethod
    def key_of(member_key: uuid.UUID, socket_id: str) -> uuid.UUID:
        """The primary key of a membership."""
        return row_id("membership", member_key.hex, socket_id)
