"""Rows about people who have not been here for long."""

from datetime import timedelta

import pytest
from django.utils import timezone

from realtime.models import Member, RealtimeUser
from realtime.presence import purge
from realtime.presence.purge import Purged
from realtime.presence.store import Join, Leave
from realtime.protocol import messages

pytestmark = pytest.mark.django_db

APP = "3"
ROOM = "presence-room"
NOW = timezone.now()
BEFORE = NOW - timedelta(days=30)
LONG_AGO = NOW - timedelta(days=31)


def join(user, socket_id="1.1"):
    return Join(APP, ROOM, socket_id, messages.Member(user))


def leave(user, socket_id="1.1"):
    return Leave(APP, ROOM, socket_id, user)


def age():
    """Make everything as it would be had it happened long ago."""
    version = int(LONG_AGO.timestamp() * 1_000_000)
    Member.objects.update(changed_at=LONG_AGO, version=version)
    RealtimeUser.objects.update(last_seen_at=LONG_AGO)


def names():
    return set(RealtimeUser.objects.values_list("user_id", flat=True))


def test_the_absent_are_deleted_and_then_their_users(apply):
    apply(join("ann"), join("bob"))
    apply(leave("ann"))
    age()

    assert purge.count(BEFORE) == Purged(members=1, users=1)
    assert purge.delete(BEFORE) == Purged(members=1, users=1)

    assert names() == {"bob"}
    assert purge.delete(BEFORE) == Purged(0, 0)


def test_who_was_here_lately_stays(apply):
    apply(join("ann"))
    apply(leave("ann"))

    assert purge.count(BEFORE) == purge.delete(BEFORE) == Purged(0, 0)
    assert names() == {"ann"}


def test_a_user_seen_lately_stays_without_the_old_member(apply):
    apply(join("ann"))
    apply(leave("ann"))
    age()
    RealtimeUser.objects.update(last_seen_at=NOW)

    assert purge.count(BEFORE) == purge.delete(BEFORE) == Purged(members=1, users=0)


@pytest.mark.parametrize(
    ("until", "stays"), [(None, True), (timedelta(1), True), (-timedelta(1), False)]
)
def test_the_banned_stay(until, stays):
    RealtimeUser.objects.create(
        app_id=APP,
        user_id="ann",
        last_seen_at=LONG_AGO,
        banned_at=LONG_AGO,
        banned_until=until and NOW + until,
    )

    assert purge.count(BEFORE) == purge.delete(BEFORE) == Purged(0, 0 if stays else 1)
    assert bool(names()) is stays


def test_what_was_set_through_the_server_stays():
    RealtimeUser.objects.create(
        app_id=APP, user_id="ann", last_seen_at=LONG_AGO, user_info_override="{}"
    )

    assert purge.count(BEFORE) == purge.delete(BEFORE) == Purged(0, 0)


def test_there_may_be_more_than_one_batch(apply, monkeypatch):
    monkeypatch.setattr(purge, "BATCH_ROWS", 2)
    apply(*(join(f"u{number}", f"1.{number}") for number in range(5)))
    apply(*(leave(f"u{number}", f"1.{number}") for number in range(5)))
    age()

    assert purge.delete(BEFORE) == Purged(5, 5)


def test_who_comes_back_after_it_has_a_later_version(apply):
    before = apply(join("ann")).changes[0].version
    apply(leave("ann"))
    age()
    purge.delete(BEFORE)

    assert apply(join("ann")).changes[0].version > before


def test_a_member_whose_version_is_ahead_of_the_clock_stays(apply):
    apply(join("ann"))
    apply(leave("ann"))
    version = Member.objects.get().version
    age()
    Member.objects.update(version=version)

    assert purge.delete(BEFORE) == Purged(0, 0)
