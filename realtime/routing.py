"""WebSocket routes, for sites that have an ASGI router of their own.

The last route takes every other path, so list these after those of the site.
"""

from typing import Any

from django.urls import re_path

from realtime.consumer import PusherConsumer

_serve: Any = PusherConsumer.as_asgi()  # Any: Django's stubs know views only

websocket_urlpatterns: list[Any] = [
    # A prefix before /app/ is what pusher-js calls wsPath.
    re_path(r"^(?:[^/]+/)*app/(?P<key>[^/]+)$", _serve),
    re_path(r"", _serve),
]
