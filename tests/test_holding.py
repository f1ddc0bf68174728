"""What happens in a channel while sockets wait."""

import pytest

from realtime import holding as holding_module
from realtime.holding import Holding
from realtime.layer import Envelope
from tests.conftest import ID, Peer


def event(text, except_socket_id=None):
    return Envelope(ID, "room", text, except_socket_id)


@pytest.fixture
async def holding():
    return Holding()


def wait(holding, socket_id):
    peer = Peer(socket_id)
    holding.add(peer.socket)
    return peer


def taken(holding, socket_id):
    return [event.text for event in holding.take(socket_id)]


async def test_each_socket_gets_what_came_since_it_began_to_wait(holding):
    holding.note(event("nobody waits"))
    wait(holding, "1.1")
    holding.note(event("a"))
    wait(holding, "1.2")
    holding.note(event("b"))

    assert list(holding.keys()) == ["1.1", "1.2"]
    assert taken(holding, "1.1") == ["a", "b"]
    assert taken(holding, "1.2") == ["b"]
    assert len(holding) == 0


async def test_whoever_sent_an_event_does_not_get_it(holding):
    wait(holding, "1.1")
    wait(holding, "1.2")

    holding.note(event("a", except_socket_id="1.1"))

    assert taken(holding, "1.1") == []
    assert taken(holding, "1.2") == ["a"]


async def test_a_socket_that_begins_again_gets_nothing_from_before(holding):
    peer = wait(holding, "1.1")
    holding.note(event("a"))
    holding.drop("1.1")
    holding.drop("1.1")

    holding.add(peer.socket)
    holding.note(event("b"))

    assert taken(holding, "1.1") == ["b"]


async def test_whoever_misses_too_much_is_sent_away_and_the_others_are_not(
    holding, monkeypatch, counted
):
    monkeypatch.setattr(holding_module, "HELD_CHARS", 10)
    slow, quick = wait(holding, "1.1"), None
    holding.note(event("x" * 6))
    quick = wait(holding, "1.2")

    holding.note(event("y" * 6))

    assert slow.socket.over
    assert not quick.socket.over
    assert taken(holding, "1.1") == []
    assert taken(holding, "1.2") == ["y" * 6]
    assert counted("over_capacity", "held_events") == 1


async def test_a_crowd_that_never_ends_keeps_no_more_than_what_somebody_waits_for(holding):
    wait(holding, "1.0")
    for number in range(1, 1_000):
        wait(holding, f"1.{number}")
        holding.note(event(str(number)))
        assert taken(holding, f"1.{number - 1}") == [str(number - 1), str(number)][number == 1 :]
        assert len(holding._events) <= 3


async def test_an_event_costs_the_same_however_many_wait(holding):
    for number in range(1_000):
        wait(holding, f"1.{number}")

    holding.note(event("a"))

    assert len(holding._events) == 1
