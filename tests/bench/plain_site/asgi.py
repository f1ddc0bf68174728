"""ASGI entry point of the plain site."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.bench.plain_site.settings")
django_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402 - needs the apps
from django.urls import path  # noqa: E402

from tests.bench.plain_site.consumers import EventConsumer  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": URLRouter([path("events/<slug:channel>/", EventConsumer.as_asgi())]),
    }
)
