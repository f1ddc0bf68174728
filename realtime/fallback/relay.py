"""Requests of one virtual WebSocket that reach different processes.

The process that has it, its owner, is in a layer group of that name.  Messages go there.  A
receive request asks there whether anybody answers, and is then fed through the layer, from one
process to the other: the next lines leave when those before have arrived, so no more than one
lot is ever under way.

An owner that answers too late counts as none, and the client is a new one elsewhere.  The new
owner says so in the group, and the former one ends its virtual WebSocket.
"""

import asyncio
import hashlib
import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from realtime import layer, loops, metrics
from realtime.fallback import framing
from realtime.fallback.reception import HEARTBEAT_SECONDS, Reception
from realtime.fallback.virtual import Name, VirtualWebSocket
from realtime.hub import DRAIN_PER_SECOND, Hub
from realtime.layer import PublishFailed
from realtime.protocol.connection import close_reason
from realtime.protocol.errors import OverCapacity, PleaseReconnect
from realtime.protocol.messages import encode_error

logger = logging.getLogger(__name__)

ANSWER_SECONDS: Final = 0.5
"""Ours: what a new client waits longer at most, and an owner has to say that it is there."""

ARRIVAL_SECONDS: Final = 15
"""Ours: how long a process may take to pass lines on before it counts as gone."""

SILENCE_SECONDS: Final = HEARTBEAT_SECONDS + 10
"""Ours: an owner that sent not even a heartbeat is gone."""


class Remote:
    """A receive request here, of a virtual WebSocket that another process has.

    Like ``Reception`` for whoever writes the response.
    """

    def __init__(self, *, streams: bool, forget: Callable[[], object]) -> None:
        self._owner = ""
        self._streams = streams
        self._forget = forget
        self._lots: asyncio.Queue[str] = asyncio.Queue()
        """One at most, and perhaps the end."""
        self._arrived = False
        self.id = uuid.uuid4().hex
        self.answered = asyncio.Event()
        self.over = False
        """Whether the owner has nothing more to hear or to say."""

    def answer(self, owner: str) -> None:
        """There is an owner, in that layer group."""
        self._owner = owner
        self.answered.set()

    def put(self, lines: str) -> None:
        """The owner sent *lines*; nothing where there are no more."""
        self.over = self.over or not (lines and self._streams)
        self._lots.put_nowait(lines)

    def send_elsewhere(self) -> None:
        """Have the client connect again, with another process."""
        if not self.over:
            error = PleaseReconnect()
            said = framing.encode_messages([encode_error(error)])
            self._lots.put_nowait(said + framing.encode_close(error.code, close_reason(error)))
            self.end(broken_off=True)

    async def take(self) -> str:
        """The next lines; empty once there are none any more, or the owner is not heard."""
        try:
            if self._arrived and not self.over:
                await self._tell("more")
            async with asyncio.timeout(SILENCE_SECONDS):
                lines = await self._lots.get()
        except (PublishFailed, TimeoutError):
            return ""
        self._arrived = True
        return lines

    async def _tell(self, word: str) -> None:
        await layer.send(self._owner, _message(self._owner, word, request=self.id))

    def end(self, *, broken_off: bool) -> None:
        """The request has ended; *broken_off* by its client, or in an orderly way."""
        self._forget()
        if self.answered.is_set() and not self.over:
            self.put("")
            loops.spawn(self._part(broken_off=broken_off), "fallback part")

    async def _part(self, *, broken_off: bool) -> None:
        with suppress(PublishFailed):
            await self._tell("gone" if broken_off else "done")


class Relay:
    """What one process tells the others of its virtual WebSockets, and hears of theirs."""

    def __init__(self, local_hub: Hub) -> None:
        self._hub = local_hub
        self._group = f"realtime.relay.{uuid.uuid4().hex}"
        self._listening = False
        self._lock = asyncio.Lock()
        self._remotes: dict[str, Remote] = {}
        self._fed: dict[str, tuple[Reception, asyncio.Event]] = {}
        """Receive requests elsewhere, and whether what was sent there has arrived."""

    # ---- at the owner ---------------------------------------------------------------

    async def own(self, name: Name, socket: VirtualWebSocket) -> None:
        """Let other processes find *socket*, and no other of that name.

        Raises:
            OverCapacity: the layer does not answer.
        """
        try:
            await self._listen()
            group = group_of(name)
            await self._hub.listen(group, partial(self._on_request, socket))
            await layer.send(group, _message(group, "own", owner=self._group))
        except PublishFailed as error:
            logger.error("a connection over HTTP was turned away: %s", error)
            metrics.count("over_capacity", reason="layer")
            raise OverCapacity from None

    async def disown(self, name: Name) -> None:
        """It is over."""
        try:
            await self._hub.unlisten(group_of(name))
        except PublishFailed as error:
            logger.warning("a group of the channel layer could not be left: %s", error)

    def _on_request(self, socket: VirtualWebSocket, message: Mapping[str, Any]) -> None:
        match message["word"]:
            case "own":
                if message["owner"] != self._group:
                    socket.end()
            case "send":
                if message["texts"]:
                    self._put(socket, message["texts"])
                else:
                    socket.ping()
            case "receive":
                reception = socket.attach(streams=bool(message["streams"]))
                feeding = self._feed(reception, message)
                loops.spawn(feeding, "fallback feed")

    def _put(self, socket: VirtualWebSocket, texts: Sequence[str]) -> None:
        """Pass messages on; whoever sends too fast cannot be made to wait from here."""
        if not socket.put(texts) and not socket.over:
            metrics.count("over_capacity", reason="flood")
            socket.refuse(OverCapacity())

    async def _feed(self, reception: Reception, message: Mapping[str, Any]) -> None:
        request, group, streams = message["request"], message["to"], message["streams"]
        arrived = asyncio.Event()
        self._fed[request] = (reception, arrived)
        end = _message(group, "lines", request=request, lines="")
        lost = True
        try:
            await layer.send(group, _message(group, "mine", request=request, owner=self._group))
            while lines := await reception.take():
                arrived.clear()
                await layer.send(group, _message(group, "lines", request=request, lines=lines))
                if not streams:
                    break
                async with asyncio.timeout(ARRIVAL_SECONDS):
                    await arrived.wait()
            else:
                await layer.send(group, end)
            lost = False
        except TimeoutError:
            logger.warning("a receive request in another process has come to a stop")
            with suppress(PublishFailed):
                await layer.send(group, end)
        except PublishFailed as error:
            logger.warning("a receive request in another process is not reached: %s", error)
        finally:
            del self._fed[request]
            reception.end(broken_off=lost)

    # ---- at the process that was asked ----------------------------------------------

    async def send(self, name: Name, texts: Sequence[str]) -> None:
        """Pass messages of a client to the owner, if there is one.

        Raises:
            PublishFailed: the layer did not take them.
        """
        group = group_of(name)
        await layer.send(group, _message(group, "send", texts=[*texts]))

    async def find(self, name: Name, *, streams: bool) -> Remote | None:
        """Attach a receive request to the owner, if there is one.

        Raises:
            PublishFailed: the layer does not answer, so nobody knows.
        """
        await self._listen()
        remote = Remote(streams=streams, forget=lambda: self._remotes.pop(remote.id, None))
        self._remotes[remote.id] = remote
        group = group_of(name)
        question = _message(group, "receive", request=remote.id, to=self._group, streams=streams)
        try:
            await layer.send(group, question)
            async with asyncio.timeout(ANSWER_SECONDS):
                await remote.answered.wait()
        except TimeoutError:
            del self._remotes[remote.id]
            return None
        except BaseException:  # also when the server cancels the request
            remote.end(broken_off=True)
            raise
        return remote

    # ---- between the two ------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """Whether nobody should be answered here who has to wait."""
        return self._hub.stopping

    async def drain(self, seconds: float) -> None:
        """Send those elsewhere whose virtual WebSocket another process has.

        Args:
            seconds: see ``Hub.drain``.
        """
        remotes = [*self._remotes.values()]
        for remote in remotes:
            remote.send_elsewhere()
            await asyncio.sleep(min(1 / DRAIN_PER_SECOND, seconds / len(remotes)))

    async def _listen(self) -> None:
        async with self._lock:
            if not self._listening:
                await self._hub.listen(self._group, self._on_word)
                self._listening = True

    def _on_word(self, message: Mapping[str, Any]) -> None:
        """What the other side says about a request; one that has ended is unknown."""
        request, word = message["request"], message["word"]
        if remote := self._remotes.get(request):
            if word == "mine":
                remote.answer(message["owner"])
            else:
                remote.put(message["lines"])
        elif fed := self._fed.get(request):
            reception, arrived = fed
            if word != "more":
                reception.end(broken_off=word == "gone")
            arrived.set()


def group_of(name: Name) -> str:
    """The layer group of a virtual WebSocket: fewer than 100 letters, digits and dots."""
    parts = "\0".join((name.app_key, name.server, name.session, name.origin or ""))
    return f"realtime.virtual.{hashlib.blake2b(parts.encode(), digest_size=20).hexdigest()}"


def _message(group: str, word: str, **more: object) -> dict[str, Any]:
    return {"type": layer.RELAY, "group": group, "word": word, **more}
