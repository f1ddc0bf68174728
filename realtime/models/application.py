"""A Pusher app as a row, edited in the admin."""

import secrets
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.validators import RegexValidator
from django.db import models
from django.utils.translation import gettext_lazy as _

from realtime import conf
from realtime.conf import KEY


def _is_origin(item: object) -> bool:
    try:
        return isinstance(item, str) and (item == "*" or bool(urlsplit(item).hostname))
    except ValueError:
        return False


class Application(models.Model):
    """A Pusher app besides those in the settings."""

    app_id = models.CharField(
        _("app id"),
        max_length=20,
        unique=True,
        validators=[RegexValidator(r"\A[0-9]+\Z", _("Official libraries accept digits only."))],
    )
    name = models.CharField(_("name"), max_length=100)
    key = models.CharField(
        _("key"),
        max_length=64,
        unique=True,
        default=secrets.token_hex,
        validators=[RegexValidator(rf"\A{KEY.pattern}\Z", _("Letters, digits, _ and - only."))],
    )
    secret = models.CharField(_("secret"), max_length=128, default=secrets.token_hex)
    old_key = models.CharField(_("old key"), max_length=64, blank=True, db_index=True)
    """Accepted until it is retired."""
    old_secret = models.CharField(_("old secret"), max_length=128, blank=True)
    enabled = models.BooleanField(_("enabled"), default=True)
    client_events = models.BooleanField(_("client events"), default=True)
    subscription_counts = models.BooleanField(
        _("subscription counts"),
        default=False,
        help_text=_("Tell subscribers how many connections their channel has."),
    )
    watchlists = models.BooleanField(
        _("watchlists"),
        default=True,
        help_text=_("Tell signed-in users when those they watch come and go."),
    )
    authorized_connections = models.BooleanField(
        _("authorized connections"),
        default=False,
        help_text=_("End connections that neither sign in nor join a private channel."),
    )
    tls_only = models.BooleanField(_("TLS only"), default=False)
    allowed_origins = models.JSONField(
        _("allowed origins"),
        default=list,
        blank=True,
        help_text=_('A list such as ["https://example.com"]; empty means this site\'s hosts.'),
    )
    max_connections = models.PositiveIntegerField(
        _("connections per process"), null=True, blank=True
    )
    encryption_master_key = models.CharField(
        _("encryption master key"),
        max_length=44,
        blank=True,
        help_text=_("32 bytes in base64, for end-to-end encrypted channels."),
    )
    webhook_batching = models.BooleanField(
        _("webhook batching"),
        default=True,
        help_text=_("Tell several things in one request."),
    )
    limits = models.JSONField(
        _("limits"),
        default=dict,
        blank=True,
        help_text=_('What differs from the defaults, such as {"PRESENCE_MEMBERS": 500}.'),
    )

    class Meta:
        verbose_name = _("app")
        verbose_name_plural = _("apps")
        ordering = ("name", "pk")

    def __str__(self) -> str:
        return f"{self.name} ({self.app_id})"

    def rotate(self) -> None:
        """Make a new key and secret; the old ones are accepted until they are retired."""
        self.old_key, self.old_secret = self.key, self.secret
        self.key, self.secret = secrets.token_hex(), secrets.token_hex()

    def retire(self) -> None:
        """Accept the old key and secret no longer."""
        self.old_key = self.old_secret = ""

    def clean(self) -> None:
        """Refuse origins that could never match, and an id or key that the settings have."""
        origins = self.allowed_origins
        if not isinstance(origins, list) or not all(_is_origin(item) for item in origins):
            text = _('Enter a list of "*" or origins such as "https://example.com".')
            raise ValidationError({"allowed_origins": text})
        for name, read in (
            ("limits", conf.read_limits),
            ("encryption_master_key", conf.read_master_key),
        ):
            try:
                read(getattr(self, name))
            except ImproperlyConfigured as error:
                raise ValidationError({name: str(error)}) from None
        if bool(self.old_key) != bool(self.old_secret):
            raise ValidationError(_("An old key has an old secret."))
        keys = {self.key, self.old_key} - {""}
        for app in conf.apps():
            if self.app_id == app.id or keys & {token.key for token in app.tokens}:
                raise ValidationError(_("The settings have an app with this id or key."))
        others = Application.objects.exclude(pk=self.pk)
        if others.filter(models.Q(key__in=keys) | models.Q(old_key__in=keys)).exists():
            raise ValidationError(_("Another app has this key."))
