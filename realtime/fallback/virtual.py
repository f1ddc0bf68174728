"""A WebSocket that exists only here: ASGI towards the consumer, receive requests outside.

The consumer cannot tell it from a real one, so every rule and every limit holds.  What it
sends waits for a receive request; what a send request brings waits for the consumer.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from realtime.fallback import framing
from realtime.fallback.reception import Reception
from realtime.protocol.connection import close_reason
from realtime.protocol.errors import Fatal
from realtime.protocol.messages import PONG, encode_error
from realtime.sockets import ABORT

REST_SECONDS: Final = 30
"""Pusher clients poll again at once; so long may the next receive request take."""

RETURN_SECONDS: Final = 10
"""Ours, SockJS has 5: how long a client that broke off a receive request may stay away."""

OUTGOING_CHARS: Final = 65_536
"""uvicorn's own high-water mark: beyond it the consumer waits, and its backlog counts."""

INCOMING_CHARS: Final = 1_048_576
"""Ours: unread messages of one client; beyond it send requests wait."""

MESSAGE_CHARS: Final = 100
"""Ours: what a message counts for besides its text, since an empty one takes room too."""

WAITING_REQUESTS: Final = 10
"""Ours: send requests of one client that may wait; browsers have six to a host."""

WAITING_BYTES: Final = 1_048_576
"""Ours: what their messages may take in memory together; a single one may always wait."""

ABNORMAL_CLOSURE: Final = 1006
"""RFC 6455, 7.4.1: the client is gone without a word."""


class TooManyWait(Exception):
    """So many messages of a client wait to be read that more of them are refused."""


@dataclass(frozen=True, slots=True)
class Name:
    """Which virtual WebSocket a request belongs to.

    The client chooses ``server`` and ``session`` at random.  Whoever knows both still needs
    the same app and a page of the same origin.
    """

    app_key: str
    server: str
    session: str
    origin: str | None


class VirtualWebSocket:
    """One client that cannot open a real one.

    Args:
        forget: called once, when no request can reach it any more.
        admitted: awaited once the consumer has let the client in, before the client hears of
            it; raises what the client is turned away with after all.
    """

    def __init__(
        self,
        forget: Callable[[], object],
        admitted: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._forget = forget
        self._forgotten = False
        self._admitted = admitted
        self._connected = False
        self._incoming: deque[str] = deque()
        self._incoming_chars = 0
        self._waiting = self._waiting_bytes = 0
        self._arrived, self._read = asyncio.Event(), asyncio.Event()
        self._opening = False
        """Whether the client has not been told that it is open."""
        self._outgoing: deque[str] = deque()
        self._outgoing_chars = 0
        self._taken = asyncio.Event()
        self._closing: tuple[int, str] | None = None
        self._disconnect: dict[str, Any] | None = None
        """The last message to the consumer."""
        self._nothing = False
        """Whether the client wants a sign of life."""
        self._beating = False
        """Whether an answer to a heartbeat is due."""
        self._reception: Reception | None = None
        self._rest: asyncio.TimerHandle | None = None
        """Runs while no receive request is there."""

    @property
    def over(self) -> bool:
        """Whether it is closed; the client may not have heard of it yet."""
        return self._disconnect is not None

    # ---- towards the consumer -------------------------------------------------------

    async def serve(self, application: Any, scope: Any) -> None:  # Any: ASGI
        """Be a WebSocket for *application* from its handshake to its end.

        Args:
            scope: of the first receive request.
        """
        try:
            await application(self._scope_of(scope), self._receive, self._send)
        finally:
            self.end()

    def _scope_of(self, scope: Any) -> dict[str, Any]:
        return {
            **scope,
            "type": "websocket",
            "scheme": "wss" if scope.get("scheme") == "https" else "ws",
            "subprotocols": [],
            "extensions": {ABORT: {"abort": self._abort}},
        }

    async def _receive(self) -> dict[str, Any]:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        if self._admitted is not None:  # whoever is refused is never asked for a message
            try:
                await self._admitted()
            except Fatal as error:
                self.refuse(error)
            self._admitted = None
            self._wake()
        while True:
            if self._disconnect is not None:
                return self._disconnect
            if self._incoming:
                text = self._incoming.popleft()
                self._incoming_chars -= len(text) + MESSAGE_CHARS
                self._read.set()
                return {"type": "websocket.receive", "text": text}
            self._arrived.clear()
            await self._arrived.wait()

    async def _send(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "websocket.accept":
                self._opening = True
            case "websocket.send":
                await self._queue(message["text"])
            case "websocket.close":
                self._close(message["code"], message.get("reason") or "")
        self._wake()

    async def _queue(self, text: str) -> None:
        while self._outgoing_chars >= OUTGOING_CHARS and not self.over:
            self._taken.clear()
            await self._taken.wait()
        if self.over:
            raise OSError("the client is gone")  # as ASGI has it
        self._outgoing.append(text)
        self._outgoing_chars += len(text)

    def _abort(self) -> None:
        """Get rid of a client that does not read the response it asked for."""
        if self._reception is not None:
            self._reception.abort()
        self.end()

    # ---- the end --------------------------------------------------------------------

    def refuse(self, error: Fatal) -> None:
        """Turn the client away, or send it away, without the consumer."""
        if self.over:
            return
        self._opening = self._opening or not self._connected
        self._outgoing.append(encode_error(error))
        self._close(error.code, close_reason(error))

    def end(self) -> None:
        """The consumer is gone, or shall go, with nothing more to say."""
        if not self.over:
            self._finish(ABNORMAL_CLOSURE, "")
        if self._closing is None:
            self._give_up()
        self._wake()

    def _close(self, code: int, reason: str) -> None:
        if self.over:
            raise OSError("closed already")
        self._closing = (code, reason)
        self._finish(code, reason)
        if self._rest is not None:  # whoever polls is back at once
            self._start_rest(RETURN_SECONDS)

    def _finish(self, code: int, reason: str) -> None:
        self._disconnect = {"type": "websocket.disconnect", "code": code, "reason": reason}
        self._incoming.clear()
        for waiting in (self._arrived, self._read, self._taken):
            waiting.set()
        self._wake()

    def _expire(self) -> None:
        self._closing = None
        self.end()

    def _give_up(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if not self._forgotten:
            self._forgotten = True
            self._forget()

    # ---- what send requests bring ---------------------------------------------------

    def put(self, texts: Sequence[str]) -> bool:
        """Pass messages on; whether there was room for them."""
        if self.over or self._incoming_chars >= INCOMING_CHARS:
            return False
        self._incoming.extend(texts)
        self._incoming_chars += sum(len(text) + MESSAGE_CHARS for text in texts)
        self._arrived.set()
        return True

    async def offer(self, texts: Sequence[str]) -> bool:
        """``put`` that waits for room; ``False`` where it is over.

        Raises:
            TooManyWait: it would have to wait, and enough others do.
        """
        if self.put(texts):
            return True
        # A character takes one to four bytes of memory, so characters do not tell.
        size = sum(map(sys.getsizeof, texts))
        too_large = self._waiting and self._waiting_bytes + size > WAITING_BYTES
        if not self.over and (self._waiting >= WAITING_REQUESTS or too_large):
            raise TooManyWait
        self._waiting += 1
        self._waiting_bytes += size
        try:
            while not self.over:
                self._read.clear()
                await self._read.wait()
                if self.put(texts):
                    return True
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size
        return False

    def ping(self) -> None:
        """The client sent no message: it answers a heartbeat, or wants a sign of life.

        No answer gets an answer, or both sides would go on for ever.
        """
        if self._beating:
            self._beating = False
        else:
            self._nothing = True
            self._wake()
        self._heard()

    def _heard(self) -> None:
        """Tell the consumer of a sign of life in the one word it has for that."""
        if not self._incoming:
            self.put([PONG])

    # ---- what receive requests take -------------------------------------------------

    def attach(self, *, streams: bool, abort: Callable[[], object] = lambda: None) -> Reception:
        """Feed a receive request from now on, in the place of the one before.

        Args:
            streams: whether it takes more than one answer.
            abort: ends its TCP connection at once.
        """
        former, self._reception = self._reception, Reception(self, streams=streams, abort=abort)
        if former is not None:
            former.replace()
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._connected:
            self._heard()
        return self._reception

    def detach(self, reception: Reception, *, broken_off: bool) -> None:
        """A receive request has ended; wait for the next one.

        Args:
            broken_off: whether the client did that.
        """
        if self._reception is not reception:
            return
        self._reception = None
        if self._forgotten:
            return
        if broken_off and self.over:
            self._give_up()
        else:
            self._start_rest(RETURN_SECONDS if broken_off or self.over else REST_SECONDS)

    def _start_rest(self, seconds: float) -> None:
        if self._rest is not None:
            self._rest.cancel()
        self._rest = asyncio.get_running_loop().call_later(seconds, self._expire)

    def lines(self, *, streams: bool) -> str:
        """Take what there is for the client; empty for nothing.

        Args:
            streams: whether to say that it is open before there is a message.
        """
        if self._admitted is not None and self._closing is None:
            return ""
        if not (streams or self._outgoing or self._closing or self._nothing):
            return ""
        lines = framing.OPENED if self._opening else ""
        self._opening = False
        if self._outgoing:
            lines += framing.encode_messages(self._outgoing)
        elif self._nothing:
            lines += framing.NOTHING
        self._nothing = False
        self._outgoing.clear()
        self._outgoing_chars = 0
        self._taken.set()
        if self._closing is not None:
            lines += framing.encode_close(*self._closing)
            self._closing = None
            self._give_up()
        return lines

    def beat(self, *, streams: bool) -> str:
        """A heartbeat, after which an answer is due where the client streams."""
        self._beating = streams
        return framing.HEARTBEAT

    def _wake(self) -> None:
        if self._reception is not None:
            self._reception.wake()
