"""The line in front of the auth endpoints.

When a server restarts all its browsers ask for authorization at once, and pusher-js asks only
once.  Each request that Django works on has a thread under ASGI, and a connection to the
database.  So the crowd waits here, where waiting costs neither: whole requests, in the order in
which they came.
"""

import asyncio
import logging
import re
from typing import Any, Final

from realtime import conf, metrics
from realtime.api.exchange import TEXT, Application, again, answer, read
from realtime.logs import OncePerSecond

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

WAIT_SECONDS: Final = 30
"""Ours: how long a request waits; longer, and a proxy in front would have given up."""

RETRY_SECONDS: Final = 5
"""Ours: when a client that may ask again is told to."""

_PATTERN: Final = re.compile(r"/pusher/(?:user-)?auth\Z")


class Admission:
    """Hands requests to the auth endpoints on, ``AUTH_CONCURRENCY`` of them at once.

    Args:
        django: serves them.
    """

    def __init__(self, django: Application) -> None:
        self._django = django
        self._places: asyncio.Semaphore | None = None

    def takes(self, scope: Any) -> bool:  # Any: ASGI
        """Whether a request over HTTP is for one of the auth endpoints, below any prefix."""
        return scope["method"] == "POST" and _PATTERN.search(scope["path"]) is not None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI
        """Serve one request."""
        # Read before it takes a place: who sends slowly keeps nobody else out.
        messages, body = await read(receive)
        if messages[-1]["type"] != "http.request":
            return  # gone
        if body is None:
            await answer(send, 413, TEXT, "The request is too large\n")
            return
        if self._places is None:
            self._places = asyncio.Semaphore(conf.get().auth_concurrency)
        try:
            await asyncio.wait_for(self._places.acquire(), WAIT_SECONDS)
        except TimeoutError:
            metrics.count("auth_requests_refused")
            logger.error("a request for authorization waited %d seconds in vain", WAIT_SECONDS)
            later = (b"retry-after", str(RETRY_SECONDS).encode())
            await answer(send, 503, TEXT, "Too many requests wait\n", [later])
            return
        try:
            await self._django(scope, again(messages, receive), send)
        finally:
            self._places.release()
