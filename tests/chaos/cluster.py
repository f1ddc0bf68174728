"""Server processes that share a database and a bus, each of which can be killed and started."""

import asyncio
import http.client
import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psycopg

from tests import services
from tests.chaos import procfs
from tests.chaos.backing import PostgreSQL, Valkey
from tests.chaos.proxy import Proxy
from tests.e2e import sites
from tests.e2e.sites import ROOT, Server, User

PREPARE_USERS = 2_200
"""Users with tokens in every database; a row that needs more has no business to."""

VERIFY_SECONDS = 60
"""Enough for a comparison that waits for two renewals of the lease."""

# Far above what one machine full of clients needs; rows that test a limit set their own.
ROOMY: dict[str, Any] = {
    "LIMITS": {"PRESENCE_MEMBERS": 10_000},
    "MAX_CONNECTIONS_PER_IP": 100_000,
    "CONNECTS_PER_SECOND_PER_IP": 10_000,
    "MAX_CONNECTIONS": 20_000,
}

_ORIGINAL_APPLICATION = "project.asgi:application"
_APPLICATION = "tests.chaos.site.asgi:application"


def command(server: str, flags: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """The command line of production for *server*, with the site of the harness.

    Args:
        flags: values of options to change.
    """
    given = sites.UVICORN if server == "uvicorn" else sites.DAPHNE
    parts = [_APPLICATION if part == _ORIGINAL_APPLICATION else part for part in given]
    for name, value in (flags or {}).items():
        parts[parts.index(name) + 1] = value
    return tuple(parts)


class Node:
    """One place in a cluster: a port, a log, and the process that serves there now."""

    def __init__(
        self, name: str, words: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.words = tuple(words)
        self.environment = dict(environment)
        self.log = log
        self.port = 0
        self.process: Any = None
        self.redis: Proxy | None = None
        """What stands between this node and Redis, where a row asked for it."""
        self.armed: list[str] = []
        """The injection points at which processes here were told to break."""
        self._stopped = False

    def spawn(self, **changes: str) -> None:
        """Start a process on the port of this node; ``ready`` waits for it.

        Args:
            changes: of the environment, for this process and no later one.
        """
        with socket.create_server(("127.0.0.1", self.port), backlog=2048) as listener:
            self.port = listener.getsockname()[1]
            self.process = services.spawn(
                [*self.words, str(listener.fileno())],
                log=self.log,
                orphaned=signal.SIGKILL,
                env={**self.environment, **changes},
                cwd=ROOT,
                pass_fds=[listener.fileno()],
            )
        self._stopped = False

    async def ready(self) -> None:
        """Wait until the process answers HTTP."""
        await asyncio.to_thread(services.until_ready, self.process, self.answers, self.log)

    def answers(self) -> bool:
        try:
            self.server.request("GET", "/chaos/lag")
        except (OSError, http.client.HTTPException):
            return False
        return True

    @property
    def server(self) -> Server:
        """This node as the end-to-end tests see it."""
        return Server(self.process, self.port, self.log)

    @property
    def pid(self) -> int:
        return int(self.process.pid)

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    # ---- faults ---------------------------------------------------------------------

    def kill(self) -> None:
        """``kill -9``."""
        self.process.kill()

    def pause(self) -> None:
        """SIGSTOP: the process is there and does nothing."""
        self.process.send_signal(signal.SIGSTOP)
        self._stopped = True

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)
        self._stopped = False

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    async def arm(self, point: str, action: str) -> None:
        """Let the process break at an injection point, once."""
        await self.ask("arm", point=point, action=action)
        self.armed.append(point)

    def never_hit(self) -> list[str]:
        """Injection points that a row armed, and no process of this place passed."""
        hit = Counter(re.findall(r"fault injected: \w+ at ([\w.]+)", self.log_since()))
        return sorted((Counter(self.armed) - hit).elements())

    async def exited(self, seconds: float) -> int:
        """Wait for the end of the process; its exit status.

        Raises:
            TimeoutError: it goes on.
        """
        try:
            return int(await asyncio.to_thread(self.process.wait, seconds))
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {seconds} s") from None

    def end(self) -> None:
        """Leave nothing behind, in whatever state the row left it."""
        if self.alive:
            if self._stopped:
                self.resume()
            self.process.kill()
            self.process.wait()

    # ---- looks ----------------------------------------------------------------------

    async def ask(self, door: str, **arguments: Any) -> Any:
        """What the harness inside the process answers.

        Raises:
            RuntimeError: it failed; with its answer.
        """
        status, body = await self.knock(door, **arguments)
        if status != 200:
            raise RuntimeError(f"{self.name} answers {status} to {door}: {body}")
        return body

    async def knock(self, door: str, **arguments: Any) -> tuple[int, Any]:
        """Status and answer of the harness inside the process; 0 for no answer."""
        path = f"/chaos/{door}?{urlencode(arguments)}"
        try:
            status, text = await asyncio.to_thread(self.server.request, "GET", path)
        except (OSError, http.client.HTTPException) as error:
            return 0, {"error": repr(error)}
        return status, json.loads(text)

    async def health(self, which: str) -> int:
        """The status of ``/realtime/up`` or ``/realtime/ready``; 0 for no answer."""
        try:
            answer = await asyncio.to_thread(self.server.request, "GET", f"/realtime/{which}")
        except (OSError, http.client.HTTPException):
            return 0
        return answer[0]

    def look(self) -> procfs.Sample:
        return procfs.look(self.pid)

    def log_size(self) -> int:
        return self.log.stat().st_size

    def log_since(self, offset: int = 0) -> str:
        """What was logged after the log had *offset* bytes."""
        with self.log.open("rb") as file:
            file.seek(offset)
            return file.read().decode(errors="replace")

    def lines(self, pattern: str, offset: int = 0) -> list[str]:
        """The lines of the log that match."""
        return [line for line in self.log_since(offset).splitlines() if re.search(pattern, line)]


class Cluster:
    """Nodes that share a database and a bus."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.users: list[User] = []
        self.staff: User | None = None
        self.postgres: PostgreSQL | None = None
        self.database = ""
        self.sqlite: Path | None = None
        self.valkey: Valkey | None = None

    def __getitem__(self, number: int) -> Node:
        return self.nodes[number]

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self.nodes]

    async def presence(self, option: str) -> tuple[int, str]:
        """What ``manage.py realtime_presence`` says with *option*, and its exit status."""
        return await services.finish(
            [sys.executable, ROOT / "manage.py", "realtime_presence", option],
            VERIFY_SECONDS,
            env=self.nodes[0].environment,
            cwd=ROOT,
        )


class Ground:
    """What all rows of a run stand on: prepared databases, and a place for files."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home = home
        self._stack = stack
        self._postgres: tuple[PostgreSQL, str, list[User]] | None = None
        self._sqlite: tuple[Path, list[User]] | None = None
        self._made = 0

    def environment(self, **changes: str) -> dict[str, str]:
        """The environment of the site in production form."""
        production = {**sites.PRODUCTION, "DJANGO_SETTINGS_MODULE": "tests.chaos.site.settings"}
        return sites.environment(**{**production, **changes})

    def _prepare(self, url: str) -> list[User]:
        environment = self.environment(DATABASE_URL=url)
        sites.manage(environment, "migrate", "--verbosity", "0")
        made = json.loads(sites.manage(environment, "make_users", str(PREPARE_USERS)))
        return [User(**user) for user in made]

    def postgres(self) -> tuple[PostgreSQL, str, list[User]]:
        """The server, the name of a fresh database, and the users in it."""
        if self._postgres is None:
            server = PostgreSQL(self._stack)
            template = server.create()
            users = self._prepare(server.url(template))
            self._postgres = server, template, users
        server, template, users = self._postgres
        return server, server.create(template), users

    def sqlite(self) -> tuple[Path, list[User]]:
        """The path of a fresh database, and the users in it."""
        if self._sqlite is None:
            template = self.home / "template.sqlite3"
            self._sqlite = template, self._prepare(f"sqlite:///{template}")
        template, users = self._sqlite
        self._made += 1
        path = self.home / f"site-{self._made}.sqlite3"
        with closing(sqlite3.connect(template)) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        return path, users

    @asynccontextmanager
    async def cluster(
        self,
        nodes: int = 1,
        *,
        server: str = "uvicorn",
        database: str = "",
        bus: str = "",
        settings: Mapping[str, Any] | None = None,
        flags: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        redis_proxies: bool = False,
        start: bool = True,
    ) -> AsyncIterator[Cluster]:
        """Some server processes in production form.

        Args:
            database: ``sqlite`` or ``postgres``; by default SQLite for one node.
            bus: ``memory``, ``pubsub`` or ``queue``; by default memory for one node.
            settings: keys of ``REALTIME``.
            flags: options of the server to change.
            prefix: words before the command line, such as those of ``prlimit``.
            redis_proxies: whether each node reaches Redis through a fault proxy of its own.
            start: whether to start the nodes and wait for them.
        """
        database = database or ("sqlite" if nodes == 1 else "postgres")
        bus = bus or ("memory" if nodes == 1 else "pubsub")
        made = Cluster([])
        self._made += 1
        changes: dict[str, str] = {"REALTIME_LAYER": bus, **(environment or {})}
        with ExitStack() as stack:
            if database == "postgres":
                made.postgres, made.database, users = self.postgres()
                stack.callback(_drop, made.postgres, made.database)
                changes["DATABASE_URL"] = made.postgres.url(made.database)
            else:
                made.sqlite, users = self.sqlite()
                changes["DATABASE_URL"] = f"sqlite:///{made.sqlite}"
            made.staff, made.users = users[-1], users[:-1]
            if bus != "memory":
                made.valkey = Valkey(stack)
                changes["REDIS_URL"] = made.valkey.url
            changes["CHAOS_REALTIME"] = json.dumps(_settings(settings or {}))
            words = (*prefix, *command(server, flags))
            for number in range(nodes):
                name = "abcdefgh"[number]
                log = self.home / f"{self._made}-{name}.log"
                log.touch()
                node = Node(name, words, self.environment(**changes), log)
                if redis_proxies and made.valkey is not None:
                    node.redis = Proxy([made.valkey.path])
                    stack.callback(node.redis.close)
                    node.environment["REDIS_URL"] = f"redis://127.0.0.1:{node.redis.port}"
                stack.callback(node.end)
                made.nodes.append(node)
            if start:
                for node in made.nodes:
                    node.spawn()
                for node in made.nodes:
                    await node.ready()
            yield made


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a row above those that make room."""
    limits = {**ROOMY["LIMITS"], **given.get("LIMITS", {})}
    return {**ROOMY, **given, "LIMITS": limits}


def _drop(server: PostgreSQL, name: str) -> None:
    with suppress(psycopg.Error):
        server.drop(name)
