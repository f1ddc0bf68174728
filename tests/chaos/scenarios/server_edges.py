"""Limits of row H3 that our protocol classes for the server hold."""

import asyncio

from tests.chaos.client import Pusher
from tests.chaos.cluster import Cluster
from tests.chaos.edge import Edge, edge
from tests.chaos.websocket import TEXT, Raw, frame

SETTINGS = {
    "BODY_BYTES_PER_SECOND": 100,
    "BODY_SECONDS": 1,
    "HEAD_BYTES": 2_000,
    "MESSAGE_FRAGMENTS": 10,
}


@edge
async def head_bytes(cluster: Cluster) -> Edge:
    begun = b"GET /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "

    async def status(size: int) -> int:
        raw = await Raw.open(cluster[0].port)
        raw.write(begun.ljust(size, b"x"))
        await raw.until(lambda: raw.status, 0.3)
        raw.write(b"\r\n\r\n")
        await raw.until(lambda: raw.status, 5)
        raw.transport.abort()
        return raw.status

    most = SETTINGS["HEAD_BYTES"]
    return await status(most) == 404, await status(most + 1) == 400


@edge
async def body_bytes_per_second(cluster: Cluster) -> Edge:
    """A body that has a second, and another one for each hundred bytes that came."""
    head = b"POST /nowhere HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 300\r\n\r\n"

    async def status(first: int) -> int:
        raw = await Raw.open(cluster[0].port)
        raw.write(head + b"x" * first)
        await raw.until(lambda: raw.status, 1.75)
        raw.write(b"x" * (300 - first))
        await raw.until(lambda: raw.status, 5)
        raw.transport.abort()
        return raw.status

    in_time, late = await asyncio.gather(status(100), status(50))
    return in_time >= 400, late == 0


@edge
async def message_fragments(cluster: Cluster) -> Edge:
    most = SETTINGS["MESSAGE_FRAGMENTS"]
    text = b'{"event":"pusher:ping"}'

    async def answered(count: int) -> Pusher:
        client = await Pusher.open(cluster[0].port)
        answer = client.expect("pusher:pong")
        pieces = [text[number : number + 1] for number in range(count - 1)]
        client.write(frame(TEXT, pieces[0], fin=False))
        for piece in pieces[1:]:
            client.write(frame(0, piece, fin=False))
        client.write(frame(0, text[count - 1 :]))
        await asyncio.wait([answer, client.closed], timeout=5, return_when=asyncio.FIRST_COMPLETED)
        return client

    within, beyond = await answered(most), await answered(most + 1)
    return within.is_open, beyond.close_code == 1009
