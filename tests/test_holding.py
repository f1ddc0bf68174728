"""What happens in a channel while sockets wait."""

import pytest

from realtime.holding import EVENT_CHARS, Holding
from realtime.layer import Envelope
from realtime.protocol.frames import Frame
from tests.conftest import ID, Peer


def event(text, except_socket_id=None):
    return Envelope(ID, "room", text, except_socket_id)


@pytest.fixture
async def holding():
    return Holding()


def held(text, except_socket_id=None):
    made = event(text, except_socket_id)
    return made, Frame(made.text)


def wait(holding, socket_id, **options):
    peer = Peer(socket_id, **options)
    holding.add(peer.socket)
    return peer


def taken(holding, socket_id):
    return [event.text for event, _ in holding.take(socket_id)]


async def test_each_socket_gets_what_came_since_it_began_to_wait(holding):
    holding.note(*held("nobody waits"))
    wait(holding, "1.1")
    holding.note(*held("a"))
    wait(holding, "1.2")
    holding.note(*held("b"))

    assert list(holding.keys()) == ["1.1", "1.2"]
    assert taken(holding, "1.1") == ["a", "b"]
    assert taken(holding, "1.2") == ["b"]
    assert len(holding) == 0


async def test_whoever_sent_an_event_does_not_get_it(holding):
    wait(holding, "1.1")
    wait(holding, "1.2")

    holding.note(*held("a", except_socket_id="1.1"))

    assert taken(holding, "1.1") == []
    assert taken(holding, "1.2") == ["a"]


async def test_a_socket_that_begins_again_gets_nothing_from_before(holding):
    peer = wait(holding, "1.1")
    holding.note(*held("a"))
    holding.drop("1.1")
    holding.drop("1.1")

    holding.add(peer.socket)
    holding.note(*held("b"))

    assert taken(holding, "1.1") == ["b"]


async def test_whoever_misses_more_than_a_backlog_is_sent_away_and_the_others_are_not(
    holding, counted
):
    most = 2 * EVENT_CHARS
    slow = wait(holding, "1.1", backlog_chars=most)
    holding.note(*held("x" * 6))
    quick = wait(holding, "1.2", backlog_chars=most)

    holding.note(*held("y" * 6))

    assert slow.socket.over
    assert not quick.socket.over
    assert taken(holding, "1.1") == []
    assert taken(holding, "1.2") == ["y" * 6]
    assert counted("over_capacity", "held_events") == 1


async def test_nothing_is_kept_for_a_socket_that_is_over(holding, counted):
    gone = wait(holding, "1.1", backlog_chars=1)
    gone.socket.abandon()

    holding.note(*held("a"))

    assert len(holding) == 0
    assert holding._events == []
    assert counted("over_capacity", "held_events") == 0


async def test_all_get_the_same_frame(holding):
    wait(holding, "1.1")
    wait(holding, "1.2")
    holding.note(*held("a"))

    [(_, one)], [(_, other)] = holding.take("1.1"), holding.take("1.2")

    assert one is other


async def test_a_crowd_that_missed_the_same_shares_one_list_until_more_comes(holding):
    for number in range(4):
        wait(holding, f"1.{number}")
    holding.note(*held("a"))
    first, second = holding.take("1.0"), holding.take("1.1")
    holding.note(*held("b"))
    third, fourth = holding.take("1.2"), holding.take("1.3")

    assert first is second
    assert third is fourth
    assert [event.text for event, _ in first] == ["a"]
    assert [event.text for event, _ in third] == ["a", "b"]


async def test_a_crowd_that_never_ends_keeps_no_more_than_what_somebody_waits_for(holding):
    wait(holding, "1.0")
    for number in range(1, 1_000):
        wait(holding, f"1.{number}")
        holding.note(*held(str(number)))
        assert taken(holding, f"1.{number - 1}") == [str(number - 1), str(number)][number == 1 :]
        assert len(holding._events) <= 3


async def test_an_event_costs_the_same_however_many_wait(holding):
    for number in range(1_000):
        wait(holding, f"1.{number}")

    holding.note(*held("a"))

    assert len(holding._events) == 1
