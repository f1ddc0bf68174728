"""WebSocket routes, for sites that have an ASGI router of their own."""

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import re_path

from realtime.routing import websocket_urlpatterns
from tests.conftest import PATH, Client


@pytest.mark.parametrize("path", ["", "app/k", "a/b", "/app/k"])
def test_every_path_is_taken(path):
    assert [pattern.resolve(path) is not None for pattern in websocket_urlpatterns] == [True]


@pytest.mark.spec(3)
@pytest.mark.parametrize("prefix", ["", "/ws"])
async def test_a_site_may_route_by_itself(process, prefix):
    routes = [re_path(r"^ws/", URLRouter(websocket_urlpatterns)), *websocket_urlpatterns]
    client = Client(ProtocolTypeRouter({"websocket": URLRouter(routes)}), prefix + PATH)

    assert (await client.open()).socket_id

    await client.leave()
