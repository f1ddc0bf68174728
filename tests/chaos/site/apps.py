"""Shortens what takes hours in production, for the rows that need it."""

import os

from django.apps import AppConfig


class ChaosConfig(AppConfig):
    """Applies what no setting reaches."""

    name = "tests.chaos.site"
    label = "chaos_site"

    def ready(self):
        seconds = os.environ.get("CHAOS_RENEWAL_SECONDS")
        if seconds:
            from realtime import bus

            # Fails where it has moved: the row would otherwise prove nothing.
            assert float(seconds) < bus.RENEWAL_SECONDS
            bus.RENEWAL_SECONDS = float(seconds)
