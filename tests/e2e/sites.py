"""Whole sites for the tests: databases, buses and server processes, each with its log."""

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import services

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent
USERS = 300

DAPHNE = (str(BIN / "daphne"), "project.asgi:application", "--verbosity", "0", "--fd")
# The flags of `make serve`.
UVICORN_FLAGS = (
    *("--loop", "uvloop", "--http", "realtime.servers.uvicorn:HTTPProtocol"),
    *("--ws", "realtime.servers.uvicorn:WebSocketProtocol", "--ws-max-size", "131072"),
    *("--ws-per-message-deflate", "false", "--timeout-graceful-shutdown", "20"),
    *("--backlog", "2048", "--no-proxy-headers", "--no-access-log"),
)
UVICORN = (
    *(sys.executable, "-m", "realtime.servers", "project.asgi:application", *UVICORN_FLAGS),
    *("--log-level", "warning", "--fd"),
)


@dataclass(frozen=True)
class App:
    """The Pusher app of a site."""

    id: str = "1001"
    key: str = "e2e-key"
    secret: str = "e2e-secret"


@dataclass(frozen=True)
class User:
    """A Django user and the token that authenticates its requests."""

    id: str
    name: str
    token: str


@dataclass
class Server:
    """One server process on a port of the system's choice."""

    process: "subprocess.Popen[Any]"
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: object = None,
    ) -> tuple[int, str]:
        """Status and text of the answer to an HTTP request with a JSON body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Token {token}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def stop(self) -> int:
        return services.stop(self.process)


@contextmanager
def serving(
    command: tuple[str, ...], environment: Mapping[str, str], log: Path, port: int = 0
) -> Iterator[Server]:
    """Run *command* with a listening socket as its last argument; yield once it answers.

    The system chooses the *port*, unless the server takes the place of another.
    """
    with socket.create_server(("127.0.0.1", port), backlog=2048) as listener:
        port = listener.getsockname()[1]
        process = services.spawn(
            [*command, str(listener.fileno())],
            log=log,
            env=environment,
            cwd=ROOT,
            pass_fds=[listener.fileno()],
        )
    server = Server(process, port, log)
    try:
        services.until_ready(process, lambda: _answers(server), log)
        yield server
    finally:
        server.stop()


@contextmanager
def balancing(servers: Sequence[Server], home: Path) -> Iterator[Server]:
    """A balancer in front of *servers*, which looks like a server to its clients.

    The first client gets the first server, since the question whether the balancer is there
    goes to the last.
    """
    *others, last = [str(server.port) for server in servers]
    ports = [last, *others]
    command = (sys.executable, str(HERE / "balancer.py"), *ports)
    with serving(command, os.environ, home / "balancer.log") as balancer:
        yield balancer


def _answers(server: Server) -> bool:
    try:
        server.request("GET", "/is-anybody-there")
    except OSError:
        return False
    return True


WRITTEN_BY_RUNS = ("README.md", "docs/explanation/reliability.*", "docs/explanation/performance.*")


def commit() -> str:
    """What is checked out, and whether that is all; ``none`` outside of a repository.

    Pages that runs write are no change of what is measured.
    """
    unwritten = [f":(exclude){path}" for path in WRITTEN_BY_RUNS]
    name = _git("rev-parse", "--short=7", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *unwritten)
    return f"{name or 'none'}{'-dirty' if changed else ''}"


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()


def environment(**changes: str) -> dict[str, str]:
    """The environment of a site: ours without what configures a site, and *changes*."""
    prefixes = ("DJANGO_", "REALTIME_", "DATABASE_URL", "REDIS_URL", "DEBUG", "PYTEST_")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(prefixes)}
    return {**inherited, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **changes}


def manage(site_environment: Mapping[str, str], *arguments: str) -> str:
    """What ``manage.py`` *arguments* prints."""
    return subprocess.run(
        [sys.executable, ROOT / "manage.py", *arguments],
        env=site_environment,
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


@dataclass
class Site:
    """One kind of site, up and running."""

    kind: str
    environment: dict[str, str]
    servers: list[Server] = field(default_factory=list)
    app: App = field(default_factory=App)
    staff: User | None = None
    _users: list[User] = field(default_factory=list)

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.servers]

    @property
    def is_daphne(self) -> bool:
        """Whether closes come without a reason, and with 1000 for every code below 3000."""
        return self.kind.startswith("daphne")

    @property
    def first(self) -> Server:
        return self.servers[0]

    @property
    def last(self) -> Server:
        """Another process than the first, where the site has more than one."""
        return self.servers[-1]

    def make_users(self) -> None:
        made = [
            User(**user) for user in json.loads(manage(self.environment, "make_users", str(USERS)))
        ]
        self.staff = made.pop()
        self._users = made

    @contextmanager
    def replacement(self, gone: Server) -> Iterator[Server]:
        """A new process in the place of one that is *gone*."""
        with serving(KINDS[self.kind].command, self.environment, gone.log, gone.port) as server:
            yield server

    def expect_no_traceback(self) -> None:
        logs = {server.log: server.log.read_text() for server in self.servers}
        broken = [f"{log}:\n{text}" for log, text in logs.items() if "Traceback" in text]
        assert not broken, "\n".join(broken)

    def new_user(self) -> User:
        """A user whom no other test knows."""
        return self._users.pop()


@dataclass(frozen=True)
class Kind:
    """How a kind of site is built."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    prepare: Callable[[Site], object]
    processes: int = 1
    with_services: bool = False


PRODUCTION = {
    "DEBUG": "0",
    "DJANGO_SETTINGS_MODULE": "tests.e2e.site.settings",
    "DJANGO_SECRET_KEY": "only-for-the-end-to-end-tests-" + "0" * 30,
    "REALTIME_APP_ID": App.id,
    "REALTIME_APP_KEY": App.key,
    "REALTIME_APP_SECRET": App.secret,
}
DEMO = {"DEBUG": "1", "DJANGO_SETTINGS_MODULE": "project.settings"}

KINDS = {
    "daphne-memory": Kind(DAPHNE, PRODUCTION, Site.make_users),
    "uvicorn-redis": Kind(UVICORN, PRODUCTION, Site.make_users, processes=2, with_services=True),
    "uvicorn-queue": Kind(
        UVICORN,
        {**PRODUCTION, "REALTIME_LAYER": "queue"},
        Site.make_users,
        processes=2,
        with_services=True,
    ),
    "demo": Kind(DAPHNE, DEMO, lambda site: manage(site.environment, "demo")),
    "demo-redis": Kind(
        UVICORN,
        DEMO,
        lambda site: manage(site.environment, "demo"),
        processes=2,
        with_services=True,
    ),
}


@contextmanager
def running(kind: str, home: Path, *, may_log_tracebacks: bool = False) -> Iterator[Site]:
    """A site of *kind* with its files in *home*."""
    recipe = KINDS[kind]
    with ExitStack() as stack:
        if recipe.with_services:
            places = {
                "DATABASE_URL": stack.enter_context(services.postgres()),
                "REDIS_URL": stack.enter_context(services.valkey()),
            }
        else:
            places = {"DATABASE_URL": f"sqlite:///{home / 'db.sqlite3'}"}
        site = Site(kind, environment(**recipe.environment, **places))
        if not may_log_tracebacks:
            stack.callback(site.expect_no_traceback)  # runs after the servers have stopped
        manage(site.environment, "migrate", "--verbosity", "0")
        recipe.prepare(site)
        for number in range(recipe.processes):
            log = home / f"server-{number}.log"
            server = serving(recipe.command, site.environment, log)
            site.servers.append(stack.enter_context(server))
        yield site
