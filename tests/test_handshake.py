"""Whether a WebSocket may begin, without one; ``test_consumer`` has what clients see of it."""

import pytest

from realtime import handshake, hub
from realtime.protocol.errors import Fatal, OverCapacity, PathNotFound, UnknownApp
from tests.conftest import ID, KEY

pytestmark = pytest.mark.django_db(transaction=True)


def scope(key=KEY, query=b"protocol=7&client=js&version=8.6.0", **more):
    return {"path": f"/app/{key}", "query_string": query, "headers": [], **more}


@pytest.mark.parametrize(
    "where",
    [
        {},
        {"path": f"/prefix/app/{KEY}"},
        {"path": f"/a/b/app/{KEY}"},
        {"path": f"/app/app/{KEY}"},
        {"path": f"/a/app/{KEY}", "root_path": "/a"},
        {"path": f"/app/{KEY}", "root_path": "/"},
        {"path": f"/a/app/{KEY}", "root_path": "/a/"},
        {"path": f"//app/{KEY}", "root_path": "/"},
    ],
)
@pytest.mark.spec(3)
async def test_the_app_and_the_library_are_found(process, where):
    app, client = await handshake.admit(scope(**where))

    assert (app.id, client) == (ID, "js")


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        *(
            (scope(path=path), PathNotFound)
            for path in ("", "/", "/app", "/app/", "/app/k/", "/app/k/l", "/xapp/k")
        ),
        (scope(path=f"//app/{KEY}"), PathNotFound),
        (scope(path=f"/a//app/{KEY}"), PathNotFound),
        (scope(path=f"/a//app/{KEY}", root_path="/a"), PathNotFound),
        (scope(key="nobody"), UnknownApp),
        (scope(key="a.b-c_d"), UnknownApp),
        (scope(query=b"protocol=1"), Fatal),
    ],
)
async def test_what_cannot_be_served_is_refused(process, asked, error):
    with pytest.raises(error):
        await handshake.admit(asked)


async def test_a_process_that_stops_says_that_it_is_full(process):
    hub.current().stopping = True

    with pytest.raises(OverCapacity):
        await handshake.admit(scope())


def test_only_the_subprotocol_of_pusher_is_chosen():
    wanted = "pusher-channels-protocol-7"

    assert handshake.subprotocol({"subprotocols": ["chat", wanted]}) == wanted
    assert handshake.subprotocol({"subprotocols": ["chat"]}) is None
    assert handshake.subprotocol({}) is None
