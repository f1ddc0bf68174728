"""How many events an app may send through the HTTP API."""

import dataclasses
import uuid

import pytest

from realtime.api import throttling
from realtime.api.throttling import TooManyEvents, spend
from realtime.protocol.app import App, Limits


@pytest.fixture
def clock(monkeypatch):
    """The clock of the limit, which the test moves."""
    times = [100.0]
    monkeypatch.setattr(throttling, "monotonic", lambda: times[0])
    return times


@pytest.fixture
def app():
    """An app that no other test knows."""
    name = uuid.uuid4().hex
    return App(id=name, key=name, secret="s", limits=Limits(api_events_per_second=5))


def test_there_is_no_limit_by_default(app, clock):
    without = dataclasses.replace(app, limits=Limits())

    for _ in range(10_000):
        spend(without, 100)


def test_an_app_may_send_as_many_events_as_the_limit_and_not_one_more(app, clock):
    for _ in range(5):
        spend(app, 1)

    with pytest.raises(TooManyEvents) as refusal:
        spend(app, 1)

    assert refusal.value.wait == 1
    assert str(refusal.value) == "Too many events, try again in 1 s"


def test_the_allowance_comes_back(app, clock):
    spend(app, 5)
    clock[0] += 1
    spend(app, 5)

    with pytest.raises(TooManyEvents):
        spend(app, 1)


def test_a_large_call_passes_once_and_is_paid_for_later(app, clock):
    spend(app, 100)

    with pytest.raises(TooManyEvents) as refusal:
        spend(app, 1)

    assert refusal.value.wait == 20  # 95 owed and one to take, at five a second: 19.2
    clock[0] += refusal.value.wait
    spend(app, 1)


def test_apps_do_not_share(app, clock):
    other = dataclasses.replace(app, id="other")
    spend(app, 5)

    spend(other, 5)


def test_a_changed_limit_begins_anew(app, clock):
    spend(app, 5)

    spend(dataclasses.replace(app, limits=Limits(api_events_per_second=6)), 1)
