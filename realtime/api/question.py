"""Questions of a request whose answer may never come: from a database or a layer on a dead link."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from realtime import loops

T = TypeVar("T")

ANSWER_SECONDS: Final = 2.0
"""Ours: what hangs longer is away; load balancers and scrapers wait three to ten seconds."""

ASK_AGAIN_SECONDS: Final = 5.0
"""Ours: after what time a question that hangs is asked once more, in another way."""

HANGING: Final = 3
"""Ours: questions that may hang at the same time."""


class Question(Generic[T]):
    """Asks something that may hang, seldom more than once at a time, however many want to know.

    Args:
        find_out: returns the answer; must not raise.
    """

    def __init__(self, find_out: Callable[[], Awaitable[T]]) -> None:
        self._find_out = find_out
        self._asked: list[tuple[asyncio.Task[object], list[T]]] = []
        """Those under way, and where each puts its answer."""
        self._asked_at = 0.0

    async def ask(self) -> T | None:
        """The answer, or none within ``ANSWER_SECONDS``."""
        now = asyncio.get_running_loop().time()
        self._asked = [asked for asked in self._asked if not asked[0].done()]
        # One that hangs on a dead link may do so for an hour; another link may be fine.
        hangs = now - self._asked_at > ASK_AGAIN_SECONDS and len(self._asked) < HANGING
        if not self._asked or hangs:
            answers: list[T] = []
            self._asked.append((loops.spawn(self._await(answers), "question"), answers))
            self._asked_at = now
        # The question goes on when we wait no longer: a thread cannot be cancelled.
        task, answers = self._asked[-1]
        await asyncio.wait([task], timeout=ANSWER_SECONDS)
        return answers[0] if answers else None

    async def _await(self, answers: list[T]) -> None:
        answers.append(await self._find_out())
