"""What one address may take of this process."""

from contextlib import ExitStack, contextmanager

import pytest

from realtime import addresses
from realtime.addresses import BURST_SECONDS, REMEMBERED_ADDRESSES, Addresses
from realtime.protocol.errors import OverCapacity

ANN, BOB = "8.8.8.8", "9.9.9.9"


@contextmanager
def connection(door, address, now):
    """One of *address*, from its beginning to its end."""
    door.enter(address, now)
    try:
        yield
    finally:
        door.leave(address)


@pytest.fixture
def door():
    return Addresses()


@pytest.fixture
def stack():
    with ExitStack() as opened:
        yield opened


async def test_a_process_has_one_register():
    assert addresses.current() is addresses.current()


def test_an_address_may_have_as_many_connections_as_the_limit(door, stack, configure, counted):
    configure(MAX_CONNECTIONS_PER_IP=2)
    for _ in range(2):
        stack.enter_context(connection(door, ANN, 0))

    with pytest.raises(OverCapacity), connection(door, ANN, 0):
        pass

    assert door.connections(ANN) == 2
    assert counted("over_capacity", "address") == 1


def test_one_address_takes_nothing_from_another(door, stack, configure):
    configure(MAX_CONNECTIONS_PER_IP=1)
    stack.enter_context(connection(door, ANN, 0))

    with connection(door, BOB, 0):
        assert door.connections(BOB) == 1


def test_a_connection_that_ends_makes_room(door, configure):
    configure(MAX_CONNECTIONS_PER_IP=1)
    for _ in range(3):
        with connection(door, ANN, 0):
            assert door.connections(ANN) == 1

    assert door.connections(ANN) == 0


def test_peers_without_an_address_are_not_counted(door, stack, configure):
    configure(MAX_CONNECTIONS_PER_IP=1, CONNECTS_PER_SECOND_PER_IP=1)

    for _ in range(2 * BURST_SECONDS):
        stack.enter_context(connection(door, None, 0))


def attempts(door, count, now):
    """How many of *count* attempts are let in."""
    let_in = 0
    for _ in range(count):
        try:
            with connection(door, ANN, now):
                let_in += 1
        except OverCapacity:
            pass
    return let_in


def test_ten_seconds_worth_of_attempts_may_come_at_once(door, configure, counted):
    configure(CONNECTS_PER_SECOND_PER_IP=2)

    assert attempts(door, 20, now=5) == 20
    assert attempts(door, 1, now=5) == 0
    assert counted("over_capacity", "address_rate") == 1
    assert attempts(door, 5, now=6) == 2


def test_attempts_that_fail_count_too(door, configure):
    configure(CONNECTS_PER_SECOND_PER_IP=1, MAX_CONNECTIONS_PER_IP=1)

    with connection(door, ANN, 0):
        assert attempts(door, 30, now=0) == 0

    assert attempts(door, 1, now=0) == 0


def test_the_address_that_was_silent_longest_is_forgotten(door, configure):
    configure(CONNECTS_PER_SECOND_PER_IP=1)
    attempts(door, 10, now=0)
    assert attempts(door, 1, now=0) == 0

    for number in range(REMEMBERED_ADDRESSES):
        with connection(door, f"address {number}", 0):
            pass

    assert attempts(door, 1, now=0) == 1
    assert len(door._attempts) == REMEMBERED_ADDRESSES
