"""``manage.py realtime_purge``: forget who has not been here for long."""

from datetime import timedelta
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from realtime.presence import purge
from realtime.webhooks import deliveries

DAYS: Final = 36_500
"""Ours: a hundred years; a few thousand would be before any date that Python knows."""


class Command(BaseCommand):
    """Deletes rows that nothing needs any more; may run beside the server processes."""

    help = "Delete users, channels and failed webhooks that are long past.  Banned users stay."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--days", type=int, default=30, help="since when they were not seen (default: 30)"
        )
        parser.add_argument("--dry-run", action="store_true", help="only say how many there are")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run."""
        if options["days"] < 1:
            raise CommandError("--days must be 1 or more.")
        if options["days"] > DAYS:
            raise CommandError(f"--days must be {DAYS} or less.")
        before = timezone.now() - timedelta(days=options["days"])
        if options["dry_run"]:
            verb, found = "Would delete", purge.count(before)
            webhooks = deliveries.count_failed(before)
        else:
            verb, found = "Deleted", purge.delete(before)
            webhooks = deliveries.delete_failed(before)
        self.stdout.write(f"{verb} {found.members} members and {found.users} users.")
        self.stdout.write(f"{verb} {found.channels} empty channels and {webhooks} failed webhooks.")
