"""The HTTP side: an ASGI application for the requests of the fallback transports.

Every answer is for pages of any origin; who may connect is decided when the virtual WebSocket
is opened, where a refusal can say why.

Source: pusher-js 8, ``core/http``; SockJS protocol 0.3.3.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from django.db import DatabaseError, InterfaceError

from realtime import applications, lifespan, loops, metrics, peer
from realtime.fallback import registry
from realtime.fallback.framing import BadBody, decode_messages
from realtime.fallback.reception import Reception
from realtime.fallback.registry import Registry
from realtime.fallback.relay import Remote
from realtime.fallback.virtual import Name, TooManyWait
from realtime.layer import PublishFailed
from realtime.logs import OncePerSecond
from realtime.sockets import abort_of

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

PATH: Final = (
    r"(?:^|/)pusher/app/(?P<key>[^/]+)/(?P<server>[\w-]{1,32})/(?P<session>[\w-]{1,32})"
    r"/(?P<request>xhr|xhr_streaming|xhr_send)\Z"
)
"""With whatever a site is mounted below in front: pusher-js calls that ``httpPath``."""

ESCAPED: Final = 2
"""A message of JSON grows so much at most when it is quoted once more."""

FRAME_BYTES: Final = 1_024
"""Ours: what the body of a send request may have around its messages."""

BODY_SECONDS: Final = 10
"""Ours: how long the body of a send request may take to arrive."""

_PATTERN: Final = re.compile(PATH, re.ASCII)

_CORS: Final = ((b"access-control-allow-origin", b"*"), (b"cache-control", b"no-store"))
_PREFLIGHT: Final = (
    (b"access-control-allow-headers", b"content-type"),
    (b"access-control-allow-methods", b"POST, OPTIONS"),
    (b"access-control-max-age", b"86400"),
)
_LINES: Final = (
    (b"content-type", b"application/javascript; charset=UTF-8"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),
)

Header = tuple[bytes, bytes]


def is_fallback(scope: Any) -> bool:  # Any: ASGI
    """Whether a request over HTTP is one of a fallback transport."""
    return _PATTERN.search(scope["path"]) is not None


class _Refused(Exception):
    """A request that is answered with a status and nothing else."""

    def __init__(self, status: int) -> None:
        self.status = status


class Fallback:
    """Serves ``xhr``, ``xhr_streaming`` and ``xhr_send`` requests.

    Args:
        sockets: the virtual WebSockets of the process, once its loop runs.
    """

    def __init__(self, sockets: Callable[[], Registry] = registry.current) -> None:
        self._sockets = sockets

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI
        """Serve one request."""
        lifespan.prepare()
        match = _PATTERN.search(scope["path"])
        with suppress(OSError):  # the client is gone
            try:
                if match is None:
                    raise _Refused(404)
                if scope["method"] == "OPTIONS":
                    await _answer(send, 204, *_PREFLIGHT)
                elif scope["method"] != "POST":
                    raise _Refused(405)
                elif match["request"] == "xhr_send":
                    await self._pass_on(_name(match, scope), scope, receive)
                    await _answer(send, 204)
                else:
                    streams = match["request"] == "xhr_streaming"
                    await self._respond(_name(match, scope), scope, receive, send, streams)
            except _Refused as refused:
                metrics.count("fallback_requests_refused", status=str(refused.status))
                await _answer(send, refused.status, (b"allow", b"POST, OPTIONS"))

    async def _pass_on(self, name: Name, scope: Any, receive: Any) -> None:
        limit = await _limit(name, scope)
        try:
            # No name for the body: it would be kept for as long as the messages wait.
            texts = decode_messages(await _body(receive, limit))
        except BadBody:
            raise _Refused(400) from None
        try:
            known = await self._sockets().send(name, texts)
        except PublishFailed as error:
            logger.error("messages of a client were lost: %s", error)
            raise _Refused(503) from None
        except TooManyWait:
            raise _Refused(503) from None
        if not known:
            raise _Refused(404)

    async def _respond(
        self, name: Name, scope: Any, receive: Any, send: Any, streams: bool
    ) -> None:
        reception = await self._sockets().receive(
            name, scope, streams=streams, abort=abort_of(scope)
        )
        watch = loops.spawn(_end_with(receive, reception), "fallback peer")
        broken_off = True
        try:
            if streams:
                await _start(send, 200, *_LINES)
                while lines := await reception.take():
                    await send(_part(lines, more=True))
                await send(_part("", more=False))
            else:
                lines = await reception.take()
                await _start(send, 200, *_LINES)
                await send(_part(lines, more=False))
            broken_off = False
        finally:
            watch.cancel()
            reception.end(broken_off=broken_off)


def _name(match: re.Match[str], scope: Any) -> Name:
    origin = peer.header(scope, b"origin")
    return Name(match["key"], match["server"], match["session"], origin)


async def _limit(name: Name, scope: Any) -> int:
    """Bytes that the body of a send request may have.

    A page that may not open a connection has none, here or in another process.
    """
    try:
        app = await applications.aby_key(name.app_key)
    except (DatabaseError, InterfaceError) as error:
        logger.error("an app could not be looked up: %s", error)
        raise _Refused(503) from None
    if app is None or not peer.origin_is_allowed(scope, app.allowed_origins):
        raise _Refused(404)
    return ESCAPED * app.limits.message_bytes + FRAME_BYTES


async def _body(receive: Any, limit: int) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise OSError("the client is gone")
                body += message.get("body", b"")
                if len(body) > limit:
                    raise _Refused(413)
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError:
        raise _Refused(408) from None


async def _end_with(receive: Any, reception: Reception | Remote) -> None:
    """End *reception* when its client goes; the body of its request says nothing."""
    while (await receive())["type"] != "http.disconnect":
        pass
    reception.end(broken_off=True)


async def _answer(send: Any, status: int, *headers: Header) -> None:
    await _start(send, status, (b"content-length", b"0"), *headers)
    await send(_part("", more=False))


async def _start(send: Any, status: int, *headers: Header) -> None:
    message = {"type": "http.response.start", "status": status, "headers": [*_CORS, *headers]}
    await send(message)


def _part(lines: str, *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": lines.encode(), "more_body": more}
