import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from realtime.protocol.frames import encode_text


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
