"""Announcements leave in order, apart from whoever commits, and never pile up."""

import json

import pytest

from realtime import metrics
from realtime.models import Member
from realtime.presence import announcer as announcer_module
from realtime.presence.announcer import Announcer, envelope_of
from realtime.presence.store import Change
from realtime.protocol import messages
from tests.conftest import ID, soon, until


def change(number, *, present=True, channel="presence-room"):
    return Change(ID, channel, messages.Member(f"u{number}"), present, number)


def dropped():
    return metrics.snapshot()["realtime_announcements_dropped_total"][""]


def told(layer):
    """The versions announced so far, in order."""
    return [message["member"][1] for message in layer.events()]


@pytest.mark.parametrize(("present", "event"), [(True, "member_added"), (False, "member_removed")])
def test_a_change_becomes_an_event_and_news(present, event):
    envelope = envelope_of(change(7, present=present))

    assert json.loads(envelope.text)["event"] == f"pusher_internal:{event}"
    assert envelope.announcement.user_id == "u7"
    assert envelope.announcement.version == 7
    assert envelope.announcement.present is present


async def test_changes_are_announced_in_order(layer, monkeypatch):
    monkeypatch.setattr(announcer_module, "BURST", 3)
    announcer = Announcer()
    announcer.announce(change(number) for number in range(10))
    announcer.announce([change(10)])
    await soon(announcer.finish(5))

    assert told(layer) == list(range(11))


async def test_a_sign_in_is_told_to_processes_only(layer):
    announcer = Announcer()
    announcer.announce([change(1, channel=Member.ONLINE), change(2)])
    await soon(announcer.finish(5))

    assert told(layer) == [2]
    assert layer.sign_ins() == [["u1", 1, True]]


async def test_what_the_layer_does_not_take_is_dropped_and_counted(layer, caplog):
    before = dropped()
    layer.broken = True
    announcer = Announcer()
    announcer.announce(change(number) for number in range(200))
    await until(lambda: dropped() - before == 200)

    layer.broken = False
    announcer.announce([change(300)])
    await until(lambda: told(layer) == [300])
    assert "presence is not announced" in caplog.text


async def test_a_layer_that_hangs_makes_nothing_pile_up(layer, monkeypatch):
    monkeypatch.setattr(announcer_module, "WAITING", 5)
    before = dropped()
    announcer = Announcer()
    announcer.announce(change(number) for number in range(12))
    await soon(announcer.finish(5))

    assert told(layer) == [7, 8, 9, 10, 11]
    assert dropped() - before == 7
