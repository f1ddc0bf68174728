"""``manage.py realtime_outbox``: send durable events that are still waiting."""

import time
from contextlib import suppress
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError, connections

from realtime import conf, layer, outbox
from realtime.layer import PublishFailed
from realtime.models import OutboxEntry

LOOK_SECONDS: Final = 0.1
"""Ours: how often to look whether a channel that was claimed is free."""


class Command(BaseCommand):
    """Sweeps the outbox as every server process does, for a site whose servers are away."""

    help = "Send durable events that no process has sent yet, and go on until it is stopped."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument("--once", action="store_true", help="send what waits now, and end")
        parser.add_argument("--status", action="store_true", help="say what waits, and end")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run."""
        if options["status"]:
            self._say_status()
            return
        if layer.is_in_memory():
            raise CommandError(
                "The channel layer is in memory, so only the server process reaches browsers;"
                " it sends durable events by itself.  Set CHANNEL_LAYERS to Redis."
            )
        if options["once"]:
            self._once()
        else:
            with suppress(KeyboardInterrupt):
                self._for_ever()

    def _say_status(self) -> None:
        unsent = OutboxEntry.objects.unsent()
        oldest = unsent.order_by("pk").values_list("created_at", flat=True).first()
        self.stdout.write(f"{unsent.count()} durable events wait.")
        if oldest is not None:
            self.stdout.write(
                f"The oldest has waited since {oldest.isoformat(timespec='seconds')}."
            )

    def _once(self) -> None:
        """Send all there is; what another process is sending just now is waited for."""
        sent, patience = 0, outbox.longest_claim().total_seconds()
        began = time.monotonic()
        try:
            while True:
                sent += outbox.drain()
                if not OutboxEntry.objects.unsent().exists():
                    break
                if time.monotonic() - began > patience:
                    raise CommandError("Some durable events still wait: another process has them.")
                time.sleep(LOOK_SECONDS)
        except PublishFailed as error:
            raise CommandError(f"Some durable events still wait: {error}.") from error
        _purge()
        self.stdout.write(f"Sent {sent} durable events.")

    def _for_ever(self) -> None:
        purge_at = 0.0
        while True:
            try:
                sent = outbox.drain()
                if sent:
                    self.stdout.write(f"Sent {sent} durable events.")
                if time.monotonic() >= purge_at:
                    _purge()
                    purge_at = time.monotonic() + outbox.PURGE_SECONDS
            except PublishFailed as error:
                self.stderr.write(f"Durable events wait: {error}.")
            except (DatabaseError, InterfaceError) as error:
                self.stderr.write(f"The outbox cannot be read: {error}.")
                connections.close_all()
            time.sleep(conf.get().outbox_sweep_seconds)


def _purge() -> None:
    while outbox.purge() == outbox.ENTRIES:
        pass
