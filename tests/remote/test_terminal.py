import argparse

import pytest
from django.core.management.base import CommandParser

from realtime.remote import terminal
from realtime.remote.caller import Answer


@pytest.fixture
def parser():
    return CommandParser(formatter_class=argparse.HelpFormatter)


def test_the_server_is_the_one_of_a_first_start_unless_named(parser):
    terminal.add_server(parser)

    options = parser.parse_args([]), parser.parse_args(["--url", "https://a.example", "--app", "3"])

    assert [(chosen.url, chosen.app) for chosen in options] == [
        ("http://127.0.0.1:8000", None),
        ("https://a.example", "3"),
    ]


def test_what_a_terminal_would_obey_is_not_printed():
    assert terminal.printable("a\x1b[2Jb\u202ec") == "a?[2Jb?c"


def test_a_missing_package_is_named_with_its_command():
    error = terminal.lacks(ModuleNotFoundError("No module named 'websockets'", name="websockets"))

    assert "pip install websockets" in str(error)


def test_a_refusal_is_short_and_harmless():
    error = terminal.refused(Answer(403, "\x1b[31m" + "x" * 1_000, {}))

    assert str(error).startswith("The server answered 403: ?[31mxxx")
    assert len(str(error)) < 450
