"""The line in front of the auth endpoints.

When a server restarts all its browsers ask for authorization at once, and pusher-js asks only
once.  Each request that Django works on has a thread under ASGI, and a connection to the
database.  So the crowd waits here, where it costs neither: whole requests, in the order in which
they came, as long as somebody waits for the answer.
"""

import asyncio
import logging
import re
from typing import Any, Final

from realtime import conf, loops, metrics
from realtime.api.exchange import TEXT, Application, Receive, again, answer, read
from realtime.logs import OncePerSecond

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

WAIT_SECONDS: Final = 30
"""Ours: how long a request waits; longer, and a proxy in front would have given up."""

RETRY_SECONDS: Final = 5
"""Ours: when a client that may ask again is told to."""

WAITING: Final = 5_000
"""Ours: requests that wait at once; so many are worked off in 30 seconds on no machine yet."""

BODY_BYTES: Final = 131_072
"""Ours: twice what a batch of a hundred channels with the longest names takes, percent-encoded."""

_PATTERN: Final = re.compile(r"/pusher/(?:user-)?auth\Z")


class _Line:
    """Who is worked on and who waits, of one loop."""

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(conf.get().auth_concurrency)
        self.waiting = 0


class Admission:
    """Hands requests to the auth endpoints on, ``AUTH_CONCURRENCY`` of them at once.

    Args:
        django: serves them.
    """

    def __init__(self, django: Application) -> None:
        self._django = django
        self._lines: loops.PerLoop[_Line] = loops.PerLoop(_Line)

    def takes(self, scope: Any) -> bool:  # Any: ASGI
        """Whether a request over HTTP is for one of the auth endpoints, below any prefix."""
        return scope["method"] == "POST" and _PATTERN.search(scope["path"]) is not None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI
        """Serve one request."""
        # Read before it takes a place: who sends slowly keeps nobody else out.
        messages, body = await read(receive, BODY_BYTES)
        if messages[-1]["type"] != "http.request":
            return  # gone
        if body is None:
            await answer(send, 413, TEXT, "The request is too large\n")
            return
        line = self._lines.current()
        try:
            there = await _admitted(line, receive)
        except TimeoutError as error:
            metrics.count("auth_requests_refused")
            logger.error("a request for authorization is refused: %s", error)
            later = (b"retry-after", str(RETRY_SECONDS).encode())
            await answer(send, 503, TEXT, "Too many requests wait\n", [later])
            return
        if not there:
            return
        answered: list[Any] = []

        async def note(message: Any) -> None:
            answered.append(message)

        try:
            await self._django(scope, again(messages, receive), note)
        finally:
            line.places.release()
        # Without a place: who does not read the answer keeps nobody else out either.
        for message in answered:
            await send(message)


async def _admitted(line: _Line, receive: Receive) -> bool:
    """Wait for a place; whether the client still wants it.

    Raises:
        TimeoutError: there is none in time, or too many wait already.
    """
    if not line.places.locked():
        return await line.places.acquire()
    if line.waiting >= WAITING:
        raise TimeoutError("too many wait already")
    place = loops.spawn(line.places.acquire(), "auth place")
    gone = loops.spawn(_next(receive), "auth client")
    line.waiting += 1
    taken = False
    try:
        # Of a whole request nothing comes but the news that nobody waits for the answer.
        await asyncio.wait({place, gone}, timeout=WAIT_SECONDS, return_when="FIRST_COMPLETED")
        taken = place.done() and not gone.done()
    finally:
        line.waiting -= 1
        gone.cancel()
        if place.done() and not taken:
            line.places.release()
        place.cancel()
    if not taken and not gone.done():
        raise TimeoutError(f"it waited {WAIT_SECONDS} seconds in vain")
    return taken


async def _next(receive: Receive) -> None:
    await receive()
