"""A load that breaks is no load that held."""

import socket

import pytest

from tests.chaos.history import History
from tests.chaos.publisher import Load


@pytest.fixture
def port():
    """A port that refuses connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_a_refused_call_is_an_answer(port):
    history = History()
    load = Load([port], ["news"], history, "p")

    await load.run_for(100, 0.05)

    assert {status for _, status, _ in load.answers} == {0}
    assert len(list(history.of("publish"))) == len(load.answers) > 0


async def test_a_call_that_breaks_ends_the_load(port):
    class Broken(History):
        def add(self, *arguments, **facts):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Load([port], ["news"], Broken(), "p").run(100, lambda: True)
