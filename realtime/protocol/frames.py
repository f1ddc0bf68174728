"""Frames of WebSocket, as a server sends them.

Source: RFC 6455, 5.2.
"""

from typing import Final
from weakref import WeakValueDictionary

_TEXT: Final = 0x81
"""The last fragment of a message of text."""

_SHORT: Final = 125
_MEDIUM: Final = 0xFFFF

LONG_CHARS: Final = 1_000
"""Ours: of a text worth looking up; lists of members are longer, events mostly shorter."""


class Frame:
    """A message of text, and the same as a frame: made once, for however many get it."""

    __slots__ = ("__weakref__", "chars", "text", "wire")

    def __init__(self, text: str) -> None:
        self.text = text
        self.wire = encode_text(text)
        self.chars = len(text)


_long: WeakValueDictionary[str, Frame] = WeakValueDictionary()
"""Frames that wait to be sent, by their text."""


def frame_of(text: str) -> Frame:
    """A frame of *text*; the same one as long as a long text is on its way to somebody else.

    A crowd that joins a presence channel together gets one list of members.
    """
    if len(text) < LONG_CHARS:
        return Frame(text)
    frame = _long.get(text)
    if frame is None:
        frame = _long[text] = Frame(text)
    return frame


def encode_text(text: str) -> bytes:
    """A whole message of text in one frame, unmasked.

    >>> encode_text("Hi")
    b'\\x81\\x02Hi'

    Raises:
        UnicodeEncodeError: *text* has a surrogate without its partner.
    """
    payload = text.encode()
    size = len(payload)
    if size <= _SHORT:
        return bytes((_TEXT, size)) + payload
    if size <= _MEDIUM:
        return bytes((_TEXT, 126)) + size.to_bytes(2) + payload
    return bytes((_TEXT, 127)) + size.to_bytes(8) + payload
