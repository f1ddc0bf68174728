"""``manage.py realtime_check``: does a running server do what clients and libraries rely on?"""

import sys
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from realtime import applications
from realtime.remote.caller import InvalidUrl, Unreachable


class Command(BaseCommand):
    """Talks to a server from outside: through the proxy, if the URL is that of the proxy."""

    help = (
        "Call a running server as browsers and the official libraries do, and say what passes."
        " Exit code: 0 everything, 1 not everything."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--url",
            default="http://127.0.0.1:8000",
            help="where the site includes realtime.urls (default: http://127.0.0.1:8000)",
        )
        parser.add_argument("--app", help="id of the app, where the site has several")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run; exits by itself where something failed."""
        try:
            from realtime.remote import trials
        except ModuleNotFoundError as error:
            raise CommandError(
                f"This needs the package {error.name}: pip install {error.name}"
            ) from error
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
                self.stdout.write(f"{word:<5} {result.title}{_printable(reason)}")
        except Unreachable as error:
            raise CommandError(f"Nothing more to try: {error}.") from error
        self.stdout.write(f"{len(trials.TRIALS) - failed} passed, {failed} failed")
        if failed:
            sys.exit(1)


def _printable(text: str) -> str:
    # What a server answers may hold what a terminal would obey.
    return "".join(sign if sign.isprintable() else "?" for sign in text)
