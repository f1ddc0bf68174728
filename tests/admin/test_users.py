"""Staff's view in Django's admin."""

import datetime
import uuid

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone

from realtime.models import Application, Member, Membership, RealtimeUser, Server
from realtime.presence import lease, store
from realtime.presence.store import Join, Occupy
from realtime.protocol import messages

pytestmark = pytest.mark.django_db(transaction=True)

USERS = "/admin/realtime/realtimeuser/"
EVIL = '{"name":"<img onerror=x>"}'


@pytest.fixture
def as_staff():
    """Browsers of staff with some permissions, besides viewing everything of this app."""

    def log_in(*codenames, view=True):
        user = User.objects.create_user("staff", is_staff=True)
        ours = Permission.objects.filter(content_type__app_label="realtime")
        user.user_permissions.set(ours.filter(codename__in=codenames))
        if view:
            user.user_permissions.add(*ours.filter(codename__startswith="view_"))
        browser = Client()
        browser.force_login(user)
        return browser

    return log_in


@pytest.fixture
def as_root():
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    return browser


@pytest.fixture
def server():
    """A process with two users, one of them twice, and a second process with another."""
    first, second = uuid.uuid4(), uuid.uuid4()
    for server in (first, second):
        lease.take(server, 60)

    def join(user, socket_id, channel="presence-room"):
        return Join("3", channel, socket_id, messages.Member(user, EVIL))

    store.apply(
        first,
        [
            join("ann", "1.1"),
            join("ann", "1.2"),
            join("ann", "1.1", Member.ONLINE),
            Occupy("3", "presence-room", 2),
            Occupy("3", "room", 5),
        ],
        60,
    )
    store.apply(second, [join("bob", "2.1"), Occupy("3", "presence-room", 1)], 60)
    RealtimeUser.objects.create(app_id="3", user_id="offline")
    return first


def users(*user_ids):
    return [str(RealtimeUser.key_of("3", user_id)) for user_id in user_ids]


def shown(response):
    """The user ids in a change list."""
    return {user.user_id for user in response.context["cl"].queryset}


def texts(response):
    """What staff is told."""
    return [str(message) for message in response.context["messages"]]


# ---- lists ------------------------------------------------------------------------------


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


def test_channels_are_added_up_over_all_processes(as_staff, server):
    response = as_staff().get("/admin/realtime/occupancy/")

    rows = {row.channel: (row.subscribed, row.users) for row in response.context["cl"].queryset}
    assert rows == {"presence-room": (3, 2), "room": (5, 0)}
    page = response.content.decode()
    assert '<td class="field-members">2</td>' in page
    assert '<td class="field-members">-</td>' in page


def test_channels_of_a_dead_process_do_not_count(as_staff, server):
    Server.objects.filter(pk=server).update(expires_at=timezone.now() - datetime.timedelta(1))

    response = as_staff().get("/admin/realtime/occupancy/")

    assert [row.channel for row in response.context["cl"].queryset] == ["presence-room"]


def test_connections_are_listed_with_user_channel_and_process(as_staff, server):
    page = as_staff().get("/admin/realtime/membership/").content.decode()

    assert page.count('field-channel">presence-room') == 3
    assert page.count('field-channel">signed in') == 1
    assert 'field-user">&lt;img onerror=x&gt; (bob)' in page


def test_processes_are_listed_with_their_lease(as_staff, server):
    Server.objects.exclude(pk=server).update(expires_at=timezone.now() - datetime.timedelta(1))

    page = as_staff().get("/admin/realtime/server/").content.decode()

    assert page.count('alt="True"') == page.count('alt="False"') == 1
    assert '<td class="field-subscribed">7</td>' in page


def test_lists_cost_a_fixed_number_of_queries(as_staff, server, django_assert_max_num_queries):
    transitions = [
        Join("3", "presence-big", f"3.{number}", messages.Member(f"u{number}"))
        for number in range(50)
    ]
    store.apply(server, transitions, 60)
    client = as_staff()

    for model in ("realtimeuser", "occupancy", "membership", "server"):
        with django_assert_max_num_queries(12):
            assert client.get(f"/admin/realtime/{model}/").status_code == 200


@pytest.mark.parametrize("model", ["realtimeuser", "occupancy", "membership", "server"])
def test_what_the_server_writes_is_only_read(as_root, server, model):
    row = {"membership": Membership, "server": Server, "realtimeuser": RealtimeUser}.get(model)
    path = f"/admin/realtime/{model}/"

    assert as_root.get(path).status_code == 200
    assert as_root.get(f"{path}add/").status_code == 403
    if row is not None:
        pk = row.objects.first().pk
        assert as_root.post(f"{path}{pk}/change/", {}).status_code == 403
        assert as_root.post(f"{path}{pk}/delete/", {"post": "yes"}).status_code == 403


def test_without_the_permission_there_is_no_list(as_staff, server):
    assert as_staff(view=False).get(USERS).status_code == 403


# ---- actions ----------------------------------------------------------------------------

ACTIONS = {"kick": "kick_selected", "ban": "ban_selected", "lift": "lift_selected"}


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
    assert len(layer.sent) == (permission != "lift")
    assert LogEntry.objects.count() == (permission != "lift")


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_asks_before_it_acts(as_root, server, layer, action):
    RealtimeUser.objects.filter(user_id="bob").update(banned_at=timezone.now())

    response = act(as_root, action, "ann", "bob")

    page = response.content.decode()
    assert response.templates[0].name == "admin/realtime/realtimeuser/confirm.html"
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


# ---- apps -------------------------------------------------------------------------------

APPS = "/admin/realtime/application/"
NEW = {"name": "Shop", "app_id": "9", "key": "key-9", "enabled": "on", "allowed_origins": "[]"}


def test_the_secret_of_an_app_is_shown_once(as_root):
    response = as_root.post(f"{APPS}add/", NEW, follow=True)

    app = Application.objects.get()
    assert any(app.secret in text for text in texts(response))
    changed = as_root.post(f"{APPS}{app.pk}/change/", {**NEW, "name": "Store"}, follow=True)
    pages = [as_root.get(path).content.decode() for path in (APPS, f"{APPS}{app.pk}/change/")]
    assert app.secret not in "".join([*texts(changed), *pages])


def test_the_credentials_of_an_app_stay(as_root):
    app = Application.objects.create(name="Shop", app_id="9", key="key-9")

    as_root.post(f"{APPS}{app.pk}/change/", {**NEW, "app_id": "10", "key": "k", "name": "Store"})

    app.refresh_from_db()
    assert (app.name, app.app_id, app.key) == ("Store", "9", "key-9")


def test_an_app_that_no_library_accepts_is_refused(as_root):
    response = as_root.post(f"{APPS}add/", {**NEW, "app_id": "shop", "allowed_origins": "{}"})

    errors = response.context["adminform"].form.errors
    assert set(errors) == {"app_id", "allowed_origins"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"app_id": "3"},
        {"key": "278d425bdf160c739803"},
        {"key": "a b:/"},
        {"app_id": "x1"},
        {"allowed_origins": '["example.com"]'},
        {"allowed_origins": '["https://"]'},
        {"allowed_origins": '["http://[x"]'},
        {"allowed_origins": "7"},
    ],
    ids=str,
)
def test_an_app_that_could_never_work_is_not_saved(admin_client, wrong):
    form = {"name": "Shop", "app_id": "7", "key": "k7", "enabled": "on", "allowed_origins": "[]"}

    response = admin_client.post("/admin/realtime/application/add/", form | wrong)

    assert response.status_code == 200
    assert not Application.objects.exists()


def test_a_row_whose_id_the_settings_took_later_can_still_be_opened(admin_client):
    row = Application.objects.create(name="Shop", app_id="3", key="k7")
    form = {"name": "Shop", "enabled": "on", "allowed_origins": "[]"}

    response = admin_client.post(f"/admin/realtime/application/{row.pk}/change/", form)

    assert response.status_code == 200
    assert "The settings have an app with this id or key." in response.content.decode()
