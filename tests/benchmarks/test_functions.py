"""How long single functions take.  Prints; asserts nothing about time."""

import asyncio
import statistics
import time
import uuid

import pytest

from realtime import hub as hub_module
from realtime.layer import Envelope
from realtime.presence import lease, store
from realtime.presence.store import Join
from realtime.protocol.messages import Member, decode, encode_event
from realtime.sockets import Socket

pytestmark = pytest.mark.bench

SUBSCRIBE = '{"event":"pusher:subscribe","data":{"auth":"key:' + "0" * 64 + '","channel":"room"}}'
DATA = '{"text":"' + "x" * 200 + '"}'


@pytest.fixture
def report(capsys):
    """Prints one line of the table: the median of several runs, for one call each."""

    def report(name, seconds, calls=1):
        with capsys.disabled():
            print(f"\n{name:<44} {statistics.median(seconds) / calls * 1e6:>10.2f} µs", end="")

    return report


def runs(work, *, number=7):
    """The durations of several runs of *work*, after one to warm up."""
    work()
    durations = []
    for _ in range(number):
        start = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start)
    return durations


def test_decode(report):
    def work():
        for _ in range(1_000):
            decode(SUBSCRIBE)

    report("decode a subscription", runs(work), 1_000)


def test_encode_event(report):
    def work():
        for _ in range(1_000):
            encode_event("greet", "room", DATA)

    report("encode_event of 200 characters", runs(work), 1_000)


@pytest.mark.parametrize("sockets", [1, 1_000])
async def test_deliver(report, local_hub, sockets):
    sent, all_sent = 0, asyncio.Event()

    async def send(message):
        nonlocal sent
        sent += 1
        if sent % sockets == 0:
            all_sent.set()

    for number in range(sockets):
        socket = Socket("3", f"1.{number}", send, backlog_chars=10**9, drop=lambda: None)
        await local_hub.join("3", "room", socket)
        local_hub.release("3", "room", socket)
    envelope = Envelope("3", "room", encode_event("greet", "room", DATA))
    delivering, written = [], []
    for _ in range(20):
        all_sent.clear()
        start = time.perf_counter()
        local_hub.deliver(envelope)
        delivering.append(time.perf_counter() - start)
        await all_sent.wait()
        written.append(time.perf_counter() - start)

    report(f"Hub.deliver to {sockets} sockets", delivering)
    report(f"the same until {sockets} sends are done", written)
    assert hub_module.current() is local_hub


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("joins", [1, 500])
def test_apply(report, joins):
    server = uuid.uuid4()
    lease.take(server, 600)
    group = iter(range(100))

    def work():
        name = next(group)
        store.apply(
            server,
            [
                Join("3", f"presence-{name}", f"{name}.{number}", Member(f"u{number}"))
                for number in range(joins)
            ],
            600,
        )

    report(f"store.apply of {joins} joins", runs(work))
