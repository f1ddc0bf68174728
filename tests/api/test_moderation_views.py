"""What staff do to users, as JSON."""

import datetime

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.utils import timezone
from rest_framework.authtoken.models import Token

from realtime.models import RealtimeUser
from realtime.presence import census

pytestmark = pytest.mark.django_db(transaction=True)

ACTIONS = ["kick", "ban", "lift"]
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def path(action, user_id="ann"):
    return f"/realtime/users/{user_id}/{action}"


def post(client, action, body=None, user_id="ann", **options):
    return client.post(path(action, user_id), body or {}, content_type=JSON, **options)


def closed(layer):
    return [message["user"] for _, message in layer.sent]


@pytest.fixture
def as_all(as_staff):
    """The browser of staff with all permissions."""
    return as_staff("kick_realtimeuser", "ban_realtimeuser", "lift_realtimeuser")


def ban(user_id="ann", **more):
    return RealtimeUser.objects.create(
        app_id="3", user_id=user_id, banned_at=timezone.now(), **more
    )


# ---- permissions ------------------------------------------------------------------------


@pytest.mark.parametrize("permission", ACTIONS)
@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_has_its_own_permission(as_staff, layer, permission, action):
    client = as_staff(f"{permission}_realtimeuser")

    status = post(client, action).status_code

    assert status == (200 if action == permission else 403)


@pytest.mark.parametrize("action", ACTIONS)
def test_permission_without_staff_is_not_enough(as_staff, layer, action):
    client = as_staff(f"{action}_realtimeuser", is_staff=False)

    assert post(client, action).status_code == 403
    assert layer.sent == []


@pytest.mark.parametrize("action", ACTIONS)
def test_who_is_not_logged_in_is_forbidden_and_never_redirected(client, action):
    assert post(client, action).status_code == 403


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_happens_by_get(as_all, layer, action):
    assert as_all.get(path(action)).status_code == 405
    assert layer.sent == []


@pytest.mark.parametrize("csrf", [True, False])
def test_sessions_need_a_csrf_token_whatever_the_auth_endpoints_want(configure, layer, csrf):
    configure(AUTH_CSRF=False)
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(User.objects.create_superuser("root"))
    browser.cookies["csrftoken"] = token = "a" * 32

    response = post(browser, "kick", headers={"X-CSRFToken": token} if csrf else {})

    assert response.status_code == (200 if csrf else 403)


def test_staff_may_come_by_token(layer):
    staff = User.objects.create_user("bot", is_staff=True)
    staff.user_permissions.add(Permission.objects.get(codename="kick_realtimeuser"))
    Token.objects.create(user=staff, key="right")

    response = post(Client(), "kick", headers={"Authorization": "Token right"})

    assert response.status_code == 200


# ---- actions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "content_type"), [('{"reason":"Spam"}', JSON), ("reason=Spam", FORM)]
)
def test_kicking_closes_the_connections(as_all, occupied, layer, body, content_type):
    response = as_all.post(path("kick"), body, content_type=content_type)

    assert (response.status_code, response.json()) == (200, {"closed": 2})
    assert closed(layer) == ["ann"]
    assert LogEntry.objects.get().change_message == "Kicked. Spam"


def test_banning_keeps_the_user_out(as_all, occupied, layer):
    response = post(as_all, "ban", {"reason": "Spam"})

    assert response.json() == {"closed": 2}
    user = RealtimeUser.objects.banned().get()
    assert (user.user_id, user.ban_reason, user.banned_until) == ("ann", "Spam", None)
    assert closed(layer) == ["ann"]


def test_a_ban_may_end(as_all, layer):
    until = timezone.now() + datetime.timedelta(hours=1)

    response = post(as_all, "ban", {"until": until.isoformat()})

    assert response.status_code == 200
    assert RealtimeUser.objects.get().banned_until == until


def test_a_ban_without_end_may_say_so(as_all, layer):
    response = post(as_all, "ban", {"until": None})

    assert response.status_code == 200
    assert RealtimeUser.objects.get().banned


@pytest.mark.parametrize(
    ("action", "body", "field"),
    [
        ("ban", {"until": "2001-01-01T00:00:00Z"}, "until"),
        ("ban", {"until": "tomorrow"}, "until"),
        ("ban", {"reason": "x" * 201}, "reason"),
        ("kick", {"reason": "x" * 201}, "reason"),
        ("lift", {"reason": ["x"]}, "reason"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(as_all, layer, action, body, field):
    response = post(as_all, action, body)

    assert response.status_code == 400
    assert list(response.json()) == [field]
    assert layer.sent == []


def test_lifting_ends_the_ban(as_all):
    ban()

    response = post(as_all, "lift", {"reason": "Sorry"})

    assert response.json() == {"lifted": 1}
    assert not RealtimeUser.objects.banned().exists()
    assert post(as_all, "lift").json() == {"lifted": 0}


@pytest.mark.parametrize("action", ["kick", "ban"])
def test_a_user_nobody_has_seen_can_be_acted_upon(as_all, layer, action):
    response = post(as_all, action, user_id="a%40b")

    assert response.json() == {"closed": 0}
    assert closed(layer) == ["a@b"]


@pytest.mark.parametrize("action", ACTIONS)
def test_an_id_nobody_can_have_is_no_user(as_all, action):
    response = post(as_all, action, user_id="x" * 256)

    assert (response.status_code, response.json()) == (400, {"detail": "Invalid user id"})


@pytest.mark.parametrize(("action", "banned"), [("kick", False), ("ban", True)])
def test_a_layer_that_is_away_is_told(as_all, layer, action, banned):
    layer.broken = True

    response = post(as_all, action)

    assert response.status_code == 503
    assert response.json() == {"detail": "Service unavailable, try again later"}
    assert RealtimeUser.objects.banned().exists() is banned


# ---- the list ---------------------------------------------------------------------------


def test_the_users_who_are_online_are_listed(as_staff, occupied):
    RealtimeUser.objects.create(app_id="3", user_id="offline")
    RealtimeUser.objects.filter(user_id="bob").update(banned_at=timezone.now())

    response = as_staff("view_realtimeuser").get("/realtime/users")

    users = response.json()["users"]
    assert [(user["id"], user["banned"]) for user in users] == [("ann", False), ("bob", True)]
    assert all(user["last_seen_at"] for user in users)


def test_another_app_has_its_own_users(as_staff, occupied, configure):
    configure(APPS=[{"ID": "4", "KEY": "k", "SECRET": "s"}])

    response = as_staff("view_realtimeuser").get("/realtime/users?app_id=4")

    assert response.json() == {"users": []}


def test_an_unknown_app_is_a_bad_request(as_staff):
    response = as_staff("view_realtimeuser").get("/realtime/users?app_id=404")

    assert (response.status_code, response.json()) == (400, {"detail": "Unknown app_id"})


def test_the_list_has_a_permission_of_its_own(as_all, client):
    assert as_all.get("/realtime/users").status_code == 403
    assert client.get("/realtime/users").status_code == 403


def test_the_count_of_closed_connections_is_that_of_the_store(as_all, occupied, layer):
    expected = census.connection_count("3", "ann")

    assert post(as_all, "kick").json() == {"closed": expected}
