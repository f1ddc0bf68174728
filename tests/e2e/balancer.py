"""A load balancer that knows nothing: every TCP connection goes to the next server.

A program, since a process that ends leaves no connection behind:
``python tests/e2e/balancer.py PORT... LISTENER``, with the file descriptor of a listening socket.
"""

import asyncio
import itertools
import socket
import sys
from contextlib import suppress

PIECE_BYTES = 65_536


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def balance(ports: list[int], listener: socket.socket) -> None:
    """Pass on what comes to *listener* to *ports* of this machine, in turn, until the end."""
    turns = itertools.cycle(ports)

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            there = await asyncio.open_connection("127.0.0.1", next(turns))
            await asyncio.gather(_pump(reader, there[1]), _pump(there[0], writer))
        writer.close()

    await (await asyncio.start_server(meet, sock=listener)).serve_forever()


if __name__ == "__main__":
    *servers, descriptor = map(int, sys.argv[1:])
    asyncio.run(balance(servers, socket.socket(fileno=descriptor)))
