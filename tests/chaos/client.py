"""A small Pusher client, light enough that one process holds thousands, and its cousins."""

import asyncio
import hashlib
import hmac
import itertools
import json
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.chaos.history import History
from tests.chaos.websocket import CLOSE, PATIENCE, TEXT, Socket, dial, frame
from tests.e2e.sites import App

APP = App()

_SUCCEEDED = "pusher_internal:subscription_succeeded"
_names = itertools.count(1)


class Refused(Exception):
    """A subscription or a sign-in was refused; ``status`` is that of the frame."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Gone(Exception):
    """The connection ended while somebody waited for an answer; ``code`` is that of its end."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


def sign(text: str, app: App = APP) -> str:
    """An ``auth`` token, computed without a line of the product."""
    digest = hmac.new(app.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
    return f"{app.key}:{digest}"


def path_of(key: str = APP.key, client: str = "chaos") -> str:
    """The path of a connection; a client named ``js`` answers ``pusher:ping``."""
    return f"/app/{key}?protocol=7&client={client}&version=8.6.0"


class Pusher(Socket):
    """A Pusher client; everything it sees goes into the history.

    Args:
        history: where to; None for clients whose events are only counted.
        answers_pings: whether it answers ``pusher:ping``.
    """

    def __init__(
        self,
        history: History | None = None,
        name: str = "",
        *,
        answers_pings: bool = True,
        on_event: Callable[["Pusher", dict[str, Any]], None] | None = None,
    ) -> None:
        super().__init__()
        self.name = name or f"c{next(_names)}"
        self.history = history
        self.answers_pings = answers_pings
        self.on_event = on_event
        self.socket_id = ""
        self.errors: list[dict[str, Any]] = []
        self.received = 0
        self.present: dict[str, set[str]] = {}
        """The members of each presence channel, as far as this client was told."""
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._joining: dict[str, asyncio.Future[Any]] = {}
        self._waiters: list[tuple[str, str | None, asyncio.Future[dict[str, Any]]]] = []

    @classmethod
    async def open(
        cls,
        port: int,
        *,
        key: str = APP.key,
        client: str = "chaos",
        dialling: dict[str, Any] | None = None,
        patience: float = PATIENCE,
        **options: Any,
    ) -> "Pusher":
        """A client that was greeted.

        Raises:
            Gone, OSError: it was turned away.
        """
        made: Pusher = await dial(
            lambda: cls(**options),
            port,
            path_of(key, client),
            patience=patience,
            **(dialling or {}),
        )
        async with asyncio.timeout(patience):
            await made.greeted
        return made

    # ---- what comes -----------------------------------------------------------------

    def message(self, payload: bytes) -> None:
        message = json.loads(payload)
        event = message["event"]
        channel = message.get("channel")
        if event == "pusher:connection_established":
            self.socket_id = json.loads(message["data"])["socket_id"]
            self._note("opened")
            if not self.greeted.done():
                self.greeted.set_result(None)
        elif event == "pusher:ping":
            if self.answers_pings:
                self.send("pusher:pong")
        elif event == _SUCCEEDED:
            self._confirmed(channel, message.get("data"))
        elif event == "pusher:subscription_error":
            self._refused(channel, message)
        elif event.startswith("pusher_internal:member_"):
            self._member(event.removeprefix("pusher_internal:"), channel, message["data"])
        elif event == "pusher:error":
            self.errors.append({"at": time.monotonic(), **message["data"]})
        elif channel is not None:
            self._event(channel, message)
        if self.on_event is not None:
            self.on_event(self, message)
        if self._waiters:
            self._wake(event, channel, message)

    def _event(self, channel: str, message: dict[str, Any]) -> None:
        self.received += 1
        if self.history is None:
            return
        facts = event_facts(message)
        if facts is not None:
            self._note("received", channel=channel, **facts)

    def _member(self, kind: str, channel: str, data: str) -> None:
        user = json.loads(data)["user_id"]
        known = self.present.setdefault(channel, set())
        (known.add if kind == "member_added" else known.discard)(user)
        self._note(kind, channel=channel, user=user)

    def _confirmed(self, channel: str, data: str | None) -> None:
        content = json.loads(data) if data else {}
        members = content.get("presence", {}).get("ids") if content else None
        if members is not None:
            self.present[channel] = set(members)
        self._note("subscribed", channel=channel, members=members)
        waiting = self._joining.pop(channel, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(content)

    def _refused(self, channel: str, message: dict[str, Any]) -> None:
        data = message["data"]
        given = json.loads(data) if isinstance(data, str) else data
        waiting = self._joining.pop(channel, None)
        if waiting is not None and not waiting.done():
            waiting.set_exception(Refused(given["error"], given.get("status")))

    def _wake(self, event: str, channel: str | None, message: dict[str, Any]) -> None:
        for waiter in list(self._waiters):
            wanted, on, future = waiter
            if wanted == event and on in (None, channel):
                self._waiters.remove(waiter)
                if not future.done():
                    future.set_result(message)

    def ended(self) -> None:
        self._note("closed", code=self.close_code)
        sentence = f"{self.name} was closed with {self.close_code} {self.close_reason}"
        gone = Gone(sentence, self.close_code)
        for future in (*self._joining.values(), *(item[2] for item in self._waiters)):
            if not future.done():
                future.set_exception(gone)
                future.exception()  # whoever does not wait for it does not miss it
        if not self.greeted.done():
            self.greeted.set_exception(gone)
            self.greeted.exception()

    # ---- what goes ------------------------------------------------------------------

    def send(self, event: str, data: Any = None, **members: Any) -> None:
        """Send one message."""
        text = json.dumps({"event": event, "data": {} if data is None else data, **members})
        self.write(frame(TEXT, text.encode()))

    def ask(self, channel: str, user: str | None = None, auth: dict[str, Any] | None = None) -> Any:
        """Send a subscribe, signed where the channel wants it; a future of its answer."""
        data: dict[str, Any] = {"channel": channel}
        if auth is not None:
            data |= auth
        elif channel.startswith(("private-", "presence-")):
            text = f"{self.socket_id}:{channel}"
            if user is not None:
                data["channel_data"] = json.dumps({"user_id": user, "user_info": {"name": user}})
                text = f"{text}:{data['channel_data']}"
            data["auth"] = sign(text)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._joining[channel] = answer
        self._note("asked", channel=channel)
        self.send("pusher:subscribe", data)
        return answer

    async def subscribe(
        self,
        channel: str,
        user: str | None = None,
        auth: dict[str, Any] | None = None,
        patience: float = PATIENCE,
    ) -> Any:
        """Subscribe; return the data of the confirmation.

        Raises:
            Refused, Gone, TimeoutError: it did not work.
        """
        async with asyncio.timeout(patience):
            return await self.ask(channel, user, auth)

    def unsubscribe(self, channel: str) -> None:
        """Leave a channel; there is no answer."""
        self._note("unsubscribed", channel=channel)
        self.send("pusher:unsubscribe", {"channel": channel})

    async def sign_in(self, user: str, patience: float = PATIENCE) -> None:
        """Sign in.

        Raises:
            Refused: the server says no.
        """
        user_data = json.dumps({"id": user, "user_info": {"name": user}})
        auth = sign(f"{self.socket_id}::user::{user_data}")
        success = self.expect("pusher:signin_success")
        refusal = self.expect("pusher:error")
        self.send("pusher:signin", {"auth": auth, "user_data": user_data})
        done, _ = await asyncio.wait(
            [success, refusal], timeout=patience, return_when=asyncio.FIRST_COMPLETED
        )
        self._waiters = [item for item in self._waiters if item[2] not in (success, refusal)]
        if success in done:
            success.result()
        elif refusal in done:
            raise Refused(refusal.result()["data"]["message"])
        else:
            raise TimeoutError(f"{self.name} got no answer to its sign-in")

    def expect(self, event: str, on: str | None = None) -> "asyncio.Future[dict[str, Any]]":
        """A future of the next *event*; ask before what causes it."""
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiters.append((event, on, future))
        return future

    async def round_trip(self, patience: float = PATIENCE) -> float:
        """Seconds until the answer to a ping; everything sent before is then answered."""
        answer = self.expect("pusher:pong")
        started = time.monotonic()
        self.send("pusher:ping")
        async with asyncio.timeout(patience):
            await answer
        return time.monotonic() - started

    async def leave(self) -> None:
        """Close in order, and wait until the connection is gone."""
        self.write(frame(CLOSE, struct.pack("!H", 1000)))
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.shield(self.closed)
        self.transport.close()

    def _note(self, kind: str, **facts: Any) -> None:
        if self.history is not None:
            self.history.add(self.name, kind, **facts)


def event_facts(message: dict[str, Any]) -> dict[str, Any] | None:
    """What our publishers put into an event, and the id by which a repeat is known."""
    try:
        content = json.loads(message["data"])
        facts = {"publisher": content["p"], "number": content["n"], "sent": content["t"]}
    except (ValueError, TypeError, KeyError):
        return None
    mark = content.get("event_id")
    return {**facts, "id": mark} if mark is not None else facts


class Counter(Socket):
    """A subscriber for millions of events: takes the data of each and keeps nothing."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        super().__init__()
        self._take = take
        self.socket_id = ""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def message(self, payload: bytes) -> None:
        if payload.startswith(b'{"event":"n"'):
            # ...,"data":"PUBLISHER:NUMBER"} with whatever order of members
            start = payload.index(b'"data":"') + 8
            self._take(payload[start : payload.index(b'"', start)])
            return
        message = json.loads(payload)
        if message["event"] == "pusher:connection_established":
            self.socket_id = json.loads(message["data"])["socket_id"]
        elif message["event"] == _SUCCEEDED and not self.ready.done():
            self.ready.set_result(None)

    @classmethod
    async def open(cls, port: int, channel: str, take: Callable[[bytes], None]) -> "Counter":
        """A counter that is subscribed to a public *channel*."""
        made: Counter = await dial(lambda: cls(take), port, path_of())
        text = json.dumps({"event": "pusher:subscribe", "data": {"channel": channel}})
        made.write(frame(TEXT, text.encode()))
        async with asyncio.timeout(PATIENCE):
            await made.ready
        return made


class Drain(Pusher):
    """A member that reads and forgets, so that a busy channel costs the driver little."""

    def message(self, payload: bytes) -> None:
        if self.greeted.done() and not self._joining and not self._waiters:
            if payload.startswith(b'{"event":"pusher:ping"'):
                super().message(payload)
            return
        super().message(payload)
