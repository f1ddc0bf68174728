"""The line in front of the auth endpoints: who waits, where, and what it costs the others."""

import asyncio
import json
from urllib.parse import urlencode

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib.auth.models import User
from django.test import Client

from realtime.api import admission, auth_views
from realtime.api.admission import BODY_BYTES, Admission
from realtime.api.exchange import JSON, answer
from tests.conftest import PATIENCE, until

AUTH = "/pusher/auth"


def scope_of(path=AUTH, method="POST", **more):
    return {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"testserver")],
        **more,
    }


class Site:
    """What stands behind the line: keeps requests until it is told to answer."""

    def __init__(self):
        self.bodies, self.most, self._inside = [], 0, 0
        self.go = asyncio.Event()
        self.admission = Admission(self)
        self.asked = []

    async def __call__(self, scope, receive, send):
        self._inside += 1
        self.most = max(self.most, self._inside)
        try:
            self.bodies.append((await receive())["body"])
            await self.go.wait()
            if self.bodies[-1] == b"raise":
                raise LookupError
            await answer(send, 200, JSON, "{}")
        finally:
            self._inside -= 1

    async def ask(self, body=b"", *, more_body=False):
        """Ask without waiting for the answer."""
        request = ApplicationCommunicator(self.admission, scope_of())
        await request.send_input({"type": "http.request", "body": body, "more_body": more_body})
        self.asked.append(request)
        return request

    async def settle(self):
        """Let those who asked come as far as they can."""
        for _ in range(10 * len(self.asked)):
            await asyncio.sleep(0)


async def status_of(request):
    status = (await request.receive_output(PATIENCE))["status"]
    await request.receive_output(PATIENCE)
    await request.wait(PATIENCE)
    return status


@pytest.fixture
async def site(configure):
    configure(AUTH_CONCURRENCY=2)
    yield (site := Site())
    site.go.set()
    for request in site.asked:
        request.stop(exceptions=False)


@pytest.mark.parametrize(
    ("path", "method", "taken"),
    [
        ("/pusher/auth", "POST", True),
        ("/pusher/user-auth", "POST", True),
        ("/below/a/prefix/pusher/auth", "POST", True),
        ("/pusher/auth", "OPTIONS", False),
        ("/pusher/auth/", "POST", False),
        ("/pusher/authors", "POST", False),
        ("/apps/3/events", "POST", False),
    ],
)
def test_only_requests_for_authorization_stand_in_line(path, method, taken):
    assert Admission(None).takes(scope_of(path, method)) is taken


async def test_the_site_works_on_so_many_at_once_in_the_order_they_came(site):
    requests = [await site.ask(b"%d" % number) for number in range(5)]
    await site.settle()
    assert site.bodies == [b"0", b"1"]

    site.go.set()

    assert [await status_of(request) for request in requests] == [200] * 5
    assert site.bodies == [b"0", b"1", b"2", b"3", b"4"]
    assert site.most == 2


async def test_who_waits_in_vain_is_told_when_to_come_back(site, monkeypatch, counted, caplog):
    monkeypatch.setattr(admission, "WAIT_SECONDS", 0.01)
    inside = [await site.ask() for _ in range(2)]

    outside = await site.ask(b"a secret")

    start = await outside.receive_output(PATIENCE)
    assert (start["status"], dict(start["headers"])[b"retry-after"]) == (503, b"5")
    assert (await outside.receive_output(PATIENCE))["body"] == b"Too many requests wait\n"
    assert counted("auth_requests_refused") == 1
    assert "waited" in caplog.text
    assert "secret" not in caplog.text
    site.go.set()
    assert [await status_of(request) for request in (*inside, await site.ask())] == [200] * 3


async def test_who_sends_slowly_takes_no_place(site):
    slow = [await site.ask(b"a", more_body=True) for _ in range(5)]
    await site.settle()
    site.go.set()

    assert await status_of(await site.ask(b"whole")) == 200
    assert site.bodies == [b"whole"]

    await slow[0].send_input({"type": "http.request", "body": b"b"})
    assert await status_of(slow[0]) == 200


async def test_a_failure_behind_the_line_gives_the_place_back(site):
    site.go.set()
    for _ in range(3):
        request = await site.ask(b"raise")
        with pytest.raises(LookupError):
            await request.wait(PATIENCE)

    assert await status_of(await site.ask()) == 200


async def test_who_is_cancelled_while_waiting_leaves_the_line(site):
    inside = [await site.ask() for _ in range(2)]
    given_up, patient = await site.ask(b"given up"), await site.ask(b"patient")
    await site.settle()

    given_up.stop(exceptions=False)
    site.go.set()

    assert [await status_of(request) for request in (*inside, patient)] == [200] * 3
    assert b"given up" not in site.bodies


async def test_who_leaves_the_line_is_not_worked_for(site):
    inside = [await site.ask() for _ in range(2)]
    gone, patient = await site.ask(b"gone"), await site.ask(b"patient")
    await site.settle()

    await gone.send_input({"type": "http.disconnect"})
    await gone.wait(PATIENCE)
    site.go.set()

    assert await gone.receive_nothing()
    assert [await status_of(request) for request in (*inside, patient)] == [200] * 3
    assert b"gone" not in site.bodies


async def test_who_does_not_read_the_answer_keeps_nobody_out(site):
    async def never(message):
        await asyncio.Event().wait()

    async def whole():
        return {"type": "http.request", "body": b"deaf"}

    site.go.set()
    deaf = [asyncio.create_task(site.admission(scope_of(), whole, never)) for _ in range(3)]
    await until(lambda: site.bodies.count(b"deaf") == 3)

    assert await status_of(await site.ask()) == 200

    for task in deaf:
        task.cancel()


async def test_the_line_is_only_so_long(site, monkeypatch, counted):
    monkeypatch.setattr(admission, "WAITING", 1)
    requests = [await site.ask() for _ in range(3)]
    await site.settle()

    assert await status_of(await site.ask()) == 503
    assert counted("auth_requests_refused") == 1

    site.go.set()
    assert [await status_of(request) for request in requests] == [200] * 3


def test_each_loop_has_a_line_of_its_own(configure):
    """A loop that was closed with requests inside takes no places with it."""
    configure(AUTH_CONCURRENCY=1)
    application = Admission(None)

    async def use():
        site = Site()
        site.admission, application._django = application, site
        requests = [await site.ask() for _ in range(2)]
        await site.settle()
        site.go.set()
        return [await status_of(request) for request in requests]

    async def use_and_stop():
        site = Site()
        site.admission, application._django = application, site
        for _ in range(2):
            await site.ask()
        await site.settle()

    asyncio.run(use_and_stop())
    assert asyncio.run(use()) == [200, 200]


async def test_a_body_that_is_too_large_is_refused(site, monkeypatch):
    monkeypatch.setattr(admission, "BODY_BYTES", 1_000)

    assert await status_of(await site.ask(b"x" * 1_001)) == 413
    assert not site.bodies


async def test_a_batch_of_the_longest_names_is_not_too_large():
    names = ["private-" + "=" * 156] * auth_views.BATCH_CHANNELS
    body = urlencode({f"channel_name[{number}]": name for number, name in enumerate(names)})

    assert 2 * len(body) < BODY_BYTES


async def test_who_is_gone_before_asking_is_forgotten(site):
    request = await site.ask(b"half", more_body=True)
    await request.send_input({"type": "http.disconnect"})

    await request.wait(PATIENCE)

    assert await request.receive_nothing()
    assert not site.bodies


async def test_the_site_itself_has_the_line_in_front(application, process, configure):
    """A body that was read for the line is still there for the view."""
    configure(AUTH_CSRF=False)

    def log_in():
        client = Client()
        client.force_login(User.objects.create_user("ann"))
        return client.cookies["sessionid"].value

    session = await sync_to_async(log_in)()
    headers = [
        (b"host", b"testserver"),
        (b"content-type", b"application/json"),
        (b"content-length", b"20"),
        (b"cookie", f"sessionid={session}".encode()),
    ]
    request = ApplicationCommunicator(application, scope_of("/pusher/user-auth", headers=headers))
    for piece, more_body in (b'{"socket_', True), (b'id": "1.1"}', False):
        await request.send_input({"type": "http.request", "body": piece, "more_body": more_body})

    start = await request.receive_output(PATIENCE)
    body = (await request.receive_output(PATIENCE))["body"]
    await request.wait(PATIENCE)

    assert start["status"] == 200, body
    assert json.loads(json.loads(body)["user_data"])["user_info"] == {"name": "ann"}
