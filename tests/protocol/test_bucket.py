"""Token buckets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol.bucket import CALM_SECONDS, Bucket, Pace


def test_a_full_bucket_has_its_burst_and_not_one_more():
    bucket = Bucket(10, 25, 0)

    assert [bucket.take(0) for _ in range(26)] == [True] * 25 + [False]


def test_tokens_come_back_steadily_up_to_a_full_bucket():
    bucket = Bucket(10, 25, 0)
    while bucket.take(0):
        pass

    assert sum(bucket.take(0.5) for _ in range(30)) == 5
    assert sum(bucket.take(3_600) for _ in range(30)) == 25


def test_what_is_taken_beyond_the_last_token_is_paid_before_the_next():
    bucket = Bucket(10, 10, 0)

    assert bucket.take(0, 100)
    assert not bucket.take(9, 1)
    assert bucket.seconds_to_next(9) == pytest.approx(0.1)
    assert bucket.take(9.2, 1)


def test_a_bucket_with_a_token_needs_no_waiting():
    assert Bucket(10, 10, 0).seconds_to_next(0) == 0


def test_a_debt_tells_how_long_it_lasts():
    bucket = Bucket(10, 2, 0)

    assert [bucket.owe(0) for _ in range(4)] == [0, 0, pytest.approx(0.1), pytest.approx(0.2)]
    assert bucket.owe(0.3) == 0


@given(st.lists(st.floats(0, 2), max_size=60))
def test_no_timing_gets_more_than_burst_and_rate_through(pauses):
    bucket, now, taken = Bucket(5, 20, 0), 0.0, 0

    for pause in pauses:
        now += pause
        taken += bucket.take(now)
        assert taken <= 20 + 5 * now + 1e-6


# ---- pace -------------------------------------------------------------------------------


def pace(rate=10, burst=20, patience=5):
    return Pace(rate, burst, patience=patience, now=0)


def flood(held, seconds, start=0.0):
    """Send as fast as one is read, for some seconds; when that ended."""
    now = start
    while now < start + seconds:
        now += held.pause(now)
    return now


def test_a_burst_is_read_at_once_and_the_next_message_a_little_later():
    held = pace()

    assert [held.pause(0) for _ in range(20)] == [0] * 20
    assert held.held_since is None
    assert held.pause(0) == pytest.approx(0.1)
    assert held.held_since == 0


def test_a_long_message_counts_as_several():
    held = pace()

    assert held.pause(0, 20) == 0
    assert held.pause(0, 5) == pytest.approx(0.5)


def test_nobody_is_read_faster_than_the_rate_in_the_long_run():
    held, now, read = pace(), 0.0, 0

    while now < 10:
        now += held.pause(now)
        read += 1

    assert 20 + 10 * 10 - 1 <= read <= 20 + 10 * 10 + 1


def test_a_peer_is_flooding_once_it_was_held_back_longer_than_patience():
    held = pace(patience=5)

    assert not held.is_flooding(flood(held, 4.9))
    assert held.is_flooding(flood(held, 0.3, start=5))


def test_a_moment_without_waiting_does_not_end_a_flood():
    held = pace(patience=5)
    now = flood(held, 4)

    assert held.pause(now + 0.5) == 0  # it read too late once, and so the peer had a token
    assert held.is_flooding(flood(held, 2, start=now + 0.5))


def test_an_old_flood_is_not_held_against_a_peer_whose_message_is_too_long():
    held = pace(rate=10, burst=10, patience=5)
    flood(held, 2)

    assert held.pause(1_000, 30) == pytest.approx(2)
    assert held.held_since == 1_000
    assert not held.is_flooding(1_000)


def test_a_second_of_calm_ends_a_flood():
    held = pace(patience=5)
    now = flood(held, 4) + CALM_SECONDS + 0.2

    assert held.pause(now) == 0
    assert held.held_since is None
    assert not held.is_flooding(flood(held, 4, start=now))
