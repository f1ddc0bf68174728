"""Endpoints, what happened, and a server that receives webhooks."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from realtime import signals
from realtime.models import PendingFact, WebhookDelivery, WebhookQueue
from realtime.presence import lease, store
from realtime.protocol.facts import Fact


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        return json.loads(self.body)["events"]


@dataclass
class Receiver:
    """An HTTP server of the test, which answers by path as it is told."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    answers: dict[str, bytes] = field(default_factory=dict)
    """The bytes to answer with by path; empty: never answer.  Else 200."""
    let_go: asyncio.Event = field(default_factory=asyncio.Event)

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def status(self, path: str, status: int, *headers: str, body: str = "") -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers, "", body]
        self.answers[path] = "\r\n".join(lines).encode()

    def at(self, path: str) -> list[Request]:
        return [item for item in self.requests if item.path == path]

    def told(self, path: str = "/hook") -> list[str]:
        """Names and channels of the events so far."""
        return [
            f"{event['name']} {event['channel']}" for item in self.at(path) for event in item.events
        ]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                first, *lines = head.strip().split("\r\n")
                headers = dict(line.split(": ", 1) for line in lines)
                body = await reader.readexactly(int(headers["Content-Length"]))
                path = first.split()[1]
                self.requests.append(Request(path, headers, body))
                answer = self.answers.get(path, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                if not answer:
                    await self.let_go.wait()
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    made.let_go.set()
    server.close()


@pytest.fixture
def endpoints(configure: Callable[..., None]) -> Callable[..., None]:
    """Sets the endpoints of the settings: URLs, or dictionaries."""

    def change(*entries: Any, **keys: Any) -> None:
        webhooks = [{"URL": item} if isinstance(item, str) else item for item in entries]
        configure(WEBHOOKS=webhooks, WEBHOOK_PRIVATE_TARGETS=True, **keys)

    return change


@pytest.fixture
def heard() -> Any:
    """Receives a Django signal; what it heard is in the list it returns."""
    connected = []

    def hear(kind: str, work: Callable[..., None] | None = None) -> list[dict[str, Any]]:
        seen: list[dict[str, Any]] = []

        def note(*, signal: Any, sender: Any, **arguments: Any) -> None:
            seen.append(arguments)
            if work is not None:
                work(**arguments)

        signals.BY_KIND[kind].connect(note, weak=False)
        connected.append((kind, note))
        return seen

    yield hear
    for kind, note in connected:
        signals.BY_KIND[kind].disconnect(note)


@pytest.fixture
def servers() -> list[uuid.UUID]:
    """Two living server processes."""
    ids = [uuid.uuid4() for _ in range(2)]
    for server in ids:
        lease.take(server, 60)
    return ids


@pytest.fixture
def apply(servers: list[uuid.UUID]) -> Callable[..., Any]:
    """Applies transitions, by default on the first server."""
    return lambda *transitions, on=0: store.apply(servers[on], transitions, 60)


@pytest.fixture
def frozen(transactional_db: None) -> Iterator[Callable[[uuid.UUID], None]]:
    """Locks the row of a queue as a process does that stands still in its transaction."""
    if not connection.features.has_select_for_update:
        pytest.skip("this database has no row locks")
    other = connection.copy()

    def freeze(queue: uuid.UUID) -> None:
        WebhookQueue.objects.get_or_create(id=queue)
        other.set_autocommit(False)
        with other.cursor() as cursor:
            table = WebhookQueue._meta.db_table
            cursor.execute(f"SELECT 1 FROM {table} WHERE id = %s FOR UPDATE", [queue])
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '2s'")  # who waits for it fails

    yield freeze
    other.close()
    with connection.cursor() as cursor:
        cursor.execute("RESET lock_timeout")


def client_event(channel: str = "private-room", app_id: str = "3", **more: Any) -> Fact:
    """Something that is due at once."""
    details = {"event": "client-x", "data": "1", "socket_id": "1.2", **more}
    return Fact(app_id=app_id, kind="client_event", channel=channel, **details)


def pending() -> list[str]:
    """Kinds of the facts that wait, in order."""
    return list(PendingFact.objects.order_by("pk").values_list("kind", flat=True))


def later(seconds: float) -> None:
    """Everything that waits has waited so much longer."""
    PendingFact.objects.update(due_at=F("due_at") - timedelta(seconds=seconds))
    WebhookDelivery.objects.update(
        next_attempt_at=F("next_attempt_at") - timedelta(seconds=seconds),
        expires_at=F("expires_at") - timedelta(seconds=seconds),
    )
