"""Events of back ends that pass by Django's stack, and those that do not."""

import hashlib
import json
import time
from urllib.parse import urlencode

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application

from realtime import applications
from realtime.api.express import Express
from realtime.models import Application
from realtime.protocol.app import App
from realtime.protocol.signing import sign_request
from tests.conftest import ID, KEY, SECRET

APP = App(id=ID, key=KEY, secret=SECRET)
EVENTS, BATCH = f"/apps/{ID}/events", f"/apps/{ID}/batch_events"
EVENT = {"name": "greet", "channel": "room", "data": "hello"}


class Calls:
    """Signed calls of an ASGI application, of which Django gets those that it has to."""

    def __init__(self):
        django = get_asgi_application()

        async def counted(scope, receive, send):
            self.played += 1
            await django(scope, receive, send)

        self.played = 0
        self.express = Express(counted)

    async def __call__(self, path, body, *, app=APP, pieces=1, method="POST", **more):
        """Status and text of the answer."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        query = [
            ("auth_key", app.key),
            ("auth_timestamp", str(int(time.time()))),
            ("auth_version", "1.0"),
            ("body_md5", hashlib.md5(raw).hexdigest()),
        ]
        query.append(("auth_signature", sign_request(app, method, path, query)))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": urlencode(query).encode(),
            "headers": [(b"host", b"testserver"), (b"content-length", str(len(raw)).encode())],
            **more,
        }
        assert self.express.takes(scope)
        size = -(-len(raw) // pieces) or 1
        parts = [raw[at : at + size] for at in range(0, len(raw), size)] or [b""]
        talk = ApplicationCommunicator(self.express, scope)
        for number, part in enumerate(parts, 1):
            more_body = number < len(parts)
            await talk.send_input({"type": "http.request", "body": part, "more_body": more_body})
        start = await talk.receive_output(5)
        text = b""
        while True:
            message = await talk.receive_output(5)
            text += message.get("body", b"")
            if not message.get("more_body"):
                break
        await talk.wait(5)
        self.headers = dict(start["headers"])
        return start["status"], text.decode()


@pytest.fixture
def calls(process):
    return Calls()


@pytest.mark.parametrize("pieces", [1, 7])
async def test_an_event_is_sent_without_django(calls, layer, pieces):
    assert await calls(EVENTS, EVENT, pieces=pieces) == (200, "{}")

    [message] = layer.events()
    assert json.loads(message["text"]) == {"event": "greet", "channel": "room", "data": "hello"}
    assert calls.played == 0
    assert calls.headers == {b"content-type": b"application/json", b"content-length": b"2"}


async def test_an_event_costs_no_query_and_one_message(calls, layer, database):
    await calls(EVENTS, EVENT)
    database.statements.clear()
    layer.sent.clear()

    assert (await calls(EVENTS, EVENT))[0] == 200

    assert database.statements == []
    assert len(layer.sent) == 1


async def test_a_batch_is_sent_without_django(calls, layer):
    batch = [{**EVENT, "data": str(number)} for number in range(3)]

    assert await calls(BATCH, {"batch": batch}) == (200, "{}")

    assert [json.loads(item["text"])["data"] for item in layer.events()] == ["0", "1", "2"]
    assert calls.played == 0


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (EVENTS, {**EVENT, "info": "subscription_count"}, 200),
        (BATCH, {"batch": [{**EVENT, "info": "subscription_count"}]}, 200),
        (EVENTS, {**EVENT, "name": 7}, 400),
        (EVENTS, {**EVENT, "channel": "no spaces"}, 400),
        (EVENTS, {**EVENT, "data": "x" * 10_241}, 413),
        (EVENTS, [EVENT], 400),
        (EVENTS, b"{", 400),
        (EVENTS, b"\xff", 400),
        (EVENTS, b"", 400),
        ("/apps/4/events", EVENT, 401),
    ],
)
async def test_whatever_is_not_plain_is_played_to_the_views(calls, layer, path, body, status):
    assert (await calls(path, body, pieces=3))[0] == status
    assert calls.played == 1
    assert len(layer.events()) == (status == 200)


@pytest.mark.parametrize("wrong", [{"key": "nobody"}, {"secret": "guessed"}])
async def test_who_signs_wrongly_hears_it_from_the_views(calls, layer, wrong):
    forger = App(**{"id": ID, "key": KEY, "secret": SECRET, **wrong})

    assert (await calls(EVENTS, EVENT, app=forger))[0] == 401
    assert calls.played == 1
    assert layer.events() == []


async def test_a_body_that_is_too_long_is_played_as_far_as_it_came(calls, configure, layer):
    configure(API_BODY_BYTES=50)

    status, text = await calls(EVENTS, {**EVENT, "data": "x" * 200}, pieces=4)

    assert (status, calls.played) == (413, 1)
    assert "50 bytes" in text


async def test_a_layer_that_does_not_answer_is_a_503_and_nothing_is_sent_twice(
    calls, layer, counted, caplog
):
    layer.broken = True

    assert await calls(EVENTS, EVENT) == (503, "Service unavailable, try again later\n")

    assert calls.played == 0
    assert counted("api_requests_refused", "503") == 1
    assert "failed" in caplog.text


async def test_an_app_that_is_a_row_is_known_here_too(calls, layer):
    row = {"app_id": "77", "name": "Shop", "key": "shop", "secret": "s"}
    await Application.objects.acreate(**row)
    applications._rows = None

    shop = App(id="77", key="shop", secret="s")

    assert (await calls("/apps/77/events", EVENT, app=shop))[0] == 200
    await Application.objects.filter(app_id="77").aupdate(enabled=False)
    applications._rows = None
    assert (await calls("/apps/77/events", EVENT, app=shop))[0] == 403

    assert len(layer.events()) == 1


@pytest.mark.parametrize(
    ("change", "scope"),
    [
        ({}, {"method": "GET"}),
        ({}, {"path": "/apps/3/channels"}),
        ({}, {"path": "/elsewhere/apps/3/events"}),
        ({}, {"root_path": "/mounted"}),
        ({"API_EXPRESS": False}, {}),
    ],
)
async def test_other_requests_are_not_looked_at(calls, configure, change, scope):
    configure(**change)

    assert not calls.express.takes({"method": "POST", "path": EVENTS, **scope})
