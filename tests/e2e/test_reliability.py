"""Promises that need time, several processes, or the end of one."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import redis
from pusher.errors import PusherError

from tests.e2e import sites as site_module
from tests.e2e.conftest import TEST_SECONDS, http_library
from tests.e2e.wire import wire

IDLE_SECONDS = 60
RACES = 1_000
RACERS = 8
ALL_KINDS = ["daphne-memory", "uvicorn-redis", "uvicorn-queue"]


@pytest.mark.timeout(IDLE_SECONDS + TEST_SECONDS)
@pytest.mark.spec(28, 30)
def test_idle_connection_still_gets_events_after_a_minute(sites, new_client, channel):
    """pusher-js, and a client that answers the server's control pings and nothing else."""
    # One minute for all kinds together: they are idle at the same time.
    idle = [(site, new_client(site.first, site.app.key)) for site in map(sites, ALL_KINDS)]
    for _, client in idle:
        client.subscribe(channel)
    with ExitStack() as stack:
        wires = [
            stack.enter_context(wire(site.first, site.app.key, ping_interval=None))
            for site, _ in idle
        ]
        for quiet in wires:
            quiet.subscribe(channel)

        idle[0][1].call("wait", ms=IDLE_SECONDS * 1000, patience=IDLE_SECONDS + 10)
        for site, _ in idle:
            http_library(site.app, site.last).trigger(channel, "greet", site.kind)

        assert [client.wait_for("greet", on=channel).data for _, client in idle] == ALL_KINDS
        assert all(client.call("state") == "connected" for _, client in idle)
        assert all(quiet.wait_for("greet") for quiet in wires)


@pytest.mark.spec(26)
def test_control_ping_is_answered_with_a_control_pong(open_wire):
    assert open_wire().socket.ping().wait(IDLE_SECONDS)


@pytest.mark.spec(70)
def test_no_event_is_lost_after_or_seen_before_a_subscription_succeeds(site, unique):
    """*early* races with the subscription, *late* follows at once; both by another process."""

    def race(channels):
        library = http_library(site.app, site.last)
        with wire(site.first, site.app.key) as subscriber:
            for channel in channels:
                early = threading.Thread(target=library.trigger, args=[channel, "early", {}])
                early.start()
                subscriber.send("pusher:subscribe", {"channel": channel})
                first = subscriber.receive()
                assert first["event"] == "pusher_internal:subscription_succeeded", first
                assert first["channel"] == channel
                early.join()
                library.trigger(channel, "late", {})
                late = subscriber.wait_for("late")
                assert late["channel"] == channel
                subscriber.send("pusher:unsubscribe", {"channel": channel})

    channels = [unique("race-") for _ in range(RACES)]
    with ThreadPoolExecutor(RACERS) as pool:
        assert len(list(pool.map(race, [channels[n::RACERS] for n in range(RACERS)]))) == RACERS


@pytest.mark.spec(46)
@pytest.mark.parametrize("kind", ["daphne-memory", "uvicorn-redis"])
def test_server_that_stops_asks_its_clients_to_reconnect_at_once(kind, tmp_path):
    with site_module.running(kind, tmp_path) as site, wire(site.first, site.app.key) as client:
        stopping = threading.Thread(target=site.first.stop)
        stopping.start()

        error = client.wait_for("pusher:error")
        assert error["data"]["code"] == 4200
        assert client.closing_code() == 4200
        stopping.join()


@pytest.mark.spec(230)
def test_clients_return_to_a_process_that_was_replaced(tmp_path, new_client, channel):
    with site_module.running("daphne-memory", tmp_path) as site:
        client = new_client(site.first, site.app.key)
        client.subscribe(channel)

        site.first.stop()
        with site.replacement(site.first) as server:
            # A refused connection costs pusher-js one attempt of 15 seconds.
            client.wait_for("pusher:subscription_succeeded", on=channel, patience=60)
            http_library(site.app, server).trigger(channel, "greet", {})

            client.wait_for("greet", on=channel)


@pytest.mark.parametrize("kind", ["uvicorn-redis", "uvicorn-queue"])
def test_events_flow_again_after_redis_cut_every_connection(kind, tmp_path, new_client, channel):
    with site_module.running(kind, tmp_path, may_log_tracebacks=True) as site:
        library, client = http_library(site.app, site.last), new_client(site.first, site.app.key)
        client.subscribe(channel)

        with redis.Redis.from_url(site.environment["REDIS_URL"]) as bus:
            bus.client_kill_filter(skipme=True, _type="pubsub")
            bus.client_kill_filter(skipme=True, _type="normal")

        give_up = time.monotonic() + RECOVERY_SECONDS
        while not arrives(library, client, channel):
            assert time.monotonic() < give_up, "no event arrives any more"


RECOVERY_SECONDS = 20


def arrives(library, client, channel):
    """Whether an event comes through just now."""
    try:
        library.trigger(channel, "greet", {})
        client.wait_for("greet", on=channel, patience=0.5)
    except (PusherError, TimeoutError):
        return False
    return True


@pytest.mark.spec(46, 96)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_members_of_a_process_that_is_gone_leave_the_channel(tmp_path, new_client, channel, how):
    presence = f"presence-own-data-{channel}"
    with site_module.running("uvicorn-redis", tmp_path) as site:
        leaver, witness = site.new_user(), new_client(site.last, site.app.key, site.new_user())
        witness.subscribe(presence)
        new_client(site.first, site.app.key, leaver).subscribe(presence)
        witness.wait_for("pusher:member_added", on=presence)

        site.first.process.send_signal(how)

        # A killed process counts as alive until its lease runs out.
        removed = witness.wait_for("pusher:member_removed", on=presence, patience=30).data
        assert removed["id"] == leaver.id
        members = http_library(site.app, site.last).users_info(presence)["users"]
    assert leaver.id not in [member["id"] for member in members]
