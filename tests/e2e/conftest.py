"""Sites, clients and libraries.  Sites run once per session; tests share them, not their users."""

import itertools
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pusher as pusher_http
import pytest
from playwright.sync_api import Browser

from tests.e2e import chromium
from tests.e2e import sites as site_module
from tests.e2e.nodejs import Client, Node
from tests.e2e.sites import App, Server, Site, User
from tests.e2e.wire import Wire, wire

HERE = Path(__file__).parent
LOG_TAIL = 8_000
LIBRARY_SECONDS = 15
"""How long a library waits for an answer: the server may take five seconds to say 503."""

TEST_SECONDS = 180
"""How long a test may take, unless it says so: the one that comes first starts the site, too."""

# A command that a shell starts in the background ignores the keyboard, and so does what it starts:
# servers, too, that a test ends like that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TEST_SECONDS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """A failure comes with the logs of the servers it talked to."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            for server in getattr(value, "servers", []):
                report.sections.append(
                    (f"{value.kind}: {server.log.name}", server.log.read_text()[-LOG_TAIL:])
                )
    return report


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Site]]:
    """Starts each kind of site once."""
    running: dict[str, Site] = {}
    with ExitStack() as stack:

        def start(kind: str) -> Site:
            if kind not in running:
                home = tmp_path_factory.mktemp(kind)
                running[kind] = stack.enter_context(site_module.running(kind, home))
            return running[kind]

        yield start


@pytest.fixture(params=["daphne-memory", "uvicorn-redis"])
def site(request: pytest.FixtureRequest, sites: Callable[[str], Site]) -> Site:
    """One process with nothing around it, and two that share a Valkey and a PostgreSQL."""
    return sites(request.param)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A process full of pusher-js clients."""
    process = Node("client.mjs", tmp_path_factory.mktemp("node") / "client.log")
    yield process
    process.close()


@pytest.fixture(scope="session")
def unique() -> Callable[[str], str]:
    """Names that no other test uses."""
    numbers = itertools.count(1)
    return lambda prefix: f"{prefix}{next(numbers)}"


@pytest.fixture
def new_client(node: Node, unique: Callable[[str], str]) -> Iterator[Callable[..., Client]]:
    """Makes pusher-js clients of any server that start to connect; they leave with the test."""
    made: list[Client] = []

    def start(server: Server, key: str, user: User | None = None, **options: object) -> Client:
        client = Client(node, unique("client-"))
        client.connect(server, key, user, **options)
        made.append(client)
        return client

    yield start
    for client in made:
        client.call("disconnect")


@pytest.fixture
def connect(site: Site, new_client: Callable[..., Client]) -> Callable[..., Client]:
    """Makes connected pusher-js clients of the site: ``connect(user, at=server)``."""

    def start(user: User | None = None, *, at: Server | None = None, **options: object) -> Client:
        client = new_client(at or site.first, site.app.key, user, **options)
        client.wait_for_state("connected")
        return client

    return start


@pytest.fixture
def entrance(site: Site, tmp_path: Path) -> Iterator[Server]:
    """Where clients connect to: where there are two processes, each request goes to the next."""
    with site_module.balancing(site.servers, tmp_path) as balancer:
        yield balancer


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a file."""
    with chromium.launched() as browser:
        yield browser


@pytest.fixture
def open_wire(site: Site) -> Iterator[Callable[..., Wire]]:
    """Opens bare WebSockets: ``open_wire(at=server)``."""
    with ExitStack() as stack:
        yield lambda at=None: stack.enter_context(wire(at or site.first, site.app.key))


def http_library(app: App, server: Server) -> pusher_http.Pusher:
    """The official Python server library, pointed at *server*."""
    return pusher_http.Pusher(
        app_id=app.id,
        key=app.key,
        secret=app.secret,
        host="127.0.0.1",
        port=server.port,
        ssl=False,
        timeout=LIBRARY_SECONDS,
    )


@pytest.fixture
def pusher(site: Site) -> pusher_http.Pusher:
    """The Python server library at another process than the clients, where there is one."""
    return http_library(site.app, site.last)


@pytest.fixture
def channel(unique: Callable[[str], str]) -> str:
    """A public channel that no other test uses."""
    return unique("room-")
