"""A receive request: what a virtual WebSocket has for its client, in lines."""

import asyncio

import pytest

from realtime.fallback import reception
from realtime.fallback.reception import Reception
from tests.conftest import soon, until


class Source:
    """Has lines when a test says so."""

    def __init__(self):
        self.waiting = []
        self.over = False
        self.beats = []
        self.detached = []

    def lines(self, *, streams):
        return self.waiting.pop(0) if self.waiting else ""

    def beat(self, *, streams):
        self.beats.append(streams)
        return "h\n"

    def detach(self, reception, *, broken_off):
        self.detached.append(broken_off)


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def request_of(source):
    return lambda streams=True: Reception(source, streams=streams, abort=lambda: None)


async def test_it_waits_for_lines(source, request_of):
    stream = request_of()
    taking = asyncio.create_task(stream.take())

    source.waiting.append("a[]\n")
    stream.wake()

    assert await soon(taking) == "a[]\n"


@pytest.mark.parametrize("streams", [True, False])
async def test_silence_ends_with_a_heartbeat(source, request_of, monkeypatch, streams):
    monkeypatch.setattr(reception, "HEARTBEAT_SECONDS", 0.01)

    assert await soon(request_of(streams).take()) == "h\n"
    assert source.beats == [streams]


async def test_it_ends_with_its_source(source, request_of):
    stream = request_of()
    taking = asyncio.create_task(stream.take())

    source.over = True
    stream.wake()

    assert await soon(taking) == ""


async def test_one_that_is_replaced_says_so_and_takes_nothing_more(source, request_of):
    stream = request_of()
    source.waiting.append("for the next one\n")

    stream.replace()

    assert await soon(stream.take()) == 'c[2010,"Another connection still open"]\n'
    assert await soon(stream.take()) == ""
    assert source.waiting


async def test_one_that_has_ended_takes_nothing_more(source, request_of):
    stream = request_of()
    source.waiting.append("for the next one\n")

    stream.end(broken_off=True)

    assert await soon(stream.take()) == ""
    assert source.waiting
    assert source.detached == [True]


async def test_a_response_as_long_as_pusher_js_reads_gets_nothing_more(source, request_of):
    stream = request_of()
    source.waiting += ["x" * (reception.RESPONSE_CHARS + 1), "for the next one\n"]
    await stream.take()
    taking = asyncio.create_task(stream.take())

    await until(lambda: stream._woken._waiters)
    stream.wake()
    await until(lambda: stream._woken._waiters)
    stream.end(broken_off=True)

    assert await soon(taking) == ""
    assert source.waiting


async def test_one_whose_source_ends_meanwhile_gets_the_rest(source, request_of):
    stream = request_of()
    source.waiting += ["x" * (reception.RESPONSE_CHARS + 1), "last words\n"]
    await stream.take()

    source.over = True

    assert await soon(stream.take()) == "last words\n"
    assert await soon(stream.take()) == ""


async def test_one_that_pusher_js_would_go_on_with_gets_more(source, request_of):
    stream = request_of()
    source.waiting += ["x" * reception.RESPONSE_CHARS, "more\n"]
    await stream.take()

    assert await soon(stream.take()) == "more\n"
