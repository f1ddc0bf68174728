"""Clients of the HTTP transports that exist only in memory."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest

from realtime import loops
from realtime.fallback import registry
from tests.conftest import KEY, PATIENCE, signed, until

QUERY = "protocol=7&client=js&version=8.6.0&t=1646658213555&n=1"


class Request:
    """One HTTP request, from its start to its end."""

    def __init__(
        self,
        application: Any,
        path: str,
        *,
        method: str = "POST",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        query: str = QUERY,
        reads: bool = True,
        whole: bool = True,
        **scope: Any,
    ) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self.text = ""
        self._read = 0
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": not whole})
        self._changed = asyncio.Event()
        self._reads = asyncio.Event()
        if reads:
            self._reads.set()
        given = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        full = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(b"host", b"testserver"), *given],
            "scheme": "http",
            **scope,
        }
        self.task = asyncio.create_task(application(full, self._incoming.get, self._send))
        self.task.add_done_callback(lambda _: self._changed.set())

    async def _send(self, message: dict[str, Any]) -> None:
        await self._reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.text += message["body"].decode()
            self.complete = not message["more_body"]
        self._changed.set()

    async def line(self) -> str:
        """The next line of the body."""
        async with asyncio.timeout(PATIENCE):
            while (end := self.text.find("\n", self._read)) < 0:
                assert not self.task.done(), "the response has ended"
                self._changed.clear()
                await self._changed.wait()
        line, self._read = self.text[self._read : end], end + 1
        return line

    async def messages(self) -> list[dict[str, Any]]:
        """The messages of the next line, parsed."""
        line = await self.line()
        assert line[0] == "a", line
        return [json.loads(text) for text in json.loads(line[1:])]

    async def event(self) -> tuple[str, Any]:
        """Name and decoded data of the one message of the next line."""
        [message] = await self.messages()
        data = message.get("data")
        return message["event"], json.loads(data) if isinstance(data, str) else data

    async def ended(self) -> str:
        """The rest of the body, once the response has ended."""
        async with asyncio.timeout(PATIENCE):
            await self.task
        assert self.complete
        return self.text[self._read :]

    def go_away(self) -> None:
        """Break the request off, as a browser does."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    def read(self) -> None:
        """Read again."""
        self._reads.set()


class Browser:
    """One virtual WebSocket, seen by its client."""

    def __init__(self, application: Any, session: str, **scope: Any) -> None:
        self._application = application
        self._scope = scope
        self.path = f"/pusher/app/{KEY}/7/{session}"
        self.requests: list[Request] = []
        self.socket_id = ""

    def request(self, kind: str, **options: Any) -> Request:
        """Start a request."""
        request = Request(self._application, f"{self.path}/{kind}", **{**self._scope, **options})
        self.requests.append(request)
        return request

    async def open(self, kind: str = "xhr_streaming") -> Request:
        """Open it and read the greeting."""
        request = self.request(kind)
        assert await request.line() == "o"
        event, data = await request.event()
        assert event == "pusher:connection_established"
        self.socket_id = data["socket_id"]
        return request

    async def send(self, *texts: str, **options: Any) -> int:
        """Send messages; return the status."""
        request = self.request("xhr_send", body=json.dumps(texts).encode(), query="", **options)
        await request.ended()
        return request.status

    async def say(self, event: str, data: Any = None, **more: Any) -> None:
        """Send one message."""
        message = json.dumps({"event": event, "data": data or {}, **more})
        assert await self.send(message) == 204

    async def ask(self, channel: str, member: dict[str, Any] | None = None) -> None:
        """Subscribe, signed where the channel wants it; do not wait for the answer."""
        data: dict[str, Any] = {"channel": channel}
        if channel.startswith(("private-", "presence-")):
            text = f"{self.socket_id}:{channel}"
            if member is not None:
                data["channel_data"] = json.dumps(member)
                text = f"{text}:{data['channel_data']}"
            data["auth"] = signed(text)
        await self.say("pusher:subscribe", data)

    async def poll(self) -> list[dict[str, Any]]:
        """The messages of one poll."""
        request = self.request("xhr")
        await request.ended()
        assert request.status == 200
        return await request.messages()


@pytest.fixture
async def new_browser(process: None, application: Any) -> AsyncIterator[Callable[..., Browser]]:
    """Makes clients that have not connected yet; they leave with the test."""
    made: list[Browser] = []
    numbers = itertools.count()

    def make(site: Any = None, *, session: str | None = None, **scope: Any) -> Browser:
        name = f"sess{next(numbers):04}" if session is None else session
        made.append(Browser(site or application, name, **scope))
        return made[-1]

    yield make
    for request in (request for browser in made for request in browser.requests):
        request.read()
        request.go_away()
        with suppress(asyncio.CancelledError):
            await request.task
    here = registry.current()
    for socket in [*here._sockets.values()]:
        socket.end()
    await until(lambda: not any(task.get_name() == "fallback" for task in loops._tasks))
