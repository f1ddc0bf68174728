"""Whether a WebSocket may begin: which app it is for, and whether there is room for it."""

import logging
import re
from typing import Any, Final

from django.db import DatabaseError, InterfaceError

from realtime import applications, conf, hub, metrics, peer
from realtime.logs import OncePerSecond
from realtime.protocol.admission import check_handshake
from realtime.protocol.app import App
from realtime.protocol.errors import OverCapacity, PathNotFound, Unauthorized, UnknownApp

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

_PATH: Final = re.compile(r"/?(?:[^/]+/)*app/(?P<key>[^/]+)")
"""A prefix before ``/app/`` is what pusher-js calls ``wsPath``; without the first slash where the
server's ``root_path`` ends with it."""

_SUBPROTOCOL_PREFIX = "pusher-channels-protocol-"


def subprotocol(scope: Any) -> str | None:  # Any: ASGI
    """Swift offers one and wants it back; nobody else offers any."""
    offered = scope.get("subprotocols") or ()
    return next((name for name in offered if name.startswith(_SUBPROTOCOL_PREFIX)), None)


async def admit(scope: Any) -> tuple[App, str]:
    """The app that is asked for, and which library the client says it is.

    Raises:
        Fatal: there is no such app, it does not want this client, or there is no room.
    """
    local = hub.current()
    # Not asked of a router of Channels: a copy of the scope and a coroutine for each connection.
    path = _PATH.fullmatch(scope["path"].removeprefix(scope.get("root_path", "")))
    if path is None:
        raise PathNotFound
    key = path["key"]
    try:
        app = await applications.aby_key(key)
    except (DatabaseError, InterfaceError) as error:
        logger.error("an app could not be looked up: %s", error)
        metrics.count("over_capacity", reason="database")
        raise OverCapacity from None
    if app is None:
        raise UnknownApp(key)
    client = check_handshake(
        app,
        scope.get("query_string", b"").decode("latin-1"),
        secure=peer.is_secure(scope),
        connections=local.connections(app.id),
    )
    if not peer.origin_is_allowed(scope, app.allowed_origins):
        raise Unauthorized("Origin not allowed")
    # While this process stops, not 4200: the client would be back at once, and here.
    full = local.connections() >= conf.get().max_connections
    if local.stopping or full:
        reason = "stopping" if local.stopping else "process"
        metrics.count("over_capacity", reason=reason)
        raise OverCapacity
    return app, client
