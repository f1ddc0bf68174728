import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from realtime.protocol.frames import LONG_CHARS, encode_text, frame_of


def theirs(text):
    """The same by another implementation."""
    return Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_every_length_has_its_header(size):
    assert encode_text("x" * size) == theirs("x" * size)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text(text):
    assert encode_text(text) == theirs(text)


def test_half_a_surrogate_is_no_text():
    with pytest.raises(UnicodeEncodeError):
        encode_text("\ud800")


def test_a_long_text_is_made_a_frame_once_for_a_crowd():
    text = "x" * LONG_CHARS

    frame = frame_of(text)

    assert frame_of(text) is frame
    assert frame.wire == encode_text(text)
    assert frame_of("x" * (LONG_CHARS - 1)) is not frame_of("x" * (LONG_CHARS - 1))


def test_a_frame_that_nobody_waits_for_is_not_kept():
    text = "y" * LONG_CHARS
    frame_of(text).chars = 0  # another one would have its length

    gc.collect()

    assert frame_of(text).chars == LONG_CHARS
