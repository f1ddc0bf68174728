"""Start and stop of a server process."""

import asyncio
import os
import signal
import subprocess
import sys
import threading

import pytest

from realtime import hub, lifespan
from realtime.models import Membership, Server
from tests.conftest import soon, until


@pytest.fixture
async def server(process):
    """A server that speaks lifespan: ``await server("startup")`` returns the answer."""
    received, sent = asyncio.Queue(), asyncio.Queue()
    speaking = asyncio.ensure_future(lifespan.lifespan(received.get, sent.put))

    async def say(phase):
        received.put_nowait({"type": f"lifespan.{phase}"})
        return await soon(sent.get())

    yield say
    speaking.cancel()
    await asyncio.wait([speaking])


@pytest.fixture
def server_handler():
    """What the server has registered for SIGTERM; counts how often it was called."""
    calls = []
    signal.signal(signal.SIGTERM, lambda number, frame: calls.append(number))
    return calls


async def test_a_server_that_speaks_lifespan_is_answered(server):
    assert await server("startup") == {"type": "lifespan.startup.complete"}
    assert await server("shutdown") == {"type": "lifespan.shutdown.complete"}


@pytest.mark.spec(46)
async def test_a_stop_sends_clients_elsewhere(server, connect):
    client = await connect()
    stopping = asyncio.ensure_future(server("shutdown"))

    assert await client.event() == (
        "pusher:error",
        {"code": 4200, "message": "Please reconnect immediately"},
    )
    assert await client.closed() == (4200, "Please reconnect immediately")
    await client.leave()

    assert await stopping == {"type": "lifespan.shutdown.complete"}


async def test_a_stop_writes_what_is_left_and_gives_the_lease_back(server, connect, layer):
    client = await connect()
    await client.subscribe("presence-room", {"user_id": "ann"})
    stopping = asyncio.ensure_future(server("shutdown"))
    await client.frame()
    await client.leave()

    await stopping

    assert not await Membership.objects.aexists()
    assert await Server.objects.dead().acount() == 1
    assert layer.groups == {}


async def test_a_stop_does_not_wait_for_ever(server, connect, monkeypatch):
    monkeypatch.setattr(lifespan, "_CLOSING_SECONDS", 0.01)
    client = await connect()
    await client.subscribe("presence-room", {"user_id": "ann"})

    assert await server("shutdown") == {"type": "lifespan.shutdown.complete"}


async def test_sigterm_stops_and_then_goes_on_to_the_server(process, layer, server_handler):
    await hub.current().start()
    lifespan.prepare()
    lifespan.prepare()

    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: server_handler)

    assert server_handler == [signal.SIGTERM]
    assert layer.groups == {}


async def test_sigterm_and_the_end_of_lifespan_stop_once(server, server_handler, connect):
    client = await connect()

    os.kill(os.getpid(), signal.SIGTERM)
    await client.event()
    assert (await client.closed())[0] == 4200
    stopping = asyncio.ensure_future(server("shutdown"))
    await client.leave()

    await stopping
    await until(lambda: server_handler)
    assert client.output_queue.empty()


async def test_a_server_that_ignores_sigterm_is_left_alone(server, connect):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    client = await connect()

    os.kill(os.getpid(), signal.SIGTERM)
    await client.event()
    assert (await client.closed())[0] == 4200
    await client.leave()

    assert await server("shutdown") == {"type": "lifespan.shutdown.complete"}


def test_without_a_handler_the_process_ends_by_the_signal():
    script = """if True:
        import asyncio, os, signal
        os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
        import django
        django.setup()
        from realtime import lifespan

        async def main():
            lifespan.prepare()
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)

        asyncio.run(main())
    """

    ended = subprocess.run([sys.executable, "-c", script], timeout=60)

    assert ended.returncode == -signal.SIGTERM


def test_beside_the_main_thread_signals_are_left_alone(server_handler):
    before = signal.getsignal(signal.SIGTERM)

    async def main():
        lifespan.prepare()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join()

    assert signal.getsignal(signal.SIGTERM) is before
