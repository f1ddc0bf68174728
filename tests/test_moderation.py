"""What staff do to users."""

import datetime
import uuid

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from realtime import moderation
from realtime.layer import CONTROL_GROUP, PublishFailed
from realtime.models import RealtimeUser
from realtime.presence import lease, store
from realtime.presence.store import Join
from realtime.protocol.errors import InvalidTrigger
from realtime.protocol.messages import Member

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def staff():
    return User.objects.create_superuser("staff")


@pytest.fixture
def ann():
    """A user with two connections."""
    server = uuid.uuid4()
    lease.take(server, 60)
    joins = [Join("3", "presence-room", f"1.{number}", Member("ann")) for number in range(2)]
    store.apply(server, joins, 60)
    return RealtimeUser.objects.get(user_id="ann")


def closed(layer):
    """The users whose connections every process was asked to close."""
    assert {group for group, _ in layer.sent} <= {CONTROL_GROUP}
    return [(message["app"], message["user"], message["members"]) for _, message in layer.sent]


def log():
    return [(entry.object_id, entry.change_message) for entry in LogEntry.objects.all()]


# ---- terminate --------------------------------------------------------------------------


def test_terminating_asks_every_process(layer):
    moderation.terminate_user_connections("ann")

    assert closed(layer) == [("3", "ann", False)]


async def test_terminating_has_a_twin(layer):
    await moderation.aterminate_user_connections("ann")

    assert closed(layer) == [("3", "ann", False)]


@pytest.mark.parametrize("user_id", ["", "a b", "ann\n", "x" * 201])
def test_who_cannot_sign_in_cannot_be_terminated(layer, user_id):
    with pytest.raises(InvalidTrigger):
        moderation.terminate_user_connections(user_id)

    assert layer.sent == []


async def test_the_twin_checks_as_well(layer):
    with pytest.raises(InvalidTrigger):
        await moderation.aterminate_user_connections("a b")


# ---- kick -------------------------------------------------------------------------------


def test_kicking_closes_every_connection_and_says_how_many(layer, staff, ann):
    assert moderation.kick([ann], by=staff, reason="Spam") == 2

    assert closed(layer) == [("3", "ann", True)]
    assert log() == [(str(ann.pk), "Kicked. Spam")]
    assert not RealtimeUser.objects.banned().exists()


def test_kicking_waits_for_the_commit(layer, staff, ann):
    with transaction.atomic():
        moderation.kick([ann], by=staff)
        assert closed(layer) == []

    assert closed(layer) == [("3", "ann", True)]


def test_a_kick_the_layer_does_not_take_is_reported(layer, staff, ann):
    layer.broken = True

    with pytest.raises(PublishFailed):
        moderation.kick([ann], by=staff)


def test_kicking_nobody_does_nothing(layer, staff):
    assert moderation.kick([], by=staff) == 0

    assert log() == []


def test_a_site_without_admin_has_no_log(layer, staff, ann, settings):
    settings.INSTALLED_APPS = [
        name for name in settings.INSTALLED_APPS if name != "django.contrib.admin"
    ]

    assert moderation.kick([ann], by=staff) == 2

    assert log() == []


# ---- ban --------------------------------------------------------------------------------


def test_a_user_who_was_purged_meanwhile_is_banned_all_the_same(layer, staff):
    user = RealtimeUser.objects.create(app_id="3", user_id="long-gone")
    read = RealtimeUser.objects.get(pk=user.pk)
    user.delete()

    moderation.ban([read], by=staff)

    assert RealtimeUser.objects.get(user_id="long-gone").banned


def test_a_ban_is_kept_with_its_reason_and_closes_every_connection(layer, staff, ann):
    assert moderation.ban([ann], by=staff, reason="Spam") == 2

    ann.refresh_from_db()
    assert ann.banned
    assert (ann.ban_reason, ann.banned_by, ann.banned_until) == ("Spam", staff, None)
    assert closed(layer) == [("3", "ann", True)]
    assert log() == [(str(ann.pk), "Banned for good. Spam")]


def test_a_ban_is_committed_before_connections_are_closed(layer, staff, ann):
    layer.broken = True

    with pytest.raises(PublishFailed):
        moderation.ban([ann], by=staff)

    assert RealtimeUser.objects.banned().get() == ann


def test_a_ban_may_end(layer, staff, ann):
    until = timezone.now() + datetime.timedelta(hours=1)

    moderation.ban([ann], by=staff, until=until)

    ann.refresh_from_db()
    assert ann.banned_until == until
    assert log()[0][1] == f"Banned until {until.isoformat()}."


def test_a_ban_ends_in_the_future(layer, staff, ann):
    with pytest.raises(ValueError, match="must end in the future"):
        moderation.ban([ann], by=staff, until=timezone.now())

    assert not RealtimeUser.objects.banned().exists()
    assert layer.sent == []


def test_several_users_are_banned_together(layer, staff, ann):
    bob = moderation.known_user("bob")

    assert moderation.ban([ann, bob], by=staff) == 2

    assert [user for _, user, _ in closed(layer)] == ["ann", "bob"]
    assert len(log()) == 2


# ---- lift -------------------------------------------------------------------------------


def test_a_lifted_ban_is_over(layer, staff, ann):
    moderation.ban([ann], by=staff, reason="Spam")
    ann.refresh_from_db()

    assert moderation.lift([ann], by=staff, reason="Sorry") == 1

    ann.refresh_from_db()
    assert not ann.banned
    assert (ann.ban_reason, ann.banned_by) == ("", None)
    assert {message for _, message in log()} == {"Banned for good. Spam", "Ban lifted. Sorry"}


def test_a_ban_is_lifted_whatever_the_caller_still_remembers(layer, staff, ann):
    moderation.ban([ann], by=staff)

    assert moderation.lift([ann], by=staff) == 1


def test_only_banned_users_are_lifted(staff, ann):
    assert moderation.lift([ann], by=staff) == 0

    assert log() == []


# ---- users nobody has seen --------------------------------------------------------------


def test_a_user_who_was_never_seen_is_made_once():
    assert moderation.known_user("new") == moderation.known_user("new")


@pytest.mark.parametrize("user_id", ["", "x" * 256, "a\0b"])
def test_an_id_nobody_can_have_is_no_user(user_id):
    with pytest.raises(InvalidTrigger, match="Invalid user id"):
        moderation.known_user(user_id)


def test_who_is_only_shown_as_present_may_have_any_id():
    assert moderation.known_user("a b/c").user_id == "a b/c"
