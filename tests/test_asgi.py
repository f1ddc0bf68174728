"""The ASGI application of a site that is its own Pusher server."""

import logging
import subprocess
import sys

import pytest
from asgiref.testing import ApplicationCommunicator

from realtime import hub
from realtime.asgi import Application
from tests.conftest import KEY, PATIENCE, soon, until


async def get(application, path):
    """Status and body of a GET."""
    scope = {"type": "http", "method": "GET", "path": path, "query_string": b""}
    request = ApplicationCommunicator(application, {**scope, "headers": [(b"host", b"localhost")]})
    await request.send_input({"type": "http.request", "body": b"", "more_body": False})
    start, body = await request.receive_output(PATIENCE), await request.receive_output(PATIENCE)
    await request.wait(PATIENCE)
    return start["status"], body["body"]


def test_it_is_made_as_that_of_django_is(application):
    assert isinstance(application, Application)


@pytest.mark.spec(50)
@pytest.mark.parametrize("append_slash", [True, False])
@pytest.mark.parametrize("path", ["/app", "/app/", f"/app/{KEY}", f"/app/{KEY}/"])
async def test_nothing_below_app_redirects(application, process, settings, append_slash, path):
    settings.APPEND_SLASH = append_slash

    status, _ = await get(application, path)

    assert status == 404


async def test_http_goes_to_django(application, process):
    assert await get(application, "/apps/nothing") == (404, b"404 NOT FOUND\n")


async def test_the_first_request_makes_a_process_listen(application, process):
    """Daphne announces no start."""
    await get(application, "/realtime/up")

    await until(lambda: hub.current().listening)


async def test_websockets_go_to_the_consumer(connect):
    assert (await connect()).socket_id


async def test_requests_of_the_fallbacks_go_to_neither(application, process):
    """Django would answer them with 404."""
    assert await get(application, "/pusher/app/key/1/abcdefgh/xhr") == (405, b"")


async def test_lifespan_is_spoken(application, process):
    server = ApplicationCommunicator(application, {"type": "lifespan"})
    for phase in ("startup", "shutdown"):
        await server.send_input({"type": f"lifespan.{phase}"})
        assert await server.receive_output(PATIENCE) == {"type": f"lifespan.{phase}.complete"}

    await soon(server.wait(PATIENCE))


def test_it_can_be_imported_before_the_apps_are_loaded():
    script = "from project.asgi import application; print(type(application).__module__)"

    answer = subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60)

    assert answer.strip() == "realtime.asgi"


def test_a_clients_mistake_is_no_traceback_of_the_server(application, caplog):
    """The words are those of uvicorn 0.54."""
    try:
        b"\xff".decode()
    except UnicodeDecodeError:
        logging.getLogger("uvicorn.error").exception("Invalid UTF-8 sequence received.")

    assert "Traceback" not in caplog.text
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_other_errors_of_the_server_keep_their_traceback(application, caplog):
    try:
        raise RuntimeError("oh")
    except RuntimeError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")

    assert "RuntimeError: oh" in caplog.text
