"""Start and stop of a server process."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading

import pytest
from django.utils import timezone

from realtime import hub, lifespan, outbox
from realtime.models import Membership, Server
from realtime.webhooks import courier
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
    """What the server does on a signal; counts how often it was called."""
    calls = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: calls.append(number))
    return calls


async def prepared():
    """A server process without a word of lifespan, which leaves no thread behind."""
    lifespan.prepare()
    await courier.current().stop()
    await outbox.current().stop()


async def test_a_server_that_speaks_lifespan_is_answered(server):
    assert await server("startup") == {"type": "lifespan.startup.complete"}
    assert await server("shutdown") == {"type": "lifespan.shutdown.complete"}


async def test_what_was_loaded_at_the_start_is_not_collected_again(server):
    lifespan._freeze.cache_clear()
    gc.unfreeze()

    try:
        await server("startup")
        frozen = gc.get_freeze_count()
        lifespan._stops.current().prepared = False
        lifespan.prepare()
        frozen_again = gc.get_freeze_count()
    finally:
        gc.unfreeze()  # for the tests after this one

    assert frozen > 10_000
    assert frozen_again == frozen


async def test_a_process_delivers_webhooks_from_its_start_to_its_stop(server):
    assert courier.peek() is None
    await server("startup")
    assert courier.current()._sweeper is not None

    await server("shutdown")

    assert courier.current()._sweeper.done()


async def test_a_process_is_up_before_the_layer_answers_and_listens_when_it_does(
    server, process, layer, monkeypatch, caplog
):
    monkeypatch.setattr(lifespan, "RETRY_SECONDS", 0.01)
    layer.broken = True

    assert await server("startup") == {"type": "lifespan.startup.complete"}
    await until(lambda: "waiting for the channel layer" in caplog.text)
    assert not hub.current().listening

    layer.broken = False
    await until(lambda: hub.current().listening)


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


async def test_who_is_sent_elsewhere_has_not_left_yet(server, connect, layer):
    client = await connect()
    await client.subscribe("presence-room", {"user_id": "ann"})
    stopping = asyncio.ensure_future(server("shutdown"))
    await client.frame()
    await client.leave()

    await stopping

    assert await Membership.objects.acount() == 1
    lease_ends = (await Server.objects.aget()).expires_at
    assert lease_ends < timezone.now() + timezone.timedelta(seconds=5)
    assert not any("member_removed" in message["text"] for message in layer.events())
    assert layer.groups == {}


async def test_a_stop_does_not_wait_for_ever(server, connect, monkeypatch):
    monkeypatch.setattr(lifespan, "_CLOSING_SECONDS", 0.01)
    client = await connect()
    await client.subscribe("presence-room", {"user_id": "ann"})

    assert await server("shutdown") == {"type": "lifespan.shutdown.complete"}


async def test_a_stop_sends_those_elsewhere_whom_the_hub_does_not_know(server, configure):
    configure(DRAIN_SECONDS=3)
    asked = []

    async def drain(seconds):
        asked.append(seconds)

    lifespan.at_stop(drain)
    await server("startup")
    await server("shutdown")

    assert asked == [3]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_and_then_goes_on_to_the_server(
    process, layer, server_handler, number
):
    await hub.current().start()
    lifespan.prepare()
    lifespan.prepare()

    os.kill(os.getpid(), number)
    await until(lambda: server_handler)

    assert server_handler == [number]
    assert layer.groups == {}


async def test_a_second_signal_goes_to_the_server_at_once(process, server_handler, connect):
    client = await connect()
    os.kill(os.getpid(), signal.SIGTERM)
    await client.event()
    assert server_handler == []

    os.kill(os.getpid(), signal.SIGTERM)

    await until(lambda: server_handler)
    assert hub.current().connections() == 1


def test_after_the_end_of_its_loop_a_signal_goes_to_the_server(server_handler):
    asyncio.run(prepared())

    os.kill(os.getpid(), signal.SIGTERM)

    assert server_handler == [signal.SIGTERM]


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_that_is_ignored_stays_ignored(connect, number):
    """Shells set SIGINT so for what they start in the background."""
    signal.signal(number, signal.SIG_IGN)
    client = await connect()

    os.kill(os.getpid(), number)

    await client.is_silent()
    assert signal.getsignal(number) is signal.SIG_IGN


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
            await asyncio.Event().wait()

        asyncio.run(main())
    """

    ended = subprocess.run([sys.executable, "-c", script], timeout=60)

    assert ended.returncode == -signal.SIGTERM


def test_beside_the_main_thread_signals_are_left_alone(server_handler):
    before = signal.getsignal(signal.SIGTERM)

    thread = threading.Thread(target=lambda: asyncio.run(prepared()))
    thread.start()
    thread.join()

    assert signal.getsignal(signal.SIGTERM) is before
