"""Promises that need time, several processes, or the end of one."""

import threading

import pytest

from tests.e2e import sites as site_module
from tests.e2e.conftest import http_library
from tests.e2e.wire import wire

IDLE_SECONDS = 60
RACES = 1_000
RACERS = 8
ALL_KINDS = ["daphne-memory", "uvicorn-redis", "uvicorn-queue"]


@pytest.mark.timeout(IDLE_SECONDS + 60)
def test_idle_connection_still_gets_events_after_a_minute(sites, new_client, channel):
    # One minute for all kinds together: they are idle at the same time.
    idle = [(site, new_client(site.first, site.app.key)) for site in map(sites, ALL_KINDS)]
    for _, client in idle:
        client.subscribe(channel)

    idle[0][1].call("wait", ms=IDLE_SECONDS * 1000, patience=IDLE_SECONDS + 10)
    for site, _ in idle:
        http_library(site.app, site.last).trigger(channel, "greet", site.kind)

    assert [client.wait_for("greet", on=channel).data for _, client in idle] == ALL_KINDS
    assert all(client.call("state") == "connected" for _, client in idle)


@pytest.mark.timeout(180)
@pytest.mark.spec(70, 116)
def test_no_event_is_lost_after_or_seen_before_a_subscription_succeeds(site, run_together, unique):
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
    run_together(*(lambda part=part: race(channels[part::RACERS]) for part in range(RACERS)))


@pytest.mark.spec(46, 230)
@pytest.mark.parametrize("kind", ["daphne-memory", "uvicorn-redis"])
def test_server_that_stops_asks_its_clients_to_reconnect_at_once(kind, tmp_path):
    with site_module.running(kind, tmp_path) as site, wire(site.first, site.app.key) as client:
        stopping = threading.Thread(target=site.first.stop)
        stopping.start()

        error = client.wait_for("pusher:error")
        assert error["data"]["code"] == 4200
        assert client.closing_code() == 4200
        stopping.join()


@pytest.mark.spec(46)
def test_members_of_a_stopped_process_leave_the_channel(tmp_path, new_client, channel):
    presence = f"presence-own-data-{channel}"
    with site_module.running("uvicorn-redis", tmp_path) as site:
        leaver, witness = site.new_user(), new_client(site.last, site.app.key, site.new_user())
        witness.subscribe(presence)
        leaving = new_client(site.first, site.app.key, leaver)
        leaving.subscribe(presence)
        witness.wait_for("pusher:member_added", on=presence)

        site.first.stop()

        removed = witness.wait_for("pusher:member_removed", on=presence).data
    assert removed["id"] == leaver.id
