"""The rows of durable events."""

from datetime import timedelta

import pytest
from django.db.models.functions import Now

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


def test_the_backlog_is_what_is_unsent_and_how_long_the_oldest_waits():
    assert OutboxEntry.objects.all().backlog(10) == (0, 0.0)
    for minutes in (5, 3, 1):
        old = entry()
        OutboxEntry.objects.filter(pk=old.pk).update(created_at=Now() - timedelta(minutes=minutes))
    OutboxEntry.objects.filter(pk=entry().pk).update(sent_at=Now())

    waiting, seconds = OutboxEntry.objects.all().backlog(10)

    assert waiting == 3
    assert 300 <= seconds < 330
    assert OutboxEntry.objects.all().backlog(2)[0] == 2


def test_the_backlog_takes_two_statements(django_assert_num_queries):
    entry()

    with django_assert_num_queries(2):
        OutboxEntry.objects.all().backlog(10)
