"""The trials notice a server that does not what clients rely on; the end-to-end tests run them
against one that does.
"""

from dataclasses import replace

import pytest

from realtime.remote import trials
from realtime.remote.caller import Unreachable
from realtime.remote.trials import Result, Server

REFUSALS = [
    "POST events: too much data is refused with 413",
    "a wrong signature is refused with 401",
    "an unknown key is refused with 401",
    "a timestamp twenty minutes off is refused with 401",
    "unknown paths answer 404, without a redirect",
    "pages of other origins cannot read the HTTP API",
    "the auth endpoints answer 403 to strangers",
]
"""What only a server that refuses something passes."""


def outcome(server, title):
    """The result of one trial."""
    [result] = [result for result in trials.run(server) if result.title == title]
    return result


@pytest.fixture
def only(monkeypatch):
    """Leaves out all trials but some."""

    def keep(*titles):
        monkeypatch.setattr(trials, "TRIALS", {title: trials.TRIALS[title] for title in titles})

    return keep


def test_where_no_server_is_nothing_more_is_tried(app):
    with pytest.raises(Unreachable, match="refused"):
        next(trials.run(Server("http://127.0.0.1:1", app)))


@pytest.mark.parametrize("title", REFUSALS)
def test_a_server_that_allows_everything_fails(http_server, app, only, title):
    http_server.headers = {"Access-Control-Allow-Origin": "*"}
    only(title)

    result = outcome(Server(http_server.url, app), title)

    assert not result.passed
    assert "200" in result.reason or "*" in result.reason


@pytest.mark.parametrize("title", ["POST events", "POST batch_events"])
def test_an_answer_that_is_not_the_protocols_fails(http_server, app, only, title):
    http_server.body = b'{"ok":true}'
    only(title)

    result = outcome(Server(http_server.url, app), title)

    assert (result.passed, result.reason) == (False, 'answered {"ok":true} instead of {}')


def test_an_answer_that_is_the_protocols_passes(http_server, app, only):
    only("POST events")

    assert outcome(Server(http_server.url, app), "POST events") == Result(
        "POST events", passed=True
    )


def test_what_the_app_does_not_allow_is_left_out(app, only):
    title = "client event: reaches the others, not the sender"
    only(title)

    result = outcome(Server("http://127.0.0.1:1", replace(app, client_events=False)), title)

    assert (result.passed, result.reason) == (True, "client events are off")


def test_every_name_is_of_this_run_alone(app):
    first, second = (Server("http://127.0.0.1:1", app) for _ in range(2))

    assert first.name("private-").startswith("private-realtime-check-")
    assert first.name() != second.name()
