"""What becomes of open connections when the row of their app changes."""

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError

from realtime import app_changes, applications
from realtime.models import Application
from tests.conftest import hmac_hex, until

PATH = "/app/{}?protocol=7&client=js&version=8.6.0&flash=false"


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(applications, "FRESH_SECONDS", 0.01)


@pytest.fixture
async def row(process):
    return await Application.objects.acreate(name="Shop", app_id="9", key="key-9", secret="s-9")


@pytest.fixture
def save(row):
    async def change(**fields):
        """Past the signals, as another process would."""
        await Application.objects.filter(pk=row.pk).aupdate(**fields)

    return change


async def private(client, key, secret):
    """Subscribe to a private channel with a key; the event that answers."""
    channel = f"private-{key}"
    auth = f"{key}:{hmac_hex(f'{client.socket_id}:{channel}', secret)}"
    await client.say("pusher:subscribe", {"channel": channel, "auth": auth})
    return (await client.event())[0]


async def test_a_disabled_app_loses_its_connections(connect, save, counted):
    client = await connect(PATH.format("key-9"))

    await save(enabled=False)

    assert (await client.event())[1]["code"] == 4003
    assert await client.closed() == (4003, "Application disabled")
    assert counted("connections_closed", "4003") == 1


async def test_a_deleted_app_loses_its_connections(connect, row, counted):
    client = await connect(PATH.format("key-9"))

    await Application.objects.filter(pk=row.pk).adelete()

    assert (await client.event())[1]["code"] == 4001
    assert (await client.closed())[0] == 4001
    assert counted("connections_closed", "4001") == 1


async def test_a_rotated_key_counts_for_open_connections(connect, save):
    client = await connect(PATH.format("key-9"))

    await save(key="key-10", secret="s-10", old_key="key-9", old_secret="s-9")
    await adopted(client)

    assert await private(client, "key-10", "s-10") == "pusher_internal:subscription_succeeded"
    assert await private(client, "key-9", "s-9") == "pusher_internal:subscription_succeeded"


async def test_switches_count_for_open_connections(connect, save):
    client = await connect(PATH.format("key-9"))
    await private(client, "key-9", "s-9")

    await save(client_events=False)
    await adopted(client)
    await client.say("client-hello", channel="private-key-9")

    event, data = await client.event()
    assert event == "pusher:error"
    assert data["message"].startswith("To send client events, you must enable")


async def adopted(client):
    """Wait until the connection holds what the row says."""
    rows = await sync_to_async(lambda: applications._read_rows().by_id)()
    watch = app_changes.current()
    await until(lambda: all(f.app == rows["9"] for f in watch._followers["9"]))


async def test_nobody_watches_when_nobody_is_connected(connect, row):
    client = await connect(PATH.format("key-9"))
    watch = app_changes.current()
    task = watch._task

    await client.leave()

    assert watch._followers == {}
    await until(task.done)


async def test_apps_of_the_settings_are_not_watched(connect):
    await connect()

    assert app_changes.current()._task is None


async def test_a_database_that_is_away_changes_nothing(connect, row, save, monkeypatch, caplog):
    client = await connect(PATH.format("key-9"))
    read = applications.read_apps

    def away():
        raise OperationalError("away")

    monkeypatch.setattr(applications, "read_apps", away)
    await until(lambda: "the rows of apps cannot be read" in caplog.text)
    await client.is_silent()

    monkeypatch.setattr(applications, "read_apps", read)
    await save(enabled=False)
    assert (await client.event())[1]["code"] == 4003
