"""What goes over HTTP in the place of WebSocket frames: a line each, as SockJS has them.

Everything is ASCII: no character is cut where a response comes in parts, and a browser counts
as many characters as we do.

Source: pusher-js 8, ``core/http/http_socket.ts``; SockJS protocol 0.3.3.
"""

import json
from collections.abc import Iterable
from typing import Final

OPENED: Final = "o\n"
HEARTBEAT: Final = "h\n"
"""Answered with ``[]`` by a client that streams."""

NOTHING: Final = "a[]\n"
"""No messages: a sign of life that no client answers."""

REPLACED: Final = 'c[2010,"Another connection still open"]\n'
"""SockJS: the end of a receive request when another one takes its place."""

MESSAGES_PER_REQUEST: Final = 100
"""Ours: pusher-js sends each message in a request of its own."""


class BadBody(ValueError):
    """The body of a send request is none."""


def encode_messages(texts: Iterable[str]) -> str:
    """Messages for the client, in order.

    >>> encode_messages(['{"event":"greet"}'])
    'a["{\\\\"event\\\\":\\\\"greet\\\\"}"]\\n'
    """
    return f"a{_json(list(texts))}\n"


def encode_close(code: int, reason: str) -> str:
    """The close of the virtual WebSocket.

    >>> encode_close(4200, "Please reconnect immediately")
    'c[4200,"Please reconnect immediately"]\\n'
    """
    return f"c{_json([code, reason])}\n"


def decode_messages(body: bytes) -> list[str]:
    """The messages in the body of a send request; none in that of a client's ping.

    Raises:
        BadBody: for anything but a JSON array of a few texts that UTF-8 can carry.
    """
    try:
        texts = json.loads(body.decode())
        if not isinstance(texts, list) or len(texts) > MESSAGES_PER_REQUEST:
            raise BadBody("not an array of messages")
        for text in texts:
            if not isinstance(text, str):
                raise BadBody("a message is not a text")
            text.encode()  # no half of a surrogate pair, which a WebSocket could not carry either
    except RecursionError:
        raise BadBody("nested too deeply") from None
    except BadBody:
        raise
    except ValueError as error:
        raise BadBody(str(error)) from None
    return texts


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
