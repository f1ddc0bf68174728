"""What the subscribers of one channel in one process get; more of it in ``test_hub``."""

import time

from realtime.last_events import Kept
from realtime.layer import Envelope
from realtime.local_channel import LocalChannel
from realtime.protocol.attendance import Announcement, View
from realtime.protocol.messages import encode_member_removed
from tests.conftest import ID, Peer, until

CHANNEL = "cache-prices"


def event(name, kept_at=None):
    return Envelope(ID, CHANNEL, name, kept_at=kept_at)


def joined(local, peer, kept):
    local.held.add(peer.socket)
    local.release(peer.socket, None, kept)


async def test_an_event_from_the_cache_does_not_come_again():
    local, first, second = LocalChannel("group"), Peer("1.1"), Peer("1.2")
    now = time.time_ns()
    joined(local, first, Kept(CHANNEL, now, "new"))
    joined(local, second, Kept(CHANNEL, now - 10**9, "old"))

    local.deliver(event("before", now - 1))  # on its way behind the one from the cache
    local.deliver(event("new", now))
    local.deliver(event("newer", now + 1))

    await until(lambda: len(second.texts) == 4)
    assert first.texts == ["new", "newer"]
    assert second.texts == ["old", "before", "new", "newer"]


async def test_who_left_is_forgotten():
    local, peer = LocalChannel("group"), Peer("1.1")
    joined(local, peer, Kept(CHANNEL, time.time_ns(), "new"))

    local.remove(peer.socket)

    assert local.empty
    assert local._given == {}


async def test_a_member_that_shows_something_else_is_two_copies_after_a_kept_event():
    channel = "presence-cache-room"
    local, early, late = LocalChannel("group"), Peer("1.1"), Peer("1.2")
    news = Announcement("ann", 2, present=True, shown_since=2)
    renewal = Envelope(ID, channel, "added", announcement=news)
    local.held.add(late.socket)
    local.held.add(early.socket)
    local.release(early.socket, View({"ann": 1}), None)

    assert local.deliver(renewal) == 2
    assert local.release(late.socket, View({"ann": 1}), Kept(channel, 1, "kept")) == 3

    removed = encode_member_removed(channel, "ann")
    await until(lambda: len(late.texts) == 3)
    assert late.texts == ["kept", removed, "added"]
    assert early.texts == [removed, "added"]
