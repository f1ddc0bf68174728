"""How many connections a channel has, told to its subscribers."""

import json

import pytest
from django.core.cache import cache

from realtime import counts, metrics
from realtime.models import WebhookDelivery
from tests.conftest import NOWHERE, until, until_async


@pytest.fixture(autouse=True)
def _switched_on(configure):
    configure(SUBSCRIPTION_COUNTS=True)
    cache.clear()


def told(layer):
    """The counts sent so far, by channel and in order."""
    events = [json.loads(message["text"]) for message in layer.events()]
    return [
        (event["channel"], json.loads(event["data"])["subscription_count"])
        for event in events
        if event["event"] == "pusher_internal:subscription_count"
    ]


@pytest.mark.spec(105)
async def test_subscribers_are_told_how_many_they_are(connect):
    first, second = await connect(), await connect()
    await first.subscribe("room")
    assert await first.event() == ("pusher_internal:subscription_count", {"subscription_count": 1})

    await second.subscribe("room")
    for client in (first, second):
        assert (await client.event())[1] == {"subscription_count": 2}

    await second.say("pusher:unsubscribe", {"channel": "room"})
    assert (await first.event())[1] == {"subscription_count": 1}


@pytest.mark.spec(202)
async def test_a_count_is_a_fact_if_somebody_wants_it(connect, configure):
    endpoint = {"URL": NOWHERE, "KINDS": ["subscription_count"]}
    configure(SUBSCRIPTION_COUNTS=True, WEBHOOKS=[endpoint])
    client = await connect()
    await client.subscribe("room")

    delivery = await until_async(WebhookDelivery.objects.afirst)
    assert json.loads(delivery.body)["events"] == [
        {"name": "subscription_count", "channel": "room", "subscription_count": 1}
    ]


@pytest.mark.spec(106)
async def test_presence_channels_have_no_count(connect, layer):
    client = await connect()
    await client.subscribe("presence-room", {"user_id": "ann"})
    await client.subscribe("private-room")

    await until(lambda: told(layer))

    assert told(layer) == [("private-room", 1)]


@pytest.mark.spec(108)
async def test_with_the_switch_off_nobody_is_told(connect, configure, layer):
    configure(SUBSCRIPTION_COUNTS=False)
    client = await connect()
    await client.subscribe("room")

    await client.is_silent()
    assert told(layer) == []


@pytest.mark.spec(107)
async def test_a_crowd_is_told_now_and_then_and_of_the_last_change(connect, layer, monkeypatch):
    assert (counts.CROWD, counts.CROWD_SECONDS) == (100, 5)
    monkeypatch.setattr(counts, "CROWD", 1)
    monkeypatch.setattr(counts, "CROWD_SECONDS", 2)
    for number in range(1, 4):
        await (await connect()).subscribe("room")
        if number <= 2:
            await until(lambda: told(layer)[-1:] == [("room", number)])  # noqa: B023

    assert told(layer) == [("room", 1), ("room", 2)]
    await until(lambda: told(layer)[-1:] == [("room", 3)])


async def test_a_cache_that_is_away_keeps_nobody_from_being_told(
    connect, layer, monkeypatch, configure, settings
):
    monkeypatch.setattr(counts, "CROWD", 0)
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    settings.CACHES = {"broken": {"BACKEND": backend, "LOCATION": "/proc/nowhere"}}
    configure(CACHE="broken", SUBSCRIPTION_COUNTS=True)
    before = metrics.snapshot()["realtime_cache_failures_total"][""]
    await (await connect()).subscribe("room")

    await until(lambda: told(layer) == [("room", 1)])
    assert metrics.snapshot()["realtime_cache_failures_total"][""] == before + 1


async def test_what_the_layer_did_not_take_is_told_again(connect, layer, caplog, monkeypatch):
    monkeypatch.setattr(counts, "RETRY_SECONDS", 0.05)
    first, second = await connect(), await connect()
    await first.subscribe("room")
    await second.subscribe("room")
    await until(lambda: told(layer)[-1:] == [("room", 2)])
    layer.broken = True
    await first.say("pusher:unsubscribe", {"channel": "room"})

    await until(lambda: "subscribers are not told how many they are" in caplog.text)
    layer.repair()
    await until(lambda: told(layer)[-1:] == [("room", 1)])
