"""The command that sends what no server process has sent."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from realtime import layer as layer_module
from realtime import trigger
from realtime.models import OutboxEntry
from tests.test_outbox import RemoteLayer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def remote(settings):
    """A layer that ends in other processes."""
    backend = f"{RemoteLayer.__module__}.{RemoteLayer.__qualname__}"
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend}}
    return layer_module.channel_layer().local


def run(**options):
    output = StringIO()
    call_command("realtime_outbox", stdout=output, **options)
    return output.getvalue()


def leave_unsent(remote, count):
    remote.broken = True
    for number in range(count):
        trigger("orders", "paid", {"number": number}, durable=True)
    remote.broken = False


def test_what_waits_is_sent_in_order(remote):
    leave_unsent(remote, 3)

    assert run(once=True) == "Sent 3 durable events.\n"
    sent = [json.loads(json.loads(item["text"])["data"])["number"] for item in remote.events()]
    assert sent == [0, 1, 2]
    assert run(once=True) == "Sent 0 durable events.\n"


def test_a_layer_that_is_away_is_an_error_and_nothing_is_lost(remote):
    leave_unsent(remote, 2)
    remote.broken = True

    with pytest.raises(CommandError, match="still wait"):
        run(once=True)
    assert OutboxEntry.objects.unsent().count() == 2


def test_the_status_says_how_many_wait_and_since_when(remote):
    assert run(status=True) == "0 durable events wait.\n"
    leave_unsent(remote, 2)

    first, second = run(status=True).splitlines()
    assert first == "2 durable events wait."
    assert "has waited since 20" in second
    assert remote.events() == []


def test_a_layer_in_memory_is_left_to_the_server_process(layer):
    trigger("orders", "paid", {"number": 1}, durable=True)

    with pytest.raises(CommandError, match="in memory"):
        run(once=True)
    assert OutboxEntry.objects.unsent().count() == 1
