"""A WebSocket that exists only here, between a consumer and the requests of a client."""

import asyncio
import json

import pytest

from realtime.fallback import virtual
from realtime.fallback.virtual import Name, TooManyWait, VirtualWebSocket
from realtime.protocol.errors import OverCapacity
from tests.conftest import soon, until

SCOPE = {"type": "http", "scheme": "https", "path": "/x", "headers": [(b"host", b"h")]}


class Consumer:
    """An ASGI application that a test drives."""

    def __init__(self):
        self.received = []
        self.reads = asyncio.Event()
        self.reads.set()

    async def __call__(self, scope, receive, send):
        self.scope, self.send = scope, send
        self.received.append(await receive())
        await send({"type": "websocket.accept", "subprotocol": None})
        while self.received[-1]["type"] != "websocket.disconnect":
            await self.reads.wait()
            self.received.append(await receive())
            if self.received[-1].get("text") == "break":
                return

    async def say(self, text):
        await self.send({"type": "websocket.send", "text": text})

    async def close(self, code, reason=""):
        await self.send({"type": "websocket.close", "code": code, "reason": reason})

    @property
    def texts(self):
        return [item["text"] for item in self.received if item["type"] == "websocket.receive"]


@pytest.fixture
async def serving():
    """Starts a consumer behind a virtual WebSocket."""
    running = []

    async def start(**options):
        forgotten = []
        socket = VirtualWebSocket(lambda: forgotten.append(socket), **options)
        consumer = Consumer()
        task = asyncio.create_task(socket.serve(consumer, SCOPE))
        running.append((socket, consumer, task))
        await until(lambda: consumer.received)
        return socket, consumer, forgotten

    yield start
    for socket, consumer, task in running:
        consumer.reads.set()
        socket.end()
        await soon(task)


async def test_the_consumer_sees_a_websocket(serving):
    _, consumer, _ = await serving()

    assert consumer.received == [{"type": "websocket.connect"}]
    assert (consumer.scope["type"], consumer.scope["scheme"]) == ("websocket", "wss")
    assert consumer.scope["headers"] == SCOPE["headers"]


async def test_what_it_sends_waits_for_a_receive_request(serving):
    socket, consumer, _ = await serving()
    await consumer.say("1")
    await consumer.say("2")

    assert await soon(socket.attach(streams=False).take()) == 'o\na["1","2"]\n'


async def test_a_consumer_is_held_back_while_nobody_takes_what_it_sends(serving):
    socket, consumer, _ = await serving()
    await consumer.say("x" * virtual.OUTGOING_CHARS)

    more = asyncio.create_task(consumer.say("more"))
    await until(lambda: socket._taken._waiters)
    assert not more.done()
    await soon(socket.attach(streams=True).take())

    await soon(more)


async def test_a_consumer_that_waits_hears_of_the_end(serving):
    socket, consumer, _ = await serving()
    await consumer.say("x" * virtual.OUTGOING_CHARS)
    more = asyncio.create_task(consumer.say("more"))
    await until(lambda: socket._taken._waiters)

    socket.end()

    with pytest.raises(OSError, match="gone"):
        await soon(more)


async def test_a_close_is_told_after_what_was_sent_and_then_forgotten(serving):
    socket, consumer, forgotten = await serving()
    await consumer.say("last")
    await consumer.close(4200, "bye")
    await until(lambda: consumer.received[-1]["type"] == "websocket.disconnect")
    reception = socket.attach(streams=True)

    assert not forgotten
    assert await soon(reception.take()) == 'o\na["last"]\nc[4200,"bye"]\n'
    assert await soon(reception.take()) == ""
    assert forgotten == [socket]


async def test_nothing_can_be_sent_after_a_close(serving):
    _, consumer, _ = await serving()
    await consumer.close(1000)

    with pytest.raises(OSError, match="gone"):
        await consumer.say("more")
    with pytest.raises(OSError, match="closed"):
        await consumer.close(1000)


async def test_a_consumer_that_fails_ends_the_response(serving):
    socket, consumer, forgotten = await serving()
    reception = socket.attach(streams=True)
    assert await soon(reception.take()) == "o\n"

    await consumer.say("last")
    socket.put(["break"])

    assert await soon(reception.take()) == 'a["last"]\n'
    assert await soon(reception.take()) == ""
    assert forgotten == [socket]


async def test_messages_reach_the_consumer_in_order(serving):
    socket, consumer, _ = await serving()

    assert await socket.offer(["1", "2"])
    assert await socket.offer(["3"])

    await until(lambda: len(consumer.texts) == 3)
    assert consumer.texts == ["1", "2", "3"]


async def test_a_client_that_sends_too_fast_waits(serving, monkeypatch):
    monkeypatch.setattr(virtual, "INCOMING_CHARS", 500)
    socket, consumer, _ = await serving()
    consumer.reads.clear()
    await socket.offer(["0"])
    await until(lambda: consumer.texts == ["0"])
    for _ in range(5):
        await socket.offer([""])
    assert not socket.put([""])

    late = asyncio.create_task(socket.offer(["late"]))
    await until(lambda: socket._read._waiters)
    consumer.reads.set()

    assert await soon(late)
    await until(lambda: consumer.texts[-1] == "late")


async def filled(serving):
    """A socket with more waiting than it takes, and its consumer, which reads no further."""
    socket, consumer, _ = await serving()
    consumer.reads.clear()
    await socket.offer(["0"])
    await until(lambda: consumer.texts == ["0"])
    await socket.offer(["1"])
    return socket, consumer


async def test_only_so_many_requests_may_wait(serving, monkeypatch):
    monkeypatch.setattr(virtual, "INCOMING_CHARS", 1)
    monkeypatch.setattr(virtual, "WAITING_REQUESTS", 1)
    socket, _ = await filled(serving)
    waiting = asyncio.create_task(socket.offer(["2"]))
    await until(lambda: socket._read._waiters)

    with pytest.raises(TooManyWait):
        await socket.offer(["3"])

    socket.end()
    assert not await soon(waiting)
    assert not await socket.offer(["3"])


async def test_what_waits_takes_only_so_much_memory(serving, monkeypatch):
    """A character beyond the basic plane takes four bytes."""
    monkeypatch.setattr(virtual, "INCOMING_CHARS", 1)
    monkeypatch.setattr(virtual, "WAITING_BYTES", 10_000)
    socket, consumer = await filled(serving)
    large = "\U0001f600" * 2_000
    waiting = [asyncio.create_task(socket.offer([large]))]
    await until(lambda: socket._read._waiters)

    with pytest.raises(TooManyWait):
        await socket.offer([large])
    waiting.append(asyncio.create_task(socket.offer(["small"])))
    await until(lambda: len(socket._read._waiters) == 2)
    consumer.reads.set()

    assert await soon(asyncio.gather(*waiting)) == [True, True]


async def test_a_single_request_may_wait_however_large_it_is(serving, monkeypatch):
    monkeypatch.setattr(virtual, "INCOMING_CHARS", 1)
    monkeypatch.setattr(virtual, "WAITING_BYTES", 1)
    socket, consumer = await filled(serving)

    waiting = asyncio.create_task(socket.offer(["large"]))
    await until(lambda: socket._read._waiters)
    consumer.reads.set()

    assert await soon(waiting)


async def test_the_client_hears_nothing_before_it_is_admitted(serving):
    release = asyncio.Event()
    socket, consumer, _ = await serving(admitted=release.wait)
    await consumer.say("welcome")
    taking = asyncio.create_task(socket.attach(streams=True).take())
    await until(lambda: taking and consumer.received)
    assert not taking.done()

    release.set()

    assert await soon(taking) == 'o\na["welcome"]\n'


async def test_a_client_that_is_not_admitted_after_all_is_told_why(serving):
    async def refuse():
        raise OverCapacity

    socket, consumer, _ = await serving(admitted=refuse)

    lines = (await soon(socket.attach(streams=True).take())).splitlines()

    assert lines[0] == "o"
    assert json.loads(json.loads(lines[1][1:])[0])["data"]["code"] == 4100
    assert lines[2] == 'c[4100,"Over capacity"]'
    await until(lambda: consumer.received[-1]["type"] == "websocket.disconnect")


async def test_a_refused_client_that_does_not_wait_for_the_answer_leaves_nothing(serving):
    socket, consumer, forgotten = await serving()
    reception = socket.attach(streams=False)
    await consumer.close(4001, "no")

    reception.end(broken_off=True)

    assert forgotten == [socket]


async def test_names_differ_by_everything_that_the_client_cannot_choose():
    names = {
        Name("key", "1", "s", None),
        Name("other", "1", "s", None),
        Name("key", "1", "s", "https://evil.example"),
    }

    assert len(names) == 3
