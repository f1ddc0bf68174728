"""The rows of durable events."""

import pytest

from realtime.models import OutboxChannel, OutboxEntry

pytestmark = pytest.mark.django_db


def entry(channel="room", position=None):
    return OutboxEntry.objects.create(
        stream_id=OutboxChannel.key_of("3", channel),
        app_id="3",
        channel=channel,
        text="{}",
        position=position,
    )


def test_a_channel_is_read_from_a_position_on():
    for position in (12, 11, 10):
        entry(position=position)
    entry("other", position=11)

    assert [item.position for item in OutboxEntry.objects.after("3", "room", 10)] == [11, 12]


def test_an_event_names_its_channel_and_place():
    assert str(entry()) == "room "
    assert str(entry(position=7)) == "room 7"
    assert OutboxEntry.objects.unsent().count() == 2
