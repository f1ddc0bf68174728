"""Who is measured: this server in several forms, and what it is compared with."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import services
from tests.bench import limit, machine, soketi
from tests.bench.bus import Bus, Look, bus
from tests.bench.driver import Load, load
from tests.bench.load.target import Target
from tests.e2e import sites

APP = sites.App(key="bench-key", secret="bench-secret")

_PLAIN_UVICORN = (
    *(sys.executable, "-m", "uvicorn", "--loop", "uvloop", "--ws", "websockets-sansio"),
    *("--ws-per-message-deflate", "false", "--backlog", "2048", "--no-proxy-headers"),
    *("--no-access-log", "--log-level", "warning"),
)
# uvicorn takes a socket that it is given for one of Unix, and then leaves Nagle's algorithm on.
# With a port of its own, as in production, an answer of two writes does not wait for 40 ms.
_FAST = (*sites.UVICORN[:-1], "--host", "127.0.0.1", "--port")
_PORTABLE = (
    *(*_PLAIN_UVICORN, "--ws-max-size", "131072", "project.asgi:application"),
    *("--host", "127.0.0.1", "--port"),
)
_PLAIN_SITE = (
    *(*_PLAIN_UVICORN, "tests.bench.plain_site.asgi:application"),
    *("--host", "127.0.0.1", "--port"),
)

REST_SECONDS = 0.1
IDLE_SHARE = 0.02
"""Of a core, which a process takes at rest: markers, a lease, a look at the outbox."""

Process = tuple[int, int]
"""Process id and port."""


@dataclass
class Place:
    """Where contestants keep their files, and what they share."""

    home: Path
    template: Path | None = None
    """A migrated SQLite database, made once."""
    started: int = 0

    def new(self, name: str) -> Path:
        """A directory for one contestant."""
        self.started += 1
        path = self.home / f"{self.started}-{name}"
        path.mkdir()
        return path

    def database(self, home: Path) -> str:
        """The URL of a migrated SQLite database in *home*."""
        if self.template is None:
            self.template = self.home / "template.sqlite3"
            sites.manage(
                site_environment(DATABASE_URL=f"sqlite:///{self.template}"),
                *("migrate", "--verbosity", "0"),
            )
        copy = home / "db.sqlite3"
        shutil.copy(self.template, copy)
        return f"sqlite:///{copy}"


def site_environment(**changes: str) -> dict[str, str]:
    """The environment of the reference site in production form."""
    return sites.environment(
        **{
            **sites.PRODUCTION,
            "DJANGO_SETTINGS_MODULE": "tests.bench.settings",
            "REALTIME_APP_ID": APP.id,
            "REALTIME_APP_KEY": APP.key,
            "REALTIME_APP_SECRET": APP.secret,
        },
        **changes,
    )


@dataclass(frozen=True)
class Contestant:
    """One way to serve."""

    name: str
    title: str
    start: Callable[["Contestant", Path, Bus | None, dict[str, str]], Any]
    """Starts one process; a context manager of a ``Process``."""
    command: tuple[str, ...] = ()
    redis: bool = False
    pusher: bool = True
    ours: bool = False

    @property
    def joins(self) -> bool:
        """Whether it is this server on our classes for uvicorn, which joins events in a write."""
        return self.ours and self.command == _FAST


@dataclass
class Running:
    """A contestant that serves, with a load process of its own."""

    contestant: Contestant
    processes: list[Process]
    load: Load
    bus: Bus | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.contestant.name

    def cpu(self) -> float:
        """Seconds of CPU that its processes have taken; without Redis."""
        return sum(machine.cpu_seconds(pid) for pid, _ in self.processes)

    def loop_cpu(self) -> float:
        """Seconds of CPU of their main threads, which run the event loops in ours."""
        return sum(machine.main_thread_seconds(pid) for pid, _ in self.processes)

    def rss(self) -> int:
        """Bytes in memory of its processes."""
        return sum(machine.rss(pid) for pid, _ in self.processes)

    def writes(self) -> int:
        """Calls of ``write()`` that its processes have made."""
        return sum(machine.writes(pid) for pid, _ in self.processes)

    def connections(self) -> int:
        """Connections that its processes have not closed."""
        return sum(machine.connections(port) for _, port in self.processes)

    def rest(self, patience: float) -> None:
        """Wait until its processes have nothing to do: what is measured next shares their core.

        Raises:
            RuntimeError: they go on.
        """
        deadline = time.monotonic() + patience
        while True:
            before = self.cpu()
            # The measurement: what they take in that time.
            time.sleep(REST_SECONDS)
            if self.cpu() - before < IDLE_SHARE * REST_SECONDS:
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not come to rest")

    def measure(self, command: str, **arguments: Any) -> dict[str, float]:
        """Let the load do something, and add what it cost.

        Returns:
            What the load answers, with ``cpu`` and ``bus_cpu`` in seconds and ``messages``
            of the layer.
        """
        cpu, looked = self.cpu(), self._look()
        answer = self.load.call(command, **arguments)
        after = self._look()
        return {
            **answer,
            "cpu": self.cpu() - cpu,
            "bus_cpu": after.cpu - looked.cpu,
            "messages": after.messages - looked.messages,
        }

    def _look(self) -> Look:
        return self.bus.look() if self.bus else Look(0, 0)


@contextmanager
def running(
    contestant: Contestant, place: Place, *, processes: int = 1, **environment: str
) -> Iterator[Running]:
    """Start *contestant* and a load process against it.

    Args:
        processes: how many, on one Redis and one database.
        environment: changes to that of the server.

    Raises:
        LeftOut: something it needs is missing.
    """
    with ExitStack() as stack:
        home = place.new(contestant.name)
        own_bus = stack.enter_context(bus()) if contestant.redis else None
        if contestant.ours and "DATABASE_URL" not in environment:
            environment["DATABASE_URL"] = place.database(home)
        started: list[Process] = []
        for number in range(processes):
            cores = machine.cores()
            with machine.on(cores.second if number else cores.server):
                log = home / f"server-{number}.log"
                recipe = contestant.start(contestant, log, own_bus, environment)
                started.append(stack.enter_context(recipe))
        target = Target(
            ports=tuple(port for _, port in started),
            pusher=contestant.pusher,
            app_id=APP.id,
            key=APP.key,
            secret=APP.secret,
        )
        driver = stack.enter_context(load(target, home))
        yield Running(contestant, started, driver, own_bus, environment)


@contextmanager
def _python(
    contestant: Contestant, log: Path, own_bus: Bus | None, changes: dict[str, str]
) -> Iterator[Process]:
    redis = {"REDIS_URL": own_bus.url} if own_bus else {}
    if contestant.ours:
        environment = site_environment(**redis, **changes)
    else:
        environment = sites.environment(**redis, PLAIN_LAYER=contestant.name.rpartition("-")[2])
    serving = sites.serving if contestant.command[-1] == "--fd" else _on_port
    with serving(contestant.command, environment, log) as server:
        yield server.process.pid, server.port


@contextmanager
def _on_port(
    command: tuple[str, ...], environment: Mapping[str, str], log: Path
) -> Iterator[sites.Server]:
    """As ``sites.serving``, for a server that opens the port that is its last argument."""
    (port,) = services.free_ports(1)
    process = services.spawn([*command, str(port)], log=log, env=environment, cwd=sites.ROOT)
    server = sites.Server(process, port, log)
    try:
        services.until_ready(process, lambda: _answers(server), log)
        yield server
    finally:
        server.stop()


def _answers(server: sites.Server) -> bool:
    try:
        server.request("GET", "/is-anybody-there")
    except OSError:
        return False
    return True


@contextmanager
def _limit(
    contestant: Contestant, log: Path, own_bus: Bus | None, changes: dict[str, str]
) -> Iterator[Process]:
    with sites.serving((str(limit.program()),), sites.environment(), log) as server:
        yield server.process.pid, server.port


def _soketi(
    contestant: Contestant, log: Path, own_bus: Bus | None, changes: dict[str, str]
) -> AbstractContextManager[Process]:
    return soketi.serving(APP, log, own_bus.port if own_bus else None)


_ALL = (
    Contestant(
        "fast-redis",
        "this server, `make serve`, Redis",
        _python,
        _FAST,
        True,
        ours=True,
    ),
    Contestant(
        "fast-memory",
        "this server, `make serve`, in memory",
        _python,
        _FAST,
        ours=True,
    ),
    Contestant(
        "portable-redis", "this server, plain uvicorn, Redis", _python, _PORTABLE, True, ours=True
    ),
    Contestant(
        "portable-memory", "this server, plain uvicorn, in memory", _python, _PORTABLE, ours=True
    ),
    Contestant("daphne-memory", "this server, Daphne, in memory", _python, sites.DAPHNE, ours=True),
    Contestant(
        "daphne-redis", "this server, Daphne, Redis", _python, sites.DAPHNE, True, ours=True
    ),
    Contestant("soketi-redis", "soketi, Redis", _soketi, redis=True),
    Contestant("soketi-memory", "soketi, in memory", _soketi),
    Contestant(
        "plain-pubsub", "plain Channels, pub/sub layer", _python, _PLAIN_SITE, True, pusher=False
    ),
    Contestant(
        "plain-queue", "plain Channels, queue layer", _python, _PLAIN_SITE, True, pusher=False
    ),
    Contestant("limit", "one system call per delivery, in C", _limit, pusher=False),
)

CONTESTANTS = {item.name: item for item in _ALL}
"""By name, in the order in which their rounds alternate."""
