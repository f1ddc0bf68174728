"""What this process counts and holds, in the text formats of Prometheus."""

import asyncio
import os

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse

from realtime import metrics, prometheus
from realtime.presence import ledger
from tests.conftest import ID, soon


def samples(text):
    """Every value by its name and its label, without the one that names the process."""
    found = {}
    for family in parse(text):
        for sample in family.samples:
            assert sample.labels.pop("server").endswith(f":{os.getpid()}")
            found[sample.name, *sample.labels.values()] = sample.value
    return found


def exposed(backlog=None):
    body, _ = prometheus.expose("", backlog)
    return samples(body.decode())


async def test_every_counter_is_exposed_under_its_name_and_label(counted):
    metrics.count("over_capacity", 3, reason="flood")

    found = exposed()

    for name, values in metrics.snapshot().items():
        for value, count in values.items():
            assert found[(name, value) if value else (name,)] == count
    assert counted("over_capacity", "flood") == 3


async def test_a_process_without_connections_has_none_of_the_app(layer):
    assert exposed()["realtime_events_delivered_total", ID] == 0


async def test_connections_subscriptions_and_channels_are_those_of_each_app(connect):
    first, second = await connect(), await connect()
    await first.subscribe("room")
    await second.subscribe("room")
    await second.subscribe("other")

    found = exposed()

    assert found["realtime_connections", ID] == 2
    assert found["realtime_subscriptions", ID] == 3
    assert found["realtime_channels", ID] == 2
    assert found["realtime_layer_listening",] == 1
    assert found["realtime_layer_round_trip_seconds",] > 0


async def test_a_channel_that_lingers_without_subscribers_is_not_counted(connect):
    client = await connect()
    await client.subscribe("room")
    await client.say("pusher:unsubscribe", {"channel": "room"})
    await client.say("pusher:ping")
    assert await client.event() == ("pusher:pong", {})

    found = exposed()

    assert found["realtime_channels", ID] == found["realtime_subscriptions", ID] == 0


async def test_the_ledger_tells_its_queue_and_its_lease(connect, configure):
    configure(LEASE_SECONDS=60)
    client = await connect()
    await client.subscribe("presence-room", {"user_id": "ann"})
    await soon(ledger.current().flushed())

    found = exposed()

    assert found["realtime_ledger_waiting",] == 0
    assert 0 < found["realtime_lease_remaining_seconds",] <= 60


async def test_a_process_that_needs_no_lease_has_one_for_ever(process):
    ledger.current()

    assert exposed()["realtime_lease_remaining_seconds",] == float("inf")


async def test_the_backlog_is_left_out_where_the_database_did_not_say():
    assert ("realtime_outbox_waiting",) not in exposed()
    assert exposed((3, 1.5))["realtime_outbox_waiting",] == 3
    assert exposed((3, 1.5))["realtime_outbox_oldest_seconds",] == 1.5


async def test_buckets_add_up(monkeypatch):
    histogram = metrics.Histogram((0.1, 1))
    for seconds in (0.05, 0.1, 0.5, 7):
        histogram.observe(seconds)
    monkeypatch.setattr(metrics, "FAN_OUT", histogram)

    found = exposed()

    name = "realtime_fan_out_seconds"
    buckets = [found[f"{name}_bucket", end] for end in ("0.1", "1.0", "+Inf")]
    assert buckets == [2, 3, 4]
    assert found[f"{name}_count",] == 4
    assert found[f"{name}_sum",] == pytest.approx(7.65)


async def test_the_process_itself_is_measured():
    assert exposed()["process_open_fds",] > 0


async def test_openmetrics_is_spoken_to_whoever_prefers_it():
    body, content_type = prometheus.expose("application/openmetrics-text; version=1.0.0", (0, 0.0))

    assert content_type.startswith("application/openmetrics-text")
    assert {family.name for family in parse_openmetrics(body.decode())} >= {
        "realtime_connections_refused",
        "realtime_fan_out_seconds",
    }


async def test_other_loops_have_hubs_of_their_own(local_hub):
    assert await asyncio.to_thread(asyncio.run, _has_no_hub())


async def _has_no_hub():
    return ("realtime_layer_listening",) not in exposed()
