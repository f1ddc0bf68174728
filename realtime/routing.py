"""Routes for sites that have an ASGI router of their own.

Those of the WebSockets take every path, so list them after those of the site.  Those of the
fallbacks take nothing else, so list them before Django.
"""

from typing import Any

from django.urls import re_path

from realtime.consumer import PusherConsumer
from realtime.fallback.application import PATH, Fallback

# Any: Django's stubs know views only
_serve: Any = PusherConsumer.as_asgi()
_fall_back: Any = Fallback()

websocket_urlpatterns: list[Any] = [re_path(r"", _serve)]

http_urlpatterns: list[Any] = [re_path(PATH, _fall_back)]
