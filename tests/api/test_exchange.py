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
    ("messages", "joined", "body"),
    [
        ([piece(b"ab", True), piece(b"c", False)], [piece(b"abc", False)], b"abc"),
        ([{"type": "http.request"}], [piece(b"", False)], b""),
        ([piece(b"a" * 10, False)], [piece(b"a" * 10, False)], b"a" * 10),
        ([piece(b"a" * 6, True), piece(b"b" * 5, True)], [piece(b"aaaaaabbbbb", True)], None),
        ([piece(b"a" * 11, False)], [piece(b"a" * 11, False)], None),
        ([piece(b"a", True), GONE], [piece(b"a", True), GONE], None),
    ],
    ids=["in pieces", "empty", "as large as may be", "too large", "too large at once", "gone"],
)
async def test_a_body_is_read_if_it_is_whole_and_not_too_long(messages, joined, body):
    assert await read(receiver(*messages), 10) == (joined, body)


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
