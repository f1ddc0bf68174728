"""``manage.py realtime_erase_user``: erase, and first export, everything kept about a user."""

import json
import os
import time
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder

from realtime import applications, conf, erasure, layer, moderation
from realtime.layer import PublishFailed
from realtime.models import RealtimeUser
from realtime.presence import census

LEAVE_SECONDS: Final = 5.0
"""Ours: how long the connections may take to be gone, before they are erased all the same."""

_LOOK_SECONDS = 0.1


class Command(BaseCommand):
    """Closes the connections first, so that nothing is written after it was erased."""

    help = "Erase everything kept about a user, and close the user's connections."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("app", nargs="?", help="id of the app, where there are several")
        parser.add_argument("user", help="the Pusher user id")
        parser.add_argument("--export", metavar="FILE", help="first write it there, as JSON")
        parser.add_argument("--keep-ban", action="store_true", help="keep the id and the ban")
        parser.add_argument("--dry-run", action="store_true", help="only say what there is")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run."""
        try:
            app_id = applications.default(options["app"]).id
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from None
        user_id = options["user"]
        if options["export"]:
            _write(options["export"], erasure.export(user_id, app_id=app_id))
            self.stdout.write(f"Exported to {options['export']}.")
        if options["dry_run"]:
            self._say("Would erase", erasure.count(user_id, app_id=app_id))
            return
        if layer.is_in_memory() and census.connection_count(app_id, user_id):
            raise CommandError(
                "The user is connected, and the channel layer in memory ends at this process:"
                " erase in the admin, or with realtime.erase_user() in the server process."
            )
        try:
            _part(app_id, user_id)
            erased = erasure.erase_user(user_id, app_id=app_id, keep_ban=options["keep_ban"])
        except PublishFailed as error:
            raise CommandError(f"Connections may still be open: {error}") from None
        if erased.ban_kept:
            self.stdout.write("Erased what the user showed; kept the id and the ban.")
        if erased.rows or not erased.ban_kept:
            self._say("Erased", erased.rows)

    def _say(self, verb: str, rows: dict[str, int]) -> None:
        listed = ", ".join(f"{total} {name}" for name, total in sorted(rows.items()))
        self.stdout.write(f"{verb}: {listed or 'nothing, nobody knows this user'}.")


def _part(app_id: str, user_id: str) -> None:
    """Close the connections, and give all processes time to write that and to hear of it.

    Once the rows are gone nobody can look up what the channel layer lost.
    """
    if not census.connection_count(app_id, user_id):
        return
    moderation.close_connections([RealtimeUser(app_id=app_id, user_id=user_id)])
    deadline = time.monotonic() + LEAVE_SECONDS
    while census.connection_count(app_id, user_id) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    time.sleep(conf.get().lease_seconds / 3)


def _write(path: str, document: dict[str, Any]) -> None:
    """Write *document* where nothing was, for nobody else to read.

    Raises:
        CommandError: there is a file already, or none can be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
    with open(handle, "w", encoding="utf-8") as file:
        json.dump(document, file, cls=DjangoJSONEncoder, indent=2)
        file.write("\n")
