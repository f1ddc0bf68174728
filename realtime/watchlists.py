"""Who of those a signed-in user watches is online, told when it changes.

A process that has watchers listens to the sign-ins of the app, which travel as news of a channel
that nobody can subscribe to.  Users who are back within a few seconds were never away.

Source: Pusher docs, "Watchlist events".
"""

import asyncio
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from channels.db import database_sync_to_async

from realtime import conf, hub, loops
from realtime.models import Member
from realtime.protocol.frames import Frame
from realtime.protocol.messages import encode_watchlist_events
from realtime.sockets import Socket

AWAY_SECONDS: Final = 3
"""Pusher docs, "Webhooks": how long a user may be gone without having left."""


@dataclass(slots=True)
class _Watched:
    """One user as the watchers of this process see it."""

    watchers: dict[str, Socket] = field(default_factory=dict)
    version: int = 0
    online: bool = False
    leaving: asyncio.TimerHandle | None = None


class Watchlists:
    """The watchers of one process; made by ``current()``."""

    def __init__(self) -> None:
        self._watched: dict[tuple[str, str], _Watched] = {}
        self._lists: dict[str, tuple[str, ...]] = {}
        """Whom each socket watches."""
        self._unread: set[str] = set()
        """Sockets that have not been told yet how things are."""
        self._ears: dict[str, _Ear] = {}

    async def watch(self, app_id: str, user_ids: tuple[str, ...], socket: Socket) -> None:
        """Tell *socket* who of *user_ids* is online, and of every change; replaces its list.

        Raises:
            PublishFailed: the layer does not answer.
            DatabaseError, InterfaceError, TimeoutError: the rows cannot be read.
        """
        self.unwatch(socket)
        if not user_ids:
            return
        self._lists[socket.socket_id] = user_ids
        self._unread.add(socket.socket_id)
        for user_id in user_ids:
            watched = self._watched.setdefault((app_id, user_id), _Watched())
            watched.watchers[socket.socket_id] = socket
        if app_id not in self._ears:
            self._ears[app_id] = _Ear(self, app_id)
        await self._ears[app_id].listen()
        # Only now: what changes from here on is heard.
        async with asyncio.timeout(conf.get().join_seconds):
            rows = await database_sync_to_async(_rows, thread_sensitive=False)(app_id, user_ids)
        for user_id, version, present in rows:
            self.hear(app_id, user_id, version, online=present)
        if self._lists.get(socket.socket_id) is user_ids:
            self._unread.discard(socket.socket_id)
            online = [one for one in user_ids if self._watched[app_id, one].online]
            offline = [one for one in user_ids if not self._watched[app_id, one].online]
            _push([socket], encode_watchlist_events(online, offline))

    def unwatch(self, socket: Socket) -> None:
        """Tell *socket* nothing more."""
        self._unread.discard(socket.socket_id)
        for user_id in self._lists.pop(socket.socket_id, ()):
            watched = self._watched[socket.app_id, user_id]
            del watched.watchers[socket.socket_id]
            if not watched.watchers:
                if watched.leaving is not None:
                    watched.leaving.cancel()
                del self._watched[socket.app_id, user_id]
        if socket.app_id in self._ears and not any(
            app == socket.app_id for app, _ in self._watched
        ):
            self._ears.pop(socket.app_id).rest()

    def hear(self, app_id: str, user_id: str, version: int, *, online: bool) -> None:
        """A user signed in first, or left last; news may come twice, and late."""
        watched = self._watched.get((app_id, user_id))
        if watched is None or version <= watched.version:
            return
        watched.version = version
        if watched.leaving is not None:
            watched.leaving.cancel()
            watched.leaving = None
        if online and not watched.online:
            watched.online = True
            self._tell(watched, encode_watchlist_events([user_id], []))
        elif watched.online and not online:
            loop = asyncio.get_running_loop()
            watched.leaving = loop.call_later(AWAY_SECONDS, self._leave, watched, user_id)

    def _leave(self, watched: _Watched, user_id: str) -> None:
        watched.leaving, watched.online = None, False
        self._tell(watched, encode_watchlist_events([], [user_id]))

    def _tell(self, watched: _Watched, text: str | None) -> None:
        _push((socket for key, socket in watched.watchers.items() if key not in self._unread), text)


class _Ear(Socket):
    """Subscribed in the hub to the sign-ins of one app, like a connection to a channel."""

    def __init__(self, watchlists: Watchlists, app_id: str) -> None:
        # It reads at once, so nothing ever waits for it but news while it begins to listen.
        limit = sys.maxsize
        super().__init__(app_id, "0.0", _send_nothing, backlog_chars=limit, drop=lambda: None)
        self._watchlists = watchlists
        self._lock = asyncio.Lock()
        self._listening = False

    async def listen(self) -> None:
        """Hear of sign-ins from now on.

        Raises:
            PublishFailed: the layer does not answer.
        """
        async with self._lock:
            if not self._listening:
                local = hub.current()
                await local.join(self.app_id, Member.ONLINE, self)
                local.release(self.app_id, Member.ONLINE, self)
                self._listening = True

    def rest(self) -> None:
        """Hear nothing more."""
        hub.current().leave(self.app_id, Member.ONLINE, self)

    def push(self, frame: Frame) -> None:
        """Take the news instead of sending it to a client."""
        user_id, version, online = json.loads(frame.text)
        self._watchlists.hear(self.app_id, user_id, version, online=online)


def _push(sockets: Iterable[Socket], text: str | None) -> None:
    if text is not None:
        frame = Frame(text)
        for socket in sockets:
            socket.push(frame)


def _rows(app_id: str, user_ids: Iterable[str]) -> list[tuple[str, int, bool]]:
    """Who has signed in, as of the last commit: user id, version, and whether still."""
    keys = [Member.key_of(app_id, Member.ONLINE, user_id) for user_id in user_ids]
    rows = Member.objects.filter(pk__in=keys)
    return list(rows.values_list("user__user_id", "version", "present"))


async def _send_nothing(_: object) -> None:
    """An ear has no client."""


_watchlists: loops.PerLoop[Watchlists] = loops.PerLoop(Watchlists)
current = _watchlists.current
