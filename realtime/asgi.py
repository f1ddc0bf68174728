"""The ASGI application of a site that is its own Pusher server.

In the site's ``asgi.py`` replace the import of Django's function by this one:

    from realtime.asgi import get_asgi_application
"""

import logging
from typing import Any

from django.core.asgi import get_asgi_application as get_django_application

# Any: the stubs of Django, Channels and asgiref each describe ASGI in types of their own.
Scope = Any
Receive = Any
Send = Any


class Application:
    """Sends WebSockets and their HTTP fallbacks to the consumer, everything else to Django."""

    def __init__(self) -> None:
        self._django = get_django_application()
        # Only now: these import models, which need the apps to be loaded.
        from realtime.api.admission import Admission
        from realtime.api.express import Express
        from realtime.consumer import PusherConsumer
        from realtime.fallback.application import Fallback, is_fallback
        from realtime.lifespan import lifespan, prepare

        self._lifespan, self._prepare = lifespan, prepare
        self._consumer = PusherConsumer
        self._fallback, self._is_fallback = Fallback(), is_fallback
        self._ahead = (Express(self._django), Admission(self._django))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        match scope["type"]:
            case "websocket":
                await self._consumer()(scope, receive, send)
            case "lifespan":
                await self._lifespan(receive, send)
            case _ if self._is_fallback(scope):
                await self._fallback(scope, receive, send)
            case _:
                self._prepare()  # for servers that announce no start, such as Daphne
                ways = (way for way in self._ahead if way.takes(scope))
                await next(ways, self._django)(scope, receive, send)


def get_asgi_application() -> Application:
    """What ``django.core.asgi.get_asgi_application`` returns, with WebSockets."""
    logging.getLogger("uvicorn.error").addFilter(_without_traceback)
    return Application()


def _without_traceback(record: logging.LogRecord) -> bool:
    """Keep a client from filling the log.

    uvicorn 0.54 logs a traceback for every text frame that is not UTF-8, which is the
    client's mistake and answered with 1007.
    """
    if record.exc_info is not None and isinstance(record.exc_info[1], UnicodeDecodeError):
        record.exc_info = None
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True
