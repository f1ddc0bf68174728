"""What happens in a channel while sockets wait for their subscription to be confirmed.

Each of them is to get what came since it began to wait.  A crowd waits together, so it is kept
once for all of them.
"""

from collections.abc import KeysView
from typing import Final

from realtime import metrics
from realtime.layer import Envelope
from realtime.protocol.errors import OverCapacity
from realtime.protocol.frames import Frame
from realtime.sockets import Socket

EVENT_CHARS: Final = 100
"""Ours: what an event counts for besides its text; with it, a socket may miss as much as its
backlog may have."""

Held = tuple[Envelope, Frame]
"""An event, and the frame that all share."""


class Holding:
    """The sockets of one channel that wait, in the order in which they began, and what came."""

    __slots__ = ("_chars", "_events", "_forgotten", "_missed", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[Socket, int, int]] = {}
        """With the events, and their characters, that came before it."""
        self._events: list[Held] = []
        self._forgotten = 0
        """How many events came before those."""
        self._chars = 0
        """Of all events that ever came."""
        self._missed: tuple[tuple[int, int], list[Held], bool] | None = None
        """What one of a crowd missed: from where to where, and whether it is not for everybody."""

    def __len__(self) -> int:
        return len(self._waiting)

    def keys(self) -> KeysView[str]:
        """The ids of the sockets."""
        return self._waiting.keys()

    def add(self, socket: Socket) -> None:
        """*socket* waits from now on."""
        self._waiting[socket.socket_id] = (socket, self._came, self._chars)

    def take(self, socket_id: str) -> list[Held]:
        """A socket waits no longer; what it has to get, unless it missed too much.

        The same list for all of a crowd, which must not be changed.
        """
        entry = self._waiting.pop(socket_id, None)
        if entry is None:
            return []
        missed, with_exceptions = self._since(entry[1])
        self._forget()
        if not with_exceptions:
            return missed
        return [held for held in missed if held[0].except_socket_id != socket_id]

    def _since(self, start: int) -> tuple[list[Held], bool]:
        span = start, self._came
        if self._missed is None or self._missed[0] != span:
            missed = self._events[start - self._forgotten :]
            excepted = any(event.except_socket_id is not None for event, _ in missed)
            self._missed = span, missed, excepted
        return self._missed[1:]

    def drop(self, socket_id: str) -> None:
        """A socket does not want to come in any more."""
        if self._waiting.pop(socket_id, None) is not None:
            self._forget()

    def note(self, event: Envelope, frame: Frame) -> None:
        """*event* came; whoever missed too much has to begin again."""
        if not self._waiting:
            return
        self._events.append((event, frame))
        self._chars += frame.chars + EVENT_CHARS
        while self._waiting:
            socket_id, (socket, _, before) = next(iter(self._waiting.items()))
            if self._chars - before <= socket.backlog_chars and not socket.over:
                return
            del self._waiting[socket_id]
            if not socket.over:
                metrics.count("over_capacity", reason="held_events")
                socket.end(OverCapacity())
        self._forget()

    @property
    def _came(self) -> int:
        return self._forgotten + len(self._events)

    def _forget(self) -> None:
        """Forget what nobody waits for, but not one by one."""
        if not self._waiting:
            self._missed = None
        first = next((start for _, start, _ in self._waiting.values()), self._came)
        done = first - self._forgotten
        if 2 * done >= len(self._events):
            del self._events[:done]
            self._forgotten = first
