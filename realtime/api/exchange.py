"""Requests over HTTP as ASGI has them, for what is done with one before Django sees it."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

# Any: the stubs of Django, Channels and asgiref each describe ASGI in types of their own.
Application = Callable[[Any, Any, Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]
Header = tuple[bytes, bytes]

JSON: Header = (b"content-type", b"application/json")
TEXT: Header = (b"content-type", b"text/plain; charset=utf-8")


async def read(receive: Receive, most: int) -> tuple[list[Any], bytes | None]:
    """What came of a request, in as few messages as may be, and its body.

    The body is ``None`` if it has more than *most* bytes, so that it was not read to its end, or
    if the client went away before.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return [_piece(bytes(body), more_body=True), message], None
        body += message.get("body", b"")
        more_body = message.get("more_body", False)
        if len(body) > most:
            return [_piece(bytes(body), more_body=more_body)], None
        if not more_body:
            whole = bytes(body)
            return [_piece(whole, more_body=False)], whole


def again(messages: list[Any], receive: Receive) -> Receive:
    """A ``receive`` that begins with what was received already."""
    waiting = iter(messages)

    async def replayed() -> Any:
        for message in waiting:
            return message
        return await receive()

    return replayed


def _piece(body: bytes, *, more_body: bool) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more_body}


async def answer(
    send: Any, status: int, kind: Header, text: str, headers: Iterable[Header] = ()
) -> None:
    """Answer with all of *text* at once."""
    body = text.encode()
    every = [kind, (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": every})
    await send({"type": "http.response.body", "body": body})
