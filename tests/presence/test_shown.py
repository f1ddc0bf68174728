"""What users show of themselves, changed while they are there."""

import json

import pytest

from realtime.models import Member, PendingFact, RealtimeUser
from realtime.presence import shown, store
from realtime.presence.transitions import Join, Leave
from realtime.protocol import messages
from tests.presence.conftest import members_in

pytestmark = pytest.mark.django_db

APP, ROOM = "3", "presence-room"
OLD, NEW, OTHER = '{"name":"Ann"}', '{"name":"Anna"}', '{"name":"Mask"}'


def signed_in(info=OLD, channel=ROOM, socket_id="1.1"):
    return Join(APP, channel, socket_id, messages.Member("ann", info), None, True)


def named(info=OTHER, channel=ROOM, socket_id="1.1"):
    """A member whose data the channel's authorization gave."""
    return Join(APP, channel, socket_id, messages.Member("ann", info))


def leave(channel=ROOM, socket_id="1.1"):
    return Leave(APP, channel, socket_id, "ann")


def infos(changes):
    return [(item.channel, item.member.user_info, item.present) for item in changes]


def listed(channel=ROOM):
    return members_in(store.roster(APP, channel))["hash"]


def test_an_override_is_shown_at_once_and_listed(apply):
    [before] = apply(signed_in()).changes

    [after] = shown.override(APP, "ann", NEW)

    assert (after.member.user_info, after.present) == (NEW, True)
    assert after.version == after.shown_since > before.version
    assert listed() == {"ann": json.loads(NEW)}


def test_nobody_is_told_that_somebody_came_or_went(apply, configure):
    configure(WEBHOOKS=[{"URL": "https://example.com/hook"}])
    apply(signed_in(), signed_in(channel=Member.ONLINE))
    told = list(PendingFact.objects.values_list("kind", flat=True))
    assert told == ["member_added"]

    shown.override(APP, "ann", NEW)
    shown.forget(APP, "ann")

    assert list(PendingFact.objects.values_list("kind", flat=True)) == told


def test_an_override_holds_for_later_sign_ins(apply):
    apply(signed_in())
    shown.override(APP, "ann", NEW)
    apply(leave())

    [change] = apply(signed_in("{}"), on=1).changes

    assert change.member.user_info == NEW
    user = RealtimeUser.objects.get()
    assert (user.user_info, user.user_info_override, user.display_name) == ("{}", NEW, "Anna")


def test_what_a_channel_says_itself_stays(apply):
    apply(named())

    assert shown.override(APP, "ann", NEW) == []
    assert listed() == {"ann": json.loads(OTHER)}
    apply(leave())
    assert infos(apply(named()).changes) == [(ROOM, OTHER, True)]


def test_the_first_to_come_decides_whose_data_a_channel_shows(apply):
    apply(named())
    apply(signed_in(socket_id="1.2"), on=1)
    assert shown.override(APP, "ann", NEW) == []

    apply(leave(), leave(socket_id="1.2"))
    apply(signed_in(socket_id="1.3"))

    assert listed() == {"ann": json.loads(NEW)}


def test_every_channel_hears_of_it_and_nobody_twice(apply):
    apply(signed_in(), signed_in(channel="presence-b"), named(channel="presence-c"))

    assert sorted(infos(shown.override(APP, "ann", NEW))) == [
        ("presence-b", NEW, True),
        (ROOM, NEW, True),
    ]
    assert shown.override(APP, "ann", NEW) == []


def test_who_is_away_is_not_announced(apply):
    apply(signed_in(), leave())
    apply(signed_in())
    apply(leave())

    assert shown.override(APP, "ann", NEW) == []


def test_a_change_is_found_by_whoever_looks_the_rows_up(apply):
    apply(signed_in())
    [change] = shown.override(APP, "ann", NEW)

    assert store.changed_within(10, [ROOM]) == [change]


def test_nobody_is_known_by_another_id_or_app(apply):
    apply(signed_in())

    assert shown.override(APP, "Ann", NEW) is None
    assert shown.override("4", "ann", NEW) is None
    assert shown.forget("4", "ann") is None
    assert RealtimeUser.objects.get().user_info_override is None


def test_forgetting_leaves_nothing_but_what_channels_show_now(apply):
    apply(signed_in(), named(channel="presence-b"), named(channel="presence-c"))
    apply(leave(channel="presence-c"))
    shown.override(APP, "ann", NEW)

    assert infos(shown.forget(APP, "ann")) == [(ROOM, None, True)]

    assert RealtimeUser.objects.filter(user_info=None, user_info_override=None).exists()
    kept = dict(Member.objects.values_list("channel", "user_info"))
    assert kept == {ROOM: None, "presence-b": OTHER, "presence-c": None}


def test_after_forgetting_the_sign_in_counts_again(apply):
    apply(signed_in())
    shown.override(APP, "ann", NEW)
    shown.forget(APP, "ann")
    apply(leave())

    apply(signed_in())

    assert listed() == {"ann": json.loads(OLD)}
