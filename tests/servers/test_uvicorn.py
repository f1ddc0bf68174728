"""uvicorn's protocol classes with bounds: a real server in the loop of the test, real sockets."""

import asyncio
import gc
import socket
import weakref
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import uvicorn
from websockets.server import ServerProtocol

from realtime.protocol.frames import encode_text
from realtime.servers import uvicorn as bounds
from realtime.servers.uvicorn import (
    KERNEL_BYTES,
    PIECE_BYTES,
    UNSENT_BYTES,
    HTTPProtocol,
    WebSocketProtocol,
)
from realtime.sockets import ABORT, FRAMES
from tests.chaos.websocket import CLOSE, PING, TEXT, frame, upgrade
from tests.conftest import soon, until

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300\r\n\r\n"


@pytest.fixture(autouse=True)
def small_bounds(configure):
    configure(
        HEAD_SECONDS=10,
        HEAD_BYTES=2_000,
        BODY_SECONDS=0.1,
        BODY_BYTES_PER_SECOND=100,
        MESSAGE_FRAGMENTS=10,
    )


@pytest.fixture
def short_heads(configure):
    """A head is late after a tenth of a second: what is silent for so long is a clock."""
    configure(HEAD_SECONDS=0.1)


class Peer:
    """The other end of a TCP connection, and what came in on it."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, *data):
        self.writer.writelines(data)

    async def read_until(self, end):
        return await soon(self.reader.readuntil(end))

    async def read_to_the_end(self):
        """What was still sent; a reset counts as an end."""
        with suppress(ConnectionResetError):
            return await soon(self.reader.read())

    def leave(self):
        self.writer.transport.abort()

    @property
    def is_cut(self):
        return self.reader.at_eof() or self.reader.exception() is not None


class Site:
    """An ASGI application in uvicorn."""

    def __init__(self, server):
        self.server = server
        self.port = server.servers[0].sockets[0].getsockname()[1]
        self.stack = AsyncExitStack()

    @property
    def connections(self):
        return self.server.server_state.connections

    async def connect(self, *, receive_buffer=None):
        bare = socket.socket()
        bare.setblocking(False)
        if receive_buffer:
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(bare, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=bare)
        peer = Peer(reader, writer)
        self.stack.callback(peer.leave)
        return peer

    async def open_websocket(self, **options):
        peer = await self.connect(**options)
        peer.send(upgrade("/"))
        assert b" 101 " in await peer.read_until(b"\r\n\r\n")
        return peer


@asynccontextmanager
async def serving(application, **options):
    """The application in a server, in the loop of the test, without a word in the log."""
    config = uvicorn.Config(
        application,
        port=0,
        http=HTTPProtocol,
        ws=WebSocketProtocol,
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        **options,
    )
    server = uvicorn.Server(config)
    running = asyncio.ensure_future(server.serve())
    await until(lambda: server.started)
    site = Site(server)
    try:
        async with site.stack:
            yield site
    finally:
        server.should_exit = True
        await soon(running)


async def answer(scope, receive, send):
    """Reads the request, then says so."""
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message["more_body"]:
            break
    if message["type"] == "http.request":
        body = f"{size} bytes".encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def test_a_head_that_does_not_come_is_not_waited_for(counted, short_heads):
    async with serving(answer) as site:
        silent = await site.connect()

        assert await silent.read_to_the_end() == b""

    assert counted("peers_cut", "head_late") == 1


async def test_a_head_that_drips_has_no_more_time(counted, short_heads):
    async with serving(answer) as site:
        dripping = await site.connect()
        for byte in GET[:-1]:  # twice as long as a head may take
            dripping.send(bytes([byte]))
            with suppress(TimeoutError, ConnectionResetError):
                await asyncio.wait_for(dripping.reader.read(), 0.01)
            if dripping.is_cut:
                break

        assert dripping.is_cut

    assert counted("peers_cut", "head_late") == 1


async def test_a_head_in_time_is_answered_and_idle_connections_are_left_to_uvicorn(short_heads):
    async with serving(answer) as site:
        idle = await site.connect()
        for _ in range(2):
            idle.send(GET)
            assert await idle.read_until(b"0 bytes")
            clock = await site.connect()
            await until(lambda clock=clock: clock.is_cut)

        assert not idle.is_cut


@pytest.mark.parametrize("first_bytes", [b"G", b"\r\n"])
async def test_the_next_head_is_due_from_its_first_byte_on(first_bytes, counted, short_heads):
    async with serving(answer) as site:
        peer = await site.connect()
        peer.send(GET)
        await peer.read_until(b"0 bytes")
        peer.send(first_bytes)

        assert await peer.read_to_the_end() in (b"", None)

    assert counted("peers_cut", "head_late") == 1


async def test_a_request_that_begins_in_the_same_packet_is_due_too(counted, short_heads):
    async with serving(answer) as site:
        peer = await site.connect()
        peer.send(GET + b"GET")

        assert (await peer.read_to_the_end()).endswith(b"0 bytes")

    assert counted("peers_cut", "head_late") == 1


async def test_a_body_that_does_not_come_is_not_waited_for(counted, configure):
    configure(HEAD_SECONDS=60, BODY_SECONDS=0.1)
    async with serving(answer) as site:
        peer = await site.connect()
        peer.send(POST)

        assert await peer.read_to_the_end() in (b"", None)

    assert counted("peers_cut", "body_late") == 1


async def test_a_body_that_keeps_the_rate_may_take_longer(configure):
    configure(BODY_SECONDS=0.3, BODY_BYTES_PER_SECOND=50)
    async with serving(answer) as site:
        slow, clock = await site.connect(), await site.connect()
        slow.send(POST, b"x" * 50)
        clock.send(POST)
        await until(lambda: clock.is_cut)
        slow.send(b"x" * 250)

        assert await slow.read_until(b"300 bytes")


async def test_a_peer_that_waits_for_us_is_not_late(counted, configure):
    # After two clocks there is half of a look at the peer left.
    configure(HEAD_SECONDS=0.5, BODY_SECONDS=0.4)
    busy = asyncio.Event()

    async def slowly(scope, receive, send):
        await busy.wait()
        await answer(scope, receive, send)

    async with serving(slowly) as site:
        peer, clock = await site.connect(), await site.connect()
        peer.send(GET + POST)  # the second one is not read before the first is answered
        await until(lambda: clock.is_cut)
        clock = await site.connect()
        await until(lambda: clock.is_cut)
        busy.set()
        await peer.read_until(b"0 bytes")
        peer.send(b"x" * 300)

        assert await peer.read_until(b"300 bytes")

    assert counted("peers_cut", "body_late") == 0


async def test_a_head_without_an_end_is_refused(counted):
    async with serving(answer) as site:
        within, beyond = await site.connect(), await site.connect()
        head = GET.removesuffix(b"\r\n") + b"X: "
        within.send(head.ljust(2_000, b"x"))
        beyond.send(head.ljust(2_001, b"x"))

        assert b" 400 " in await beyond.read_to_the_end()
        within.send(b"\r\n\r\n")
        assert await within.read_until(b"0 bytes")

    assert counted("peers_cut", "head_long") == 1


async def test_a_head_behind_a_long_body_is_not_too_long():
    async with serving(answer) as site:
        peer = await site.connect()
        long = POST.replace(b"300", b"9000") + b"x" * 9_000
        peer.send(long + GET[:20])
        assert await peer.read_until(b"9000 bytes")
        peer.send(GET[20:])

        assert await peer.read_until(b"0 bytes")


async def test_requests_do_not_pile_up_behind_an_answer(counted, monkeypatch):
    monkeypatch.setattr(bounds, "PIPELINED", 5)
    slow = asyncio.Event()

    async def wait_and_answer(scope, receive, send):
        await slow.wait()
        await answer(scope, receive, send)

    async with serving(wait_and_answer) as site:
        within, beyond = await site.connect(), await site.connect()
        within.send(GET * 6)
        beyond.send(GET * 7)
        assert b" 400 " in await beyond.read_to_the_end()
        slow.set()
        for _ in range(6):
            assert await within.read_until(b"0 bytes")

    assert counted("peers_cut", "pipelined") == 1


async def test_trailers_are_no_headers():
    seen = []

    async def note(scope, receive, send):
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async with serving(note) as site:
        peer = await site.connect()
        peer.send(
            b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"1\r\nx\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
        )
        assert b" 204 " in await peer.read_until(b"\r\n\r\n")

    assert [name for name, _ in seen] == [b"host", b"transfer-encoding"]


async def test_the_beginning_of_the_next_request_does_not_cut_an_answer(counted, short_heads):
    slow = asyncio.Event()

    async def wait_and_answer(scope, receive, send):
        await slow.wait()
        await answer(scope, receive, send)

    async with serving(wait_and_answer) as site:
        peer, clock = await site.connect(), await site.connect()
        peer.send(GET + b"\r\n")
        await until(lambda: clock.is_cut)
        slow.set()

        assert await peer.read_until(b"0 bytes")


async def test_fast_bytes_earn_no_long_silence(counted):
    async with serving(answer) as site:
        peer = await site.connect()
        peer.send(POST.replace(b"300", b"9000") + b"x" * 8_000)

        await until(lambda: peer.is_cut)

    assert counted("peers_cut", "body_late") == 1


@pytest.mark.parametrize(
    "lines", [["Cookie: " + "x" * 9_000], [f"X-{number}: x" for number in range(200)]]
)
async def test_a_handshake_that_is_too_long_is_refused(counted, configure, lines):
    configure(HEAD_BYTES=100_000)
    async with serving(echo) as site:
        peer = await site.connect()
        peer.send(upgrade("/", *lines))

        assert b" 431 " in await peer.read_to_the_end()

    assert counted("peers_cut", "handshake") == 1


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
@pytest.mark.parametrize("line", ["Content-Length: 5", "Transfer-Encoding: chunked"])
async def test_an_upgrade_with_a_body_is_refused(counted, protocol, line):
    async with serving(answer) as site:
        peer = await site.connect()
        peer.send(upgrade("/", line).replace(b"websocket", protocol.encode()))

        assert b" 400 " in await peer.read_to_the_end()

    assert counted("peers_cut", "upgrade_with_body") == 1


async def echo(scope, receive, send):
    """Sends every message back."""
    while (message := await receive())["type"] != "websocket.disconnect":
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "websocket.send", "text": message["text"]})


async def test_an_upgrade_that_says_its_body_is_empty_is_accepted():
    async with serving(echo) as site:
        peer = await site.connect()
        peer.send(upgrade("/", "Content-Length: 0"))

        assert b" 101 " in await peer.read_until(b"\r\n\r\n")


async def test_a_websocket_is_no_request_that_is_late(counted, short_heads):
    async with serving(echo) as site:
        peer = await site.open_websocket()
        clock = await site.connect()
        await until(lambda: clock.is_cut)
        peer.send(frame(TEXT, b"still here"))

        assert await peer.read_until(b"still here")


@pytest.mark.parametrize("content", [b"", b"x"])
async def test_a_message_has_only_so_many_fragments(counted, content):
    async with serving(echo) as site:
        within, beyond = await site.open_websocket(), await site.open_websocket()
        begin, piece = frame(TEXT, b"begin", fin=False), frame(0, content, fin=False)
        end = frame(0, b"end")
        within.send(begin, piece * 8, end)
        beyond.send(begin, piece * 20, end, frame(TEXT, b"more"))

        assert await within.read_until(b"begin" + content * 8 + b"end")
        told = await beyond.read_to_the_end()
        assert told[0] == 0x80 | CLOSE
        assert int.from_bytes(told[2:4], "big") == 1009

    assert counted("peers_cut", "fragments") == 1


TOO_LONG = frame(TEXT, b"x" * 1_001)
TOO_MANY = frame(TEXT, b"", fin=False) + frame(0, b"", fin=False) * 10


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (TOO_LONG, b"frame with 1001 bytes exceeds limit of 1000 bytes"),
        # Behind a message, so that the server has just stopped to read.
        (frame(TEXT, b"message") + TOO_MANY, b"too many fragments"),
    ],
    ids=["bytes", "fragments"],
)
async def test_whoever_sends_too_much_hears_why(counted, refused, reason):
    """Closing over unread bytes resets the connection, and the reset comes first."""

    async def hears(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    async with serving(hears, ws_max_size=1_000) as site:
        peer = await site.open_websocket()
        peer.send(refused)
        for _ in range(100):
            peer.send(frame(0, fin=False) * 10_000)
        await soon(peer.writer.drain())

        assert await peer.read_to_the_end() == bytes([0x88, 2 + len(reason)]) + b"\x03\xf1" + reason
        peer.leave()
        await until(lambda: not site.connections)

    assert counted("peers_cut", "message_long") == (refused is TOO_LONG)
    assert counted("peers_cut", "fragments") == (refused is not TOO_LONG)


@pytest.mark.parametrize(
    ("refused", "code"),
    [(frame(0, b"of nothing"), 1002), (frame(TEXT, b"\xff"), 1007)],
    ids=["a part of no message", "no UTF-8"],
)
async def test_who_breaks_the_rules_of_websocket_is_counted(counted, refused, code):
    async with serving(echo) as site:
        peer = await site.open_websocket()
        peer.send(refused)

        told = await peer.read_to_the_end()

    assert int.from_bytes(told[2:4], "big") == code
    assert counted("peers_cut", "malformed") == 1


async def test_a_peer_that_stays_when_it_was_told_why_is_reset(monkeypatch):
    monkeypatch.setattr(bounds, "LAST_WORD_SECONDS", 0.05)
    async with serving(echo, ws_max_size=1_000) as site:
        peer = await site.open_websocket()
        peer.send(TOO_LONG)
        await peer.read_until(b"1000 bytes")

        await until(lambda: not site.connections)


async def test_messages_stay_bytes_until_the_application_takes_them():
    seen, reads, queued = [], asyncio.Event(), []

    async def slowly(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        protocol = scope["extensions"][ABORT]["abort"].__self__
        await until(lambda: protocol.read_paused)
        queued.append(len(protocol.queue._messages))
        reads.set()
        while (message := await receive())["type"] != "websocket.disconnect":
            seen.append(message["text"])

    count = 20_000
    async with serving(slowly) as site:
        peer = await site.open_websocket()
        peer.send(b"".join(frame(TEXT, b"%d" % number) for number in range(count)))
        await soon(reads.wait())
        await until(lambda: len(seen) == count)

    assert seen == [str(number) for number in range(count)]
    assert queued[0] <= PIECE_BYTES // len(frame(TEXT, b"0"))


async def test_a_peer_that_closes_behind_unread_messages_is_answered():
    ended = asyncio.Event()

    async def closes(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        protocol = scope["extensions"][ABORT]["abort"].__self__
        await until(lambda: protocol.read_paused)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        ended.set()

    async with serving(closes) as site:
        peer = await site.open_websocket()
        peer.send(frame(TEXT, b"x") * 5_000, frame(CLOSE, b"\x03\xe8"))

        assert await peer.read_to_the_end() == b"\x88\x02\x03\xe8"
        await soon(ended.wait())


def squeeze(protocol):
    """Let the kernel hold next to nothing for the peer."""
    connection = protocol.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)


async def fill(protocol, send):
    """Send until the peer has no room, and the transport none to speak of."""
    squeeze(protocol)
    while protocol.writable.is_set():
        await send({"type": "websocket.send", "text": "x" * 16_384})


async def test_answers_to_pings_do_not_pile_up():
    sizes = asyncio.Queue()

    async def measuring(scope, receive, send):
        await receive()
        protocol = scope["extensions"][ABORT]["abort"].__self__
        squeeze(protocol)
        await send({"type": "websocket.accept"})
        await receive()
        sizes.put_nowait(protocol.transport.get_write_buffer_size())
        await receive()

    async with serving(measuring) as site:
        peer = await site.open_websocket(receive_buffer=4_096)
        peer.writer.transport.pause_reading()
        peer.send(frame(PING, b"x" * 125) * 16_000, frame(TEXT, b"measure"))

        # The transport's own mark, and the answers to what was parsed at once.
        assert await soon(sizes.get()) <= UNSENT_BYTES + PIECE_BYTES


async def test_little_waits_for_a_peer_before_the_application_does():
    """Without a limit the kernel takes 2.5 MiB or more."""
    sent = []

    async def count(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        protocol = scope["extensions"][ABORT]["abort"].__self__
        while protocol.writable.is_set():
            await send({"type": "websocket.send", "text": "x" * 1_024})
            sent.append(1_024)
        sent.append("stop")
        await receive()

    async with serving(count) as site:
        peer = await site.open_websocket(receive_buffer=4_096)
        peer.writer.transport.pause_reading()
        await until(lambda: sent[-1:] == ["stop"])

    assert sum(sent[:-1]) < 2 * (KERNEL_BYTES + UNSENT_BYTES)


@pytest.mark.parametrize("way", ["aborts", "returns", "stays"])
async def test_a_peer_that_does_not_read_loses_its_connection(counted, way):
    """The application says so, or has ended, or a ping was not answered."""
    told = []

    async def flood(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        abort = scope["extensions"][ABORT]["abort"]
        protocol = abort.__self__
        await fill(protocol, send)
        protocol.close_timeout = 0.1
        if way == "aborts":
            abort()
        if way != "returns":
            told.append((await receive())["type"])
        if way == "aborts":
            abort()  # too late, and no harm

    options = {"ws_ping_interval": 0.1, "ws_ping_timeout": 0.1} if way == "stays" else {}
    async with serving(flood, **options) as site:
        peer = await site.open_websocket(receive_buffer=4_096)
        peer.writer.transport.pause_reading()

        await until(lambda: not site.connections and not site.server.server_state.tasks)

    assert told == ([] if way == "returns" else ["websocket.disconnect"])
    assert counted("peers_cut", "close_unread") == (way != "aborts")
    assert counted("peers_cut", "ping_unanswered") == (way == "stays")


async def test_a_peer_that_reads_needs_no_reset(counted, short_heads):
    async def greet(scope, receive, send):
        await receive()
        scope["extensions"][ABORT]["abort"].__self__.close_timeout = 0.05
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "bye"})

    async with serving(greet) as site:
        peer = await site.open_websocket()
        assert await peer.read_to_the_end() == b"\x81\x03bye"
        clock = await site.connect()
        await until(lambda: clock.is_cut)

    assert counted("peers_cut", "close_unread") == 0


async def test_the_kernel_forgets_an_aborted_peer_too():
    """A reset, not a FIN behind everything that was not read."""

    async def flood(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        abort = scope["extensions"][ABORT]["abort"]
        await fill(abort.__self__, send)
        abort()

    async with serving(flood) as site:
        peer = await site.open_websocket(receive_buffer=4_096)
        peer.writer.transport.pause_reading()
        await until(lambda: not site.connections)
        peer.writer.transport.resume_reading()

        with pytest.raises(ConnectionResetError):
            await soon(peer.reader.read())


async def test_a_client_that_does_not_read_its_response_loses_its_connection():
    told = []

    async def stream(scope, receive, send):
        abort = scope["extensions"][ABORT]["abort"]
        protocol = abort.__self__
        squeeze(protocol)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not protocol.flow.write_paused:
            await send({"type": "http.response.body", "body": b"x" * 16_384, "more_body": True})
        abort()
        while (message := await receive())["type"] != "http.disconnect":
            pass
        told.append(message["type"])
        abort()  # too late, and no harm

    async with serving(stream) as site:
        peer = await site.connect(receive_buffer=4_096)
        peer.send(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n")
        peer.writer.transport.pause_reading()
        await until(lambda: told and not site.connections)
        peer.writer.transport.resume_reading()

        with pytest.raises(ConnectionResetError):
            await soon(peer.reader.read())


@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_small_writes_are_not_held_back_on_an_inherited_socket(kind):
    """uvicorn takes it for one of Unix, of which the loop knows no such option."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            echo,
            fd=listener.fileno(),
            http=HTTPProtocol,
            ws=WebSocketProtocol,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        running = asyncio.ensure_future(server.serve())
        await until(lambda: server.started)
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        if kind == "websocket":
            writer.write(upgrade("/"))
            await soon(reader.readuntil(b"\r\n\r\n"))
        await until(lambda: server.server_state.connections)
        [protocol] = server.server_state.connections
        connection = protocol.transport.get_extra_info("socket")

        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

        writer.transport.abort()
        server.should_exit = True
        await soon(running)


# ---- frames ------------------------------------------------------------------------------


async def test_frames_and_messages_keep_their_order():
    written = []

    async def mix(scope, receive, send):
        write = scope["extensions"][FRAMES]["write"]
        written.append(write(encode_text("too early")))
        await receive()
        await send({"type": "websocket.accept"})
        written.append(write(encode_text("1")))
        await send({"type": "websocket.send", "text": "2"})
        written.append(write(encode_text("3")))
        await send({"type": "websocket.close", "code": 4009, "reason": "why"})
        written.append(write(encode_text("too late")))

    async with serving(mix) as site:
        peer = await site.open_websocket()

        told = await peer.read_until(b"why")

    assert told == b"\x81\x011\x81\x012\x81\x013\x88\x05\x0f\xa9why"
    assert written == [False, True, True, False]


async def test_a_frame_waits_for_a_peer_that_has_no_room():
    written = []

    async def flood(scope, receive, send):
        write = scope["extensions"][FRAMES]["write"]
        await receive()
        await send({"type": "websocket.accept"})
        protocol = write.__self__
        squeeze(protocol)
        while write(encode_text("x" * 1_024)):
            written.append(1_024)
        written.append("stop")
        await receive()

    async with serving(flood) as site:
        peer = await site.open_websocket(receive_buffer=4_096)
        peer.writer.transport.pause_reading()
        await until(lambda: written[-1:] == ["stop"])

    assert sum(written[:-1]) < 2 * (KERNEL_BYTES + UNSENT_BYTES)


async def test_a_connection_that_was_lost_takes_no_frame():
    written = []

    async def stay(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        written.append(scope["extensions"][FRAMES]["write"](b""))

    async with serving(stay) as site:
        peer = await site.open_websocket()
        peer.leave()
        await until(lambda: written)

    assert written == [False]


async def test_compressed_messages_go_through_the_server():
    offered = []

    async def look(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        offered.append(FRAMES in scope["extensions"])

    async with serving(look) as site:
        peer = await site.connect()
        peer.send(upgrade("/", "Sec-WebSocket-Extensions: permessage-deflate"))
        assert b"permessage-deflate" in await peer.read_until(b"\r\n\r\n")
        await until(lambda: offered)

    assert offered == [False]


# ---- memory ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["websocket", "answered", "unfinished", "silent"])
async def test_a_connection_that_ended_is_freed_without_garbage_collection(kind):
    """What waits for the collector makes the memory of a process grow by a quarter."""
    gc.collect()
    gc.disable()
    try:
        async with serving(echo if kind == "websocket" else answer) as site:
            if kind == "websocket":
                peer = await site.open_websocket()
            else:
                peer = await site.connect()
                peer.send({"answered": GET, "unfinished": POST, "silent": b""}[kind])
            if kind == "answered":
                await peer.read_until(b"0 bytes")
            await until(lambda: site.connections)
            [kept] = map(weakref.ref, site.connections)

            peer.leave()

            await until(lambda: not site.connections and kept() is None)
    finally:
        gc.enable()


async def test_an_open_websocket_keeps_no_headers_of_its_handshake():
    kept = []

    def note(self, *args, accept=ServerProtocol.accept):
        response = accept(self, *args)
        kept.extend([args[0].headers, response.headers])
        return response

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ServerProtocol, "accept", note)
        async with serving(echo) as site:
            peer = await site.open_websocket()
            peer.send(frame(TEXT, b"open"))
            await peer.read_until(b"open")
            [protocol] = site.connections

            assert [dict(headers) for headers in kept] == [{}, {}]
            assert not hasattr(protocol, "request")


async def test_the_protocol_that_led_to_a_websocket_is_freed_at_once(monkeypatch):
    made = []

    def note(self, *args, init=HTTPProtocol.__init__, **options):
        made.append(weakref.ref(self))
        init(self, *args, **options)

    monkeypatch.setattr(HTTPProtocol, "__init__", note)
    gc.collect()
    gc.disable()
    try:
        async with serving(echo) as site:
            peer = await site.open_websocket()
            await until(lambda: made[0]() is None)
            peer.send(frame(TEXT, b"still there"))
            assert await peer.read_until(b"still there")
    finally:
        gc.enable()


MISSING = object()
OVERRIDDEN = {
    HTTPProtocol: {
        *("connection_made", "connection_lost", "data_received"),
        *("on_message_begin", "on_headers_complete", "on_header", "on_body"),
        *("on_message_complete", "handle_websocket_upgrade"),
    },
    WebSocketProtocol: {
        *("connection_made", "connection_lost", "data_received", "handle_cont"),
        *("handle_parser_exception", "handle_ping", "keepalive_timeout", "receive", "run_asgi"),
        "start_keepalive",
    },
}
READ = {
    HTTPProtocol: {
        *("send_400_response", "transport", "loop", "headers"),
        *("flow.read_paused", "parser.should_upgrade", "pipeline", "cycle", "scope"),
    },
    WebSocketProtocol: {
        *("transport", "loop", "disconnected", "read_paused", "frames", "queue", "close_timeout"),
        *("writable.is_set", "conn.fail", "conn.data_to_send", "conn.close_sent", "close_timer"),
        *("conn.handshake_exc", "handshake_initiated", "handshake_complete", "close_sent"),
        *("conn.state", "conn.extensions", "conn.parser.close"),
    },
}


@pytest.mark.parametrize("ours", OVERRIDDEN, ids=lambda ours: ours.__name__)
async def test_uvicorn_still_has_what_we_build_on(ours):
    base = ours.__mro__[1]
    gone = {name for name in OVERRIDDEN[ours] if not hasattr(base, name)}
    async with serving(echo) as site:
        await (site.connect() if ours is HTTPProtocol else site.open_websocket())
        await until(lambda: site.connections)
        [protocol] = site.connections
        for path in READ[ours]:
            found = protocol
            for name in path.split("."):
                found = getattr(found, name, MISSING)
            if found is MISSING:
                gone.add(path)

    assert type(protocol) is ours
    assert not gone, (
        f"uvicorn {uvicorn.__version__}: {base.__name__} lost {', '.join(sorted(gone))},"
        f" on which realtime.servers.uvicorn builds; see ADR 0014"
    )
    known = {name for name in vars(ours) if not name.startswith("_")}
    assert known - {"abort", "write_frame"} == OVERRIDDEN[ours]
