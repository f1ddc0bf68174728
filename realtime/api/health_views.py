"""Is this process alive, and should it get traffic: for load balancers and orchestrators.

Nothing is told but yes and no, so both may be open to anybody.
"""

import asyncio

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, InterfaceError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from realtime import hub, layer, loops
from realtime.api.question import Question
from realtime.database import DatabaseThread
from realtime.layer import PublishFailed
from realtime.presence import ledger


@login_not_required
@require_safe
def up(request: HttpRequest) -> JsonResponse:
    """``GET /realtime/up``: 200 as long as the process answers at all."""
    return JsonResponse({"up": True})


@login_not_required
@require_safe
async def ready(request: HttpRequest) -> JsonResponse:
    """``GET /realtime/ready``: 200 if clients and API calls may be sent here, else 503."""
    local_hub, local_ledger, questions = hub.peek(), ledger.peek(), _questions.current()
    database, layer_answers = await asyncio.gather(questions.database.ask(), questions.layer.ask())
    answers = {
        "accepting": local_hub is None or not local_hub.stopping,
        "database": database is True,
        "layer": layer_answers is True,
        "lease": local_ledger is None or local_ledger.holds_lease,
    }
    return JsonResponse(answers, status=200 if all(answers.values()) else 503)


class _Questions:
    def __init__(self) -> None:
        self.database = Question(_database_answers)
        self.layer = Question(_layer_is_heard)


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
