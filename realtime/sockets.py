"""The outgoing half of one connection, and what bounds it.

Everything a connection sends, replies and events alike, leaves through one ``push``, so
nothing overtakes anything.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

from realtime import metrics
from realtime.logs import OncePerSecond
from realtime.protocol.connection import close_reason
from realtime.protocol.errors import Fatal, OverCapacity
from realtime.protocol.frames import encode_text
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


class Socket:
    """A queue and a short-lived task in front of ASGI's ``send``.

    With a *write_frame* they are only needed while the peer reads too slowly.

    Args:
        send: ASGI's ``send`` of the connection; it may wait for as long as the peer likes.
        backlog_chars: unsent characters after which the peer counts as too slow.
        drop: called once, when it is; must not raise.  The connection is over by then.
        abort: ends the TCP connection at once; called ``LAST_WORD_SECONDS`` after *drop*,
            because a server waits for ever to send the rest to a peer that does not read.
        write_frame: writes a frame past ASGI; ``False`` if it would have to wait.
    """

    __slots__ = (
        "_abort",
        "_backlog_chars",
        "_close",
        "_drop",
        "_over",
        "_patience",
        "_send",
        "_unsent",
        "_waiting",
        "_write_frame",
        "_writer",
        "app_id",
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
        self._backlog_chars = backlog_chars
        self._drop = drop
        self._abort = abort
        self._write_frame = write_frame
        self._unsent = 0
        self._waiting: deque[str] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._close: tuple[int, str] | None = None
        self._over = False
        self._patience: asyncio.TimerHandle | None = None
        """Runs while a close waits to leave."""
        self.dropped = False
        """Whether the peer was given up because it does not read."""

    def push(self, text: str, frame: bytes | None = None) -> None:
        """Send one message, behind those before it; never waits, never raises.

        Args:
            frame: *text* as ``encode_text`` has it, where it goes to many sockets.
        """
        if self._over:
            return
        if (
            self._write_frame is not None
            and self._writer is None  # nothing overtakes what waits for it
            and self._write_frame(frame or encode_text(text))
        ):
            return
        self._unsent += len(text)
        if self._unsent > self._backlog_chars:
            self._give_up()
            return
        self._waiting.append(text)
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())

    def close(self, code: int, reason: str) -> None:
        """Close once everything pushed before has left; later pushes are ignored.

        A peer that does not read on for ``CLOSING_SECONDS`` is dropped.
        """
        if self._over:
            return
        self._over = True
        self._close = (code, reason)
        metrics.count("connections_closed", code=str(code))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        self._patience = asyncio.get_running_loop().call_later(CLOSING_SECONDS, self._give_up)

    def end(self, error: Fatal) -> None:
        """Close with the code of *error*, and the frame that says why."""
        self.push(encode_error(error))
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
        self.dropped = True
        metrics.count("over_capacity", reason="slow_reader")
        if self._close is None:
            metrics.count("connections_closed", code=str(OverCapacity.code))
        self.abandon()
        self._drop()
        asyncio.get_running_loop().call_later(LAST_WORD_SECONDS, self._abort)

    async def _write(self) -> None:
        try:
            while self._waiting:
                text = self._waiting.popleft()
                await self._send({"type": "websocket.send", "text": text})
                self._unsent -= len(text)
            if self._close is not None:
                await self._send_close(*self._close)
        except (OSError, RuntimeError):
            # The peer went away, or (uvicorn, RuntimeError) the server closed by itself; the
            # disconnect message is on its way.
            self.abandon()
        finally:
            self._writer = None
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
