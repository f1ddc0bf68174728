"""Sites on every kind of channel layer: two server processes, seen by unmodified pusher-js."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pusher.errors import PusherBadStatus, PusherError

from tests import services
from tests.e2e import sites as site_module
from tests.e2e.conftest import http_library
from tests.e2e.sites import PRODUCTION, UVICORN, Kind, Site

PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
QUEUE = "channels_redis.core.RedisChannelLayer"
POSTGRES = "channels_postgres.core.PostgresChannelLayer"
REJOIN_SECONDS = 20


def hosts_of(*urls: str) -> dict[str, Any]:
    return {"hosts": [{"address": url, "socket_timeout": None} for url in urls]}


class Layers:
    """Starts sites on layers, and keeps what those stand on."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self._home, self._stack = home, stack
        self.valkeys: list[str] = []
        self.replicated: services.Replicated | None = None

    def site(self, name: str) -> Site:
        """A site of two processes on the layer *name*."""
        layer, config = self._layer(name)
        kind = Kind(
            UVICORN,
            {
                **PRODUCTION,
                "DJANGO_SETTINGS_MODULE": "tests.e2e.site.layers",
                "E2E_LAYER": json.dumps({"BACKEND": layer, "CONFIG": config}),
            },
            Site.make_users,
            processes=2,
            with_services=True,
        )
        site_module.KINDS[name] = kind
        return self._stack.enter_context(
            site_module.running(name, self._home, may_log_tracebacks=True)
        )

    def _layer(self, name: str) -> tuple[str, dict[str, Any]]:
        match name:
            case "postgres":
                return POSTGRES, {}
            case "pubsub-hosts" | "queue-hosts":
                self.valkeys = [self._stack.enter_context(services.valkey()) for _ in range(2)]
                capacity = {"capacity": 10_000} if name == "queue-hosts" else {}
                return QUEUE if capacity else PUBSUB, {**hosts_of(*self.valkeys), **capacity}
            case _:
                self.replicated = self._stack.enter_context(services.replicated_valkey())
                host = {"sentinels": [self.replicated.sentinel], "master_name": "realtime"}
                return PUBSUB, {"hosts": [{**host, "socket_timeout": None}]}


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[Layers]:
    kinds = dict(site_module.KINDS)
    with ExitStack() as stack:
        yield Layers(tmp_path, stack)
    site_module.KINDS.clear()
    site_module.KINDS.update(kinds)


@pytest.fixture
def open_client(new_client: Callable[..., Any]) -> Callable[..., Any]:
    """Makes connected clients: ``open_client(site, server, user)``."""

    def start(site: Site, server: Any, user: Any = None) -> Any:
        client = new_client(server, site.app.key, user)
        client.wait_for_state("connected")
        return client

    return start


def until(condition: Callable[[], bool], seconds: float = REJOIN_SECONDS) -> float:
    """Ask until *condition* holds; return how long it took."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise TimeoutError
    return time.monotonic() - started


def arrives(site: Site, client: Any, channel: str, *, patience: float = 1) -> bool:
    """Whether an event of the last process reaches *client* just now."""
    try:
        http_library(site.app, site.last).trigger(channel, "greet", {})
        client.wait_for("greet", on=channel, patience=patience)
    except (PusherError, TimeoutError):
        return False
    return True


@pytest.mark.parametrize("name", ["postgres", "pubsub-hosts", "queue-hosts", "sentinel"])
def test_events_presence_and_kicks_cross_processes(layers, open_client, unique, name):
    site = layers.site(name)
    near, far = site.new_user(), site.new_user()
    witness = open_client(site, site.first, near)
    rooms = [unique("layer-room-") for _ in range(10)]  # spread over all hosts
    for room in rooms:
        witness.subscribe(room)
    who = unique("presence-own-data-")
    witness.subscribe(who)

    for room in rooms:
        http_library(site.app, site.last).trigger(room, "greet", {"room": room})
    for room in rooms:
        assert witness.wait_for("greet", on=room).data == {"room": room}

    guest = open_client(site, site.last, far)
    guest.sign_in()
    assert guest.subscribe(who)["count"] == 2
    assert witness.wait_for("pusher:member_added", on=who).data["id"] == far.id

    http_library(site.app, site.first).terminate_user_connections(far.id)
    guest.wait_for_state("disconnected")
    assert witness.wait_for("pusher:member_removed", on=who).data["id"] == far.id
    assert readiness(site) == [200, 200]


def test_another_master_takes_over_and_nobody_restarts_anything(layers, open_client, unique):
    site = layers.site("sentinel")
    client = open_client(site, site.first)
    rooms = [unique("layer-room-") for _ in range(5)]
    for room in rooms:
        client.subscribe(room)
    old = layers.replicated.kill_master()

    until(lambda: published(site) == 503)
    until(lambda: layers.replicated.master() != old)
    until(lambda: all(arrives(site, client, room) for room in rooms))

    assert client.call("state") == "connected"
    assert "disconnected" not in client.names("connection")
    until(lambda: readiness(site) == [200, 200])
    assert published(site) == 200


def test_a_layer_on_the_database_is_heard_again_after_its_connections_were_cut(
    layers, open_client, unique
):
    site = layers.site("postgres")
    client, room = open_client(site, site.first), unique("layer-room-")
    client.subscribe(room)
    assert arrives(site, client, room, patience=15)

    with psycopg.connect(site.environment["DATABASE_URL"], autocommit=True) as database:
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )

    until(lambda: arrives(site, client, room))
    assert client.call("state") == "connected"


def published(site: Site) -> int:
    """The status of the answer to a publish through the last process."""
    try:
        http_library(site.app, site.last).trigger("layer-nobody", "greet", {})
    except PusherBadStatus as error:
        return int(str(error).partition(":")[0])
    return 200


def readiness(site: Site) -> list[int]:
    return [server.request("GET", "/realtime/ready")[0] for server in site.servers]


@pytest.mark.parametrize("backend", [PUBSUB, QUEUE])
def test_a_synchronous_program_goes_on_after_redis_has_closed_its_connections(backend):
    """It has one, which nothing but a call uses."""
    with services.valkey_on_tcp() as url:
        script = f"""if True:
            import redis
            from realtime import trigger

            def close_all():
                print("closed:", server.execute_command("CLIENT", "KILL", "SKIPME", "yes"))

            server = redis.Redis.from_url({url!r})
            trigger("room", "first", "")
            close_all()
            trigger("room", "second", "")
            close_all()
        """
        environment = site_module.environment(
            DJANGO_SETTINGS_MODULE="tests.e2e.site.layers",
            E2E_LAYER=json.dumps({"BACKEND": backend, "CONFIG": hosts_of(url)}),
            REDIS_URL=url,
        )
        said = site_module.manage(environment, "shell", "-c", script)

    assert said.splitlines()[-2:] == ["closed: 1", "closed: 1"]
