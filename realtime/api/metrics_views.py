"""``/realtime/metrics``: the numbers of this process, for Prometheus and for staff."""

from typing import Final

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from realtime import conf, loops
from realtime.api.question import Question
from realtime.api.site import is_staff
from realtime.api.views import text_response
from realtime.database import DatabaseThread
from realtime.models import OutboxEntry

MOST_WAITING: Final = 10_000
"""Ours: how far durable events that wait are counted; more is as bad, and takes longer."""


@login_not_required
@never_cache
@require_safe
async def metrics(request: HttpRequest) -> HttpResponse:
    """``GET /realtime/metrics``: the text format of Prometheus, or that of OpenMetrics.

    404 unless the site lets somebody read; 401 without the token, 403 for other than staff.

    Raises:
        ImproperlyConfigured: the extra ``prometheus`` is not installed.
    """
    given = conf.get()
    if not (given.metrics_token or given.metrics_staff):
        return text_response("404 NOT FOUND", 404)
    if not (_has_token(request) or (given.metrics_staff and await _is_staff(request))):
        return _refusal(given)
    try:
        from realtime import prometheus
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured(
            "Metrics need the package prometheus-client: install the extra 'prometheus'"
        ) from error
    backlog = await _backlogs.current().ask()
    body, content_type = prometheus.expose(request.headers.get("Accept", ""), backlog)
    return HttpResponse(body, content_type=content_type)


async def _is_staff(request: HttpRequest) -> bool:
    return hasattr(request, "auser") and is_staff(await request.auser())


def _has_token(request: HttpRequest) -> bool:
    token = conf.get().metrics_token
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return bool(token) and scheme.lower() == "bearer" and constant_time_compare(given, token)


def _refusal(given: conf.Settings) -> HttpResponse:
    if not given.metrics_token:
        return text_response("Only staff may read this", 403)
    answer = text_response("A bearer token is needed", 401)
    answer["WWW-Authenticate"] = "Bearer"
    return answer


async def _find_backlog() -> tuple[int, float] | None:
    # A thread of its own: one that hangs must not hold up those that serve requests.
    thread = DatabaseThread("realtime-metrics")
    try:
        return await thread.run(lambda: OutboxEntry.objects.all().backlog(MOST_WAITING))
    except (DatabaseError, InterfaceError):
        return None
    finally:
        await thread.close()


_backlogs: loops.PerLoop[Question[tuple[int, float] | None]] = loops.PerLoop(
    lambda: Question(_find_backlog)
)
