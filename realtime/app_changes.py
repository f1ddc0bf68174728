"""What becomes of open connections when the row of their app changes.

A connection holds its app, so that nothing is looked up on its way.  Every process that has
connections of an app with a row reads the rows every few seconds, and gives the connections
of a changed app the new one.  Apps of the settings change with a restart.
"""

import asyncio
import logging
from typing import Protocol

from channels.db import database_sync_to_async
from django.db import DatabaseError, InterfaceError

from realtime import applications, loops
from realtime.protocol.app import App

logger = logging.getLogger(__name__)


class Follower(Protocol):
    """An open connection."""

    @property
    def app(self) -> App:
        """The app it holds."""

    def adopt(self, app: App | None) -> None:
        """Hold *app*, which has changed, from now on; ``None`` where it is no more."""


class AppWatch:
    """The open connections of one process by app; made by ``current()``."""

    def __init__(self) -> None:
        self._followers: dict[str, set[Follower]] = {}
        self._task: asyncio.Task[object] | None = None

    def follow(self, follower: Follower) -> None:
        """Tell *follower* when its app changes, until ``unfollow``."""
        if applications.is_configured(follower.app.id):
            return
        self._followers.setdefault(follower.app.id, set()).add(follower)
        if self._task is None:
            self._task = loops.supervise(self._watch, "app watch")

    def unfollow(self, follower: Follower) -> None:
        """A connection is over."""
        followers = self._followers.get(follower.app.id, set())
        followers.discard(follower)
        if not followers:
            self._followers.pop(follower.app.id, None)
        if not self._followers and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(applications.FRESH_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Read the rows, and tell whom they concern."""
        try:
            apps = await database_sync_to_async(applications.read_apps)()
        except (DatabaseError, InterfaceError) as error:
            logger.warning("the rows of apps cannot be read: %s", error)
            return
        for app_id, followers in list(self._followers.items()):
            app = apps.get(app_id)
            for follower in list(followers):
                if follower.app != app:
                    follower.adopt(app)


_watches: loops.PerLoop[AppWatch] = loops.PerLoop(AppWatch)
current = _watches.current
