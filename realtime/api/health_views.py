"""Is this process alive, and should it get traffic: for load balancers and orchestrators.

Nothing is told but yes and no, so both may be open to anybody.
"""

from channels.db import database_sync_to_async
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from realtime import hub, layer
from realtime.layer import PublishFailed
from realtime.presence import ledger


@require_safe
def up(request: HttpRequest) -> JsonResponse:
    """``GET /realtime/up``: 200 as long as the process answers at all."""
    return JsonResponse({"up": True})


@require_safe
async def ready(request: HttpRequest) -> JsonResponse:
    """``GET /realtime/ready``: 200 if clients and API calls may be sent here, else 503."""
    local_hub, local_ledger = hub.peek(), ledger.peek()
    answers = {
        "accepting": local_hub is None or not local_hub.stopping,
        "database": await database_sync_to_async(_database_answers)(),
        "layer": await _layer_answers() if local_hub is None else local_hub.listening,
        "lease": local_ledger is None or local_ledger.holds_lease,
    }
    return JsonResponse(answers, status=200 if all(answers.values()) else 503)


def _database_answers() -> bool:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return False
    return True


async def _layer_answers() -> bool:
    """Whether the layer takes a message, where nobody listens to it yet."""
    try:
        await layer.send(layer.CONTROL_GROUP, {"type": layer.MARKER, "marker": ""})
    except PublishFailed:
        return False
    return True
