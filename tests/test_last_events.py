"""The last event of a cache channel, given to those who come later."""

import threading
import time

import pytest
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache

from realtime import last_events
from realtime.last_events import Kept
from realtime.layer import Envelope
from tests.conftest import ID, PATIENCE, soon

CHANNEL = "cache-prices"


def event(number, kept_at=None):
    return Envelope(ID, CHANNEL, f"e{number}", kept_at=kept_at)


@pytest.fixture(autouse=True)
def _empty():
    cache.clear()
    yield
    cache.clear()


MISS = '{"event":"pusher:cache_miss","channel":"cache-prices","data":"{}"}'


@pytest.mark.parametrize(
    ("kept", "held", "given"),
    [
        (Kept(CHANNEL), [], [MISS]),
        (Kept(CHANNEL), [event(0)], [MISS, "e0"]),  # of a client, and so never kept
        (Kept(CHANNEL), [event(1, 10)], ["e1"]),  # the cache forgot, or does not answer
        (Kept(CHANNEL, 10, "e1"), [], ["e1"]),
        (Kept(CHANNEL, 10, "e1"), [event(2, 20)], ["e1", "e2"]),
        (Kept(CHANNEL, 20, "e2"), [event(1, 10), event(2, 20)], ["e1", "e2"]),
        (Kept(CHANNEL, 20, "e2"), [event(2, 20), event(3, 30)], ["e2", "e3"]),
        (Kept(CHANNEL, 20, "e2"), [event(1, 10)], ["e1"]),  # e2 is still on its way
        (Kept(CHANNEL, 10, "e1"), [event(0), event(1, 10)], ["e0", "e1"]),
    ],
)
def test_every_event_is_given_once_and_in_order(kept, held, given):
    assert kept.before(held) == given


def test_only_events_of_cache_channels_are_kept():
    room, prices = last_events.stamped([Envelope(ID, "room", "e"), event(1)])

    assert room.kept_at is None
    assert abs(prices.kept_at - time.time_ns()) < 10**9


def test_the_last_event_is_kept_under_the_name_of_its_channel_and_app():
    last_events.keep([event(1, 10), event(2, 20), Envelope(ID, "room", "no")])

    assert last_events.read(ID, CHANNEL) == Kept(CHANNEL, 20, "e2")
    assert last_events.read(ID, "cache-other") == Kept("cache-other")
    assert last_events.read("404", CHANNEL) == Kept(CHANNEL)


def test_an_event_that_was_given_may_come_again_while_it_is_new():
    now = time.time_ns()

    assert Kept(CHANNEL, now, "e").may_come_again([])
    assert Kept(CHANNEL, now, "e").may_come_again([event(2, now + 1)])
    assert not Kept(CHANNEL, now, "e").may_come_again([event(1, now - 1)])  # it was not given
    assert not Kept(CHANNEL, now - 31 * 10**9, "e").may_come_again([])
    assert not Kept(CHANNEL).may_come_again([])


def test_an_event_tells_its_data_and_for_how_long_it_is_kept():
    kept = Kept(CHANNEL, time.time_ns() - 60 * 10**9, '{"event":"e","data":"\\"x\\""}')

    assert kept.data == '"x"'
    assert 1_738 <= kept.seconds_left <= 1_740


def test_a_cache_that_is_away_loses_nothing_else(settings, configure, caplog, counted):
    settings.CACHES = {
        "broken": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": "/proc/nowhere",
        },
    }
    configure(CACHE="broken")

    last_events.keep([event(1, 10)])

    assert last_events.read(ID, CHANNEL) == Kept(CHANNEL)
    assert "does not answer" in caplog.text
    assert counted("cache_failures") >= 1


@pytest.mark.parametrize("strange", [b"bytes", "no number", "", 5, None])
def test_what_somebody_else_put_there_is_no_event(strange):
    last_events.keep([event(1, 10)])
    [key] = [last_events._key(ID, CHANNEL)]
    cache.set(key, strange)

    assert last_events.read(ID, CHANNEL) == Kept(CHANNEL)


@pytest.fixture
def hanging(settings, configure):
    """A cache that does not answer until the test is over."""
    settings.CACHES = {"hanging": {"BACKEND": "tests.test_last_events.HangingCache"}}
    configure(CACHE="hanging", PUBLISH_TIMEOUT_SECONDS=0.05)
    HangingCache.over.clear()
    yield
    HangingCache.over.set()


class HangingCache(LocMemCache):
    over = threading.Event()

    def __init__(self, *arguments):
        super().__init__("hanging", {})

    def get(self, *arguments, **options):
        self.over.wait(PATIENCE)

    def set_many(self, *arguments, **options):
        self.over.wait(PATIENCE)


async def test_a_cache_that_hangs_holds_nobody_up(hanging, counted):
    await soon(last_events.akeep([event(1, 10)]))
    assert await soon(last_events.aread(ID, CHANNEL)) == Kept(CHANNEL)

    assert counted("cache_failures") == 2
    HangingCache.over.set()


async def test_events_that_are_not_kept_do_not_ask_the_cache(hanging, counted):
    await last_events.akeep([event(1)])

    assert counted("cache_failures") == 0
