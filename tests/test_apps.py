"""The Django app."""

import subprocess
import sys

from django.apps import apps
from django.core.checks.registry import registry

from realtime import checks
from realtime.rules import registered


def test_the_app_goes_by_its_name():
    config = apps.get_app_config("realtime")

    assert (config.name, config.verbose_name) == ("realtime", "Realtime")


def test_its_checks_are_registered():
    known = registry.get_checks(include_deployment_checks=True)

    assert {checks.check_settings, checks.check_deployment} <= set(known)


def test_the_channel_rules_of_other_apps_are_found():
    assert any(rule.pattern.startswith("presence-room-") for rule in registered())


def test_starting_does_no_input_or_output():
    """No database, no layer and no loop is touched before the first use."""
    script = """if True:
        import os, socket, sqlite3, threading
        os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"

        def forbidden(*arguments, **options):
            raise AssertionError("input or output at start")

        socket.socket.connect = sqlite3.connect = forbidden
        import django
        django.setup()
        assert threading.active_count() == 1
    """

    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
