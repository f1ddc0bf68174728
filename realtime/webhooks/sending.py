"""One request to an endpoint, over connections that go only where they may.

The address is looked up and checked when the connection is made, and it is the address that is
connected to: a name that leads elsewhere a moment later gains nothing.  TLS is still by name.
There are no redirects and no proxies, because nothing here knows of them.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Any, Final

import httpcore2
import httpx2

from realtime import conf
from realtime.protocol.app import Token
from realtime.protocol.signing import sign_webhook
from realtime.webhooks.deliveries import Answer
from realtime.webhooks.targets import PORTS, is_public

ANSWER_SECONDS: Final = 4.0
"""Pusher support: how long an endpoint may take to answer."""

TOTAL_SECONDS: Final = 5.0
"""Ours: how long one attempt may take with everything, also with a body that drips."""

RESPONSE_BYTES: Final = 65_536
"""Ours: what is read of an answer at most."""

EXCERPT_CHARS: Final = 1_000
"""Ours: what is kept of it, for people."""

ADDRESSES: Final = 3
"""Ours: addresses of a name that are tried, one after the other."""

LOOKUPS: Final = 100
"""Ours: names looked up at a time; a resolver that hangs must not gather threads."""

_lookups = threading.Semaphore(LOOKUPS)


class TargetRefused(OSError):
    """Webhooks do not go there."""


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to addresses of the internet only."""

    def __init__(self) -> None:
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as httpcore2 has it
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,  # Any: httpcore2 does not name this type
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first address of *host* that may be used and answers.

        Raises:
            TargetRefused: there is none that may be used.
        """
        anywhere = conf.get().webhook_private_targets
        if not anywhere and port not in PORTS:
            raise TargetRefused(f"port {port} is none of {PORTS}")
        found = await _look_up(host, port)
        addresses = [item for item in found if anywhere or is_public(item)][:ADDRESSES]
        if not addresses:
            raise TargetRefused(f"{host} has no address on the internet")
        share = ANSWER_SECONDS / len(addresses)
        for address in addresses[:-1]:
            try:
                return await self._network.connect_tcp(address, port, share, local_address)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                continue
        return await self._network.connect_tcp(addresses[-1], port, share, local_address)


class Sender:
    """Makes requests to one endpoint; made by ``sender()``."""

    def __init__(self, pool: httpcore2.AsyncConnectionPool) -> None:
        self._pool = pool

    async def post(self, url: str, body: bytes, token: Token) -> Answer:
        """Make one attempt; whatever goes wrong is in the answer."""
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                return await self._post(httpx2.URL(url), body, token)
        except TimeoutError:
            return Answer(error=f"no answer in {TOTAL_SECONDS:g} seconds", unreachable=True)
        except httpcore2.TimeoutException:
            return Answer(error=f"no answer in {ANSWER_SECONDS:g} seconds", unreachable=True)
        except (
            OSError,
            httpcore2.ConnectError,
            AttributeError,  # of anyio on uvloop, where the peer was gone once connected to
        ) as error:
            return Answer(error=str(error) or type(error).__name__, unreachable=True)
        except (
            httpcore2.NetworkError,
            httpcore2.ProtocolError,
            httpx2.InvalidURL,
            UnicodeError,  # a host name that cannot be one
        ) as error:
            return Answer(error=str(error) or type(error).__name__)

    async def _post(self, url: httpx2.URL, body: bytes, token: Token) -> Answer:
        where = httpcore2.URL(
            scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
        )
        headers = [
            (b"Host", url.netloc),
            (b"Content-Type", b"application/json"),  # and nothing else: one library compares it
            (b"Content-Length", str(len(body)).encode()),
            (b"Accept-Encoding", b"identity"),
            (b"User-Agent", b"django-realtime-server"),
            (b"X-Pusher-Key", token.key.encode()),
            (b"X-Pusher-Signature", sign_webhook(token, body).encode()),
        ]
        seconds = dict.fromkeys(("connect", "read", "write", "pool"), ANSWER_SECONDS)
        async with self._pool.stream(
            "POST", where, headers=headers, content=body, extensions={"timeout": seconds}
        ) as response:
            read = b""
            async for part in response.aiter_stream():
                read += part
                if len(read) >= RESPONSE_BYTES:
                    break
            excerpt = read[:RESPONSE_BYTES].decode("utf-8", "replace")[:EXCERPT_CHARS]
            error = "" if 200 <= response.status < 300 else f"HTTP status {response.status}"
            return Answer(response.status, excerpt, error)


@asynccontextmanager
async def sender() -> AsyncIterator[Sender]:
    """Something that makes requests to one endpoint, over one connection while it lasts."""
    context = await asyncio.to_thread(_tls)
    async with httpcore2.AsyncConnectionPool(
        ssl_context=context, max_connections=1, network_backend=CheckedNetwork()
    ) as pool:
        yield Sender(pool)


@cache
def _tls() -> ssl.SSLContext:
    """Reads the certificates of the system, which takes a while, so once."""
    return httpx2.create_ssl_context()


async def _look_up(host: str, port: int) -> list[str]:
    """The addresses of *host*.

    In a thread of its own, for no pool of threads may fill with lookups that hang.

    Raises:
        OSError: it has none, or too many others are being looked up.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()
    if not _lookups.acquire(blocking=False):
        raise OSError("too many names are being looked up")

    def work() -> None:
        found: list[str] = []
        error: Exception | None = None
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found = [str(row[4][0]) for row in rows]
        except (OSError, UnicodeError) as raised:
            error = raised
        finally:
            _lookups.release()
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(_resolve, answer, found, error)

    threading.Thread(target=work, name="realtime-lookup", daemon=True).start()
    return await answer


def _resolve(
    answer: "asyncio.Future[list[str]]", found: list[str], error: Exception | None
) -> None:
    if answer.done():
        return  # nobody waits any more
    if error is None:
        answer.set_result(found)
    else:
        answer.set_exception(error)
