"""The virtual WebSockets of this process, and the way to those of others."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from realtime import hub, layer, lifespan, loops, metrics
from realtime.consumer import PusherConsumer
from realtime.fallback.reception import Reception
from realtime.fallback.relay import Relay, Remote
from realtime.fallback.virtual import Name, VirtualWebSocket
from realtime.layer import PublishFailed

_serve: Final[Any] = PusherConsumer.as_asgi()  # Any: ASGI


class Registry:
    """Finds the virtual WebSocket that a request belongs to; made by ``current()``.

    Args:
        relay: to other processes; ``None`` where the channel layer ends at this one.
    """

    def __init__(self, relay: Relay | None) -> None:
        self._relay = relay
        self._sockets: dict[Name, VirtualWebSocket] = {}

    def __len__(self) -> int:
        return len(self._sockets)

    async def receive(
        self, name: Name, scope: Any, *, streams: bool, abort: Callable[[], object]
    ) -> Reception | Remote:
        """Attach a receive request; a name that nobody knows is a new virtual WebSocket."""
        socket = self._sockets.get(name)
        if socket is None and self._relay is not None and not self._relay.stopping:
            try:
                remote = await self._relay.find(name, streams=streams)
            except PublishFailed:
                remote = None  # a new one fares no better, and says so to its client
            if remote is not None:
                return remote
            socket = self._sockets.get(name)  # opened while we asked
        if socket is None:
            socket = self._open(name, scope)
            metrics.count("fallbacks_opened", transport="xhr_streaming" if streams else "xhr")
        return socket.attach(streams=streams, abort=abort)

    async def send(self, name: Name, texts: Sequence[str]) -> bool:
        """Pass messages of a client on; whether its virtual WebSocket may be there.

        Raises:
            PublishFailed: it may be in another process, and the layer does not answer.
            TooManyWait: it is here, and reads too slowly for what it was sent.
        """
        socket = self._sockets.get(name)
        if socket is not None:
            if texts:
                return await socket.offer(texts)
            socket.ping()
            return True
        if self._relay is None:
            return False
        await self._relay.send(name, texts)
        return True

    def _open(self, name: Name, scope: Any) -> VirtualWebSocket:
        relay = self._relay
        socket = VirtualWebSocket(
            lambda: self._sockets.pop(name, None),
            None if relay is None else lambda: relay.own(name, socket),
        )
        self._sockets[name] = socket
        loops.spawn(self._run(name, socket, scope), "fallback")
        return socket

    async def _run(self, name: Name, socket: VirtualWebSocket, scope: Any) -> None:
        asked = {**scope, "path": f"/app/{name.app_key}", "root_path": ""}
        try:
            await socket.serve(_serve, asked)
        finally:
            if self._relay is not None:
                await self._relay.disown(name)


def _make() -> Registry:
    if layer.is_in_memory():
        return Registry(None)
    relay = Relay(hub.current())
    lifespan.at_stop(relay.drain)
    return Registry(relay)


_registries: loops.PerLoop[Registry] = loops.PerLoop(_make)
current = _registries.current
