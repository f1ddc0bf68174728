"""A server process without a server: layers, peers, clients and a database that can fail."""

import asyncio
import hashlib
import hmac
import json
import logging
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import InMemoryChannelLayer
from channels.testing import WebsocketCommunicator
from django.conf import settings as django_settings
from django.db import OperationalError, connections
from django.db.backends.signals import connection_created
from hypothesis import settings as hypothesis_settings

from realtime import applications, conf, hub, metrics, outbox
from realtime import layer as layer_module
from realtime.asgi import get_asgi_application
from realtime.layer import EVENT, EVENTS, MARKER
from realtime.logs import OncePerSecond
from realtime.models import Member
from realtime.presence import ledger
from realtime.protocol.app import App
from realtime.sockets import Socket
from realtime.webhooks import courier

ID = django_settings.REALTIME["APP_ID"]
KEY = django_settings.REALTIME["APP_KEY"]
SECRET = django_settings.REALTIME["APP_SECRET"]
PATH = f"/app/{KEY}?protocol=7&client=js&version=8.6.0&flash=false"

PATIENCE = 20
"""Seconds after which a test that waits for something gives up."""

NOWHERE = "https://127.0.0.1/"
"""Where webhooks are made for and never sent: no connection is opened to an address like that."""

# Here, before any test is decorated: an example takes as long as the machine makes it take.
hypothesis_settings.register_profile("patient", deadline=None, database=None)
hypothesis_settings.load_profile("patient")


def hmac_hex(text: str, secret: str = SECRET) -> str:
    """HMAC-SHA256 as the official libraries compute it, without a line of ours."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def signed(text: str) -> str:
    """The ``auth`` token over *text*."""
    return f"{KEY}:{hmac_hex(text)}"


async def until(condition: Callable[[], object]) -> None:
    """Let everything else run until *condition* holds."""
    turns = 0
    async with asyncio.timeout(PATIENCE):
        while not condition():  # any condition, also one of a thread
            turns += 1
            # A loop that never rests keeps the interpreter's lock from the database's thread.
            await asyncio.sleep(0 if turns < 100 else 0.001)


async def until_async(look: Callable[[], Awaitable[Any]]) -> Any:
    """``until`` for a condition that has to ask somebody; what it found."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if found := await look():
                return found
            await asyncio.sleep(0.001)


async def soon(work: Awaitable[Any]) -> Any:
    """Await *work*, but not for ever."""
    async with asyncio.timeout(PATIENCE):
        return await work


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Benchmarks run where their directory is asked for, and nowhere else."""
    if any("benchmarks" in argument for argument in config.args):
        return
    benchmarks = [item for item in items if item.get_closest_marker("bench")]
    items[:] = [item for item in items if item not in benchmarks]
    config.hook.pytest_deselected(items=benchmarks)


# ---- layers -----------------------------------------------------------------------------


def _events_in(messages: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The events in *messages*, also those that share one."""
    found = []
    for message in messages:
        if message["type"] == EVENTS:
            found += message["events"]
        elif message["type"] == EVENT:
            found.append(message)
    return found


class SpyLayer(InMemoryChannelLayer):
    """Counts what passes through it, and stops answering on request."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**{"capacity": 10_000, **config})
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.groups_joined: list[str] = []
        self.groups_left: list[str] = []
        self.received: list[dict[str, Any]] = []
        self.broken = False
        self.deaf = False
        """Whether everything is taken and nothing arrives, as over a link half of which is gone."""
        self.deaf_groups: set[str] = set()
        """Groups of which nothing arrives."""
        self.markerless = False
        """Whether everything arrives but markers."""
        self.gates: dict[str, asyncio.Event] = {}
        """Groups that are joined and left only once their event is set."""

    def repair(self) -> None:
        """Answer everything again."""
        self.broken = self.deaf = False
        for gate in self.gates.values():
            gate.set()

    def events(self) -> list[dict[str, Any]]:
        """The events sent so far, without what processes tell each other."""
        sent = _events_in(message for _, message in self.sent)
        return [event for event in sent if event["channel"] != Member.ONLINE]

    def delivered(self) -> list[dict[str, Any]]:
        """The events received so far."""
        received = _events_in(self.received)
        return [event for event in received if event["channel"] != Member.ONLINE]

    def sign_ins(self) -> list[list[Any]]:
        """The news of sign-ins sent so far: user id, version, whether online."""
        sent = _events_in(message for _, message in self.sent)
        return [json.loads(event["text"]) for event in sent if event["channel"] == Member.ONLINE]

    def members(self, group: str) -> set[str]:
        """The layer channels in a group."""
        return set(self.groups.get(group, ()))

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self._answer()
        self.sent.append((group, message))
        lost = self.markerless and message["type"] == MARKER
        if not (lost or self.deaf or group in self.deaf_groups):
            await super().group_send(group, message)

    async def group_add(self, group: str, channel: str) -> None:
        self._answer()
        self.groups_joined.append(group)
        if group in self.gates:
            await self.gates[group].wait()
        await super().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self._answer()
        self.groups_left.append(group)
        if group in self.gates:
            await self.gates[group].wait()
        await super().group_discard(group, channel)

    async def receive(self, channel: str) -> dict[str, Any]:
        message = await super().receive(channel)
        self.received.append(message)
        return message

    def _answer(self) -> None:
        if self.broken:
            raise ConnectionError("the layer is away")


class LateLayer(SpyLayer):
    """Says that a group is joined a moment too early, as Redis may: the first marker is lost."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self._late: list[tuple[str, str]] = []

    async def group_add(self, group: str, channel: str) -> None:
        self.groups_joined.append(group)
        self._late.append((group, channel))

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        await super().group_send(group, message)
        if message["type"] == MARKER:
            for late in self._late:
                await InMemoryChannelLayer.group_add(self, *late)
            self._late.clear()


class MarkerlessLayer(SpyLayer):
    """Delivers everything but the markers that follow a join."""

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if message["type"] != MARKER or group.startswith("realtime.echo."):
            await super().group_send(group, message)


@pytest.fixture
def use_layer(settings: Any) -> Callable[[type[SpyLayer]], Any]:
    """Makes a layer of a class the site's; call it before the first hub exists."""

    def use(layer_class: type[SpyLayer], **config: Any) -> Any:
        backend = f"{layer_class.__module__}.{layer_class.__qualname__}"
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}
        return layer_module.channel_layer()

    return use


@pytest.fixture
def layer(use_layer: Callable[[type[SpyLayer]], Any]) -> Any:
    """The layer of the site, which counts."""
    return use_layer(SpyLayer)


# ---- the process ------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _own_signal_handlers() -> Iterator[None]:
    """The first connection of a process takes the signals that end it; give them back."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _talkative_log() -> None:
    """No sentence of an earlier test counts as said a moment ago."""
    for logger in list(logging.root.manager.loggerDict.values()):
        for item in getattr(logger, "filters", ()):
            if isinstance(item, OncePerSecond):
                item._last.clear()
                item._held_back.clear()


@pytest.fixture(autouse=True)
def _patient_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow commit is waited for: afterwards tests read what it wrote."""
    monkeypatch.setattr(ledger, "FLUSH_SECONDS", PATIENCE / 2)


@pytest.fixture(autouse=True)
def _no_rows_of_other_tests() -> None:
    """No app or endpoint is remembered whose row went with its test."""
    applications._rows = None


@pytest.fixture
def counted() -> Callable[..., int]:
    """How much a counter has grown in this test."""
    before = metrics.snapshot()

    def grown(name: str, value: str = "") -> int:
        key = f"realtime_{name}_total"
        return metrics.snapshot()[key][value] - before[key][value]

    return grown


@pytest.fixture
def configure(settings: Any) -> Callable[..., None]:
    """Changes keys of the ``REALTIME`` setting."""

    def change(**keys: Any) -> None:
        settings.REALTIME = {**settings.REALTIME, **keys}

    return change


@pytest.fixture
def app() -> App:
    """The app of the tests, as the protocol sees it."""
    return conf.apps()[0]


@pytest.fixture
async def local_hub(layer: Any) -> AsyncIterator[hub.Hub]:
    """The hub of this process, started."""
    local = hub.current()
    await local.start()
    yield local
    layer.repair()
    await local.stop()


@pytest.fixture
async def process(transactional_db: None, layer: Any) -> AsyncIterator[None]:
    """A server process that stops in order and leaves no database connection behind."""
    loop = asyncio.get_running_loop()
    threads = ThreadPoolExecutor(1)
    loop.set_default_executor(threads)
    yield
    layer.repair()
    local_ledger, local_hub, local_outbox = ledger.peek(), hub.peek(), outbox.peek()
    if (local_courier := courier.peek()) is not None:
        await local_courier.stop()
    if local_outbox is not None:
        await local_outbox.stop()
    if local_ledger is not None:
        await local_ledger.stop()
    if local_hub is not None:
        await local_hub.stop()
    await sync_to_async(connections.close_all)()
    await loop.run_in_executor(threads, connections.close_all)


class Database:
    """Sees every statement on connections opened since, may hold them up or refuse them."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.away = False
        self.refused_start: str | None = None
        """How a statement starts that is refused while others pass."""
        self.refusals = 0
        self.open = threading.Event()
        self.open.set()
        self.waiting = threading.Event()
        """Set while a statement is held up."""

    def writes_of(self, table: str) -> int:
        """How many statements changed the rows of *table*."""
        return sum(
            f'"{table}"' in sql and sql.split()[0] in ("INSERT", "UPDATE", "DELETE")
            for sql in self.statements
        )

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not self.open.is_set():
            self.waiting.set()
            self.open.wait(PATIENCE)
        if self.away or (self.refused_start and sql.startswith(self.refused_start)):
            self.refusals += 1
            raise OperationalError("the database is away")
        self.statements.append(sql)
        return execute(sql, params, many, context)


@pytest.fixture
def database(process: None) -> Iterator[Database]:
    """The database as the ledger sees it."""
    seen = Database()

    def watch(*, connection: Any, **_: Any) -> None:
        connection.execute_wrappers.append(seen)

    connection_created.connect(watch)
    yield seen
    connection_created.disconnect(watch)
    seen.away = False
    seen.refused_start = None
    seen.open.set()


# ---- peers and clients ------------------------------------------------------------------


class Peer:
    """The far end of a socket: reads, or does not."""

    def __init__(self, socket_id: str, *, reads: bool = True, backlog_chars: int = 10_000) -> None:
        self.messages: list[dict[str, Any]] = []
        self.drops = 0
        self._reads = asyncio.Event()
        if reads:
            self._reads.set()
        self.socket = Socket(
            ID, socket_id, self._take, backlog_chars=backlog_chars, drop=self._count_drop
        )

    @property
    def texts(self) -> list[str]:
        """The frames that arrived."""
        return [item["text"] for item in self.messages if item["type"] == "websocket.send"]

    @property
    def close_code(self) -> int | None:
        """The code this connection was closed with."""
        codes = [item["code"] for item in self.messages if item["type"] == "websocket.close"]
        return codes[0] if codes else None

    def read(self) -> None:
        """Read again."""
        self._reads.set()

    async def has(self, *texts: str) -> None:
        """Wait for as many frames, and compare them."""
        await until(lambda: len(self.texts) >= len(texts))
        assert self.texts == list(texts)

    async def _take(self, message: dict[str, Any]) -> None:
        await self._reads.wait()
        self.messages.append(message)

    def _count_drop(self) -> None:
        self.drops += 1


class Client(WebsocketCommunicator):
    """A client on a WebSocket that exists only in memory."""

    socket_id = ""

    # Those of Channels keep database connections open while they wait, and for good once two
    # of them overlap: whichever thread ends then leaves its own behind.
    send_input = ApplicationCommunicator.send_input
    receive_output = ApplicationCommunicator.receive_output

    async def upgrade(self) -> str | None:
        """Open the WebSocket; return the chosen subprotocol."""
        accepted, subprotocol = await self.connect(PATIENCE)
        assert accepted
        return subprotocol

    async def open(self) -> "Client":
        """Open the WebSocket and read the greeting."""
        await self.upgrade()
        greeting = await self.frame()
        assert greeting["event"] == "pusher:connection_established"
        self.socket_id = json.loads(greeting["data"])["socket_id"]
        return self

    async def text(self) -> str:
        """The next frame as it is."""
        message = await self.receive_output(PATIENCE)
        assert message["type"] == "websocket.send", message
        return message["text"]

    async def frame(self) -> dict[str, Any]:
        """The next frame, parsed."""
        return json.loads(await self.text())

    async def event(self) -> tuple[str, Any]:
        """Name and decoded data of the next frame."""
        frame = await self.frame()
        data = frame.get("data")
        return frame["event"], json.loads(data) if isinstance(data, str) else data

    async def closed(self) -> tuple[int, str]:
        """Code and reason of the close frame, which comes next."""
        message = await self.receive_output(PATIENCE)
        assert message["type"] == "websocket.close", message
        return message["code"], message.get("reason", "")

    async def say(self, event: str, data: Any = None, **more: Any) -> None:
        """Send one frame."""
        await self.send_to(json.dumps({"event": event, "data": data or {}, **more}))

    async def ask(self, channel: str, member: dict[str, Any] | None = None) -> None:
        """Subscribe, signed where the channel wants it; do not wait for the answer."""
        data: dict[str, Any] = {"channel": channel}
        if channel.startswith(("private-", "presence-")):
            text = f"{self.socket_id}:{channel}"
            if member is not None:
                data["channel_data"] = json.dumps(member)
                text = f"{text}:{data['channel_data']}"
            data["auth"] = signed(text)
        await self.say("pusher:subscribe", data)

    async def subscribe(self, channel: str, member: dict[str, Any] | None = None) -> Any:
        """Subscribe; return the data of the success frame."""
        await self.ask(channel, member)
        event, data = await self.event()
        assert event == "pusher_internal:subscription_succeeded", (event, data)
        return data

    async def sign_in(self, user_id: str, **more: Any) -> tuple[str, Any]:
        """Sign in; return the answer."""
        user_data = json.dumps({"id": user_id, **more})
        auth = signed(f"{self.socket_id}::user::{user_data}")
        await self.say("pusher:signin", {"auth": auth, "user_data": user_data})
        return await self.event()

    async def is_silent(self) -> None:
        """Nothing else has arrived: the answer to a ping is next."""
        await self.say("pusher:ping")
        assert (await self.frame())["event"] == "pusher:pong"

    async def leave(self) -> None:
        """Go away, and wait until the server has noticed."""
        await self.send_input({"type": "websocket.disconnect", "code": 1001})
        await self.wait(PATIENCE)


@pytest.fixture(scope="session")
def application() -> Any:
    """The site as a server runs it.  Made once: it configures logging, which ``caplog`` notices."""
    return get_asgi_application()


@pytest.fixture
async def new_client(process: None, application: Any) -> AsyncIterator[Callable[..., Client]]:
    """Makes clients that have not connected yet; they leave with the test."""
    made: list[Client] = []

    def make(path: str = PATH, *, scheme: str = "ws", **options: Any) -> Client:
        client = Client(application, path, **options)
        client.scope["scheme"] = scheme
        made.append(client)
        return client

    yield make
    for client in made:
        if not client.future.done():
            await client.leave()


@pytest.fixture
def connect(new_client: Callable[..., Client]) -> Callable[..., Awaitable[Client]]:
    """Makes clients that have read the greeting."""

    async def start(*arguments: Any, **options: Any) -> Client:
        return await new_client(*arguments, **options).open()

    return start
