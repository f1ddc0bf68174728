"""Back ends that publish: the HTTP API on kept connections, signed here."""

import asyncio
import hashlib
import hmac
import itertools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.chaos.client import APP
from tests.chaos.history import History
from tests.e2e.sites import App

PATIENCE = 30.0
IDLE_SECONDS = 3.0
"""A connection that lay idle so long is not used again: uvicorn ends it after five."""

_open: dict[asyncio.AbstractEventLoop, set["Http"]] = {}
"""Connections that are open, by the loop of their row."""


def close_all() -> None:
    """End every connection that the row of this loop left open."""
    for connection in _open.pop(asyncio.get_running_loop(), set()):
        connection.close()


@dataclass(frozen=True)
class Answer:
    """What came back; status 0 stands for a connection that was refused or cut."""

    status: int
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


class Http:
    """One HTTP/1.1 connection that is opened again when the server ended it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._lock = asyncio.Lock()
        self._used_at = 0.0

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        patience: float = PATIENCE,
    ) -> Answer:
        """Send one request and read its answer; faults of the network are status 0."""
        async with self._lock:
            started = time.monotonic()
            if started - self._used_at > IDLE_SECONDS:
                self.close()
            try:
                async with asyncio.timeout(patience):
                    status, content = await self._exchange(method, path, body, headers or {})
            except (OSError, EOFError, TimeoutError, ValueError):
                self.close()
                status, content = 0, b""
            self._used_at = time.monotonic()
            return Answer(status, content, self._used_at - started)

    async def ask_site(
        self, token: str, socket_id: str, channel: str, patience: float = PATIENCE
    ) -> Answer:
        """What the auth view of the site answers to a page of the user with *token*."""
        body = urlencode({"socket_id": socket_id, "channel_name": channel}).encode()
        headers = {
            "Authorization": f"Token {token}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return await self.request("POST", "/pusher/auth", body, headers, patience)

    async def _exchange(
        self, method: str, path: str, body: bytes, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
            _open.setdefault(asyncio.get_running_loop(), set()).add(self)
        reader, writer = self._streams
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        head = await reader.readuntil(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        given = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)
        }
        if "chunked" in given.get("transfer-encoding", ""):
            content = await self._chunks(reader)
        else:
            content = await reader.readexactly(int(given.get("content-length", "0")))
        if given.get("connection", "").lower() == "close":
            self.close()
        return int(first.split(" ")[1]), content

    @staticmethod
    async def _chunks(reader: asyncio.StreamReader) -> bytes:
        content = b""
        while size := int(await reader.readline(), 16):
            content += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return content

    def close(self) -> None:
        """End the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None
            _open.get(asyncio.get_running_loop(), set()).discard(self)


class Publisher:
    """A back end that sends one call after the other on one connection.

    Its events carry its name, a number and the time, by which the checkers know them.
    """

    def __init__(
        self, port: int, history: History | None = None, name: str = "p", *, app: App = APP
    ) -> None:
        self.name = name
        self.history = history
        self.app = app
        self.sent = 0
        self._connection = Http(port)

    def close(self) -> None:
        self._connection.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        patience: float = PATIENCE,
        query: dict[str, str] | None = None,
    ) -> Answer:
        """One signed call below ``/apps/ID``."""
        path = f"/apps/{self.app.id}{path}"
        content = b"" if body is None else json.dumps(body).encode()
        target = f"{path}?{self._signed(method, path, content, query or {})}"
        headers = {"Content-Type": "application/json"}
        return await self._connection.request(method, target, content, headers, patience)

    def _signed(self, method: str, path: str, body: bytes, more: dict[str, str]) -> str:
        query = {
            **more,
            "auth_key": self.app.key,
            "auth_timestamp": str(int(time.time())),
            "auth_version": "1.0",
        }
        if body:
            query["body_md5"] = hashlib.md5(body, usedforsecurity=False).hexdigest()
        parameters = "&".join(f"{name}={query[name]}" for name in sorted(query))
        text = f"{method}\n{path}\n{parameters}"
        key = self.app.secret.encode()
        query["auth_signature"] = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        return urlencode(query)

    def content(self, number: int, size: int = 0) -> str:
        """The data of an event."""
        content: dict[str, Any] = {"p": self.name, "n": number, "t": time.monotonic()}
        if size:
            content["x"] = "x" * size
        return json.dumps(content)

    async def publish(
        self,
        channel: str,
        event: str = "event",
        *,
        size: int = 0,
        except_socket: str | None = None,
        except_client: str | None = None,
        patience: float = PATIENCE,
    ) -> Answer:
        """Publish the next event to one channel and note the answer."""
        number, self.sent = self.sent, self.sent + 1
        at = time.monotonic()
        body = {"name": event, "channel": channel, "data": self.content(number, size)}
        if except_socket:
            body["socket_id"] = except_socket
        answer = await self.call("POST", "/events", body, patience)
        self._note(channel, number, at, answer, except_client)
        return answer

    async def publish_batch(
        self, channels: Sequence[str], *, size: int = 0, event: str = "event"
    ) -> Answer:
        """Publish one event to each of up to ten channels in one call."""
        at = time.monotonic()
        numbers = range(self.sent, self.sent + len(channels))
        self.sent += len(channels)
        batch = [
            {"name": event, "channel": channel, "data": self.content(number, size)}
            for channel, number in zip(channels, numbers, strict=True)
        ]
        answer = await self.call("POST", "/batch_events", {"batch": batch})
        for channel, number in zip(channels, numbers, strict=True):
            self._note(channel, number, at, answer, None)
        return answer

    async def members(self, channel: str) -> list[str]:
        """The members of a presence channel."""
        answer = await self.call("GET", f"/channels/{channel}/users")
        if answer.status != 200:
            raise ConnectionError(f"the member list answers {answer.status}: {answer.body!r}")
        return [item["id"] for item in answer.json()["users"]]

    def _note(
        self, channel: str, number: int, at: float, answer: Answer, except_client: str | None
    ) -> None:
        if self.history is not None:
            facts = {"except": except_client} if except_client else {}
            self.history.add(
                self.name,
                "publish",
                channel=channel,
                publisher=self.name,
                number=number,
                status=answer.status,
                until=time.monotonic(),
                **facts,
            )
            self.history.records[-1]["at"] = at


class Load:
    """Publishes at a steady rate, however slowly the server answers.

    A publisher that still waits is passed over, so each keeps its own order.

    Args:
        ports: the servers to publish through, in turn.
        channels: where to, in turn.
        size: bytes to add to each event.
    """

    def __init__(
        self,
        ports: Sequence[int],
        channels: Sequence[str],
        history: History | None,
        name: str,
        *,
        size: int = 0,
    ) -> None:
        self._size = size
        self._ports = itertools.cycle(ports)
        self._channels = itertools.cycle(channels)
        self._history = history
        self._name = name
        self._free: dict[int, list[Publisher]] = {port: [] for port in ports}
        self._made: list[Publisher] = []
        self._running: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self.answers: list[tuple[float, int, float]] = []
        """When each call was sent, the status, and the seconds it took."""

    async def run(self, rate: float, go_on: Callable[[], bool], *, batch: int = 0) -> None:
        """Send *rate* events a second while *go_on* says so, then wait for the answers.

        Args:
            batch: events per call; 0 for single events.

        Raises:
            Exception: a call failed in a way that is no answer; the first such failure.
        """
        step = (batch or 1) / rate
        due = time.monotonic()
        while go_on() and not self._failures:
            self._send(batch)
            due += step
            # Pacing: the rate is what the row is about.
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        if self._running:
            await asyncio.wait(self._running)
        if self._failures:
            raise self._failures[0]

    async def run_for(self, rate: float, seconds: float, *, batch: int = 0) -> None:
        """Send for some seconds; see ``run``."""
        end = time.monotonic() + seconds
        await self.run(rate, lambda: time.monotonic() < end, batch=batch)

    def _send(self, batch: int) -> None:
        port = next(self._ports)
        if self._free[port]:
            publisher = self._free[port].pop()
        else:
            name = f"{self._name}{len(self._made)}"
            publisher = Publisher(port, self._history, name)
            self._made.append(publisher)
        channels = [next(self._channels) for _ in range(batch or 1)]

        async def one() -> None:
            at = time.monotonic()
            if batch:
                answer = await publisher.publish_batch(channels, size=self._size)
            else:
                answer = await publisher.publish(channels[0], size=self._size)
            self.answers.append((at, answer.status, answer.seconds))
            self._free[port].append(publisher)

        task = asyncio.create_task(one())
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failures.append(failure)

    def close(self) -> None:
        for publisher in self._made:
            publisher.close()
