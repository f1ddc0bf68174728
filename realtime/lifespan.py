"""Start and stop of a server process.

A process is up before the channel layer answers, and begins to listen as soon as it does.
Stopping is best effort, since correctness rests on the lease: on a signal
clients are sent elsewhere with 4200 before the server closes them with a code of its own,
which would make them wait a second; then what is left is written and the lease given back.
"""

import asyncio
import functools
import gc
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from types import FrameType
from typing import Any, Final

from realtime import conf, hub, loops, outbox
from realtime.layer import PublishFailed
from realtime.logs import OncePerSecond
from realtime.presence import ledger
from realtime.webhooks import courier

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

Message = MutableMapping[str, Any]

STOPPING_SECONDS: Final = 10.0
"""Ours: how long the stop may take after the drain; a lease not given back runs out."""

RETRY_SECONDS: Final = 0.5
"""Ours: the pause before a channel layer that did not answer at the start is asked again."""

_CLOSING_SECONDS: Final = 2.0
"""Ours: how long the close frames may take before the server goes on to stop."""


class _Stop:
    """The one stop of one loop, whoever asks for it first."""

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self.prepared = False
        self.drains: list[Callable[[float], Awaitable[object]]] = []
        """Besides that of the hub."""

    def listen(self) -> None:
        """Stop on SIGTERM and Ctrl-C, and pass the signal on to the server afterwards."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            server_handler = signal.getsignal(number)
            if server_handler is not signal.SIG_IGN:  # as shells set SIGINT in the background
                signal.signal(number, self._chained(server_handler, loop))

    def _chained(
        self,
        server_handler: Any,  # Any: what signal.getsignal() returns
        loop: asyncio.AbstractEventLoop,
    ) -> Callable[[int, FrameType | None], None]:
        def on_signal(number: int, frame: FrameType | None) -> None:
            if loop.is_closed() or self._task is not None:  # a second signal ends it at once
                _hand_over(server_handler, number, frame)
                return
            loop.call_soon_threadsafe(self._then, lambda: _hand_over(server_handler, number, frame))

        return on_signal

    async def finish(self) -> None:
        """Stop, or wait until the stop that is under way has ended."""
        if self._task is None:
            self._task = loops.spawn(_stop(), "realtime stop")
        patience = conf.get().drain_seconds + STOPPING_SECONDS
        _, late = await asyncio.wait([self._task], timeout=patience)
        if late:
            logger.error("the database or the channel layer does not answer: stopping anyway")

    def _then(self, go_on: Callable[[], None]) -> None:
        async def stop_and_go_on() -> None:
            await self.finish()
            go_on()

        loops.spawn(stop_and_go_on(), "realtime stop on a signal")


_stops: loops.PerLoop[_Stop] = loops.PerLoop(_Stop)


def prepare() -> None:
    """Make this process listen, send what waits, and stop in order; once per loop."""
    stop = _stops.current()
    if not stop.prepared:
        stop.prepared = True
        _freeze()
        stop.listen()
        outbox.current().start()
        courier.current().start()
        loops.spawn(_hear(hub.current()), "hub start")


@functools.cache
def _freeze() -> None:
    """Spare the garbage collector what was loaded at the start and stays to the end.

    A full collection stops the loop while it goes through every object, most of them Django's
    (ADR 0031).  What is garbage now is collected before, or it would stay, too.
    """
    gc.collect()
    gc.freeze()


def at_stop(drain: Callable[[float], Awaitable[object]]) -> None:
    """Have *drain* send clients elsewhere, too, that the hub does not know.

    Args:
        drain: gets the seconds over which to spread it.
    """
    _stops.current().drains.append(drain)


async def _hear(local_hub: hub.Hub) -> None:
    """Start the hub; a channel layer that is away is waited for."""
    while not local_hub.stopping:
        try:
            await local_hub.start()
            return
        except PublishFailed as error:
            logger.warning("waiting for the channel layer: %s", error)
        await asyncio.sleep(RETRY_SECONDS)


async def lifespan(
    receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Speak ASGI's lifespan protocol with a server that has it."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            prepare()
            await send({"type": "lifespan.startup.complete"})
        else:
            await _stops.current().finish()
            await send({"type": "lifespan.shutdown.complete"})
            return


async def _stop() -> None:
    local_hub, local_ledger, local_outbox = hub.peek(), ledger.peek(), outbox.peek()
    if local_ledger is not None:
        local_ledger.drain()
    if local_hub is not None:
        seconds = conf.get().drain_seconds
        others = [drain(seconds) for drain in _stops.current().drains]
        await asyncio.gather(local_hub.drain(seconds), *others)
        with suppress(TimeoutError):
            await asyncio.wait_for(local_hub.deserted(), _CLOSING_SECONDS)
    if local_outbox is not None:
        await local_outbox.stop()
    if local_ledger is not None:
        await local_ledger.stop()
    if (local_courier := courier.peek()) is not None:
        await local_courier.stop()
    if local_hub is not None:
        await local_hub.stop()


def _hand_over(
    handler: Any,  # Any: what signal.getsignal() returns
    number: int,
    frame: FrameType | None,
) -> None:
    """Let the server do what it would have done without us."""
    if callable(handler):
        handler(number, frame)
    else:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
