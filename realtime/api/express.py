"""The calls that back ends make all the time, answered without Django's stack.

Sessions, templates and a thread for synchronous views have nothing to do with an event, and
cost ten times as much as sending it.  Only what is plain and right is answered here.  Anything
else is played to the views from its beginning, and they have the last word: there is one set of
rules, in ``events``, and one place where refusals are worded.
"""

import functools
import logging
import re
import time
from collections.abc import Callable
from typing import Any, Final

from django.db import DatabaseError, InterfaceError
from django.urls import Resolver404, resolve
from rest_framework.exceptions import APIException

from realtime import applications, conf, metrics, triggers
from realtime.api.authentication import spellings
from realtime.api.events import Asked, read_batch, read_event
from realtime.api.exchange import JSON, TEXT, Application, again, answer, read
from realtime.api.throttling import spend
from realtime.api.views import BatchEventsView, EventsView, Unavailable
from realtime.layer import Envelope, PublishFailed
from realtime.logs import OncePerSecond
from realtime.protocol.app import App
from realtime.protocol.errors import RealtimeError
from realtime.protocol.messages import load_json
from realtime.protocol.signing import read_query, single_parameters, verify_request

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

_PATTERN: Final = re.compile(r"/apps/(?P<app_id>[^/]+)/(?:batch_)?events\Z")

_READERS: Final[dict[object, Callable[[App, Any], Asked]]] = {
    EventsView: read_event,
    BatchEventsView: read_batch,
}


class Express:
    """Serves requests that send events, and hands on what it does not understand.

    Args:
        django: serves everything, if need be.
    """

    def __init__(self, django: Application) -> None:
        self._django = django

    def takes(self, scope: Any) -> bool:  # Any: ASGI
        """Whether a request over HTTP is worth a try."""
        return (
            scope["method"] == "POST"
            and _PATTERN.search(scope["path"]) is not None
            and conf.get().api_express
            and not scope.get("root_path")
            and _view_at(scope["path"]) is not None
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI
        """Serve one request."""
        messages, body = await read(receive, conf.get().api_body_bytes)
        envelopes = None if body is None else await _understood(scope, body)
        if envelopes is None:
            await self._django(scope, again(messages, receive), send)
            return
        try:
            await triggers.asend_now(envelopes, source="api")
        except PublishFailed as error:
            # Not played to the views: what was sent so far would be sent twice.
            metrics.count("api_requests_refused", status=str(Unavailable.status_code))
            logger.error("a call of the HTTP API failed: %s", error)
            await answer(send, Unavailable.status_code, TEXT, f"{Unavailable.default_detail}\n")
        else:
            await answer(send, 200, JSON, "{}")


async def _understood(scope: Any, body: bytes) -> list[Envelope] | None:
    """What is to be sent, if the call is right and asks for nothing else."""
    match = _PATTERN.search(scope["path"])
    view = _view_at(scope["path"])
    try:
        query = read_query(scope["query_string"].decode("latin-1"))
        app = await applications.aby_key(single_parameters(query).get("auth_key", ""))
        if match is None or view is None or app is None or not app.enabled:
            return None
        paths = spellings(scope["path"], scope.get("raw_path") or b"")
        verify_request(app, method="POST", paths=paths, query=query, body=body, now=time.time())
        if match["app_id"] != app.id:
            return None
        given = load_json(body.decode())
        if not isinstance(given, dict):
            return None
        asked = _READERS[view](app, given)
        if asked.wanted:
            return None
        spend(app, len(asked.envelopes))
    except (RealtimeError, APIException, UnicodeDecodeError, DatabaseError, InterfaceError):
        return None  # the views will find the same, and say so
    return asked.envelopes


@functools.lru_cache(maxsize=1_000)
def _view_at(path: str) -> object:
    """Which of the views that are known here the site has at *path*; ``None`` for others."""
    try:
        view = getattr(resolve(path).func, "view_class", None)
    except Resolver404:
        return None
    return view if view in _READERS else None
