"""The application of the site, with a door for the harness at ``/chaos/``."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.chaos.site.settings")

from realtime.asgi import get_asgi_application

site = get_asgi_application()

from tests.chaos.site import inside  # noqa: E402 - needs the apps to be loaded


async def application(scope, receive, send):
    """Serve one connection; requests of the harness never reach Django."""
    if scope["type"] == "http":
        inside.count_request(scope["path"])
        if scope["path"].startswith("/chaos/"):
            await inside.answer(scope, receive, send)
            return
    await site(scope, receive, send)
