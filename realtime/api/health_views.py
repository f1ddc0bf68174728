"""Is this process alive, and should it get traffic: for load balancers and orchestrators.

Nothing is told but yes and no, so both may be open to anybody.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from realtime import hub, layer, loops
from realtime.database import DatabaseThread
from realtime.layer import PublishFailed
from realtime.presence import ledger

HEALTH_SECONDS: Final = 2.0
"""Ours: what hangs longer is not ready; load balancers wait three to five seconds."""

ASK_AGAIN_SECONDS: Final = 5.0
"""Ours: after what time a question that hangs is asked once more, in another way."""

HANGING: Final = 3
"""Ours: questions that may hang at the same time."""


@require_safe
def up(request: HttpRequest) -> JsonResponse:
    """``GET /realtime/up``: 200 as long as the process answers at all."""
    return JsonResponse({"up": True})


@require_safe
async def ready(request: HttpRequest) -> JsonResponse:
    """``GET /realtime/ready``: 200 if clients and API calls may be sent here, else 503."""
    local_hub, local_ledger, questions = hub.peek(), ledger.peek(), _questions.current()
    database, layer_answers = await asyncio.gather(questions.database.ask(), questions.layer.ask())
    answers = {
        "accepting": local_hub is None or not local_hub.stopping,
        "database": database,
        "layer": layer_answers,
        "lease": local_ledger is None or local_ledger.holds_lease,
    }
    return JsonResponse(answers, status=200 if all(answers.values()) else 503)


class _Question:
    """Asks something that may hang, seldom more than once at a time, however many want to know.

    Args:
        find_out: returns whether all is well.
    """

    def __init__(self, find_out: Callable[[], Awaitable[bool]]) -> None:
        self._find_out = find_out
        self._asked: list[asyncio.Task[object]] = []
        self._asked_at = 0.0

    async def ask(self) -> bool:
        """Whether all is well; not, while there is no answer."""
        now = asyncio.get_running_loop().time()
        self._asked = [task for task in self._asked if not task.done()]
        # One that hangs on a dead link may do so for an hour; another link may be fine.
        hangs = now - self._asked_at > ASK_AGAIN_SECONDS and len(self._asked) < HANGING
        if not self._asked or hangs:
            self._asked.append(loops.spawn(self._await(), "health"))
            self._asked_at = now
        # The question goes on when we wait no longer: a thread cannot be cancelled.
        answer = self._asked[-1]
        await asyncio.wait([answer], timeout=HEALTH_SECONDS)
        return answer.done() and not answer.cancelled() and answer.result() is True

    async def _await(self) -> bool:
        return await self._find_out()


class _Questions:
    def __init__(self) -> None:
        self.database = _Question(_database_answers)
        self.layer = _Question(_layer_is_heard)


_questions: loops.PerLoop[_Questions] = loops.PerLoop(_Questions)


async def _database_answers() -> bool:
    # A thread of its own: one that hangs must not hold up those that serve requests.
    thread = DatabaseThread("health")
    try:
        return await thread.run(_select)
    finally:
        await thread.close()


def _select() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except (DatabaseError, InterfaceError):
        return False
    return True


async def _layer_is_heard() -> bool:
    """Whether we hear ourselves; where nobody listens yet, whether the layer takes a message."""
    local_hub = hub.peek()
    try:
        if local_hub is not None:
            await local_hub.start()
            return local_hub.listening
        await layer.send(layer.CONTROL_GROUP, {"type": layer.MARKER, "marker": ""})
    except PublishFailed:
        return False
    return True
