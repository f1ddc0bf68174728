"""How long single functions take, in time and instructions.  Prints; asserts nothing about time."""

import asyncio
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from realtime import hub as hub_module
from realtime.layer import Envelope
from realtime.presence import lease, store
from realtime.presence.store import Join
from realtime.protocol.app import App
from realtime.protocol.frames import Frame
from realtime.protocol.messages import Member, decode, encode_event
from realtime.protocol.signing import (
    sign_channel,
    sign_request,
    verify_channel_auth,
    verify_request,
)
from realtime.sockets import Socket

pytestmark = pytest.mark.bench

SUBSCRIBE = '{"event":"pusher:subscribe","data":{"auth":"key:' + "0" * 64 + '","channel":"room"}}'
DATA = '{"text":"' + "x" * 200 + '"}'


@pytest.fixture
def report(capsys):
    """Prints one line of the table: the median of several runs, for one call each."""

    def report(name, seconds, calls=1, once=None):
        line = f"\n{name:<44} {statistics.median(seconds) / calls * 1e6:>10.2f} µs"
        if once is not None:
            line += f" {instructions(once):>8} instructions"
        with capsys.disabled():
            print(line, end="")

    return report


def instructions(work: Callable[[], object]) -> int:
    """Instructions of Python's bytecode that *work* executes; the same on a slow machine.

    What is written in C counts as the call of it.
    """
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def runs(work, *, number=7):
    """The durations of several runs of *work*, after one to warm up."""
    work()
    durations = []
    for _ in range(number):
        start = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start)
    return durations


def _greeting():
    return Frame(encode_event("greet", "room", DATA))


APP = App(id="3", key="key", secret="secret")
AUTH = sign_channel(APP, socket_id="1.1", channel="private-room")
PATH = "/apps/3/events"
QUERY = [
    ("auth_key", "key"),
    ("auth_timestamp", "1000000000"),
    ("auth_version", "1.0"),
    ("body_md5", "99914b932bd37a50b983c5e7c90ae93b"),
]
QUERY.append(("auth_signature", sign_request(APP, "POST", PATH, QUERY)))

PURE = {
    "decode a subscription": lambda: decode(SUBSCRIBE),
    "encode_event of 200 characters": lambda: encode_event("greet", "room", DATA),
    "the same as a frame": _greeting,
    "verify a subscription": lambda: verify_channel_auth(
        APP, AUTH, socket_id="1.1", channel="private-room", channel_data=None
    ),
    "verify a request": lambda: verify_request(
        APP, method="POST", paths=[PATH], query=QUERY, body=b"{}", now=1_000_000_000
    ),
}


@pytest.mark.parametrize("name", PURE)
def test_pure_functions(report, name):
    call = PURE[name]

    def work():
        for _ in range(1_000):
            call()

    report(name, runs(work), 1_000, call)


@pytest.mark.parametrize("sockets", [1, 1_000])
async def test_deliver_into_a_transport(report, local_hub, sockets):
    taken, all_taken = 0, asyncio.Event()

    def write(wire):
        nonlocal taken
        taken += 1
        if taken == sockets:
            all_taken.set()
        return True

    for number in range(sockets):
        socket = Socket(
            *("3", f"1.{number}", asyncio.Queue().put),
            backlog_chars=10**9,
            drop=lambda: None,
            write_frame=write,
        )
        await local_hub.join("3", "room", socket)
        local_hub.release("3", "room", socket)
    envelope = Envelope("3", "room", encode_event("greet", "room", DATA))
    written = []
    for _ in range(20):
        taken = 0
        all_taken.clear()
        start = time.perf_counter()
        local_hub.deliver(envelope)
        await all_taken.wait()
        written.append(time.perf_counter() - start)

    # The instructions are those of deliver; the outlet writes later, in turns of the loop.
    report(
        f"Hub.deliver into {sockets} transports",
        written,
        once=lambda: local_hub.deliver(envelope),
    )


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
