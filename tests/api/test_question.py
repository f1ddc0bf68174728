"""Questions whose answer may never come."""

import asyncio

import pytest

from realtime.api import question
from realtime.api.question import Question
from tests.conftest import soon


async def test_an_answer_is_passed_on():
    async def find_out():
        return 7

    assert await soon(Question(find_out).ask()) == 7


@pytest.fixture
def stuck():
    """A question that hangs until its gate opens, and how often it was asked."""
    gate, asked = asyncio.Event(), []

    async def find_out():
        asked.append(1)
        await gate.wait()
        return True

    return Question(find_out), gate, asked


async def test_what_hangs_is_asked_once_and_has_no_answer(stuck, monkeypatch):
    monkeypatch.setattr(question, "ANSWER_SECONDS", 0.01)
    asking, gate, asked = stuck

    assert [await soon(asking.ask()) for _ in range(3)] == [None, None, None]

    assert len(asked) == 1
    gate.set()
    monkeypatch.setattr(question, "ANSWER_SECONDS", 20)
    assert await soon(asking.ask()) is True


async def test_what_hangs_for_long_is_asked_a_few_times_more(stuck, monkeypatch):
    monkeypatch.setattr(question, "ANSWER_SECONDS", 0.001)
    monkeypatch.setattr(question, "ASK_AGAIN_SECONDS", -1)
    asking, gate, asked = stuck

    for _ in range(10):
        await soon(asking.ask())

    assert len(asked) == question.HANGING
    gate.set()


async def test_an_answer_that_fails_is_none_and_the_next_one_is_asked_for(caplog):
    answers = iter([ValueError("nonsense"), 5])

    async def find_out():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    asking = Question(find_out)

    assert await soon(asking.ask()) is None
    assert await soon(asking.ask()) == 5
    assert "task question failed" in caplog.text
