"""``manage.py realtime_trigger``: send an event from a terminal."""

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from realtime import applications, layer, trigger
from realtime.protocol.errors import BadMessage, RealtimeError
from realtime.protocol.messages import load_json
from realtime.remote import terminal
from realtime.remote.caller import Caller


class Command(BaseCommand):
    """Calls ``trigger()``, or the HTTP API of a server that alone reaches its browsers."""

    help = "Send an event to channels: CHANNEL EVENT, or CHANNEL [CHANNEL …] EVENT DATA."

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "words",
            nargs="+",
            metavar="CHANNEL… EVENT [DATA]",
            help="with three words or more the last one is the data, in JSON (default: {})",
        )
        terminal.add_app(parser)
        parser.add_argument("--exclude", metavar="SOCKET_ID", help="who does not get the event")
        parser.add_argument(
            "--durable", action="store_true", help="keep it in the database until it was sent"
        )
        parser.add_argument("--url", help="send it through the HTTP API of the server there")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run."""
        channels, event, data = _split(options["words"])
        try:
            if options["url"]:
                self._call(channels, event, data, options)
            else:
                self._trigger(channels, event, data, options)
        except (ImproperlyConfigured, RealtimeError, OSError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Sent {event} to {', '.join(channels)}.")

    def _trigger(self, channels: list[str], event: str, data: str, options: dict[str, Any]) -> None:
        durable = options["durable"]
        if layer.is_in_memory() and not durable:
            raise CommandError(
                "The channel layer is in memory, so only the server process reaches browsers."
                " Give its address, like --url http://127.0.0.1:8000, or --durable to have it"
                " sent by the server, or set CHANNEL_LAYERS to Redis."
            )
        value = load_json(data)
        if durable and not isinstance(value, dict):
            raise CommandError("The data of a durable event must be a JSON object.")
        # Not parsed and written anew where it need not be: long numbers would change.
        trigger(
            channels,
            event,
            value if durable else data,
            options["exclude"],
            app_id=options["app"],
            durable=durable,
        )

    def _call(self, channels: list[str], event: str, data: str, options: dict[str, Any]) -> None:
        if options["durable"]:
            raise CommandError("--durable writes to the database; leave --url out.")
        body: dict[str, object] = {"name": event, "channels": channels, "data": data}
        if options["exclude"]:
            body["socket_id"] = options["exclude"]
        caller = Caller(options["url"], applications.default(options["app"]))
        answer = caller.call("POST", "/events", body)
        if answer.status != 200:
            raise terminal.refused(answer)


def _split(words: list[str]) -> tuple[list[str], str, str]:
    """Channels, event and data.

    Raises:
        CommandError: one of them is missing, or the data is no JSON, or stands for the event.
    """
    if len(words) < 2:
        raise CommandError("Name a channel and an event.")
    if len(words) == 2:
        if _is_data(words[1]):
            raise CommandError(f"Name the channel first: {words[1]!r} is the data of an event.")
        return [words[0]], words[1], "{}"
    *channels, event, data = words
    try:
        load_json(data)
    except BadMessage:
        raise CommandError(
            f"The last word is the data, and {data!r} is not JSON."
            " Text needs quotes of its own, like '\"text\"'."
        ) from None
    return channels, event, data


def _is_data(word: str) -> bool:
    """Whether nobody means *word* as the name of an event; a number may be one."""
    try:
        return isinstance(load_json(word), dict | list | str)
    except BadMessage:
        return False
