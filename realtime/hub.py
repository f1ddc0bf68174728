"""Who in this process is subscribed to what, and the one way events reach them.

One hub per process.  It owns the only layer channel of the process, joins one layer group
per Pusher channel that has a subscriber here, receives each event once and hands it to all
of them.  It knows no models: what is remembered beyond the process is the ledger's.
"""

import asyncio
import logging
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, Final

from realtime import conf, layer, loops
from realtime.layer import Announcement, Envelope, PublishFailed
from realtime.protocol.connection import close_reason
from realtime.protocol.errors import Fatal, PleaseReconnect, Unauthorized
from realtime.protocol.messages import encode_error
from realtime.sockets import Socket

logger = logging.getLogger(__name__)

ChannelKey = tuple[str, str]
"""App id and channel name."""

BURST: Final = 64
"""Ours: events taken from the layer before the writers of the sockets get a turn."""

HELD_EVENTS: Final = 1_000
"""Ours: events held for a socket whose subscription is not confirmed yet."""

RENEWAL_SECONDS: Final = 3_600
"""Ours: far below the day after which layers forget a member of a group."""

_ECHO_SECONDS: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)


class LocalChannel:
    """The subscribers of one channel in this process."""

    __slots__ = ("added", "floors", "group", "held", "joined", "lock", "sockets", "versions")

    def __init__(self, group: str) -> None:
        self.group = group
        self.lock = asyncio.Lock()
        self.added = False
        """Whether the layer was asked to add us to the group."""
        self.joined = False
        """Whether we were added, and have heard ourselves through the group."""
        self.sockets: dict[str, Socket] = {}
        self.held: dict[str, tuple[Socket, list[Envelope]]] = {}
        """Sockets whose success frame is not out yet, and what they are to get after it."""
        self.versions: dict[str, int] = {}
        """The latest news delivered here about each member of a presence channel."""
        self.floors: dict[str, dict[str, int]] = {}
        """News a socket must not get, because the list it was given is newer."""

    @property
    def empty(self) -> bool:
        return not self.sockets and not self.held


class Hub:
    """The registry of one process; made by ``current()``."""

    def __init__(self) -> None:
        self._layer = layer.channel_layer()
        self._layer_channel = ""
        self._channels: dict[ChannelKey, LocalChannel] = {}
        self._connections: dict[str, dict[str, Socket]] = {}
        self._users: dict[tuple[str, str], dict[str, Socket]] = {}
        self._markers: dict[str, asyncio.Future[None]] = {}
        self._receiver: asyncio.Task[object] | None = None
        self._renewer: asyncio.Task[object] | None = None
        self._starting = asyncio.Lock()
        self.stopping = False
        """Whether new connections should go elsewhere."""
        self._deserted = asyncio.Event()

    async def start(self) -> None:
        """Take a channel of the layer and listen to it; once, however often it is called.

        Raises:
            PublishFailed: the layer does not answer.
        """
        if self._receiver is not None:
            return
        async with self._starting:
            if self._receiver is None:
                loops.settle(asyncio.get_running_loop())
                async with layer.answering():
                    self._layer_channel = str(await self._layer.new_channel())
                    await self._layer.group_add(layer.CONTROL_GROUP, self._layer_channel)
                self._receiver = loops.supervise(self._receive, "hub receiver")
                self._renewer = loops.supervise(self._renew, "hub renewer")

    async def stop(self) -> None:
        """Leave the layer.  Sockets are the business of ``close_all``."""
        if self._receiver is None:
            return
        tasks = [self._receiver, self._renewer]
        self._receiver = self._renewer = None
        for task in tasks:
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        for group in self._groups():
            await self._layer.group_discard(group, self._layer_channel)

    # ---- connections and users ------------------------------------------------------

    def admit(self, socket: Socket) -> None:
        """Count a new connection."""
        self._deserted.clear()
        self._connections.setdefault(socket.app_id, {})[socket.socket_id] = socket

    def dismiss(self, socket: Socket) -> None:
        """A connection is over; its channels were left before."""
        _remove(self._connections, socket.app_id, socket.socket_id)
        if not self._connections:
            self._deserted.set()

    def connections(self, app_id: str | None = None) -> int:
        """How many connections this process has, of one app or of all."""
        if app_id is not None:
            return len(self._connections.get(app_id, ()))
        return sum(len(sockets) for sockets in self._connections.values())

    def identify(self, user_id: str, socket: Socket) -> None:
        """*socket* belongs to a user from now on, for ``terminate``."""
        self._users.setdefault((socket.app_id, user_id), {})[socket.socket_id] = socket

    def forget(self, user_id: str, socket: Socket) -> None:
        """*socket* belongs to no user any more."""
        _remove(self._users, (socket.app_id, user_id), socket.socket_id)

    def terminate(self, app_id: str, user_id: str, *, members: bool) -> None:
        """Close the connections of a user here; see ``layer.publish_termination``."""
        sockets = dict(self._users.get((app_id, user_id), {}))
        if members:
            sockets |= self._users.get((app_id, _shown_as(user_id)), {})
        for socket in sockets.values():
            self._end(socket, Unauthorized())

    def show(self, user_id: str, socket: Socket) -> None:
        """*socket* shows a user in a presence channel, signed in or not."""
        self.identify(_shown_as(user_id), socket)

    def hide(self, user_id: str, socket: Socket) -> None:
        """The opposite of ``show``."""
        self.forget(_shown_as(user_id), socket)

    def close_all(self) -> None:
        """Send every client to another process, because this one stops."""
        self.stopping = True
        for socket in [*self._all_sockets()]:
            self._end(socket, PleaseReconnect())

    async def deserted(self) -> None:
        """Wait until the last connection is gone."""
        if self._connections:
            await self._deserted.wait()

    # ---- channels -------------------------------------------------------------------

    async def join(self, app_id: str, channel: str, socket: Socket) -> None:
        """Hold the events of *channel* for *socket* until ``release``.

        Raises:
            PublishFailed: the layer does not answer; *socket* was not added.
        """
        key = (app_id, channel)
        local = self._channels.get(key)
        if local is None:
            local = self._channels[key] = LocalChannel(layer.layer_group(app_id, channel))
        local.held[socket.socket_id] = (socket, [])
        if local.joined:
            return
        try:
            async with local.lock:
                if not local.joined:
                    await self._join_group(local)
        except BaseException:  # also when the consumer is cancelled while it waits
            self.leave(app_id, channel, socket)
            raise

    def release(
        self,
        app_id: str,
        channel: str,
        socket: Socket,
        versions: Mapping[str, int] | None = None,
    ) -> None:
        """Deliver what was held, and everything from now on.

        Args:
            versions: of the members in the list the client was just given.  News that is
                older may still be on its way here, and must not reach this socket.
        """
        local = self._channels[app_id, channel]
        _, held = local.held.pop(socket.socket_id)
        known = versions or {}
        floor = {
            user_id: version
            for user_id, version in known.items()
            if local.versions.get(user_id, 0) < version
        }
        if floor:
            local.floors[socket.socket_id] = floor
        local.sockets[socket.socket_id] = socket
        for envelope in held:
            news = envelope.announcement
            if news is None or news.version > known.get(news.user_id, 0):
                socket.push(envelope.text)

    def leave(self, app_id: str, channel: str, socket: Socket) -> None:
        """Deliver nothing more of *channel* to *socket*."""
        local = self._channels.get((app_id, channel))
        if local is None:
            return
        local.sockets.pop(socket.socket_id, None)
        local.held.pop(socket.socket_id, None)
        local.floors.pop(socket.socket_id, None)
        if local.empty:
            # Page changes come back within the linger, and then cost the layer nothing.
            asyncio.get_running_loop().call_later(
                conf.get().linger_seconds, self._part_soon, (app_id, channel)
            )

    def subscriptions(self, app_id: str, channel: str) -> int:
        """How many connections of this process are subscribed."""
        local = self._channels.get((app_id, channel))
        return 0 if local is None else len(local.sockets) + len(local.held)

    def deliver(self, envelope: Envelope) -> None:
        """Hand one event to every local subscriber.

        Not a coroutine on purpose: no subscriber can delay another, and nobody can join or
        leave while the loop runs.
        """
        local = self._channels.get((envelope.app_id, envelope.channel))
        if local is None:
            return
        if envelope.announcement is not None and not self._is_news(local, envelope):
            return
        text, except_socket_id = envelope.text, envelope.except_socket_id
        for socket_id, socket in local.sockets.items():
            if socket_id != except_socket_id:
                socket.push(text)
        for socket_id, (socket, held) in local.held.items():
            if socket_id != except_socket_id:
                held.append(envelope)
                if len(held) > HELD_EVENTS:
                    socket.close(4100, "Over capacity")

    # ---- inside ---------------------------------------------------------------------

    def _is_news(self, local: LocalChannel, envelope: Envelope) -> bool:
        """Whether to deliver an announcement to everybody; some sockets may be served apart."""
        news = envelope.announcement
        if news is None or news.version <= local.versions.get(news.user_id, 0):
            return False
        local.versions[news.user_id] = news.version
        if not local.floors:
            return True
        self._deliver_above_floors(local, envelope, news)
        return False

    def _deliver_above_floors(
        self, local: LocalChannel, envelope: Envelope, news: Announcement
    ) -> None:
        for socket_id, socket in local.sockets.items():
            floor = local.floors.get(socket_id)
            stale = floor is not None and news.version <= floor.get(news.user_id, 0)
            if floor is not None and news.version >= floor.get(news.user_id, 0):
                floor.pop(news.user_id, None)
                if not floor:
                    del local.floors[socket_id]
            if not stale and socket_id != envelope.except_socket_id:
                socket.push(envelope.text)
        for socket_id, (_, held) in local.held.items():
            if socket_id != envelope.except_socket_id:
                held.append(envelope)

    async def _join_group(self, local: LocalChannel) -> None:
        """Join the layer group, and wait until something sent to it comes back.

        Redis may act on SUBSCRIBE a moment after the layer says it is done; an event sent
        in that moment by another process would be lost.
        """
        marker = uuid.uuid4().hex
        heard = self._markers[marker] = asyncio.get_running_loop().create_future()
        try:
            local.added = True
            async with layer.answering():
                await self._layer.group_add(local.group, self._layer_channel)
            for seconds in _ECHO_SECONDS:
                await layer.send(local.group, {"type": layer.MARKER, "marker": marker})
                await asyncio.wait([heard], timeout=seconds)
                if heard.done():
                    local.joined = True
                    return
            raise PublishFailed("the channel layer does not echo")
        finally:
            del self._markers[marker]

    def _part_soon(self, key: ChannelKey) -> None:
        local = self._channels.get(key)
        if local is not None and local.empty and not local.lock.locked():
            loops.spawn(self._part(key, local), "hub part")

    async def _part(self, key: ChannelKey, local: LocalChannel) -> None:
        async with local.lock:
            if not local.empty:
                return
            if local.added:
                local.added = local.joined = False
                await self._layer.group_discard(local.group, self._layer_channel)
            if local.empty and self._channels.get(key) is local:
                del self._channels[key]

    async def _receive(self) -> None:
        """Take what the layer has, a burst at a time."""
        taken = 0
        while True:
            message = await self._layer.receive(self._layer_channel)
            self._dispatch(message)
            taken += 1
            if taken % BURST == 0:
                # receive() does not yield while messages are waiting; without a pause no
                # writer would run, and healthy sockets would look slow.
                await asyncio.sleep(0)

    async def _renew(self) -> None:
        """Join every group again, long before the layer forgets that we are in it.

        The queue layer and the in-memory layer forget members after ``group_expiry``, by
        default a day; joining twice does no harm on any layer.
        """
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            for group in self._groups():
                async with layer.answering():
                    await self._layer.group_add(group, self._layer_channel)

    def _groups(self) -> list[str]:
        joined = [local.group for local in self._channels.values() if local.joined]
        return [*joined, layer.CONTROL_GROUP]

    def _dispatch(self, message: Mapping[str, Any]) -> None:
        try:
            match message["type"]:
                case layer.EVENT:
                    self.deliver(Envelope.of(message))
                case layer.MARKER:
                    self._echo(message["marker"])
                case layer.TERMINATE:
                    self.terminate(
                        message["app"], message["user"], members=bool(message["members"])
                    )
                case unknown:
                    logger.warning("unknown message type %.60r on the channel layer", unknown)
        except (KeyError, TypeError, ValueError, IndexError):
            logger.warning("malformed message on the channel layer", exc_info=True)

    def _echo(self, marker: str) -> None:
        heard = self._markers.get(marker)
        if heard is not None and not heard.done():
            heard.set_result(None)

    def _end(self, socket: Socket, error: Fatal) -> None:
        socket.push(encode_error(error))
        socket.close(error.code, close_reason(error))

    def _all_sockets(self) -> Iterator[Socket]:
        for sockets in self._connections.values():
            yield from sockets.values()


def _shown_as(user_id: str) -> str:
    """A key beside the signed-in users; NUL is in no user id."""
    return f"\0{user_id}"


def _remove(index: dict[Any, dict[str, Socket]], key: object, socket_id: str) -> None:
    sockets = index.get(key)
    if sockets is not None:
        sockets.pop(socket_id, None)
        if not sockets:
            del index[key]


_hubs: loops.PerLoop[Hub] = loops.PerLoop(Hub)
current = _hubs.current
peek = _hubs.peek
