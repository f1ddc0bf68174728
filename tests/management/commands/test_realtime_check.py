"""The command that says whether a running server does what clients rely on."""

import builtins
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from realtime.remote import trials


def run(*arguments):
    """The exit code and the lines printed."""
    output = StringIO()
    try:
        call_command("realtime_check", *arguments, stdout=output)
    except SystemExit as end:
        return end.code, output.getvalue().splitlines()
    return 0, output.getvalue().splitlines()


def passes(server):
    """Does nothing."""


def fails(server):
    raise trials.Failed("answered \x1b[31mred")


def skips(server):
    raise trials.Skipped("off")


def test_what_passes_and_what_fails_is_printed_and_is_the_exit_code(monkeypatch):
    monkeypatch.setattr(trials, "TRIALS", {"one": passes, "two": fails, "three": skips})

    code, lines = run()

    assert code == 1
    assert lines == [
        "ok    one",
        "FAIL  two: answered ?[31mred",
        "skip  three: off",
        "2 passed, 1 failed",
    ]


def test_a_server_in_order_is_no_error(monkeypatch):
    monkeypatch.setattr(trials, "TRIALS", {"one": passes})

    assert run("--url", "https://example.com/below", "--app", "3") == (
        0,
        ["ok    one", "1 passed, 0 failed"],
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--url", "example.com"], "is not a URL"), (["--app", "99"], "no realtime app")],
)
@pytest.mark.django_db
def test_what_cannot_be_tried_is_said(arguments, message):
    with pytest.raises(CommandError, match=message):
        run(*arguments)


def test_where_nobody_listens_one_sentence_is_all():
    output = StringIO()

    with pytest.raises(CommandError, match=r"no connection to 127\.0\.0\.1:1: .*refused"):
        call_command("realtime_check", "--url", "http://127.0.0.1:1", stdout=output)

    assert output.getvalue() == ""


def test_without_websockets_the_error_names_it(monkeypatch):
    real_import = builtins.__import__

    def without(name, globals=None, locals=None, fromlist=(), level=0):
        if name == "realtime.remote":
            raise ModuleNotFoundError("No module named 'websockets'", name="websockets")
        return real_import(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(CommandError, match="pip install websockets"):
        run()
