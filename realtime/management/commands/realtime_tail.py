"""``manage.py realtime_tail``: watch the events of channels in a terminal."""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from realtime import applications
from realtime.protocol.app import App
from realtime.protocol.errors import RealtimeError
from realtime.protocol.names import Kind, is_channel_name, kind_of
from realtime.remote import terminal
from realtime.remote.caller import Caller, InvalidUrl

if TYPE_CHECKING:
    from realtime.remote.wire import Wire

LOOK_SECONDS: Final = 2.0
"""Ours: how often the server is asked for new channels that start with a prefix."""

AGAIN_SECONDS: Final = 1.0
"""Ours: the pause before a connection that was lost is made anew."""

FOR_GOOD: Final = range(4000, 4100)
"""Pusher docs, "Connection closure": codes after which connecting again is of no use."""

USER_ID: Final = "realtime-tail"
"""The member as which presence channels see us."""


class Command(BaseCommand):
    """Connects and subscribes as a browser does, so it sees what browsers see."""

    help = "Print the events of channels as they come, until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--channel", action="append", default=[], metavar="NAME", help="may be repeated"
        )
        parser.add_argument(
            "--prefix", help="also the occupied channels that start so, but no presence channel"
        )
        parser.add_argument("--events", nargs="+", metavar="EVENT", help="only events so named")
        parser.add_argument("--data", action="store_true", help="print the data of events as well")
        parser.add_argument("--count", type=int, help="end after so many events")
        terminal.add_server(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run."""
        if options["count"] is not None and options["count"] < 1:
            raise CommandError("--count must be 1 or more.")
        try:
            app = applications.default(options["app"])
            caller = Caller(options["url"], app)
        except (ImproperlyConfigured, InvalidUrl) as error:
            raise CommandError(str(error)) from error
        if not options["channel"] and options["prefix"] is None:
            raise CommandError("Name channels with --channel or --prefix.")
        for channel in options["channel"]:
            if not is_channel_name(channel, app.limits):
                raise CommandError(f"{channel!r} is not the name of a channel.")
        with suppress(KeyboardInterrupt):
            left = options["count"] or -1
            for message in self._messages(app, caller, options):
                self._show(message, with_data=options["data"])
                left -= 1
                if left == 0:
                    return

    def _messages(
        self, app: App, caller: Caller, options: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Events, over as many connections as it takes."""
        try:
            from realtime.remote.wire import Wire, WireLost
        except ModuleNotFoundError as error:
            raise terminal.lacks(error) from error
        connected = False
        while True:
            try:
                with Wire(options["url"], app) as wire:
                    connected = True
                    yield from _events(wire, caller, options)
            except (RealtimeError, OSError) as error:
                code = error.code if isinstance(error, WireLost) else None
                if not connected or code in FOR_GOOD:
                    raise CommandError(str(error)) from error
                self.stderr.write(f"{error}; connecting again")
                time.sleep(AGAIN_SECONDS)

    def _show(self, message: dict[str, Any], *, with_data: bool) -> None:
        data = message.get("data")
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        line = [
            time.strftime("%H:%M:%S"),
            str(message.get("channel", "-")),
            str(message["event"]),
            f"{len(text.encode('utf-8', 'surrogatepass'))} bytes",
            *([text] if with_data else []),
        ]
        self.stdout.write("  ".join(map(terminal.printable, line)))
        self.stdout.flush()


def _events(wire: "Wire", caller: Caller, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Events of one connection, which is kept alive and subscribed to what there is."""
    wanted = set(options["channel"])
    subscribed: set[str] = set()
    heard = look_at = time.monotonic()
    while True:
        now = time.monotonic()
        if options["prefix"] is not None and now >= look_at:
            wanted |= _occupied(caller, options["prefix"])
            look_at = now + LOOK_SECONDS
        for channel in sorted(wanted - subscribed):
            wire.ask(channel, _member(channel))
            subscribed.add(channel)
        if now - heard > wire.activity_seconds:
            wire.say("pusher:ping")
            heard = now
        try:
            message = wire.receive(LOOK_SECONDS)
        except TimeoutError:
            continue
        heard, event = time.monotonic(), str(message["event"])
        if event in ("pusher:error", "pusher:subscription_error"):
            raise CommandError(f"The server refused: {json.dumps(message)[:400]}")
        if event == "pusher:ping":
            wire.say("pusher:pong")
        if event.startswith(("pusher:", "pusher_internal:")):
            continue
        if not options["events"] or event in options["events"]:
            yield message


def _occupied(caller: Caller, prefix: str) -> set[str]:
    answer = caller.call("GET", "/channels", query=[("filter_by_prefix", prefix)])
    if answer.status != 200:
        raise terminal.refused(answer)
    # Who watches a presence channel is seen there, so only those that were asked for by name.
    return {name for name in answer.json()["channels"] if kind_of(name) is not Kind.PRESENCE}


def _member(channel: str) -> str | None:
    return json.dumps({"user_id": USER_ID}) if kind_of(channel) is Kind.PRESENCE else None
