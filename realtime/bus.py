"""This process's end of the channel layer: one channel, many groups, and a watch over them.

A layer can go deaf without saying so: the pub/sub layer's receiving task may have died, or
its link be half open, while joining and sending still succeed.  So the bus sends itself
markers, through every host of the layer.  While one does not come back the process refuses
to publish, reports itself as not ready, and joins all its groups again until it hears itself.
"""

import asyncio
import itertools
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final

from realtime import backends, conf, faults, layer, loops, metrics
from realtime.layer import PublishFailed

logger = logging.getLogger(__name__)

BURST: Final = 64
"""Ours: events taken from the layer before the writers of the sockets get a turn."""

BURST_SECONDS: Final = 0.002
"""Ours: how long a burst may take, since one message may go to thousands of sockets."""

RENEWAL_SECONDS: Final = 3_600
"""Ours: far below the day after which layers forget a member of a group."""

ECHO_SECONDS: Final = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Ours: how long each of the markers may take that follow the joining of a group, at least."""

LOOK_SECONDS: Final = 0.1
"""Ours: how often the layer is looked at for what can be seen without a marker."""

RETRY_SECONDS: Final = 0.25
"""Ours: the pause before a layer that cannot be heard yet is tried again."""

PARTS: Final = 4
"""Ours: of ``WATCHDOG_SECONDS``.  One passes between markers, and one may take two of them."""

TICK_SECONDS: Final = 0.05
"""Ours: the unit in which silence is counted; a tick that comes late counts once."""

OVERLOAD: Final = 4
"""Ours: how many times longer a marker may take while this process is too busy to hear it."""

RECEIVER_FAILED: Final = "our receiver failed"
NO_MARKER: Final = "no marker comes back"


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
        self._echo_groups: list[str] = []
        """Groups that only we are in, one on each host of the layer."""
        self._markers: dict[str, asyncio.Future[None]] = {}
        self._receiver: asyncio.Task[object] | None = None
        self._keepers: list[asyncio.Task[object]] = []
        self._starting = asyncio.Lock()
        self._failures = 0
        self._received = 0
        self._links = backends.Links(self._layer)
        self._receiver_failed = False
        self._heard_all_at = 0.0
        """Loop time: whatever was sent to us before it has arrived."""
        self.listening = False
        """Whether what is sent to this process arrives."""
        self.recoveries = 0
        """How often this process was deaf, and is no more."""
        self.round_trip_seconds = 0.0
        """How long the last markers took, until they were back from every host, or at least: a
        process that is very busy is known to hear before they are."""
        self.deaf_seconds = 0.0
        """How long the last deafness lasted at most, from the last proof to the contrary."""

    async def start(self) -> None:
        """Take a channel of the layer and listen to it; once, however often it is called.

        Raises:
            PublishFailed: the layer does not answer, or nothing comes back.
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
                    # A layer that failed half-way may keep what nobody asks for any more.
                    with suppress(PublishFailed):
                        seconds = conf.get().watchdog_seconds
                        self._layer = await layer.renew_channel_layer(self._layer, seconds)
                    raise

    async def _open(self) -> None:
        self._echo_groups = backends.groups_on_every_host(
            self._layer, f"realtime.echo.{uuid.uuid4().hex}"
        )
        async with layer.answering():
            self._channel = str(await self._layer.new_channel())
            for group in (layer.CONTROL_GROUP, *self._echo_groups):
                self._groups.add(group)
                await self._layer.group_add(group, self._channel)
        receiver = loops.supervise(self._receive, "bus receiver")
        try:
            if not await self._hears_itself(sum(ECHO_SECONDS)):
                raise PublishFailed("the channel layer does not echo")
        except BaseException:  # also when the consumer is cancelled while it waits
            await loops.cancel(receiver)
            await self._part_all()
            raise
        self._receiver = receiver
        self._links = backends.Links(self._layer)
        self._keepers = [
            loops.supervise(self._watch, "bus watchdog"),
            loops.supervise(self._renew, "bus renewer"),
        ]
        self._set_listening(True)

    async def stop(self) -> None:
        """Leave all groups and listen no longer."""
        async with self._starting:  # one that is under way would go on without us
            await self._close()

    async def _close(self) -> None:
        for task in (*self._keepers, self._receiver):
            if task is not None:
                await loops.cancel(task)
        self._receiver, self._keepers = None, []
        self.listening = False
        layer.refuse_to_publish(None)  # this process hears nobody any more, but may still speak
        await self._part_all()

    async def _part_all(self) -> None:
        groups, self._groups = self._groups, set()
        with suppress(PublishFailed):
            async with layer.answering():
                for group in groups:
                    await self._layer.group_discard(group, self._channel)

    async def join(self, group: str) -> None:
        """Join *group*, and wait until something sent to it comes back.

        Redis may act on SUBSCRIBE a moment after the layer says it is done; what another
        process sends in that moment would be lost.  A layer that is done when it says so
        needs no marker, which would wait behind all else that comes; unless we are deaf.

        Raises:
            PublishFailed: the layer does not answer, or nothing comes back.  Even so the
                group may have been joined: ``part`` undoes it.
        """
        self._groups.add(group)
        async with layer.answering():
            await self._layer.group_add(group, self._channel)
        if self.listening and backends.is_joined_at_once(self._layer):
            return
        # Markers that are on their way behind much else must not become more of it.
        usual = min(2 * self.round_trip_seconds, ECHO_SECONDS[-1])
        if not await self._hears(group, [max(seconds, usual) for seconds in ECHO_SECONDS]):
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
        try:
            await self._take()
        except Exception:
            self._receiver_failed = True  # and with it the message in its hands is lost
            raise

    async def _take(self) -> None:
        loop = asyncio.get_running_loop()
        turn, taken = loop.time(), 0
        while True:
            message = await self._layer.receive(self._channel)
            faults.point("bus.receive")
            self._received += 1
            events = message.get("events")
            taken += len(events) if isinstance(events, list) else 1
            if message.get("type") == layer.MARKER:
                self._echo(message.get("marker"))
            else:
                self._on_message(message)
            if taken >= BURST or loop.time() - turn > BURST_SECONDS:
                # receive() does not yield while messages are waiting; without a pause no
                # writer would run, and healthy sockets would look slow.
                await asyncio.sleep(0)
                turn, taken = loop.time(), 0

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
            trouble = await self._trouble()
            logger.error("the channel layer is not heard (%s): listening anew", trouble)
            self._set_listening(False)
            if not await self._recover(trouble):
                # The others may not be back yet, and would miss what we publish: they need as
                # long as we may have needed to notice.
                await asyncio.sleep(conf.get().watchdog_seconds / 2)
            logger.warning(
                "the channel layer is heard again, after %.1f seconds at most", self.deaf_seconds
            )
            self._set_listening(True)

    async def _trouble(self) -> str:
        """Wait until the layer is not heard, or may not have been; say why."""
        loop = asyncio.get_running_loop()
        while True:
            next_marker = loop.time() + conf.get().watchdog_seconds / PARTS
            while (rest := next_marker - loop.time()) > 0:
                if fault := self._fault():
                    return fault
                await asyncio.sleep(min(rest, LOOK_SECONDS))
            patience = 2 * conf.get().watchdog_seconds / PARTS
            if not await self._hears_itself(patience, watching=True):
                return self._fault() or NO_MARKER

    def _fault(self) -> str:
        return RECEIVER_FAILED if self._receiver_failed else self._links.fault()

    async def _hears_itself(self, seconds: float, *, watching: bool = False) -> bool:
        """Whether a marker comes back from every host within *seconds* of calm.

        A process with more work than it can do hears late, and so do its markers; that is not
        deafness, and to listen anew would lose what is under way.  So only ticks count that
        come in time, up to a limit.  With one host anything that arrives is a proof, if we
        are still in the group of the markers: what arrives may be of a group joined just now.

        Args:
            watching: whether a fault that can be seen needs no marker.
        """
        loop = asyncio.get_running_loop()
        began, before, silent = loop.time(), self._received, 0.0
        sent_at = time.perf_counter()
        probes = [loops.spawn(self._probe(group), "bus probe") for group in self._echo_groups]
        while silent < seconds and loop.time() - began < OVERLOAD * seconds:
            _, missing = await asyncio.wait(probes, timeout=TICK_SECONDS)
            if not missing or (watching and self._fault()):
                break
            silent += TICK_SECONDS
        took = time.perf_counter() - sent_at  # uvloop's time stands still within a turn
        for probe in probes:
            await loops.cancel(probe)
        heard = all(not probe.cancelled() and probe.result() for probe in probes)
        if not heard and len(probes) == 1 and not (watching and self._fault()):
            heard = self._received > before and await self._is_member(self._echo_groups[0])
        if heard:
            self.round_trip_seconds = took
            self._heard_all_at = began
        return heard

    async def _probe(self, group: str) -> bool:
        try:
            return await self._hears(group, itertools.chain(ECHO_SECONDS, itertools.repeat(1.0)))
        except PublishFailed:
            return False

    async def _is_member(self, group: str) -> bool:
        try:
            async with layer.answering(conf.get().watchdog_seconds):
                return await backends.is_member(self._layer, group, self._channel)
        except PublishFailed:
            return False

    async def _recover(self, trouble: str) -> bool:
        """Listen anew until we hear ourselves; return whether only we were deaf, as far as seen."""
        loop = asyncio.get_running_loop()
        deaf_from = self._heard_all_at
        # A connection that was made anew has joined all groups by itself.
        is_joined = trouble in (backends.LINK_LOST, RECEIVER_FAILED)
        # A link that is lost is mostly Redis that was restarted, for everybody.
        alone = trouble in (backends.RECEIVER_ENDED, RECEIVER_FAILED)
        while True:
            try:
                if not is_joined:
                    await self._join_anew()
                self._receiver_failed = False
                self._links = backends.Links(self._layer)
                # Redis may have come back without the groups: no reason to wait for long.
                if await self._hears_itself(sum(ECHO_SECONDS[: 3 if is_joined else None])):
                    break
            except PublishFailed as error:
                logger.debug("the channel layer is still away: %s", error)
            is_joined = alone = False
            await asyncio.sleep(min(RETRY_SECONDS, conf.get().watchdog_seconds))
        self.deaf_seconds = loop.time() - deaf_from
        self.recoveries += 1
        metrics.count("layer_recoveries")
        return alone

    async def _join_anew(self) -> None:
        """Join every group again, through new connections where the layer may hide dead ones.

        Raises:
            PublishFailed: the layer does not answer yet.
        """
        seconds = conf.get().watchdog_seconds
        if self._receiver is not None:
            # Not awaited: on a half-open link the pub/sub layer takes its time.
            self._receiver.cancel()
        deaf, self._layer = self._layer, await layer.renew_channel_layer(self._layer, seconds)
        if self._layer is not deaf:
            async with layer.answering(seconds):
                self._channel = str(await self._layer.new_channel())
        self._receiver = loops.supervise(self._receive, "bus receiver")
        await self._join_all(seconds)

    async def _renew(self) -> None:
        """Join every group again, long before the layer forgets that we are in it.

        The queue layer and the in-memory layer forget members after ``group_expiry``, by
        default a day; joining twice does no harm on any layer.
        """
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            try:
                await self._join_all(conf.get().publish_timeout_seconds)
            except PublishFailed as error:
                logger.warning("the groups of the channel layer are not all renewed: %s", error)
                await asyncio.sleep(min(RENEWAL_SECONDS, RETRY_SECONDS))
                await self._join_all(conf.get().publish_timeout_seconds)

    async def _join_all(self, seconds: float) -> None:
        for group in [*self._groups]:
            if group not in self._groups:
                continue  # left meanwhile
            async with layer.answering(seconds):
                await self._layer.group_add(group, self._channel)
                if group not in self._groups:
                    await self._layer.group_discard(group, self._channel)

    def _set_listening(self, listening: bool) -> None:
        self.listening = listening
        layer.refuse_to_publish(None if listening else "this process does not hear the others")
