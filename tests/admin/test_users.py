"""Users in Django's admin."""

import datetime
import json

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone

from realtime.layer import TERMINATE
from realtime.models import Member, RealtimeUser
from tests.admin.conftest import USERS, texts, users

pytestmark = pytest.mark.django_db(transaction=True)


def shown(response):
    """The user ids in a change list."""
    return {user.user_id for user in response.context["cl"].queryset}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"ann", "bob", "offline"}),
        ("?online=yes", {"ann", "bob"}),
        ("?online=no", {"offline"}),
        ("?banned=yes", {"bob"}),
        ("?banned=no", {"ann", "offline"}),
        ("?q=ann", {"ann"}),
        ("?q=onerror", {"ann", "bob"}),
    ],
)
def test_users_are_found_by_what_holds_of_them(as_staff, server, query, expected):
    RealtimeUser.objects.filter(user_id="bob").update(banned_at=timezone.now())

    assert shown(as_staff().get(USERS + query)) == expected


def test_connections_of_a_user_are_counted_once(as_staff, server):
    response = as_staff().get(USERS + "?q=ann")

    [user] = response.context["cl"].queryset
    assert (user.sockets, user.online_now) == (2, True)
    assert '<td class="field-connections">2</td>' in response.content.decode()


def test_what_users_say_of_themselves_is_never_markup(as_staff, server):
    client = as_staff()

    for path in (USERS, f"{USERS}{users('ann')[0]}/change/"):
        page = client.get(path).content.decode()
        assert "<img onerror" not in page
        assert "&lt;img onerror=x&gt;" in page


def test_a_user_is_shown_with_connections_and_channels(as_staff, server):
    client = as_staff()

    page = client.get(f"{USERS}{users('ann')[0]}/change/").content.decode()

    assert "1.1: presence-room (" in page
    assert "1.1: signed in (" in page
    assert "1.2: presence-room (" in page
    assert "1.2" not in client.get(f"{USERS}{users('offline')[0]}/change/").content.decode()


# ---- actions ----------------------------------------------------------------------------

ACTIONS = {name: f"{name}_selected" for name in ("kick", "ban", "lift", "erase")}


def act(client, action, *user_ids, **more):
    data = {"action": ACTIONS[action], "_selected_action": users(*user_ids), **more}
    return client.post(USERS, data, follow=True)


@pytest.mark.parametrize("permission", ACTIONS)
def test_each_action_has_its_own_permission(as_staff, server, layer, permission):
    client = as_staff(f"{permission}_realtimeuser")

    page = client.get(USERS).content.decode()
    offered = {name for name, action in ACTIONS.items() if f'value="{action}"' in page}
    for action in ACTIONS:
        act(client, action, "ann", confirmed="yes")

    assert offered == {permission}
    asked = [message for _, message in layer.sent if message["type"] == TERMINATE]
    assert len(asked) == (permission != "lift")
    assert LogEntry.objects.count() == (permission != "lift")


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_asks_before_it_acts(as_root, server, layer, action):
    RealtimeUser.objects.filter(user_id="bob").update(banned_at=timezone.now())

    response = act(as_root, action, "ann", "bob")

    page = response.content.decode()
    assert response.templates[0].name == "admin/realtime/confirm.html"
    assert "This applies to 2 users:" in page
    assert all(f'value="{key}"' in page for key in users("ann", "bob"))
    assert "csrfmiddlewaretoken" in page
    assert ("until" in response.context["form"].fields) is (action == "ban")
    assert layer.sent == []
    assert RealtimeUser.objects.banned().count() == 1


def test_kicking_says_how_many_connections_were_closed(as_root, server, layer):
    response = act(as_root, "kick", "ann", confirmed="yes", reason="Spam")

    assert texts(response) == ["2 connections closed."]
    assert [(message["user"], message["members"]) for _, message in layer.sent] == [("ann", True)]
    assert LogEntry.objects.get().change_message == "Kicked. Spam"


def test_banning_says_how_many_users_were_banned(as_root, server, layer):
    until = timezone.now().replace(microsecond=0) + datetime.timedelta(days=1)

    response = act(
        as_root,
        "ban",
        *("ann", "bob"),
        confirmed="yes",
        reason="Spam",
        until_0=f"{until:%Y-%m-%d}",
        until_1=f"{until:%H:%M:%S}",
    )

    assert texts(response) == ["2 users banned."]
    assert {user.banned_until for user in RealtimeUser.objects.banned()} == {until}
    assert {message["user"] for _, message in layer.sent} == {"ann", "bob"}


def test_a_ban_may_be_for_good(as_root, server, layer):
    assert texts(act(as_root, "ban", "ann", confirmed="yes")) == ["1 user banned."]
    assert RealtimeUser.objects.banned().get().banned_until is None


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"until_0": "2001-01-01", "until_1": "00:00:00"}, "A ban must end in the future."),
        ({"until_0": "2001-01-01"}, "Enter a valid time."),
        ({"reason": "x" * 201}, "at most 200 characters"),
    ],
)
def test_a_ban_that_cannot_be_is_asked_again(as_root, server, layer, fields, complaint):
    response = act(as_root, "ban", "ann", confirmed="yes", **fields)

    assert complaint in response.content.decode()
    assert not RealtimeUser.objects.banned().exists()
    assert layer.sent == []


def test_lifting_says_how_many_bans_ended(as_root, server):
    RealtimeUser.objects.filter(user_id="bob").update(banned_at=timezone.now())

    response = act(as_root, "lift", "ann", "bob", confirmed="yes", reason="Sorry")

    assert texts(response) == ["1 ban lifted."]
    assert not RealtimeUser.objects.banned().exists()


def test_a_layer_that_is_away_is_told(as_root, server, layer):
    layer.broken = True

    response = act(as_root, "ban", "ann", confirmed="yes")

    assert texts(response) == ["The channel layer does not answer: connections may still be open."]
    assert RealtimeUser.objects.banned().exists()


def test_erasing_leaves_nothing_but_who_did_it(as_root, server, layer):
    act(as_root, "kick", "ann", confirmed="yes")

    response = act(as_root, "erase", "ann", confirmed="yes", reason="Asked for it")

    assert texts(response) == ["1 user erased."]
    assert not RealtimeUser.objects.filter(user_id="ann").exists()
    [entry] = LogEntry.objects.all()
    assert (entry.object_repr, entry.change_message) == ("ann", "Erased. Asked for it")


def test_erasing_may_keep_a_ban(as_root, server, layer):
    act(as_root, "ban", "ann", confirmed="yes")

    act(as_root, "erase", "ann", confirmed="yes", keep_ban="on")

    assert RealtimeUser.objects.banned().get().shown_info is None


def test_erasing_warns_before(as_root, server):
    assert "This cannot be undone." in act(as_root, "erase", "ann").content.decode()


# ---- what a user shows ------------------------------------------------------------------


def change(client, user_info, user_id="ann"):
    path = f"{USERS}{users(user_id)[0]}/change/"
    return client.post(path, {"shown_info": user_info}, follow=True)


def test_changing_what_a_user_shows_needs_a_permission_of_its_own(as_staff, server):
    client = as_staff("kick_realtimeuser", "change_realtimeuser")

    page = client.get(f"{USERS}{users('ann')[0]}/change/").content.decode()

    assert "<textarea" not in page
    assert change(client, "{}").status_code == 403
    assert RealtimeUser.objects.get(user_id="ann").user_info_override is None


def test_staff_set_what_a_user_shows(as_staff, server, layer):
    RealtimeUser.objects.filter(user_id="ann").update(ban_reason="as it was")
    Member.objects.filter(user__user_id="ann").update(from_sign_in=True)
    client = as_staff("edit_realtimeuser")
    assert "&lt;img onerror" in client.get(f"{USERS}{users('ann')[0]}/change/").content.decode()

    change(client, '{"name": "Anna"}')

    ann = RealtimeUser.objects.get(user_id="ann")
    assert (ann.info, ann.ban_reason) == ({"name": "Anna"}, "as it was")
    assert [message["channel"] for message in layer.events()] == ["presence-room"]
    assert "User info" in LogEntry.objects.get().get_change_message()


def test_saving_the_page_without_a_change_sets_nothing(as_root, server, layer):
    text = json.dumps(RealtimeUser.objects.get(user_id="ann").info)

    change(as_root, text)
    change(as_root, "", "offline")

    assert not RealtimeUser.objects.exclude(user_info_override=None).exists()
    assert layer.events() == []


def test_an_empty_field_deletes_what_is_kept(as_root, server, layer):
    change(as_root, '{"name": "Anna"}')

    change(as_root, "")

    ann = RealtimeUser.objects.get(user_id="ann")
    assert (ann.user_info, ann.user_info_override) == (None, None)


@pytest.mark.parametrize(
    ("user_info", "complaint"),
    [
        ("{", "Enter a valid JSON."),
        ("[1]", "user_info must be an object"),
        (json.dumps({"name": "x" * 1_024}), "user_info is larger than 1024 bytes"),
    ],
    ids=["no JSON", "no object", "too large"],
)
def test_what_no_user_may_show_is_refused(as_root, server, user_info, complaint):
    assert complaint in change(as_root, user_info).content.decode()
    assert RealtimeUser.objects.get(user_id="ann").user_info_override is None


def test_half_a_character_can_be_shown_and_kept(as_root, server):
    RealtimeUser.objects.filter(user_id="ann").update(user_info='{"name":"\\ud83d"}')

    assert as_root.get(f"{USERS}{users('ann')[0]}/change/").status_code == 200


def test_the_user_of_an_app_that_is_gone_cannot_be_changed(as_root, db):
    user = RealtimeUser.objects.create(app_id="77", user_id="ann")

    response = as_root.post(f"{USERS}{user.pk}/change/", {"shown_info": "{}"})

    assert "The app of this user is gone." in response.content.decode()
