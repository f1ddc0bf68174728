"""Durable events from programs that are no server, seen by unmodified pusher-js."""

import signal
import subprocess
import sys

import pytest

from tests import services
from tests.e2e.sites import ROOT, manage

SEND = """
from django.db import transaction
from realtime import trigger

with transaction.atomic():
    for number in range({count}):
        trigger("{channel}", "paid", {{"number": number}}, durable=True)
    transaction.set_rollback({rollback})
"""


def send(site, channel, count=1, *, rollback=False):
    """Trigger from a management command, which has no connection of its own."""
    manage(site.environment, "shell", "-c", SEND.format(**locals()))


@pytest.fixture
def subscriber(site, new_client, unique):
    """A client of the last process, and its channel."""
    channel = unique("orders-")
    client = new_client(site.last, site.app.key)
    client.wait_for_state("connected")
    client.subscribe(channel)
    return client, channel


def test_a_durable_event_of_another_process_arrives_on_every_layer(site, subscriber):
    """Also with the layer in memory, which ends at its process: the database does not."""
    client, channel = subscriber
    send(site, channel, rollback=True)
    send(site, channel, count=3)

    seen = [client.wait_for("paid", on=channel).data for _ in range(3)]

    assert [item["number"] for item in seen] == [0, 1, 2]
    ids = [item["event_id"] for item in seen]
    assert len(set(ids)) == 3
    assert all(len(item) == 32 for item in ids)


def test_the_command_goes_on_until_it_is_stopped(sites, new_client, unique):
    site = sites("uvicorn-redis")
    channel = unique("orders-")
    client = new_client(site.last, site.app.key)
    client.wait_for_state("connected")
    client.subscribe(channel)
    command = subprocess.Popen(
        [sys.executable, ROOT / "manage.py", "realtime_outbox"],
        env=site.environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        send(site, channel)
        client.wait_for("paid", on=channel)
        assert command.poll() is None
    finally:
        command.terminate()
        _, errors = command.communicate(timeout=services.START_SECONDS)
    assert "Traceback" not in errors
    assert command.returncode == -signal.SIGTERM
