"""Which channels have subscriptions, here and anywhere."""

from datetime import timedelta

import pytest
from django.utils import timezone

from realtime.models import ChannelState, Occupancy
from realtime.presence import occupancy, purge
from realtime.presence.occupancy import Occupy

pytestmark = pytest.mark.django_db

ROOM = ("3", "room")


def write(server, *counts, channel="room"):
    return occupancy.write(server, [Occupy("3", channel, count) for count in counts])


def kinds(moved, server=None):
    return [fact.kind for fact in occupancy.settle(moved, [], server)]


def test_only_coming_and_going_moves_a_channel(servers):
    assert write(servers[0], 1) == {ROOM: True}
    assert write(servers[0], 2) == {}
    assert write(servers[1], 1) == {ROOM: True}
    assert write(servers[0], 0) == {ROOM: False}
    assert write(servers[0], 0) == {}
    assert write(servers[0], 3, 0) == {}
    assert occupancy.write(servers[0], []) == {}


def test_the_same_name_in_another_app_is_another_channel(servers):
    write(servers[0], 1)

    assert occupancy.write(servers[0], [Occupy("4", "room", 1)]) == {("4", "room"): True}
    assert kinds({ROOM: True, ("4", "room"): True}, servers[0]) == ["channel_occupied"] * 2


def test_a_channel_is_decided_by_all_processes(servers):
    story = []
    for server, count in ((0, 1), (1, 1), (0, 0), (1, 0), (1, 1)):
        story.append(kinds(write(servers[server], count), servers[server]))

    assert story == [["channel_occupied"], [], [], ["channel_vacated"], ["channel_occupied"]]


def test_what_did_not_move_is_no_news():
    assert kinds({}) == []
    assert not ChannelState.objects.exists()


def test_counts_of_the_dead_go_a_portion_at_a_time(servers):
    for channel in ("a", "b", "c"):
        write(servers[0], 1, channel=channel)

    assert len(occupancy.reap(servers[:1], 2)) == 2
    assert len(occupancy.reap(servers[:1], 2)) == 1
    assert occupancy.reap(servers[:1], 2) == []
    assert not Occupancy.objects.exists()


def test_channels_that_were_long_empty_are_forgotten(servers, monkeypatch):
    monkeypatch.setattr(purge, "BATCH_ROWS", 1)
    for channel, count in (("kept", 1), ("gone", 0), ("gone too", 0), ("new", 0)):
        kinds(write(servers[0], 1, channel=channel), servers[0])
        kinds(write(servers[0], count, channel=channel))
    before = timezone.now() - timedelta(days=1)
    old = ChannelState.objects.exclude(channel="new")
    old.update(changed_at=before - timedelta(seconds=1))

    assert purge.count(before).channels == 2
    assert purge.delete(before).channels == 2

    assert set(ChannelState.objects.values_list("channel", flat=True)) == {"kept", "new"}
