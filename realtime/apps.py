"""The Django app."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class RealtimeConfig(AppConfig):
    """Registers the checks and finds the channel rules of the site; does no I/O."""

    name = "realtime"
    verbose_name = _("Realtime")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import what registers itself."""
        from realtime import checks, layer_checks  # noqa: F401 - register on import

        autodiscover_modules("channel_rules")
