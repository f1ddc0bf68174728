"""Webhooks of real servers, read with the official libraries."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.e2e.conftest import http_library
from tests.e2e.nodejs import Node
from tests.e2e.sites import manage

PATIENCE = 20

ADD = """
from realtime.models import WebhookEndpoint
WebhookEndpoint.objects.create(app_id="{app}", url="{url}", channel_prefixes={prefixes})
"""
REMOVE = """
from realtime.models import WebhookEndpoint
WebhookEndpoint.objects.filter(url="{url}").delete()
"""


@dataclass
class Receiver:
    """An endpoint on this machine that may be away, or hang."""

    port: int = 0
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    hangs_at: bytes = b""
    """In which requests it hangs: those with these words, if any."""
    released: threading.Event = field(default_factory=threading.Event)
    _server: Any = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def probes(self) -> str:
        """How channels start that only this endpoint is for.

        A process that still remembers another's would write facts for that one, and whoever
        sends them finds this one: it would seem to be known.
        """
        return f"known-{self.port}-"

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.changed:
                    receiver.requests.append((dict(self.headers), body))
                    receiver.changed.notify_all()
                if receiver.hangs_at and receiver.hangs_at in body:
                    receiver.released.wait(PATIENCE)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def events(self) -> list[dict[str, Any]]:
        with self.changed:
            return [event for _, body in self.requests for event in json.loads(body)["events"]]

    def names(self, channel: str) -> list[str]:
        return [event["name"] for event in self.events() if event["channel"] == channel]

    def wait_for(self, name: str, channel: str) -> dict[str, Any]:
        def matching() -> list[dict[str, Any]]:
            return [e for e in self.events() if (e["name"], e["channel"]) == (name, channel)]

        with self.changed:
            assert self.changed.wait_for(matching, PATIENCE), (name, channel, self.requests)
        return matching()[0]


@pytest.fixture
def receive(site, sites) -> Iterator[Any]:
    """Adds endpoints to a site for channels that start so."""
    with ExitStack() as stack:

        def add(*prefixes: str, at: Any = site) -> Receiver:
            return stack.enter_context(_endpoint(at, list(prefixes)))

        yield add


@contextmanager
def _endpoint(site: Any, prefixes: list[str]) -> Iterator[Receiver]:
    made = Receiver()
    made.start()
    add = ADD.format(app=site.app.id, url=made.url, prefixes=[*prefixes, made.probes])
    manage(site.environment, "shell", "-c", add)
    yield made
    manage(site.environment, "shell", "-c", REMOVE.format(url=made.url))
    made.released.set()
    made.stop()


@pytest.fixture
def npm(tmp_path) -> Iterator[Node]:
    node = Node("receive_webhook.mjs", tmp_path / "node.log")
    yield node
    node.close()


def known(receiver, connect, unique, *servers):
    """Wait until each process knows of the endpoint: a change takes five seconds."""
    for server in servers:
        client, prefix = connect(at=server), unique(receiver.probes)

        def told(prefix=prefix):
            return any(event["channel"].startswith(prefix) for event in receiver.events())

        for number in range(PATIENCE * 2):
            client.subscribe(f"{prefix}-{number}")
            with receiver.changed:
                if receiver.changed.wait_for(told, 0.5):
                    break
        assert told()


@pytest.mark.spec(194, 195, 198, 199, 200)
def test_a_visit_with_a_reload_is_told_once_and_libraries_accept_it(
    site, connect, receive, npm, unique
):
    channel = unique("presence-own-data-")
    receiver = receive(channel)
    user = site.new_user()
    known(receiver, connect, unique, site.first, site.last)

    page = connect(user)
    page.subscribe(channel)
    page.trigger(channel, "client-typing", {"on": True})
    told = receiver.wait_for("client_event", channel)
    receiver.wait_for("channel_occupied", channel)
    assert told["user_id"] == receiver.wait_for("member_added", channel)["user_id"]
    assert (json.loads(told["data"]), told["socket_id"]) == ({"on": True}, page.socket_id)

    reloaded = connect(user, at=site.last)
    page.call("disconnect")
    reloaded.subscribe(channel)
    reloaded.call("disconnect")
    receiver.wait_for("member_removed", channel)
    receiver.wait_for("channel_vacated", channel)

    assert sorted(receiver.names(channel)) == [
        "channel_occupied",
        "channel_vacated",
        "client_event",
        "member_added",
        "member_removed",
    ]
    app = site.app
    python = http_library(app, site.first)
    for headers, body in receiver.requests:
        assert headers["Content-Type"] == "application/json"
        signature = headers["X-Pusher-Signature"]
        assert python.validate_webhook(headers["X-Pusher-Key"], signature, body.decode())
        lowered = {name.lower(): value for name, value in headers.items()}
        raw = body.decode()
        read = npm.call("read", key=app.key, secret=app.secret, headers=lowered, rawBody=raw)
        assert read["valid"]
        assert read["events"] == json.loads(body)["events"]
        wrong = npm.call("read", key=app.key, secret="no", headers=lowered, rawBody=raw)
        assert not wrong["valid"]


@pytest.mark.spec(196, 197)
def test_two_processes_tell_once_that_a_channel_is_occupied(sites, new_client, receive, unique):
    site, channel = sites("uvicorn-redis"), unique("room-")
    receiver = receive(channel, at=site)

    def connect(at=site.first):
        client = new_client(at, site.app.key)
        client.wait_for_state("connected")
        return client

    known(receiver, connect, unique, site.first, site.last)
    clients = [connect(server) for server in (site.first, site.last)]
    for client in clients:
        client.subscribe(channel)
    receiver.wait_for("channel_occupied", channel)
    for client in clients:
        client.call("unsubscribe", channel=channel)
    receiver.wait_for("channel_vacated", channel)

    assert receiver.names(channel) == ["channel_occupied", "channel_vacated"]


@pytest.mark.spec(205, 206)
def test_an_endpoint_that_is_away_gets_the_same_bytes_later_and_one_that_hangs_delays_nobody(
    site, connect, receive, unique
):
    channel = unique("room-")
    away, hanging, well = (receive(channel) for _ in range(3))
    for receiver in (away, hanging, well):
        known(receiver, connect, unique, site.first)
    away.hangs_at = hanging.hangs_at = channel.encode()
    connect().subscribe(channel)
    well.wait_for("channel_occupied", channel)
    away.wait_for("channel_occupied", channel)
    hanging.wait_for("channel_occupied", channel)
    away.stop()  # in the middle of a request, which is never answered

    away.hangs_at = b""
    away.start()
    with away.changed:
        assert away.changed.wait_for(lambda: len(away.names(channel)) == 2, PATIENCE)

    once, again = [body for _, body in away.requests if channel.encode() in body]
    assert once == again
    other = unique(channel)
    connect().subscribe(other)
    well.wait_for("channel_occupied", other)
    assert other not in json.dumps(hanging.events())
