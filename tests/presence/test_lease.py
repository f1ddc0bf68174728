"""The claim of a server process to be alive."""

import itertools
import os
import time
import uuid

import pytest
from django.utils import timezone

from realtime.models import Server
from realtime.presence import lease
from realtime.protocol.errors import RealtimeError

pytestmark = pytest.mark.django_db

SERVER = uuid.UUID(int=1)


def test_a_taken_lease_holds():
    lease.take(SERVER, 60)

    [server] = Server.objects.alive()
    assert server.pk == SERVER
    assert server.name.endswith(f":{os.getpid()}")


def test_a_lease_runs_out():
    lease.take(SERVER, -1)

    assert [server.pk for server in Server.objects.dead()] == [SERVER]


def test_a_renewed_lease_holds_again():
    lease.take(SERVER, -1)

    lease.renew(SERVER, 60)

    assert Server.objects.alive().exists()
    assert not Server.objects.dead().exists()


def test_a_lease_that_was_reaped_cannot_be_renewed():
    with pytest.raises(lease.LeaseLost) as caught:
        lease.renew(SERVER, 60)

    assert isinstance(caught.value, RealtimeError)


@pytest.mark.parametrize(("seconds", "dead"), [(-1, True), (5, False)])
def test_a_lease_given_back_runs_out_soon(seconds, dead):
    lease.take(SERVER, 60)

    lease.give_back(SERVER, seconds)

    assert Server.objects.dead().exists() is dead
    assert Server.objects.get().expires_at < timezone.now() + timezone.timedelta(seconds=10)


def test_giving_back_what_was_reaped_does_nothing():
    lease.give_back(SERVER, 3)

    assert not Server.objects.exists()


def test_a_clock_that_goes_on_does_not_jump():
    lease.take(SERVER, 60)
    clock = lease.Clock()

    assert clock.jump_seconds(SERVER) == 0.0
    assert abs(clock.jump_seconds(SERVER)) < 1


@pytest.mark.parametrize("seconds", [3_600, -3_600])
def test_a_clock_that_is_put_forward_or_back_jumps(monkeypatch, seconds):
    """Seen from the other clock, which is the same: it goes back or forward as far."""
    lease.take(SERVER, 60)
    clock = lease.Clock()
    clock.jump_seconds(SERVER)
    now = time.monotonic()
    monkeypatch.setattr("realtime.presence.lease.time.monotonic", lambda: now - seconds)

    assert clock.jump_seconds(SERVER) == pytest.approx(seconds, abs=5)


def test_an_answer_that_is_late_is_no_jump(monkeypatch):
    lease.take(SERVER, 60)
    clock = lease.Clock()
    clock.jump_seconds(SERVER)
    began, late = time.monotonic(), itertools.chain([0, 3], itertools.repeat(3))
    monkeypatch.setattr("realtime.presence.lease.time.monotonic", lambda: began + next(late))

    assert abs(clock.jump_seconds(SERVER)) < 1

    monkeypatch.setattr("realtime.presence.lease.time.monotonic", lambda: began)
    assert abs(clock.jump_seconds(SERVER)) < 1


def test_a_jump_is_seen_after_an_answer_that_was_late(monkeypatch):
    lease.take(SERVER, 60)
    clock = lease.Clock()
    clock.jump_seconds(SERVER)
    began, late = time.monotonic(), iter([0, 3])
    monkeypatch.setattr("realtime.presence.lease.time.monotonic", lambda: began + next(late))
    clock.jump_seconds(SERVER)

    monkeypatch.setattr("realtime.presence.lease.time.monotonic", lambda: began - 2)
    assert clock.jump_seconds(SERVER) == pytest.approx(2, abs=0.9)


def test_a_server_without_a_row_has_no_clock():
    assert lease.Clock().jump_seconds(SERVER) == 0.0


def test_a_process_is_named_after_its_host_and_its_id():
    assert lease.server_name().endswith(f":{os.getpid()}")
