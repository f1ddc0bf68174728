"""Who in this process is subscribed to what, and the one way events reach them.

One hub per process.  It joins one layer group per Pusher channel that has a subscriber
here, gets each event once and hands it to all of them.  It knows no models: what is
remembered beyond the process is the ledger's.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, KeysView, Mapping
from functools import partial
from typing import Any, Final

from realtime import conf, layer, loops, metrics
from realtime.bus import Bus
from realtime.last_events import Kept
from realtime.layer import Envelope, PublishFailed
from realtime.local_channel import LocalChannel
from realtime.logs import OncePerSecond
from realtime.protocol.attendance import Announcement, View
from realtime.protocol.errors import PleaseReconnect, Unauthorized
from realtime.sockets import Socket, outlet

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

ChannelKey = tuple[str, str]
"""App id and channel name."""

DRAIN_PER_SECOND: Final = 100
"""Ours: clients another process can let in within a second beside its own work."""


class Hub:
    """The registry of one process; made by ``current()``."""

    def __init__(self) -> None:
        self._bus = Bus(self._dispatch)
        self._channels: dict[ChannelKey, LocalChannel] = {}
        self._connections: dict[str, dict[str, Socket]] = {}
        self._users: dict[tuple[str, str], dict[str, Socket]] = {}
        self._readers: dict[str, Callable[[Mapping[str, Any]], None]] = {}
        self.stopping = False
        """Whether new connections should go elsewhere."""
        self.delivered: Counter[str] = Counter()
        """By app id: copies of events that went to sockets of this process."""
        self._deserted = asyncio.Event()
        self._unauthorized: dict[str, dict[str, Socket]] = {}

    async def start(self) -> None:
        """Listen to the channel layer; once, however often it is called.

        Raises:
            PublishFailed: the layer does not answer.
        """
        loops.settle(asyncio.get_running_loop())
        await self._bus.start()

    async def stop(self) -> None:
        """Leave the layer.  Sockets are the business of ``drain``."""
        await self._bus.stop()

    async def listen(self, group: str, reader: Callable[[Mapping[str, Any]], None]) -> None:
        """Give *reader* the messages of a layer group that is no channel; it must not wait.

        Raises:
            PublishFailed: the layer does not answer.
        """
        await self.start()
        self._readers[group] = reader
        await self._bus.join(group)

    async def unlisten(self, group: str) -> None:
        """The opposite of ``listen``, also of one that failed.

        Raises:
            PublishFailed: the layer does not answer; what still arrives is for nobody here.
        """
        self._readers.pop(group, None)
        await self._bus.part(group)

    @property
    def listening(self) -> bool:
        """Whether events of other processes arrive."""
        return self._bus.listening

    @property
    def recoveries(self) -> int:
        """How often this process was deaf, and is no more."""
        return self._bus.recoveries

    @property
    def round_trip_seconds(self) -> float:
        """How long the layer last took to give us our own marker back."""
        return self._bus.round_trip_seconds

    # ---- connections and users ------------------------------------------------------

    def admit(self, socket: Socket, *, authorized: bool = True) -> None:
        """Count a new connection; against the quota of its app only once *authorized*."""
        self._deserted.clear()
        self._connections.setdefault(socket.app_id, {})[socket.socket_id] = socket
        if not authorized:
            self._unauthorized.setdefault(socket.app_id, {})[socket.socket_id] = socket

    def authorize(self, socket: Socket) -> None:
        """*socket* counts from now on."""
        _remove(self._unauthorized, socket.app_id, socket.socket_id)

    def dismiss(self, socket: Socket) -> None:
        """A connection is over; its channels were left before."""
        self.authorize(socket)
        _remove(self._connections, socket.app_id, socket.socket_id)
        if not self._connections:
            self._deserted.set()

    def connections(self, app_id: str | None = None) -> int:
        """How many connections this process has: all, or those that count for one app."""
        if app_id is not None:
            waiting = self._unauthorized.get(app_id, ())
            return len(self._connections.get(app_id, ())) - len(waiting)
        return sum(len(sockets) for sockets in self._connections.values())

    def connections_by_app(self) -> dict[str, int]:
        """How many connections this process has of each app that has any."""
        return {app_id: len(sockets) for app_id, sockets in self._connections.items()}

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
            socket.end(Unauthorized())

    def show(self, user_id: str, socket: Socket) -> None:
        """*socket* shows a user in a presence channel, signed in or not."""
        self.identify(_shown_as(user_id), socket)

    def hide(self, user_id: str, socket: Socket) -> None:
        """The opposite of ``show``."""
        self.forget(_shown_as(user_id), socket)

    def identities(self) -> Iterator[tuple[str, str, str, bool]]:
        """App id, socket id and user id of everybody shown, and whether that is a sign-in."""
        for (app_id, key), sockets in self._users.items():
            user_id = key.removeprefix(_shown_as(""))
            for socket_id in sockets:
                yield app_id, socket_id, user_id, user_id == key

    def send_elsewhere(self, app_id: str, socket_id: str) -> None:
        """Have a client connect and subscribe again, with this process or another."""
        socket = self._connections.get(app_id, {}).get(socket_id)
        if socket is not None:
            socket.end(PleaseReconnect())

    async def drain(self, seconds: float) -> None:
        """Send every client to another process, because this one stops.

        Not all at once: whom they go to has to let them in, one by one.

        Args:
            seconds: over which many clients are spread; few are gone at once.
        """
        self.stopping = True
        sockets = [*self._all_sockets()]
        per_second = max(DRAIN_PER_SECOND, len(sockets) / seconds)
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number, socket in enumerate(sockets):
            ahead = started + number / per_second - loop.time()
            if ahead > 0:
                await asyncio.sleep(ahead)
            socket.end(PleaseReconnect())

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
        local.held.add(socket)
        if local.joined:
            return
        failures = local.failures
        try:
            async with local.lock:
                if local.failures != failures:  # of the one before us: it would be the same
                    raise PublishFailed("the channel layer does not answer")
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
        listed: View | None = None,
        kept: Kept | None = None,
    ) -> None:
        """Deliver what was held, and everything from now on.

        Args:
            listed: the members in the list the client was just given.  News that is older
                may still be on its way here, and must not reach this socket.
            kept: what the cache has for the subscribers of this channel, given first.
        """
        local = self._channels.get((app_id, channel))
        if local is not None and not socket.over:  # it may have missed too much, and be sent away
            self.delivered[app_id] += local.release(socket, listed, kept)

    def leave(self, app_id: str, channel: str, socket: Socket) -> None:
        """Deliver nothing more of *channel* to *socket*."""
        local = self._channels.get((app_id, channel))
        if local is None:
            return
        local.remove(socket)
        if local.empty:
            # Page changes come back within the linger, and then cost the layer nothing.
            asyncio.get_running_loop().call_later(
                conf.get().linger_seconds, self._part_soon, (app_id, channel)
            )

    def subscriptions(self, app_id: str, channel: str) -> int:
        """How many connections of this process are subscribed."""
        local = self._channels.get((app_id, channel))
        return 0 if local is None else len(local.sockets) + len(local.held)

    def subscribers(self) -> Iterator[tuple[str, str, KeysView[str], KeysView[str]]]:
        """App id and channel, its sockets, and those whose subscription is not confirmed."""
        for (app_id, channel), local in self._channels.items():
            yield app_id, channel, local.sockets.keys(), local.held.keys()

    def misses(self, app_id: str, channel: str, news: Announcement) -> bool:
        """Whether a local subscriber has not heard *news* about a member."""
        local = self._channels.get((app_id, channel))
        return local is not None and local.misses(news)

    def deliver(self, envelope: Envelope) -> None:
        """Hand one event to every local subscriber.

        Not a coroutine on purpose: no subscriber can delay another, and nobody can join or
        leave while the loop runs.
        """
        local = self._channels.get((envelope.app_id, envelope.channel))
        if local is not None:
            self.delivered[envelope.app_id] += local.deliver(envelope)

    # ---- inside ---------------------------------------------------------------------

    async def _join_group(self, local: LocalChannel) -> None:
        try:
            await self._bus.join(local.group)
        except PublishFailed:
            local.failures += 1
            raise
        local.joined = True

    def _part_soon(self, key: ChannelKey) -> None:
        local = self._channels.get(key)
        if local is not None and local.empty and not local.lock.locked():
            loops.spawn(self._part(key, local), "hub part")

    async def _part(self, key: ChannelKey, local: LocalChannel) -> None:
        async with local.lock:
            if not local.empty:
                return
            local.joined = False
            try:
                await self._bus.part(local.group)
            except PublishFailed as error:
                logger.warning("a group of the channel layer could not be left: %s", error)
            if local.empty and self._channels.get(key) is local:
                del self._channels[key]

    def _dispatch(self, message: Mapping[str, Any]) -> None:
        try:
            match message["type"]:
                case layer.EVENT:
                    self.deliver(Envelope.of(message))
                    sent_at = message.get(layer.SENT_AT)
                    if isinstance(sent_at, float):  # a process of an older version sends none
                        outlet().add(partial(_observe_fan_out, sent_at))
                case layer.EVENTS:
                    for event in message["events"]:
                        self._dispatch({**event, "type": layer.EVENT})
                case layer.TERMINATE:
                    self.terminate(
                        message["app"], message["user"], members=bool(message["members"])
                    )
                case layer.RELAY:
                    if reader := self._readers.get(message["group"]):
                        reader(message)
                case unknown:
                    metrics.count("layer_messages_unreadable")
                    logger.warning("unknown message type %.60r on the channel layer", unknown)
        except (KeyError, TypeError, ValueError, IndexError):
            metrics.count("layer_messages_unreadable")
            logger.warning("malformed message on the channel layer", exc_info=True)

    def _all_sockets(self) -> Iterator[Socket]:
        for sockets in self._connections.values():
            yield from sockets.values()


def _observe_fan_out(sent_at: float) -> None:
    # Clocks of two machines differ: less than no time has passed then.
    metrics.FAN_OUT.observe(max(0.0, time.time() - sent_at))


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
