"""The last event of a cache channel, given to those who come later."""

import time

import pytest
from django.core.cache import cache

from realtime import last_events
from realtime.last_events import Kept
from realtime.layer import Envelope
from tests.conftest import ID

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
        (Kept(CHANNEL, 20, "e2"), [event(1, 10)], ["e1", "e2"]),  # e2 is still on its way
        (Kept(CHANNEL, 10, "e1"), [event(0), event(1, 10)], ["e0", "e1"]),
    ],
)
def test_every_event_is_given_once_and_in_order(kept, held, given):
    assert kept.before(held) == given


def test_only_cache_channels_have_events_that_are_kept():
    assert last_events.stamp("room") is None
    assert abs(last_events.stamp(CHANNEL) - time.time_ns()) < 10**9


def test_the_last_event_is_kept_under_the_name_of_its_channel_and_app():
    last_events.keep([event(1, 10), event(2, 20), Envelope(ID, "room", "no")])

    assert last_events.read(ID, CHANNEL) == Kept(CHANNEL, 20, "e2")
    assert last_events.read(ID, "cache-other") == Kept("cache-other")
    assert last_events.read("404", CHANNEL) == Kept(CHANNEL)


def test_an_event_may_come_again_while_it_is_new():
    assert Kept(CHANNEL, time.time_ns(), "e").may_come_again
    assert not Kept(CHANNEL, time.time_ns() - 31 * 10**9, "e").may_come_again
    assert not Kept(CHANNEL).may_come_again


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
