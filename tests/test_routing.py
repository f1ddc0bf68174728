"""WebSocket routes, for sites that have an ASGI router of their own."""

import pytest
from channels.routing import ProtocolTypeRouter, URLRouter

from realtime.routing import websocket_urlpatterns
from tests.conftest import PATH, Client


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("app/k", "k"),
        ("prefix/app/k", "k"),
        ("a/b/app/k", "k"),
        ("app/app/k", "k"),
        ("app/a.b-c_d", "a.b-c_d"),
        ("app/", None),
        ("app/k/", None),
        ("app/k/l", None),
        ("xapp/k", None),
        ("/app/k", None),
        ("", None),
    ],
)
@pytest.mark.spec(3)
def test_the_key_is_the_last_part_of_the_path(path, key):
    matches = [pattern.resolve(path) for pattern in websocket_urlpatterns]

    assert next(match for match in matches if match).kwargs == ({} if key is None else {"key": key})


async def test_a_site_may_route_by_itself(process):
    application = ProtocolTypeRouter({"websocket": URLRouter(websocket_urlpatterns)})
    client = Client(application, PATH)

    assert (await client.open()).socket_id

    await client.leave()
