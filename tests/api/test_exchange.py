"""Requests as ASGI has them: read once, played again, answered without Django."""

import pytest

from realtime.api.exchange import JSON, again, answer, read


def receiver(*messages):
    """A ``receive`` that gives these, and fails when it is asked for more."""
    waiting = iter(messages)

    async def receive():
        return next(waiting)

    return receive


def piece(body, more_body):
    return {"type": "http.request", "body": body, "more_body": more_body}


GONE = {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("messages", "body"),
    [
        ([piece(b"ab", True), piece(b"c", False)], b"abc"),
        ([{"type": "http.request"}], b""),
        ([piece(b"a" * 10, False)], b"a" * 10),
        ([piece(b"a" * 6, True), piece(b"a" * 5, True)], None),
        ([piece(b"a", True), GONE], None),
    ],
    ids=["in pieces", "empty", "as large as may be", "too large", "gone"],
)
async def test_a_body_is_read_if_it_is_whole_and_not_too_long(configure, messages, body):
    configure(API_BODY_BYTES=10)

    assert await read(receiver(*messages)) == (messages, body)


async def test_what_was_read_comes_first_when_it_is_played_again():
    receive = again([piece(b"a", True), piece(b"b", False)], receiver(GONE))

    assert [(await receive()).get("body") for _ in range(3)] == [b"a", b"b", None]


async def test_an_answer_says_how_long_it_is():
    sent = []

    async def send(message):
        sent.append(message)

    await answer(send, 200, JSON, '"ü"', [(b"x-more", b"1")])

    assert sent[0]["status"] == 200
    assert sent[0]["headers"] == [JSON, (b"content-length", b"4"), (b"x-more", b"1")]
    assert sent[1] == {"type": "http.response.body", "body": '"ü"'.encode()}
