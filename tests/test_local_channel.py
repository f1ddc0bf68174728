"""What the subscribers of one channel in one process get; more of it in ``test_hub``."""

import time

from realtime.last_events import Kept
from realtime.layer import Envelope
from realtime.local_channel import LocalChannel
from tests.conftest import ID, Peer, until

CHANNEL = "cache-prices"


def event(name, kept_at=None):
    return Envelope(ID, CHANNEL, name, kept_at=kept_at)


def joined(local, peer, kept):
    local.held[peer.socket.socket_id] = (peer.socket, [])
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
