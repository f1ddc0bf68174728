"""Frames are counted right however the bytes are cut."""

import random

import pytest

from tests.bench.load.frames import FrameCounter, split

SHORT = b"\x81\x05hello"
EVENT = b"\x81\x7e\x00\xa0" + b"e" * 160
LONG = b"\x81\x7f" + (70_000).to_bytes(8) + b"l" * 70_000
PING = b"\x89\x04abcd"
PONG = b"\x8a\x00"
CLOSE = b"\x88\x02\x03\xe8"


@pytest.mark.parametrize("frame", [SHORT, EVENT, LONG], ids=["short", "event", "long"])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 163, 164, 165, 4_096])
def test_every_cut_gives_the_same_count(frame, size):
    counter = FrameCounter()
    stream = frame * 3

    found = sum(counter.count(stream[at : at + size]) for at in range(0, len(stream), size))

    assert found == 3
    assert counter.at_border


def test_any_mixture_cut_anywhere_is_counted():
    chance = random.Random(7)
    for _ in range(200):
        frames = chance.choices([SHORT, EVENT, LONG, PING, PONG], [4, 8, 1, 2, 1], k=20)
        stream, counter, found = b"".join(frames), FrameCounter(), 0
        while stream:
            cut = chance.choice([1, 2, 7, 164, 328, 10_000])
            found += counter.count(stream[:cut])
            stream = stream[cut:]

        assert found == sum(frame[0] == 0x81 for frame in frames)
        assert len(counter.pings) == frames.count(PING)


def test_one_more_like_the_last_is_one():
    counter = FrameCounter()

    assert [counter.count(EVENT) for _ in range(3)] == [1, 1, 1]


def test_a_read_as_long_as_the_last_frame_may_hold_others():
    counter = FrameCounter()
    counter.count(EVENT)
    others = SHORT * 23 + b"\x81\x01x"

    assert len(others) == len(EVENT)
    assert counter.count(others) == 24


def test_half_a_frame_is_no_border():
    counter = FrameCounter()

    assert counter.count(EVENT + EVENT[:50]) == 1
    assert not counter.at_border


def test_pings_wait_for_an_answer_also_when_they_come_in_parts():
    counter = FrameCounter()
    counter.count(EVENT + PING[:3])
    counter.count(PING[3:] + EVENT)

    assert counter.pings == [b"abcd"]


def test_a_close_is_noticed_and_not_counted():
    counter = FrameCounter()

    assert counter.count(CLOSE) == 0
    assert counter.closed


def test_split_gives_whole_frames_and_the_rest():
    frames, rest = split(SHORT + PING + EVENT[:20])

    assert frames == [(0x81, b"hello"), (0x89, b"abcd")]
    assert rest == EVENT[:20]
