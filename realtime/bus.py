"""This process's end of the channel layer: one channel, many groups, and a watch over them.

A layer can go deaf without saying so: the pub/sub layer's receiving task may have died, or
its link be half open, while joining and sending still succeed.  So the bus sends itself a
marker every few seconds.  While none comes back the process refuses to publish, reports
itself as not ready, and joins all its groups again until it hears itself.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from realtime import conf, layer, loops
from realtime.layer import PublishFailed

logger = logging.getLogger(__name__)

BURST: Final = 64
"""Ours: messages taken from the layer before the writers of the sockets get a turn."""

BURST_SECONDS: Final = 0.002
"""Ours: how long a burst may take, since one message may go to thousands of sockets."""

RENEWAL_SECONDS: Final = 3_600
"""Ours: far below the day after which layers forget a member of a group."""

ECHO_SECONDS: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Ours: how long each of the markers may take that follow the joining of a group."""


class Bus:
    """The one channel through which a process hears the others.

    Args:
        on_message: called with every message but our own markers; must not wait.
    """

    def __init__(self, on_message: Callable[[Mapping[str, Any]], None]) -> None:
        self._on_message = on_message
        self._layer = layer.channel_layer()
        self._channel = ""
        self._groups: set[str] = set()
        """The groups the layer was asked to add us to, and must be asked to remove us from."""
        self._markers: dict[str, asyncio.Future[None]] = {}
        self._receiver: asyncio.Task[object] | None = None
        self._keepers: list[asyncio.Task[object]] = []
        self._starting = asyncio.Lock()
        self._failures = 0
        self._received = 0
        self.listening = False
        """Whether what is sent to this process arrives."""
        self.recoveries = 0
        """How often this process was found deaf."""

    async def start(self) -> None:
        """Take a channel of the layer and listen to it; once, however often it is called.

        Raises:
            PublishFailed: the layer does not answer.
        """
        if self._receiver is not None:
            return
        failures = self._failures
        async with self._starting:
            if self._failures != failures:  # of the one before us: it would be the same
                raise PublishFailed("the channel layer does not answer")
            if self._receiver is None:
                try:
                    await self._open()
                except PublishFailed:
                    self._failures += 1
                    raise

    async def _open(self) -> None:
        async with layer.answering():
            self._channel = str(await self._layer.new_channel())
            await self._layer.group_add(layer.CONTROL_GROUP, self._channel)
        self._groups.add(layer.CONTROL_GROUP)
        self._receiver = loops.supervise(self._receive, "bus receiver")
        self._keepers = [
            loops.supervise(self._watch, "bus watchdog"),
            loops.supervise(self._renew, "bus renewer"),
        ]
        self._set_listening(True)

    async def stop(self) -> None:
        """Leave all groups and listen no longer."""
        for task in (*self._keepers, self._receiver):
            if task is not None:
                await loops.cancel(task)
        self._receiver, self._keepers = None, []
        self._set_listening(True)
        groups, self._groups = self._groups, set()
        with suppress(PublishFailed):
            async with layer.answering():
                for group in groups:
                    await self._layer.group_discard(group, self._channel)

    async def join(self, group: str) -> None:
        """Join *group*, and wait until something sent to it comes back.

        Redis may act on SUBSCRIBE a moment after the layer says it is done; what another
        process sends in that moment would be lost.

        Raises:
            PublishFailed: the layer does not answer, or nothing comes back.  Even so the
                group may have been joined: ``part`` undoes it.
        """
        self._groups.add(group)
        async with layer.answering():
            await self._layer.group_add(group, self._channel)
        if not await self._hears(group, ECHO_SECONDS):
            raise PublishFailed("the channel layer does not echo")

    async def part(self, group: str) -> None:
        """Leave *group*.

        Raises:
            PublishFailed: the layer does not answer; what still arrives is for nobody here.
        """
        if group in self._groups:
            self._groups.discard(group)
            async with layer.answering():
                await self._layer.group_discard(group, self._channel)

    # ---- listening ------------------------------------------------------------------

    async def _receive(self) -> None:
        """Take what the layer has, a burst at a time."""
        loop = asyncio.get_running_loop()
        turn = loop.time()
        while True:
            message = await self._layer.receive(self._channel)
            self._received += 1
            if message.get("type") == layer.MARKER:
                self._echo(message.get("marker"))
            else:
                self._on_message(message)
            if self._received % BURST == 0 or loop.time() - turn > BURST_SECONDS:
                # receive() does not yield while messages are waiting; without a pause no
                # writer would run, and healthy sockets would look slow.
                await asyncio.sleep(0)
                turn = loop.time()

    async def _hears(self, group: str, patience: Iterable[float]) -> bool:
        """Whether a marker sent to *group* comes back; one more after every wait in vain."""
        marker = uuid.uuid4().hex
        heard = self._markers[marker] = asyncio.get_running_loop().create_future()
        try:
            for seconds in patience:
                await layer.send(group, {"type": layer.MARKER, "marker": marker})
                await asyncio.wait([heard], timeout=seconds)
                if heard.done():
                    return True
            return False
        finally:
            del self._markers[marker]

    def _echo(self, marker: object) -> None:
        heard = self._markers.get(str(marker))
        if heard is not None and not heard.done():
            heard.set_result(None)

    # ---- watching -------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(conf.get().watchdog_seconds)
            if await self._hears_itself():
                if not self.listening:
                    logger.warning("the channel layer is heard again")
                    self._set_listening(True)
                continue
            if self.listening:
                self.recoveries += 1
                logger.error("the channel layer is not heard: joining all groups again")
                self._set_listening(False)
            with suppress(PublishFailed):
                await self._recover()
                self._set_listening(await self._hears_itself())

    async def _hears_itself(self) -> bool:
        """Whether anything arrives.  A marker behind a long queue is late, not lost."""
        before = self._received
        try:
            heard = await self._hears(layer.CONTROL_GROUP, [conf.get().watchdog_seconds])
        except PublishFailed:
            return False
        return heard or self._received > before

    async def _recover(self) -> None:
        """Join every group again, through a new connection where the layer hides a dead one.

        Raises:
            PublishFailed: the layer does not answer yet.
        """
        if layer.hides_dead_connections(self._layer):
            self._layer = layer.replace_channel_layer()
            async with layer.answering():
                self._channel = str(await self._layer.new_channel())
        await self._join_all()
        if self._receiver is not None:
            await loops.cancel(self._receiver)
            self._receiver = loops.supervise(self._receive, "bus receiver")

    async def _renew(self) -> None:
        """Join every group again, long before the layer forgets that we are in it.

        The queue layer and the in-memory layer forget members after ``group_expiry``, by
        default a day; joining twice does no harm on any layer.
        """
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            await self._join_all()

    async def _join_all(self) -> None:
        for group in [*self._groups]:
            async with layer.answering():
                await self._layer.group_add(group, self._channel)

    def _set_listening(self, listening: bool) -> None:
        self.listening = listening
        layer.refuse_to_publish(None if listening else "this process does not hear the others")
