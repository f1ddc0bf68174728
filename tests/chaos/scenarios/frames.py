"""Rows B about bytes that no client sends: malformed, endless, compressed, fragmented."""

import asyncio
import json
import random
import struct
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from realtime import conf
from tests import services
from tests.chaos import procfs, scanners
from tests.chaos.checkers import lost
from tests.chaos.client import Pusher, path_of
from tests.chaos.cluster import Node
from tests.chaos.corpus import Broken, malformed_frames, malformed_handshakes, malformed_texts
from tests.chaos.procfs import MIB
from tests.chaos.publisher import Load
from tests.chaos.rows import Run, percentile, row
from tests.chaos.websocket import TEXT, Raw, frame, upgrade
from tests.e2e import test_conformance as conformance
from tests.e2e.sites import BIN, ROOT, UVICORN_FLAGS, environment, serving

ATTACK_RATE = 1_000
"""Malformed messages a second."""
CONNECT_RATE = 200
"""Connections a second that send one malformed frame or request."""
CORPUS_SEED = 0
"""Of the fixed corpus, which is the same in every run."""
ANSWER_SECONDS = 5.0
"""Within which a peer that talks nonsense is answered or closed."""
HEAD_SECONDS = conf.Settings().head_seconds + 3
"""The same for a handshake, whose head the server may take for incomplete."""
LAST_WORD = "last-word"
"""A channel that only the last message of a connection asks for."""

ANSWERED, LEFT, CUT, SILENT = "answered", "left", "cut", "silent"
"""What comes of nonsense besides a close code or a status: the connection goes on, it ends
after the peer left in the middle of a frame, it ends without a word, or nothing happens."""

ECHOED = {1000}
"""What a server answers to a peer that closes so."""


@row(
    "B2",
    inject="10,000 malformed messages and frames of a fixed corpus, then twice 10,000 generated"
    " ones, 1,000 messages a second; 1,000 malformed handshakes after each, 200 a second",
    hold="0 crashes, tracebacks and 5xx; each peer is answered or closed ≤ 5 s (in the handshake"
    " ≤ 8 s), with a documented code; a neighbour loses nothing and its p99 stays ≤ 50 ms; the"
    " memory levels off: after the last part ≤ 1 MiB above that after the part before",
    limit=240,
    short=True,
)
async def nonsense_gets_a_civil_answer(run: Run) -> None:
    cluster = await run.cluster(1)
    node = cluster[0]
    pid, offset = node.pid, node.log_size()
    count = 1_000 if run.short else run.n(10_000, least=100)
    neighbour = await Pusher.open(node.port, history=run.history, name="neighbour")
    await neighbour.subscribe("news")
    # All made before the measurement: the driver would be late while it makes them.
    rehearsal, *parts = (
        (*_corpus(chance, count), malformed_handshakes(chance, count // 10))
        for chance in (random.Random("rehearsal"), random.Random(CORPUS_SEED), *2 * [run.random])
    )
    # Handshakes load the error pages of Django, and messages grow the heap to its usual size.
    statuses = await _handshakes(node, rehearsal[2])
    ends = await _nonsense(node, *rehearsal[:2])
    over = asyncio.Event()
    load = Load([node.port], ["news"], run.history, "p")
    publishing = asyncio.create_task(load.run(20, lambda: not over.is_set()))
    await node.ask("lag")
    sizes = []
    for texts, frames, requests in parts:
        ends += await _nonsense(node, texts, frames)
        statuses += await _handshakes(node, requests)
        await run.until_async(partial(_alone, node), 10, "only the neighbour is left")
        sizes.append(node.look().rss)
    lag = await node.ask("lag")
    over.set()
    await publishing
    await neighbour.round_trip()
    *_, before, _ = sizes
    await run.until(lambda: node.look().rss <= before + MIB, 5, "memory", must=False)
    growth = (node.look().rss - before) / MIB
    received = [item["at"] - item["sent"] for item in run.history.of("received")]
    run.check("the process lives", node.alive and node.pid == pid, equals=True)
    run.check("tracebacks", node.log_since(offset).count("Traceback"), equals=0)
    broken = {name: number for name, number in statuses.items() if name[0] == "5"}
    run.check("answers 5xx", broken, equals={})
    run.check("neither answered nor closed", ends[SILENT], equals=0)
    run.check("handshakes neither answered nor closed", statuses[SILENT], equals=0)
    page = (ROOT / "docs/reference/error-codes.md").read_text()
    known = {ANSWERED, LEFT, SILENT, *map(str, ECHOED | scanners.documented_codes(page))}
    odd = {name: number for name, number in ends.items() if name not in known}
    run.check("ends that are not documented", odd, equals={})
    run.check("handshakes cut without an answer", statuses[CUT], equals=0)
    run.note(f"loop lag of the server: p99 {lag['p99']:.0f} ms, longest {lag['max']:.0f} ms")
    run.note(f"ends of connections: {dict(sorted(ends.items()))}")
    run.note(f"answers to handshakes: {dict(sorted(statuses.items()))}")
    accepted = sum(status == 200 for _, status, _ in load.answers)
    run.check("events to the neighbour", accepted, at_least=0.9 * len(load.answers))
    run.check_none("lost by the neighbour", lost(run.history.records))
    run.check("neighbour connected", neighbour.is_open, equals=True)
    run.check("p99 of the neighbour", percentile(received, 0.99) * 1000, at_most=50, unit="ms")
    run.check("memory of the last part", growth, at_most=1.0, unit="MiB")
    run.note(f"memory after each part: {', '.join(f'{s / MIB:.1f}' for s in sizes)} MiB")


async def _alone(node: Node) -> bool:
    """Whether the process knows of one connection only."""
    return bool((await node.ask("state"))["connections"] == 1)


def _corpus(chance: random.Random, count: int) -> tuple[list[bytes], list[Broken]]:
    """Nine in ten are messages, the rest frames."""
    texts = malformed_texts(chance, count * 9 // 10)
    return texts, malformed_frames(chance, count - len(texts))


async def _nonsense(node: Node, texts: list[bytes], frames: list[Broken]) -> "Counter[str]":
    """Send malformed messages, fifty per connection, and frames, one each; what came of them."""
    ends: Counter[str] = Counter()

    async def talk(messages: list[bytes]) -> None:
        raw = await _upgraded(node)
        for message in messages:
            raw.write(frame(TEXT, message))
        subscribe = {"event": "pusher:subscribe", "data": {"channel": LAST_WORD}}
        raw.write(frame(TEXT, json.dumps(subscribe).encode()))
        word = LAST_WORD.encode()
        await raw.until(lambda: word in raw.received, ANSWER_SECONDS)
        ends[ANSWERED if word in raw.received else _end(raw)] += 1
        raw.transport.abort()

    async def break_off(broken: Broken) -> None:
        raw = await _upgraded(node)
        raw.write(broken.data)
        if not broken.is_whole:
            raw.transport.write_eof()  # no more of it will come
        answered = partial(_complained, raw) if not broken.is_fatal else bool
        await raw.until(lambda: raw.close_code is not None or answered(), ANSWER_SECONDS)
        end = ANSWERED if answered() else _end(raw)
        ends[LEFT if end == CUT and not broken.is_whole else end] += 1
        raw.transport.abort()

    jobs = [texts[start : start + 50] for start in range(0, len(texts), 50)]
    await paced([partial(talk, job) for job in jobs], ATTACK_RATE / 50)
    await paced([partial(break_off, data) for data in frames], CONNECT_RATE)
    return ends


def _complained(raw: Raw) -> bool:
    return b"pusher:error" in raw.received


def _end(raw: Raw) -> str:
    """How a connection ended, or that it did not."""
    if raw.close_code is not None:
        return str(raw.close_code)
    return CUT if raw.closed.done() else SILENT


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


async def _handshakes(node: Node, requests: list[bytes]) -> "Counter[str]":
    """Send malformed handshakes, one per connection; what came of them."""
    statuses: Counter[str] = Counter()

    async def one(request: bytes) -> None:
        raw = await Raw.open(node.port)
        raw.write(request)
        await raw.until(lambda: b"\r\n\r\n" in raw.received, HEAD_SECONDS)
        statuses[str(raw.status) if raw.status else _end(raw)] += 1
        raw.transport.abort()

    await paced([partial(one, request) for request in requests], CONNECT_RATE)
    return statuses


@row(
    "B3",
    inject="the Autobahn cases, through kosoku; not 9.* (messages longer than production takes),"
    " nor 12.* and 13.* (compression, which it switches off)",
    hold="246 of 247 with the sans-I/O engine of websockets, the only one that production runs;"
    " 7.1.5 is the known one",
    limit=180,
)
async def autobahn_cases_pass(run: Run) -> None:
    results = await _autobahn(run)
    passed = {case for case, result in results.items() if conformance.acceptable(result)}
    run.check("cases", len(results), equals=conformance.CASES)
    run.check("passed", len(passed), at_least=conformance.CASES - len(conformance.KNOWN_FAILURES))
    failed = sorted(set(results) - passed - conformance.KNOWN_FAILURES)
    run.check("failed besides the known", failed, equals=[])


async def _autobahn(run: Run) -> dict:
    echo = (str(BIN / "uvicorn"), "tests.e2e.echo:application", *UVICORN_FLAGS, "--fd")
    home = run.ground.home
    server = run.stack.enter_context(serving(echo, environment(), home / "autobahn.log"))
    words = [
        *(BIN / "kosoku", "--parallelism", "8", "--outdir", home / "autobahn"),
        *(part for case in conformance.LEFT_OUT for part in ("--exclude", case)),
        f"ws://127.0.0.1:{server.port}",
    ]
    # Its exit status says no with any failed case, also a known one.
    await services.finish(words, 150)
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
    inject="1,000,000 fragments, half of zero and half of one byte, by a peer that comes back each"
    " time it was closed for the 1,001st fragment of a message",
    hold="each closed with 1009; ≤ 12 s of CPU above that of 1,000 visits; memory + ≤ 8 MiB; loop"
    " lag p99 ≤ 50 ms meanwhile",
    limit=90,
)
async def tiny_fragments_cost_little(run: Run) -> None:
    cluster = await run.cluster(1)
    node = cluster[0]
    most = conf.Settings().message_fragments
    visits = run.n(500_000, least=10 * most) // most
    cpu = node.look().cpu
    for _ in range(visits):
        (await _upgraded(node)).transport.abort()
    cpu_of_visits = node.look().cpu - cpu
    cpu = node.look().cpu
    for label, content in (("zero bytes", b""), ("one byte", b"x")):
        pieces = frame(TEXT, b"x", fin=False) + frame(0, content, fin=False) * most
        before = node.look()
        procfs.reset_peak(node.pid)
        await node.ask("lag")
        codes: Counter[str] = Counter()
        for _ in range(visits):
            raw = await _upgraded(node)
            raw.write(pieces)
            await raw.until(lambda raw=raw: raw.close_code is not None, 5)
            codes[_end(raw)] += 1
            raw.transport.abort()
        lag = await node.ask("lag")
        growth = (procfs.peak(node.pid) - before.rss) / MIB
        run.check(f"{label}: ends of connections", dict(codes), equals={"1009": visits})
        run.check(f"{label}: memory", growth, at_most=8.0, unit="MiB")
        run.check(f"{label}: loop lag p99", lag["p99"], at_most=50, unit="ms")
        run.check(f"{label}: looks at the loop", lag["count"], at_least=10)
    spent = node.look().cpu - cpu - 2 * cpu_of_visits
    run.note(f"CPU of the visits alone: {2 * cpu_of_visits:.1f} s")
    # Twelve microseconds each, of which websockets takes nine to parse one in Python.
    run.check("CPU", spent, at_most=12.0, unit="s")


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
