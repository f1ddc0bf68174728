"""Event loops: objects that live once per loop, tasks that are looked after, and the way
into a loop from synchronous code.

A server process has one loop for all its connections, its *home*.  Synchronous code
publishes through it where there is one, because the in-memory layer may only be used from
there.  A process without connections gets one daemon thread with a loop of its own.
"""

import asyncio
import importlib
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from django.core.exceptions import SynchronousOnlyOperation

from realtime import metrics

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_SECONDS: Final = 0.1
LAST_PAUSE_SECONDS: Final = 2
CALM_SECONDS: Final = 30
"""Ours: a task that ran that long before it failed is started again without much ado."""

_tasks: set[asyncio.Task[Any]] = set()
_lock = threading.Lock()
_homes: list[tuple[int, asyncio.AbstractEventLoop]] = []
"""Process id and loop: a fork has its parent's loops, but nobody runs them."""

_own: tuple[int, asyncio.AbstractEventLoop] | None = None
"""Process id and loop of the daemon thread; a fork has the loop but not the thread."""


class PerLoop(Generic[T]):
    """One object per event loop, made on first use.

    Daphne announces no start, and tests have many loops, so there is no better moment.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[asyncio.AbstractEventLoop, T] = {}

    def current(self) -> T:
        """The object of the running loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._made:
            for closed in [other for other in self._made if other.is_closed()]:
                del self._made[closed]
            self._made[loop] = self._make()
        return self._made[loop]

    def peek(self) -> T | None:
        """The object of the running loop, if it was made."""
        return self._made.get(asyncio.get_running_loop())


def spawn(work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[object]:
    """Run *work* on its own; its failure is logged.

    The task is kept here: the loop itself holds tasks weakly, and one nobody holds may be
    collected while it runs.
    """
    task = asyncio.create_task(work, name=name)
    _tasks.add(task)
    task.add_done_callback(_done)
    return task


def supervise(run: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[object]:
    """Run the endless *run*; start it again, ever more slowly, when it fails."""

    async def keep_running() -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            started = asyncio.get_running_loop().time()
            try:
                await run()
            except Exception as error:
                metrics.count("tasks_restarted")
                if asyncio.get_running_loop().time() - started > CALM_SECONDS:
                    pause = FIRST_PAUSE_SECONDS
                if pause == FIRST_PAUSE_SECONDS:
                    logger.exception("%s failed; starting it again", name)
                else:
                    logger.warning("%s failed again: %r", name, error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LAST_PAUSE_SECONDS)

    return spawn(keep_running(), name)


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel *task* and wait until it has ended."""
    task.cancel()
    await asyncio.wait([task])


def settle(loop: asyncio.AbstractEventLoop) -> None:
    """Declare *loop* the home of this process's connections."""
    with _lock:
        _homes[:] = [home for home in _homes if not home[1].is_closed() and home[1] is not loop]
        _homes.append((os.getpid(), loop))


def home() -> asyncio.AbstractEventLoop | None:
    """The loop of this process's connections, if it has any."""
    with _lock:
        running = [loop for pid, loop in _homes if pid == os.getpid() and loop.is_running()]
    return running[-1] if running else None


async def at_home(work: Callable[[], Awaitable[T]]) -> T:
    """Await *work* in the home loop, or here where there is none."""
    loop = home()
    if loop is None or loop is asyncio.get_running_loop():
        return await work()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_await(work), loop))


def from_sync(work: Callable[[], Awaitable[T]]) -> T:
    """Run *work* from synchronous code and return what it returns.

    Raises:
        SynchronousOnlyOperation: called in a coroutine, which would wait for itself.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise SynchronousOnlyOperation(
            "You cannot call this from an async context - await its twin with the prefix 'a'."
        )
    loop = home() or _own_loop()
    return asyncio.run_coroutine_threadsafe(_await(work), loop).result()


def _own_loop() -> asyncio.AbstractEventLoop:
    global _own
    with _lock:
        if _own is None or _own[0] != os.getpid():
            loop = _new_loop()
            threading.Thread(target=loop.run_forever, name="realtime", daemon=True).start()
            _own = (os.getpid(), loop)
        return _own[1]


def _new_loop() -> asyncio.AbstractEventLoop:
    """A loop of uvloop where that is installed, as it is in production, else one of asyncio."""
    try:
        uvloop: Any = importlib.import_module("uvloop")  # Any: it need not be there
    except ImportError:
        return asyncio.new_event_loop()
    made: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return made


async def _await(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


def _done(task: asyncio.Task[Any]) -> None:
    _tasks.discard(task)
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("task %s failed", task.get_name(), exc_info=error)
