r"""uvicorn's protocol classes, with an end to what one peer may take its time over.

    uvicorn --http realtime.servers.uvicorn:HTTPProtocol \
        --ws realtime.servers.uvicorn:WebSocketProtocol ...

Plain uvicorn waits for a request for as long as the peer likes, keeps every fragment of a
message however small, and never gets rid of a connection that has unread bytes.  These
classes override methods that uvicorn does not promise to keep; see ADR 0014.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any, Final

from django.conf import settings as django_settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Close, CloseCode, Frame
from websockets.protocol import OPEN

from realtime import conf, metrics
from realtime.servers.inbox import Gate, Inbox
from realtime.sockets import ABORT, FRAMES, LAST_WORD_SECONDS

PIECE_BYTES: Final = 4_096
"""Ours: parsed at once; empty messages of so many bytes become 200 kB of objects at most."""

UNSENT_BYTES: Final = 16_384
"""Ours: a private copy per connection; what waits before it is one text for all subscribers."""

KERNEL_BYTES: Final = 131_072
"""Ours: unsent bytes in the kernel, which would take 4 MiB before anybody noticed."""

_RESET: Final = struct.pack("ii", 1, 0)
"""``SO_LINGER`` for no time: closing throws away what the kernel holds for the peer."""


def _settings() -> conf.Settings:
    """Those of the site, or the defaults where the application is not Django's."""
    return conf.get() if django_settings.configured else conf.Settings()


SILENCE: Final = 3
"""Ours: how many times ``BODY_SECONDS`` a peer may earn by what it has sent."""

PIPELINED: Final = 100
"""Ours: requests that may wait on one connection; each is 50 kB of objects while it waits."""

_HEAD_REFUSED: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)
"""RFC 6585, 5."""


class _Refused(Exception):
    """Raised in a callback of the parser, which uvicorn answers with 400."""


def _reset(transport: asyncio.Transport) -> None:
    """End a connection: neither this process nor the kernel keeps what was unsent."""
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def _set_tcp(transport: asyncio.Transport, option: int, value: int) -> None:
    """Set an option of TCP, which a Unix socket does not know.

    The family of the socket is no help: with ``--fd`` uvicorn takes every socket for one of
    Unix, so the loop leaves Nagle's algorithm on, which holds small writes back for 40 ms.
    """
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, option, value)


class HTTPProtocol(HttpToolsProtocol):
    """HTTP whose requests come in time or not at all.

    A request is due from its first byte on, the first one from the connection on.  How long
    a connection may be idle between two requests is uvicorn's ``--timeout-keep-alive``.
    ``scope["extensions"]["realtime.abort"]["abort"]`` is that of ``WebSocketProtocol``.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # Any: whatever uvicorn passes
        super().__init__(*args, **options)
        self._bounds = _settings()
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        """When the request must be here, on the clock of the loop; None between requests."""
        self._in_head = False
        self._heads = 0
        """How many requests have begun."""
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        _set_tcp(self.transport, socket.TCP_NODELAY, 1)
        self._begin()
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is due any more."""
        self._end()
        super().connection_lost(exc)
        self._untie()

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to the other protocol."""
        super().handle_websocket_upgrade()
        self._untie()

    def data_received(self, data: bytes) -> None:
        """Parse, and refuse a head that is too long."""
        if self._due is None:
            self._begin()
        heads = self._heads
        super().data_received(data)
        if self._in_head and self._heads == heads and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > self._bounds.head_bytes:
                metrics.count("peers_cut", reason="head_long")
                self.send_400_response("Request head too long.")
        self._arm()

    def on_message_begin(self) -> None:
        """A request starts, perhaps right behind another one."""
        if self._due is None:
            self._begin()
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {"abort": self.abort}}

    def on_headers_complete(self) -> None:
        """Begin to wait for the body.

        Raises:
            _Refused: an upgrade with a body, which the parser takes for the new protocol, and a
                proxy in front may not (CVE-2026-69243); or a request behind too many others,
                since uvicorn goes on to read whenever it has answered one.
        """
        if self.parser.should_upgrade() and self._announces_body():
            metrics.count("peers_cut", reason="upgrade_with_body")
            raise _Refused
        if len(self.pipeline) >= PIPELINED:
            metrics.count("peers_cut", reason="pipelined")
            raise _Refused
        self._end()  # of the head: the body may be due sooner
        self._due = self.loop.time() + self._bounds.body_seconds
        super().on_headers_complete()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Leave out the trailers of a body: nobody reads them, and they are no headers.

        uvicorn appends them to the headers of the request, where they would pass for what a
        proxy says of its client, and without end.
        """
        if self._in_head:
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Whoever keeps the rate may go on; what came fast is no excuse for a long silence."""
        if self._due is not None:
            earned = self._due + len(body) / self._bounds.body_bytes_per_second
            self._due = min(earned, self.loop.time() + SILENCE * self._bounds.body_seconds)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is here; one that asks for WebSocket leaves nothing behind."""
        self._end()
        super().on_message_complete()

    def abort(self) -> None:
        """Reset the connection of a client that does not read its response."""
        if not self.transport.is_closing():
            _reset(self.transport)

    def _untie(self) -> None:
        """Let go of what holds this object, which else stays until a full garbage collection."""
        self.parser: Any = None  # Any: of httptools, and gone
        self.scope: Any = None
        self.cycle: Any = None
        self.pipeline.clear()

    def _announces_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0 \t"))
            for name, value in self.headers
        )

    def _begin(self) -> None:
        self._in_head = True
        self._heads += 1
        self._head_bytes = 0
        self._due = self.loop.time() + self._bounds.head_seconds

    def _end(self) -> None:
        self._in_head = False
        self._due = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        """Look again when the request is due; by then it may be due later, or be here."""
        if self._timer is None and self._due is not None:
            self._timer = self.loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self.flow.read_paused:  # it waits for us: for an earlier answer, or for the site
            self._due = self.loop.time() + self._bounds.body_seconds
        elif self._in_head and self.cycle is not None and not self.cycle.response_complete:
            self._due = self.loop.time() + self._bounds.head_seconds  # of the next request
        if self.loop.time() < self._due:
            self._arm()
            return
        metrics.count("peers_cut", reason="head_late" if self._in_head else "body_late")
        self.transport.abort()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """WebSockets of which nothing piles up, and which can be got rid of.

    ``scope["extensions"]["realtime.abort"]["abort"]`` ends the TCP connection at once, for
    an application whose peer does not read.  ``scope["extensions"]["realtime.frames"]["write"]``
    is ``write_frame``, where messages are not compressed.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # Any: whatever uvicorn passes
        super().__init__(*args, **options)
        self.queue: Any = Inbox()  # Any: as far as uvicorn uses it, that of asyncio
        self.writable = Gate()
        self._message_fragments = _settings().message_fragments
        self._unparsed = b""
        self._failed = False
        """Whether the peer was told why, and nothing that it sends is looked at any more."""
        self._last_resort: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let a peer that does not read be noticed while little waits for it."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(UNSENT_BYTES)
        _set_tcp(self.transport, socket.TCP_NODELAY, 1)
        _set_tcp(self.transport, socket.TCP_NOTSENT_LOWAT, KERNEL_BYTES)

    # ---- what comes in --------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Parse as much as the application can take; the transport is paused beyond that."""
        if not self._failed:
            self._unparsed += data
            self._parse()

    async def receive(self) -> Any:  # Any: uvicorn's own type of ASGI messages
        """The next message; what was left of the same read is parsed when it is taken."""
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self.transport.resume_reading()
        self._parse()
        return message

    def _parse(self) -> None:
        # One read may hold 40,000 empty messages, which as objects take fifty times the room.
        while self._unparsed and not (self.read_paused or self.transport.is_closing()):
            piece, self._unparsed = self._unparsed[:PIECE_BYTES], self._unparsed[PIECE_BYTES:]
            super().data_received(piece)
            if self.conn.handshake_exc is not None and not self.handshake_initiated:
                self._refuse_head()

    def _refuse_head(self) -> None:
        """Say so where ``websockets`` gives up a head that is too long; uvicorn says nothing."""
        metrics.count("peers_cut", reason="handshake")
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        self._unparsed = b""
        self.transport.write(_HEAD_REFUSED)
        self.transport.close()

    def handle_cont(self, event: Frame) -> None:
        """Refuse a message in too many parts as one that is too big: with 1009."""
        if len(self.frames) < self._message_fragments:
            super().handle_cont(event)
        elif not self._failed:
            metrics.count("peers_cut", reason="fragments")
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self._tell_why()

    def handle_ping(self) -> None:
        """Answer, unless answers pile up: RFC 6455, 5.5.3, lets us answer later ones only."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    # ---- what goes out --------------------------------------------------------------

    def write_frame(self, frame: bytes) -> bool:
        """Write a frame behind all that was sent; ``False`` if it would have to wait, or never
        goes out, and ``send`` has to say so.

        Writes of one turn of uvloop leave the process with one call of the system.
        """
        if self.conn.state is not OPEN or not self.writable.is_set() or self.transport.is_closing():
            return False
        self.transport.write(frame)
        return True

    def start_keepalive(self) -> None:
        """The handshake is over: nobody asks for its headers any more, 3 kB of them."""
        super().start_keepalive()
        for message in (self.request, self.response):
            message.headers.clear()  # the parser of websockets keeps the messages themselves
        del self.request, self.response

    # ---- the end --------------------------------------------------------------------

    def handle_parser_exception(self) -> None:
        """Count who broke the rules of WebSocket, or sent too large a message, and say why."""
        why = self.conn.close_sent
        too_large = why is not None and why.code == CloseCode.MESSAGE_TOO_BIG
        metrics.count("peers_cut", reason="message_long" if too_large else "malformed")
        self._tell_why()

    def _tell_why(self) -> None:
        """Say why it ends, and let the peer go on for a moment without listening.

        uvicorn closes at once.  Bytes that nobody read then reset the connection, and the
        reset overtakes the reason: clients saw 1006 instead of 1009.
        """
        self._failed = True
        self._unparsed = b""
        why = self.conn.close_sent or Close(CloseCode.ABNORMAL_CLOSURE, "")
        self.queue.put_nowait(
            {"type": "websocket.disconnect", "code": why.code, "reason": why.reason}
        )
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        if self.close_timer is None:
            self.close_timer = self.loop.call_later(LAST_WORD_SECONDS, self.abort)

    async def run_asgi(self) -> None:
        """Offer the way out to the application, and take it when a peer outlives that."""
        self.scope["extensions"][ABORT] = {"abort": self.abort}
        if not self.conn.extensions:
            self.scope["extensions"][FRAMES] = {"write": self.write_frame}
        try:
            await super().run_asgi()
        finally:
            self._close_for_good()
            del self.scope  # it holds this object, which else stays until garbage is collected

    def keepalive_timeout(self) -> None:
        """A peer that answers no ping may not read either, and then no close gets through."""
        metrics.count("peers_cut", reason="ping_unanswered")
        super().keepalive_timeout()
        self._close_for_good()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what was not parsed."""
        if self._last_resort is not None:
            self._last_resort.cancel()
        self._unparsed = b""
        super().connection_lost(exc)
        self.conn.parser.close()  # a generator that holds its protocol, and is held by it

    def abort(self) -> None:
        """Reset the connection."""
        if not self.disconnected:
            _reset(self.transport)

    def _close_for_good(self) -> None:
        """Give the peer the time that uvicorn gives it to answer a close frame."""
        if self._last_resort is None and not self.disconnected:
            self._last_resort = self.loop.call_later(self.close_timeout, self._outlived)

    def _outlived(self) -> None:
        metrics.count("peers_cut", reason="close_unread")
        self.abort()
