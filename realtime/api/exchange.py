"""Requests over HTTP as ASGI has them, for what is done with one before Django sees it."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from realtime import conf

# Any: the stubs of Django, Channels and asgiref each describe ASGI in types of their own.
Application = Callable[[Any, Any, Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]
Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")


async def read(receive: Receive) -> tuple[list[Any], bytes | None]:
    """The messages of a request, and its body if that is whole and within ``API_BODY_BYTES``."""
    messages, parts, size = [], [], 0
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request":
            return messages, None
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if size > conf.get().api_body_bytes:
            return messages, None
        if not message.get("more_body"):
            return messages, b"".join(parts)


def again(messages: list[Any], receive: Receive) -> Receive:
    """A ``receive`` that begins with what was received already."""
    waiting = iter(messages)

    async def replayed() -> Any:
        for message in waiting:
            return message
        return await receive()

    return replayed


async def answer(
    send: Any, status: int, kind: Header, text: str, headers: Iterable[Header] = ()
) -> None:
    """Answer with all of *text* at once."""
    body = text.encode()
    every = [kind, (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": every})
    await send({"type": "http.response.body", "body": body})
