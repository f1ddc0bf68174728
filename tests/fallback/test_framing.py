"""What goes over HTTP in the place of WebSocket frames."""

import doctest
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.fallback import framing
from realtime.fallback.framing import BadBody, decode_messages, encode_close, encode_messages

encodable = st.text(st.characters(exclude_categories=["Cs"]))


def test_the_examples():
    assert doctest.testmod(framing) == (0, 2)


@given(st.lists(encodable, max_size=5))
def test_a_batch_is_one_line_of_ascii_whatever_is_in_it(texts):
    line = encode_messages(texts)

    assert line.isascii()
    assert line.index("\n") == len(line) - 1
    assert json.loads(line[1:]) == texts


@given(encodable)
def test_so_is_a_close(reason):
    line = encode_close(4200, reason)

    assert line.isascii()
    assert line.index("\n") == len(line) - 1
    assert json.loads(line[1:]) == [4200, reason]


@given(st.lists(encodable, max_size=5))
def test_what_a_client_sends_is_read(texts):
    assert decode_messages(json.dumps(texts).encode()) == texts
    assert decode_messages(json.dumps(texts, ensure_ascii=False).encode()) == texts


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'"text"',
        b"[1]",
        b'["a", null]',
        b'["a"',
        b"\xff",
        b'["\\ud800"]',
        b"[" * 100_000,
        json.dumps(["a"] * 101).encode(),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_anything_else_is_refused(body):
    with pytest.raises(BadBody):
        decode_messages(body)
