"""``manage.py realtime_check``: does a running server do what clients and libraries rely on?"""

import sys
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from realtime import applications
from realtime.remote import terminal
from realtime.remote.caller import InvalidUrl, Unreachable


class Command(BaseCommand):
    """Talks to a server from outside: through the proxy, if the URL is that of the proxy."""

    help = (
        "Call a running server as browsers and the official libraries do, and say what passes."
        " Exit code: 0 everything, 1 not everything."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        terminal.add_server(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run; exits by itself where something failed."""
        try:
            from realtime.remote import trials
        except ModuleNotFoundError as error:
            raise terminal.lacks(error) from error
        try:
            server = trials.Server(options["url"], applications.default(options["app"]))
        except (ImproperlyConfigured, InvalidUrl) as error:
            raise CommandError(str(error)) from error
        failed = 0
        try:
            for result in trials.run(server):
                failed += not result.passed
                word = "FAIL" if not result.passed else "skip" if result.reason else "ok"
                reason = f": {result.reason}" if result.reason else ""
                self.stdout.write(f"{word:<5} {result.title}{terminal.printable(reason)}")
        except Unreachable as error:
            raise CommandError(f"Nothing more to try: {error}.") from error
        self.stdout.write(f"{len(trials.TRIALS) - failed} passed, {failed} failed")
        if failed:
            sys.exit(1)
