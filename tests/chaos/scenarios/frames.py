"""Rows B about bytes that no client sends: malformed, endless, compressed, fragmented."""

import asyncio
import json
import random
import struct
import subprocess
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from tests.chaos import procfs
from tests.chaos.checkers import lost
from tests.chaos.client import Pusher, path_of
from tests.chaos.cluster import Node
from tests.chaos.corpus import malformed_frames, malformed_handshakes, malformed_texts
from tests.chaos.procfs import MIB
from tests.chaos.publisher import Load
from tests.chaos.rows import Run, percentile, row
from tests.chaos.websocket import TEXT, Raw, frame, upgrade
from tests.e2e import test_conformance as conformance
from tests.e2e.sites import BIN, UVICORN_FLAGS, environment, serving

ATTACK_RATE = 1_000
"""Malformed messages a second."""
CONNECT_RATE = 200
"""Connections a second that send one malformed frame or request."""
CORPUS_SEED = 0
"""Of the fixed corpus, which is the same in every run."""

# What the docs list, what RFC 6455 has a server say, and the end without a close frame.
DOCUMENTED = {1000, 1002, 1003, 1007, 1008, 1009, 4001, 4005, 4006, 4007, 4008, 4009, 4100, None}


@row(
    "B2",
    inject="10,000 malformed messages and frames of a fixed corpus and 10,000 generated ones, 1,000"
    " messages a second; 2,000 malformed handshakes, 200 a second",
    hold="0 crashes, tracebacks and 5xx; every close code documented; a neighbour loses nothing and"
    " its p99 stays ≤ 50 ms; memory back to + 1 MiB",
    limit=240,
    short=True,
)
async def nonsense_gets_a_civil_answer(run: Run) -> None:
    cluster = await run.cluster(1)
    node = cluster[0]
    pid = node.pid
    count = 1_000 if run.short else run.n(10_000, least=100)
    fixed, generated = random.Random(CORPUS_SEED), run.random
    neighbour = await Pusher.open(node.port, history=run.history, name="neighbour")
    await neighbour.subscribe("news")
    # All made before the measurement: the driver would be late while it makes them.
    corpora = [_corpus(chance, count) for chance in (fixed, generated)]
    handshakes = malformed_handshakes(generated, count // 5)
    # Once as a rehearsal, so that what is loaded or kept for good is not counted as growth.
    await _nonsense(node, *_corpus(random.Random("rehearsal"), count))
    await _handshakes(node, malformed_handshakes(random.Random("rehearsal"), count // 5))
    before, offset = node.look(), node.log_size()
    over = asyncio.Event()
    load = Load([node.port], ["news"], run.history, "p")
    publishing = asyncio.create_task(load.run(20, lambda: not over.is_set()))
    await node.ask("lag")
    codes: Counter[int | None] = Counter()
    for texts, frames in corpora:
        codes += await _nonsense(node, texts, frames)
    statuses = await _handshakes(node, handshakes)
    lag = await node.ask("lag")
    over.set()
    await publishing
    await neighbour.round_trip()
    back = await run.until(
        lambda: node.look().rss <= before.rss + MIB, 5, "memory back", must=False
    )
    growth = (node.look().rss - before.rss) / MIB
    log = node.log_since(offset)
    p99 = percentile([i["at"] - i["sent"] for i in run.history.of("received")], 0.99)
    run.check("the process lives", node.alive and node.pid == pid, equals=True)
    run.check("tracebacks", log.count("Traceback"), equals=0)
    run.check("answers 5xx", sum(status >= 500 for status in statuses), equals=0)
    odd = {str(code): number for code, number in codes.items() if code not in DOCUMENTED}
    run.check("close codes that are not documented", odd, equals={})
    run.note(f"loop lag of the server: p99 {lag['p99']:.0f} ms, longest {lag['max']:.0f} ms")
    run.note(f"close codes: {dict(sorted((str(c), n) for c, n in codes.items()))}")
    run.note(f"statuses of handshakes: {dict(Counter(statuses))}")
    run.check_none("lost by the neighbour", lost(run.history.records))
    run.check("neighbour connected", neighbour.is_open, equals=True)
    run.check("p99 of the neighbour", p99 * 1000, at_most=50, unit="ms")
    run.check("memory", growth, at_most=1.0, unit="MiB")
    if back == float("inf"):
        run.note("memory was not given back within 5 s")


def _corpus(chance: random.Random, count: int) -> tuple[list[bytes], list[bytes]]:
    """Nine in ten are messages, the rest frames."""
    texts = malformed_texts(chance, count * 9 // 10)
    return texts, malformed_frames(chance, count - len(texts))


async def _nonsense(node: Node, texts: list[bytes], frames: list[bytes]) -> "Counter[int | None]":
    """Send malformed messages, fifty per connection, and frames, one each; the close codes."""
    codes: Counter[int | None] = Counter()

    async def talk(messages: list[bytes]) -> None:
        raw = await _upgraded(node)
        for message in messages:
            raw.write(frame(TEXT, message))
        raw.write(frame(TEXT, b'{"event":"pusher:ping","data":{}}'))
        await _answered(raw, b"pusher:pong")
        codes[raw.close_code] += 1
        raw.transport.abort()

    async def break_off(data: bytes) -> None:
        raw = await _upgraded(node)
        raw.write(data)
        await asyncio.wait([raw.closed], timeout=0.5)
        codes[raw.close_code] += 1
        raw.transport.abort()

    jobs = [texts[start : start + 50] for start in range(0, len(texts), 50)]
    await paced([partial(talk, job) for job in jobs], ATTACK_RATE / 50)
    await paced([partial(break_off, data) for data in frames], CONNECT_RATE)
    return codes


async def paced(work: Sequence[Callable[[], Awaitable[None]]], rate: float) -> None:
    """Start so many pieces of work a second, and wait for all of them."""
    due = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for piece in work:
            group.create_task(_awaited(piece))
            due += 1 / rate
            # Pacing: the rate of the attack.
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _awaited(piece: Callable[[], Awaitable[None]]) -> None:
    await piece()


async def _upgraded(node: Node) -> Raw:
    raw = await Raw.open(node.port)
    raw.write(upgrade(path_of()))
    await _answered(raw, b"connection_established")
    return raw


async def _answered(raw: Raw, text: bytes, seconds: float = 5) -> None:
    """Wait until *text* came, or the connection ended."""
    await raw.until(lambda: text in raw.received, seconds)


async def _handshakes(node: Node, requests: list[bytes]) -> list[int]:
    statuses: list[int] = []

    async def one(request: bytes) -> None:
        raw = await Raw.open(node.port)
        raw.write(request)
        await _answered(raw, b"\r\n\r\n", 0.5)
        statuses.append(raw.status)
        raw.transport.abort()

    await paced([partial(one, request) for request in requests], CONNECT_RATE)
    return statuses


@row(
    "B3",
    inject="the Autobahn cases, through kosoku",
    hold="246 of 247 with the sans-I/O engine of websockets; 7.1.5 is the known one",
    limit=180,
)
async def autobahn_cases_pass(run: Run) -> None:
    results = await asyncio.to_thread(_autobahn, run)
    passed = {case for case, result in results.items() if conformance.acceptable(result)}
    run.check("cases", len(results), equals=conformance.CASES)
    run.check("passed", len(passed), at_least=conformance.CASES - len(conformance.KNOWN_FAILURES))
    failed = sorted(set(results) - passed - conformance.KNOWN_FAILURES)
    run.check("failed besides the known", failed, equals=[])


def _autobahn(run: Run) -> dict:
    echo = (str(BIN / "uvicorn"), "tests.e2e.echo:application", *UVICORN_FLAGS, "--fd")
    home = run.ground.home
    with serving(echo, environment(), home / "autobahn.log") as server:
        subprocess.run(
            [
                *(BIN / "kosoku", "--parallelism", "8", "--outdir", home / "autobahn"),
                *(part for case in conformance.LEFT_OUT for part in ("--exclude", case)),
                f"ws://127.0.0.1:{server.port}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,  # fails with any failed case, also a known one
        )
    (results,) = json.loads((home / "autobahn" / "index.json").read_text()).values()
    return dict(results)


@row(
    "B4",
    inject="one frame of 64 MiB; one endless fragmented message",
    hold="closed ≤ 1 s with 1009; memory + ≤ 1 MiB",
    limit=60,
)
async def huge_messages_are_cut(run: Run) -> None:
    cluster = await run.cluster(1)
    node = cluster[0]
    warm = await _upgraded(node)
    warm.write(frame(TEXT, b"x" * 120_000))
    await _answered(warm, b"pusher:error", 2)
    whole = b"\x81\xff" + struct.pack("!Q", 64 * MIB) + b"\0\0\0\0"
    endless = frame(TEXT, b"x" * 16_384, fin=False)
    more = frame(0, b"x" * 16_384, fin=False)
    for label, first, then in (
        ("64 MiB frame", whole, b"x" * 65_536),
        ("endless fragments", endless, more),
    ):
        raw = await _upgraded(node)
        before = node.look()
        procfs.reset_peak(node.pid)
        seconds = await _pour(raw, first, then, 64 * MIB)
        growth = (procfs.peak(node.pid) - before.rss) / MIB
        run.check(f"{label}: closed after", seconds, at_most=1.0, unit="s")
        run.check(f"{label}: close code", str(raw.close_code), equals="1009")
        run.check(f"{label}: memory", growth, at_most=1.0, unit="MiB")
        raw.transport.abort()


async def _pour(raw: Raw, first: bytes, then: bytes, limit: int) -> float:
    """Send until the peer closes or *limit* bytes are out; the seconds until its close frame."""
    started = time.monotonic()
    raw.write(first)
    sent = 0
    while sent < limit and raw.close_code is None and not raw.closed.done():
        if raw.transport.get_write_buffer_size() < 1 << 18:
            raw.write(then)
            sent += len(then)
        # Lets the transport write and the answer come in.
        await asyncio.sleep(0)
        if time.monotonic() - started > 20:
            return float("inf")
    await raw.until(lambda: raw.close_code is not None, 5)
    return time.monotonic() - started if raw.close_code is not None else float("inf")


@row(
    "B5",
    inject="1,000,000 fragments of zero and of one byte",
    hold="≤ 4 s of CPU; memory + ≤ 8 MiB; loop lag p99 ≤ 50 ms meanwhile",
    limit=90,
)
async def tiny_fragments_cost_little(run: Run) -> None:
    cluster = await run.cluster(1)
    node = cluster[0]
    await node.ask("lag")
    cpu = node.look().cpu
    for label, content in (("zero bytes", b""), ("one byte", b"x")):
        piece = frame(0, content, fin=False)
        raw = await _upgraded(node)
        before = node.look()
        procfs.reset_peak(node.pid)
        await node.ask("lag")
        chunk = piece * 1_000
        raw.write(frame(TEXT, b"x", fin=False))
        await _pour(raw, b"", chunk, run.n(500_000, least=10_000) * len(piece))
        lag = await node.ask("lag")
        growth = (procfs.peak(node.pid) - before.rss) / MIB
        run.check(f"{label}: memory", growth, at_most=8.0, unit="MiB")
        run.check(f"{label}: loop lag p99", lag["p99"], at_most=50, unit="ms")
        run.note(f"{label}: closed with {raw.close_code}")
        raw.transport.abort()
    run.check("CPU", node.look().cpu - cpu, at_most=4.0, unit="s")


@row(
    "B6",
    inject="1 MiB that inflates to 1 GiB, and 120 KiB that inflate to 120 MiB; deflate switched on",
    hold="closed with 1009; memory + ≤ 2 MiB",
    limit=60,
)
async def compression_bombs_do_not_explode(run: Run) -> None:
    cluster = await run.cluster(1, flags={"--ws-per-message-deflate": "true"})
    node = cluster[0]
    for label, size in (("1 GiB", 1_024), ("120 MiB", 120)):
        raw = await Raw.open(node.port)
        offer = "Sec-WebSocket-Extensions: permessage-deflate"
        raw.write(upgrade(path_of(), offer))
        await _answered(raw, b"connection_established")
        agreed = b"permessage-deflate" in raw.received.lower()
        before = node.look()
        procfs.reset_peak(node.pid)
        raw.write(frame(TEXT, _bomb(size), rsv=4))
        await asyncio.wait([raw.closed], timeout=10)
        growth = (procfs.peak(node.pid) - before.rss) / MIB
        run.check(f"{label}: deflate agreed", agreed, equals=True)
        run.check(f"{label}: close code", str(raw.close_code), equals="1009")
        run.check(f"{label}: memory", growth, at_most=2.0, unit="MiB")
        raw.transport.abort()


def _bomb(mebibytes: int) -> bytes:
    """A deflated message of so many MiB of spaces."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = b" " * MIB
    packed = [squeezer.compress(block) + squeezer.flush(zlib.Z_SYNC_FLUSH) for _ in range(3)]
    # From the second block on every one looks the same, because the window is full of spaces.
    whole = packed[0] + packed[1] + packed[2] * (mebibytes - 2)
    return whole.removesuffix(b"\x00\x00\xff\xff")
