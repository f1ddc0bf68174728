"""The outgoing half of one connection, and what bounds it.

Everything a connection sends, replies and events alike, leaves through one ``push``, so
nothing overtakes anything.
"""

import asyncio
import logging
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import accumulate
from typing import Any, Final

from realtime import loops, metrics
from realtime.logs import OncePerSecond
from realtime.protocol.connection import close_reason
from realtime.protocol.errors import Fatal, OverCapacity
from realtime.protocol.frames import Frame
from realtime.protocol.messages import encode_error

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

ABORT: Final = "realtime.abort"
"""ASGI extension of ours: ``scope["extensions"][ABORT]["abort"]()`` ends the connection."""

FRAMES: Final = "realtime.frames"
"""ASGI extension of ours: ``scope["extensions"][FRAMES]["write"](frame)`` writes a frame of
WebSocket at once, or returns ``False`` where that is not possible now."""

LAST_WORD_SECONDS: Final = 1
"""Ours: how long a peer that was dropped for not reading may take to read why."""

CLOSING_SECONDS: Final = 5
"""Ours: how long a close may wait behind what the peer has not read yet."""

TURN_SOCKETS: Final = 16
"""Ours, by measurement (ADR 0025): sockets that are written to before the loop turns."""

TOGETHER_BYTES: Final = 16_384
"""Ours: of several messages that leave in one write.  Of more the connection might keep a copy
that no limit counts."""

_BYTES_OF_A_CHAR: Final = 4
"""UTF-8 takes no more."""

NORMAL_CLOSURE: Final = 1000
FIRST_LIBRARY_CODE: Final = 3000
"""RFC 6455, 7.4.2: codes below are for the protocol itself."""

Sender = Callable[[dict[str, Any]], Awaitable[None]]
FrameWriter = Callable[[bytes], bool]


def abort_of(scope: Any) -> Callable[[], object]:  # Any: ASGI
    """What ends the TCP connection of *scope* at once; nothing where the server has no such."""
    offered = (scope.get("extensions") or {}).get(ABORT, {})
    abort: Callable[[], object] = offered.get("abort", lambda: None)
    return abort


def frame_writer_of(scope: Any) -> FrameWriter | None:  # Any: ASGI
    """What writes frames on the connection of *scope*, if the server has such."""
    offered = (scope.get("extensions") or {}).get(FRAMES, {})
    write: FrameWriter | None = offered.get("write")
    return write


class Outlet:
    """The sockets of a loop that have something to send, each in its turn; see ``outlet``.

    A write per event and socket is most of what an event costs.  So nothing is written at
    once: what comes for a socket before its turn leaves in the same write.  Between two
    turns the loop does what else there is to do, such as to take the next event.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Callable[[], object]] = deque()
        self._scheduled = False

    def add(self, call: Callable[[], object]) -> None:
        """Have *call* made, which must not raise, behind those that were added before."""
        self._ready.append(call)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        ready = self._ready
        try:
            for _ in range(min(TURN_SOCKETS, len(ready))):
                ready.popleft()()
        finally:
            self._scheduled = bool(ready)
            if ready:
                self._loop.call_soon(self._turn)


_outlets: loops.PerLoop[Outlet] = loops.PerLoop(Outlet)
outlet = _outlets.current


class Socket:
    """A queue in front of a connection, emptied in turns; see ``Outlet``.

    It is emptied into *write_frame*, where the server has that and the peer reads, or else by
    a short-lived task into ASGI's ``send``.

    Args:
        send: ASGI's ``send`` of the connection; it may wait for as long as the peer likes.
        backlog_chars: unsent characters after which the peer counts as too slow.
        drop: called once, when it is; must not raise.  The connection is over by then.
        abort: ends the TCP connection at once; called ``LAST_WORD_SECONDS`` after *drop*,
            because a server waits for ever to send the rest to a peer that does not read.
        write_frame: writes frames past ASGI; ``False`` if they would have to wait.
    """

    __slots__ = (
        "_abort",
        "_close",
        "_drop",
        "_due",
        "_judged",
        "_outlet",
        "_over",
        "_patience",
        "_send",
        "_unsent",
        "_waiting",
        "_write_frame",
        "_writer",
        "app_id",
        "backlog_chars",
        "dropped",
        "socket_id",
    )

    def __init__(
        self,
        app_id: str,
        socket_id: str,
        send: Sender,
        *,
        backlog_chars: int,
        drop: Callable[[], object],
        abort: Callable[[], object] = lambda: None,
        write_frame: FrameWriter | None = None,
    ) -> None:
        self.app_id = app_id
        self.socket_id = socket_id
        self._send = send
        self.backlog_chars = backlog_chars
        self._drop = drop
        self._abort = abort
        self._write_frame = write_frame
        self._outlet = outlet()
        self._unsent = 0
        self._waiting: list[Frame] = []
        self._due = False
        """Whether somebody will come for what is waiting: the outlet, or the writer."""
        self._judged = False
        """Whether it is about to be seen if the peer reads."""
        self._writer: asyncio.Task[None] | None = None
        self._close: tuple[int, str] | None = None
        self._over = False
        self._patience: asyncio.TimerHandle | None = None
        """Runs while a close waits to leave."""
        self.dropped = False
        """Whether the peer was given up because it does not read."""

    def push(self, frame: Frame) -> None:
        """Send one message, behind those before it; never waits, never raises."""
        if self._over:
            return
        self._waiting.append(frame)
        self._unsent += frame.chars
        if not self._due:
            self._due = True
            self._outlet.add(self.flush)
        if self._unsent > self.backlog_chars and not self._judged:
            # Perhaps it only waits for its turn.  Let it, or its writer, have one first.
            self._judged = True
            self.flush()
            asyncio.get_running_loop().call_soon(self._judge)

    def flush(self) -> None:
        """Write what is waiting, now or as soon as the peer has read what was sent before."""
        if self._writer is not None:
            return  # nothing overtakes what waits for it
        if self._waiting and self._write_frame is not None:
            try:
                self._write_frames(self._write_frame)
            except Exception:  # whatever a server raises, the others have their turn
                self._fail()
        if self._waiting:
            self._writer = asyncio.create_task(self._write())
        else:
            self._due = False

    def _judge(self) -> None:
        """Give the peer up if it took nothing even now."""
        self._judged = False
        if self._unsent > self.backlog_chars and not self._over:
            self._give_up()

    def _write_frames(self, write: FrameWriter) -> None:
        """Write what the connection takes, in as few parts as ``TOGETHER_BYTES`` allows."""
        waiting = self._waiting
        wires = [frame.wire for frame in waiting]
        if _BYTES_OF_A_CHAR * self._unsent <= TOGETHER_BYTES:
            if write(b"".join(wires)):
                self._unsent = 0
                waiting.clear()
            return
        ends = [*accumulate(map(len, wires))]
        written = gone = 0
        while written < len(wires):
            # Who is larger is a part alone.
            end = max(bisect_right(ends, gone + TOGETHER_BYTES), written + 1)
            if not write(b"".join(wires[written:end])):
                break
            written, gone = end, ends[end - 1]
        self._unsent -= sum([frame.chars for frame in waiting[:written]])
        del waiting[:written]

    def close(self, code: int, reason: str) -> None:
        """Close once everything pushed before has left; later pushes are ignored.

        A peer that does not read on for ``CLOSING_SECONDS`` is dropped.
        """
        if self._over:
            return
        self._over = True
        self._close = (code, reason)
        metrics.count("connections_closed", code=str(code))
        self.flush()
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        self._patience = asyncio.get_running_loop().call_later(CLOSING_SECONDS, self._give_up)

    def end(self, error: Fatal) -> None:
        """Close with the code of *error*, and the frame that says why."""
        self.push(Frame(encode_error(error)))
        self.close(error.code, close_reason(error))

    def abandon(self) -> None:
        """Forget what is queued: the peer is gone."""
        self._over = True
        self._waiting.clear()
        if self._patience is not None:
            self._patience.cancel()
        if self._writer is not None:
            self._writer.cancel()

    @property
    def over(self) -> bool:
        """Whether nothing more will be accepted."""
        return self._over

    def _give_up(self) -> None:
        logger.warning(
            "dropped slow socket %s of app %s: %d characters unsent",
            self.socket_id,
            self.app_id,
            self._unsent,
        )
        metrics.count("over_capacity", reason="slow_reader")
        if self._close is None:
            metrics.count("connections_closed", code=str(OverCapacity.code))
        self._end()

    def _fail(self) -> None:
        """End a connection whose server raised what it should not: something may be missing."""
        logger.exception("socket %s of app %s cannot be written to", self.socket_id, self.app_id)
        metrics.count("sockets_failed")
        self._end()

    def _end(self) -> None:
        self.dropped = True
        self.abandon()
        self._drop()
        asyncio.get_running_loop().call_later(LAST_WORD_SECONDS, self._abort)

    async def _write(self) -> None:
        try:
            while self._waiting:
                frames, self._waiting = self._waiting, []
                for frame in frames:
                    await self._send({"type": "websocket.send", "text": frame.text})
                    self._unsent -= frame.chars
            if self._close is not None:
                await self._send_close(*self._close)
        except (OSError, RuntimeError):
            # The peer went away, or (uvicorn, RuntimeError) the server closed by itself; the
            # disconnect message is on its way.
            self.abandon()
        except Exception:  # each server has errors of its own
            self._fail()
        finally:
            self._writer = None
            self._due = False
            if self._patience is not None:
                self._patience.cancel()

    async def _send_close(self, code: int, reason: str) -> None:
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except (OSError, RuntimeError):
            raise
        except Exception:
            if code == NORMAL_CLOSURE or code >= FIRST_LIBRARY_CODE:
                raise
            # Daphne 4.2 (Autobahn: "invalid close code") lets an application close with
            # 1000 or 3000 and above only; clients treat 1000 as they do 1003 or 1009.
            await self._send({"type": "websocket.close", "code": NORMAL_CLOSURE, "reason": reason})
