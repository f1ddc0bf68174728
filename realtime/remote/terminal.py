"""What commands that talk to a running server say and ask."""

from typing import Final

from django.core.management.base import CommandError, CommandParser

from realtime.remote.caller import Answer

URL: Final = "http://127.0.0.1:8000"


def add_app(parser: CommandParser) -> None:
    """Declare which app is meant."""
    parser.add_argument("--app", help="id of the app, where the site has several")


def add_server(parser: CommandParser) -> None:
    """Declare which server and which app are meant."""
    add_app(parser)
    parser.add_argument(
        "--url", default=URL, help=f"where the site includes realtime.urls (default: {URL})"
    )


def printable(text: str) -> str:
    """*text* without what a terminal would obey: it may come from anybody."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def lacks(error: ModuleNotFoundError) -> CommandError:
    """What to say where a package is missing."""
    return CommandError(f"This needs the package {error.name}: pip install {error.name}")


def refused(answer: Answer) -> CommandError:
    """What to say where the server did not do what it was asked for."""
    text = printable(answer.text.strip()[:400])
    return CommandError(f"The server answered {answer.status}: {text}")
