"""WebSocket frames of a server, counted without a look at what is in them.

A load generator that decodes every message costs more than the server that it measures.
"""

from typing import Final

TEXT: Final = 0x81
"""The first byte of a text message in one frame, which is how every server here sends."""
PING: Final = 0x89
CLOSE: Final = 0x88
CONTROL: Final = 0x08


class FrameCounter:
    """Counts the text frames of one stream, however its bytes are cut."""

    __slots__ = ("_head", "_is_text", "_left", "_size", "_start", "closed", "pings")

    def __init__(self) -> None:
        self._left = 0
        """Bytes of the current frame that have not come."""
        self._is_text = False
        """Whether that frame is one to count."""
        self._start = b""
        """The beginning of a frame that cannot be read yet."""
        self._head = b"\xff\xff"
        """The header of the last frame that came whole; at first one that nobody sends."""
        self._size = 0
        """Bytes of that frame."""
        self.pings: list[bytes] = []
        """Payloads of pings that wait for an answer."""
        self.closed = False
        """Whether the server said that it closes."""

    @property
    def at_border(self) -> bool:
        """Whether the stream stands between two frames."""
        return not (self._left or self._start)

    def count(self, data: bytes) -> int:
        """How many text frames end in *data*, the next bytes of the stream."""
        # A read that is as long as the frame its header announces holds that frame alone.
        if (
            len(data) == self._size
            and data.startswith(self._head)
            and not (self._left or self._start)
        ):
            return 1
        return self._walk(data)

    def _walk(self, data: bytes) -> int:
        found = at = 0
        if self._left:
            if self._left > len(data):
                self._left -= len(data)
                return 0
            at, self._left = self._left, 0
            found += self._is_text
        elif self._start:
            data, self._start = self._start + data, b""
        end, head, size = len(data), self._head, self._size
        while at < end:
            if at + size <= end and data.startswith(head, at):  # one more like the last
                at += size
                found += 1
                continue
            payload, stop = bounds(data, at)
            if not payload or (data[at] & CONTROL and stop > end):
                self._start = data[at:]
                break
            if data[at] & CONTROL:
                self._control(data[at], data[payload:stop])
            elif stop > end:
                self._left, self._is_text = stop - end, data[at] == TEXT
                break
            elif data[at] == TEXT:
                found += 1
                head, size = data[at:payload], stop - at
            at = stop
        self._head, self._size = head, size
        return found

    def _control(self, first: int, payload: bytes) -> None:
        if first == PING:
            self.pings.append(payload)
        elif first == CLOSE:
            self.closed = True


def bounds(data: bytes, at: int) -> tuple[int, int]:
    """Where the payload of the frame at *at* starts and ends; zeros if that cannot be told yet.

    Servers do not mask what they send: RFC 6455, 5.1.
    """
    if len(data) < at + 2:
        return 0, 0
    length, payload = data[at + 1], at + 2
    if length >= 126:
        payload += 2 if length == 126 else 8
        if len(data) < payload:
            return 0, 0
        length = int.from_bytes(data[at + 2 : payload])
    return payload, payload + length


def split(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """The whole frames at the start of *data*, as first byte and payload, and the rest."""
    frames, at = [], 0
    while True:
        payload, stop = bounds(data, at)
        if not payload or stop > len(data):
            return frames, data[at:]
        frames.append((data[at], data[payload:stop]))
        at = stop
