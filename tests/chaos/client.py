"""A small Pusher client, light enough that one process holds thousands, and its bad cousins.

It speaks WebSocket by itself: a library would hide what a hostile peer must be able to do,
and cost ten times as much per message.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.chaos.history import History
from tests.e2e.sites import App

PATIENCE = 15.0
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
APP = App()

_SUCCEEDED = "pusher_internal:subscription_succeeded"
_names = itertools.count(1)
_live: set[Any] = set()
"""Transports that are open."""


async def abort_all() -> None:
    """End what a row left open, and let the loop notice."""
    for transport in list(_live):
        transport.abort()
    for _ in range(3):
        # A turn of the loop each for the abort, the callback and the close.
        await asyncio.sleep(0)


class Refused(Exception):
    """A subscription or a sign-in was refused; ``status`` is that of the frame."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Gone(Exception):
    """The connection ended while somebody waited for an answer."""


def sign(text: str, app: App = APP) -> str:
    """An ``auth`` token, computed without a line of the product."""
    digest = hmac.new(app.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return f"{app.key}:{digest}"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0) -> bytes:
    """A masked WebSocket frame.  The mask is zero, which is allowed and costs nothing."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    size = len(payload)
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 1 << 16:
        head += b"\xfe" + struct.pack("!H", size)
    else:
        head += b"\xff" + struct.pack("!Q", size)
    return head + b"\0\0\0\0" + payload


def upgrade(path: str, *lines: str) -> bytes:
    """The request that opens a WebSocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    head = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *lines,
    ]
    return ("\r\n".join(head) + "\r\n\r\n").encode()


def path_of(key: str = APP.key, client: str = "chaos") -> str:
    """The path of a connection; a client named ``js`` answers ``pusher:ping``."""
    return f"/app/{key}?protocol=7&client={client}&version=8.6.0"


class Socket(asyncio.Protocol):
    """One WebSocket: bytes in, messages out.  Answers control pings."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.close_code: int | None = None
        self.close_reason = ""
        self.head = b""
        self.answers_control_pings = True
        self._buffer = b""
        self._fragments = b""
        self._ended = False

    # ---- asyncio --------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        _live.add(transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        if not self.head:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                self._buffer = buffer
                return
            self.head, buffer = buffer[:end], buffer[end + 4 :]
            if self.status != 101:
                if not self.opened.done():
                    self.opened.set_exception(ConnectionError(f"refused with {self.status}"))
                self.transport.close()
                return
            if not self.opened.done():
                self.opened.set_result(None)
        position, size = 0, len(buffer)
        while size - position >= 2:
            first, length = buffer[position], buffer[position + 1]
            start = position + 2
            if length == 126:
                if size - start < 2:
                    break
                length = int.from_bytes(buffer[start : start + 2], "big")
                start += 2
            elif length == 127:
                if size - start < 8:
                    break
                length = int.from_bytes(buffer[start : start + 8], "big")
                start += 8
            if size - start < length:
                break
            position = start + length
            self._frame(first, buffer[start:position])
        self._buffer = buffer[position:]

    def connection_lost(self, error: Exception | None) -> None:
        _live.discard(self.transport)
        if not self.opened.done():
            self.opened.set_exception(error or ConnectionError("closed during the handshake"))
            self.opened.exception()  # whoever does not wait for it does not miss it
        self._end()

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            if not self.closed.done():
                self.closed.set_result(None)
            self.ended()

    def _frame(self, first: int, payload: bytes) -> None:
        opcode = first & 0x0F
        if opcode == TEXT and first & 0x80:
            self.message(payload)
        elif opcode in (TEXT, 0):
            self._fragments += payload
            if first & 0x80:
                whole, self._fragments = self._fragments, b""
                self.message(whole)
        elif opcode == PING:
            if self.answers_control_pings:
                self.write(frame(PONG, payload))
        elif opcode == CLOSE:
            if len(payload) >= 2:
                self.close_code = int.from_bytes(payload[:2], "big")
                self.close_reason = payload[2:].decode(errors="replace")
            self.write(frame(CLOSE, payload[:2]))
            self._end()
            self.transport.close()

    # ---- for users ------------------------------------------------------------------

    @property
    def status(self) -> int:
        """The HTTP status of the handshake; 0 while there is none."""
        parts = self.head.split(b" ", 2)
        return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0

    @property
    def is_open(self) -> bool:
        return self.opened.done() and not self._ended

    def message(self, payload: bytes) -> None:
        """One message came."""

    def ended(self) -> None:
        """The connection is over."""

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def abort(self) -> None:
        """End the TCP connection with a reset, as a crashed peer does."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


async def dial(
    make: Callable[[], Socket],
    port: int,
    path: str,
    *lines: str,
    source: str | None = None,
    receive_buffer: int | None = None,
    patience: float = PATIENCE,
) -> Any:
    """Open a WebSocket to a port of this machine.

    Args:
        source: the local address, where the ports of one are too few.
        receive_buffer: bytes the kernel may hold for a client that does not read.

    Raises:
        OSError: refused, or closed in the handshake.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(patience):
        if receive_buffer is None:
            local = (source, 0) if source else None
            _, client = await loop.create_connection(make, "127.0.0.1", port, local_addr=local)
        else:
            bare = socket.socket()
            bare.setblocking(False)
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await loop.sock_connect(bare, ("127.0.0.1", port))
            _, client = await loop.create_connection(make, sock=bare)
        client.write(upgrade(path, *lines))
        await client.opened
    return client


class Pusher(Socket):
    """A Pusher client; everything it sees goes into the history.

    Args:
        history: where to; None for clients whose events are only counted.
        answers_pings: whether it answers ``pusher:ping``.
    """

    def __init__(
        self,
        history: History | None = None,
        name: str = "",
        *,
        answers_pings: bool = True,
        on_event: Callable[["Pusher", dict[str, Any]], None] | None = None,
    ) -> None:
        super().__init__()
        self.name = name or f"c{next(_names)}"
        self.history = history
        self.answers_pings = answers_pings
        self.on_event = on_event
        self.socket_id = ""
        self.errors: list[dict[str, Any]] = []
        self.received = 0
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._joining: dict[str, asyncio.Future[Any]] = {}
        self._waiters: list[tuple[str, str | None, asyncio.Future[dict[str, Any]]]] = []

    @classmethod
    async def open(
        cls,
        port: int,
        *,
        key: str = APP.key,
        client: str = "chaos",
        dialling: dict[str, Any] | None = None,
        patience: float = PATIENCE,
        **options: Any,
    ) -> "Pusher":
        """A client that was greeted.

        Raises:
            Gone, OSError: it was turned away.
        """
        made: Pusher = await dial(
            lambda: cls(**options),
            port,
            path_of(key, client),
            patience=patience,
            **(dialling or {}),
        )
        async with asyncio.timeout(patience):
            await made.greeted
        return made

    # ---- what comes -----------------------------------------------------------------

    def message(self, payload: bytes) -> None:
        message = json.loads(payload)
        event = message["event"]
        channel = message.get("channel")
        if event == "pusher:connection_established":
            self.socket_id = json.loads(message["data"])["socket_id"]
            self._note("opened")
            if not self.greeted.done():
                self.greeted.set_result(None)
        elif event == "pusher:ping":
            if self.answers_pings:
                self.send("pusher:pong")
        elif event == _SUCCEEDED:
            self._confirmed(channel, message.get("data"))
        elif event == "pusher:subscription_error":
            self._refused(channel, message)
        elif event.startswith("pusher_internal:member_"):
            user = json.loads(message["data"])["user_id"]
            self._note(event.removeprefix("pusher_internal:"), channel=channel, user=user)
        elif event == "pusher:error":
            self.errors.append({"at": time.monotonic(), **message["data"]})
        elif channel is not None:
            self._event(channel, message)
        if self.on_event is not None:
            self.on_event(self, message)
        if self._waiters:
            self._wake(event, channel, message)

    def _event(self, channel: str, message: dict[str, Any]) -> None:
        self.received += 1
        if self.history is None:
            return
        facts = event_facts(message)
        if facts is not None:
            self._note("received", channel=channel, **facts)

    def _confirmed(self, channel: str, data: str | None) -> None:
        content = json.loads(data) if data else {}
        members = content.get("presence", {}).get("ids") if content else None
        self._note("subscribed", channel=channel, members=members)
        waiting = self._joining.pop(channel, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(content)

    def _refused(self, channel: str, message: dict[str, Any]) -> None:
        data = message["data"]
        given = json.loads(data) if isinstance(data, str) else data
        waiting = self._joining.pop(channel, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(Refused(given["error"], given.get("status")))

    def _wake(self, event: str, channel: str | None, message: dict[str, Any]) -> None:
        for waiter in list(self._waiters):
            wanted, on, future = waiter
            if wanted == event and on in (None, channel):
                self._waiters.remove(waiter)
                if not future.done():
                    future.set_result(message)

    def ended(self) -> None:
        self._note("closed", code=self.close_code)
        gone = Gone(f"{self.name} was closed with {self.close_code} {self.close_reason}")
        for future in (*self._joining.values(), *(item[2] for item in self._waiters)):
            if not future.done():
                future.set_exception(gone)
                future.exception()  # whoever does not wait for it does not miss it
        if not self.greeted.done():
            self.greeted.set_exception(gone)
            self.greeted.exception()

    # ---- what goes ------------------------------------------------------------------

    def send(self, event: str, data: Any = None, **members: Any) -> None:
        """Send one message."""
        text = json.dumps({"event": event, "data": {} if data is None else data, **members})
        self.write(frame(TEXT, text.encode()))

    def ask(self, channel: str, user: str | None = None, auth: dict[str, Any] | None = None) -> Any:
        """Send a subscribe, signed where the channel wants it; a future of its answer."""
        data: dict[str, Any] = {"channel": channel}
        if auth is not None:
            data |= auth
        elif channel.startswith(("private-", "presence-")):
            text = f"{self.socket_id}:{channel}"
            if user is not None:
                data["channel_data"] = json.dumps({"user_id": user, "user_info": {"name": user}})
                text = f"{text}:{data['channel_data']}"
            data["auth"] = sign(text)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._joining[channel] = answer
        self._note("asked", channel=channel)
        self.send("pusher:subscribe", data)
        return answer

    async def subscribe(
        self,
        channel: str,
        user: str | None = None,
        auth: dict[str, Any] | None = None,
        patience: float = PATIENCE,
    ) -> Any:
        """Subscribe; return the data of the confirmation.

        Raises:
            Refused, Gone, TimeoutError: it did not work.
        """
        async with asyncio.timeout(patience):
            return await self.ask(channel, user, auth)

    def unsubscribe(self, channel: str) -> None:
        """Leave a channel; there is no answer."""
        self._note("unsubscribed", channel=channel)
        self.send("pusher:unsubscribe", {"channel": channel})

    async def sign_in(self, user: str, patience: float = PATIENCE) -> None:
        """Sign in.

        Raises:
            Refused: the server says no.
        """
        user_data = json.dumps({"id": user, "user_info": {"name": user}})
        auth = sign(f"{self.socket_id}::user::{user_data}")
        success = self.expect("pusher:signin_success")
        refusal = self.expect("pusher:error")
        self.send("pusher:signin", {"auth": auth, "user_data": user_data})
        done, _ = await asyncio.wait(
            [success, refusal], timeout=patience, return_when=asyncio.FIRST_COMPLETED
        )
        self._waiters = [item for item in self._waiters if item[2] not in (success, refusal)]
        if success in done:
            success.result()
        elif refusal in done:
            raise Refused(refusal.result()["data"]["message"])
        else:
            raise TimeoutError(f"{self.name} got no answer to its sign-in")

    def expect(self, event: str, on: str | None = None) -> "asyncio.Future[dict[str, Any]]":
        """A future of the next *event*; ask before what causes it."""
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiters.append((event, on, future))
        return future

    async def round_trip(self, patience: float = PATIENCE) -> float:
        """Seconds until the answer to a ping; everything sent before is then answered."""
        answer = self.expect("pusher:pong")
        started = time.monotonic()
        self.send("pusher:ping")
        async with asyncio.timeout(patience):
            await answer
        return time.monotonic() - started

    async def leave(self) -> None:
        """Close in order, and wait until the connection is gone."""
        self.write(frame(CLOSE, struct.pack("!H", 1000)))
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.shield(self.closed)
        self.transport.close()

    def _note(self, kind: str, **facts: Any) -> None:
        if self.history is not None:
            self.history.add(self.name, kind, **facts)


def event_facts(message: dict[str, Any]) -> dict[str, Any] | None:
    """Publisher, number and send time that our publishers put into an event."""
    try:
        content = json.loads(message["data"])
        facts = {"publisher": content["p"], "number": content["n"], "sent": content["t"]}
    except (ValueError, TypeError, KeyError):
        return None
    mark = message.get("id") or content.get("id")
    return {**facts, "id": mark} if mark is not None else facts


class Counter(Socket):
    """A subscriber for millions of events: takes the data of each and keeps nothing."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        super().__init__()
        self._take = take
        self.socket_id = ""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def message(self, payload: bytes) -> None:
        if payload.startswith(b'{"event":"n"'):
            # ...,"data":"PUBLISHER:NUMBER"} with whatever order of members
            start = payload.index(b'"data":"') + 8
            self._take(payload[start : payload.index(b'"', start)])
            return
        message = json.loads(payload)
        if message["event"] == "pusher:connection_established":
            self.socket_id = json.loads(message["data"])["socket_id"]
        elif message["event"] == _SUCCEEDED and not self.ready.done():
            self.ready.set_result(None)

    @classmethod
    async def open(cls, port: int, channel: str, take: Callable[[bytes], None]) -> "Counter":
        """A counter that is subscribed to a public *channel*."""
        made: Counter = await dial(lambda: cls(take), port, path_of())
        text = json.dumps({"event": "pusher:subscribe", "data": {"channel": channel}})
        made.write(frame(TEXT, text.encode()))
        async with asyncio.timeout(PATIENCE):
            await made.ready
        return made


class Drain(Pusher):
    """A member that reads and forgets, so that a busy channel costs the driver little."""

    def message(self, payload: bytes) -> None:
        if self.greeted.done() and not self._joining and not self._waiters:
            if payload.startswith(b'{"event":"pusher:ping"'):
                super().message(payload)
            return
        super().message(payload)


class Raw(asyncio.Protocol):
    """A TCP connection that sends what it is told to, and what came back."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.received = b""
        self.closed: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        _live.add(transport)

    def data_received(self, data: bytes) -> None:
        if len(self.received) < 65_536:
            self.received += data
        self._changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        _live.discard(self.transport)
        if not self.closed.done():
            self.closed.set_result(time.monotonic())
        self._changed.set()

    async def until(self, condition: Callable[[], Any], seconds: float) -> None:
        """Wait until *condition*, the end of the connection, or the end of patience."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition() and not self.closed.done():
                    self._changed.clear()
                    await self._changed.wait()

    def write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    @property
    def status(self) -> int:
        """The HTTP status that came back; 0 for none."""
        parts = self.received[:40].split(b" ", 2)
        return int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else 0

    @property
    def close_code(self) -> int | None:
        """The code of the close frame that came back after a handshake."""
        _, _, rest = self.received.partition(b"\r\n\r\n")
        while len(rest) >= 2:
            size, start = rest[1], 2
            if size == 126:
                size, start = int.from_bytes(rest[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(rest[2:10], "big"), 10
            if rest[0] & 0x0F == CLOSE and size >= 2:
                return int.from_bytes(rest[start : start + 2], "big")
            rest = rest[start + size :]
        return None

    @classmethod
    async def open(cls, port: int, source: str | None = None) -> "Raw":
        """A connection on which nothing was sent yet."""
        loop = asyncio.get_running_loop()
        local = (source, 0) if source else None
        _, made = await loop.create_connection(cls, "127.0.0.1", port, local_addr=local)
        return made
