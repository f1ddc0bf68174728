"""The ASGI application of a site that is its own Pusher server.

In the site's ``asgi.py`` replace the import of Django's function by this one:

    from realtime.asgi import get_asgi_application
"""

from typing import Any

from django.core.asgi import get_asgi_application as get_django_application

# Any: the stubs of Django, Channels and asgiref each describe ASGI in types of their own.
Scope = Any
Receive = Any
Send = Any


class Application:
    """Sends WebSockets to the Pusher consumer and everything else to Django."""

    def __init__(self) -> None:
        self._django = get_django_application()
        # Only now: the routes import models, which need the apps to be loaded.
        from channels.routing import URLRouter

        from realtime.lifespan import lifespan
        from realtime.routing import websocket_urlpatterns

        self._lifespan = lifespan
        self._websocket = URLRouter(websocket_urlpatterns)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        match scope["type"]:
            case "websocket":
                await self._websocket(scope, receive, send)
            case "lifespan":
                await self._lifespan(receive, send)
            case _:
                await self._django(scope, receive, send)


def get_asgi_application() -> Application:
    """What ``django.core.asgi.get_asgi_application`` returns, with WebSockets."""
    return Application()
