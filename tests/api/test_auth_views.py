"""``/pusher/auth`` and ``/pusher/user-auth``."""

import json

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from rest_framework.authtoken.models import Token

from realtime import applications, channel_rule, encryption
from realtime.api.auth_views import default_user_data
from realtime.models import RealtimeUser
from tests.conftest import hmac_hex, signed

AUTH, USER_AUTH = "/pusher/auth", "/pusher/user-auth"


@channel_rule("private-auth-mine-{username}")
def mine(user, username):
    return user.username == username


@channel_rule("private-encrypted-auth-yes")
@channel_rule("private-auth-yes")
@channel_rule("presence-auth-yes")
def everybody(user):
    return True


@channel_rule("private-auth-none")
def nobody(user):
    return None


@channel_rule("private-auth-async")
async def asynchronous(user):
    return user.is_authenticated


@channel_rule("presence-auth-shown")
def shown(user):
    return {"user_info": {"name": f"{user.first_name} <img onerror=x>"}}


@channel_rule("presence-auth-other")
def other(user):
    return {"user_id": 7, "user_info": {}}


@channel_rule("private-auth-data")
def with_data(user):
    return {"role": "owner"}


@channel_rule("private-auth-raises")
def raises(user):
    raise LookupError("a secret of the site")


@channel_rule("private-auth-odd")
def odd(user):
    return "yes"


def user_with_watchlist(user):
    return {"id": user.pk, "user_info": {"name": user.username}, "watchlist": ["7"]}


def ask(client, channel, socket_id="1.1", **options):
    return client.post(AUTH, {"socket_id": socket_id, "channel_name": channel}, **options)


# ---- channels ---------------------------------------------------------------------------


@pytest.mark.spec(217, 223)
@pytest.mark.parametrize(
    "channel",
    [
        "private-auth-mine-ann",
        "private-auth-yes",
        "private-auth-async",
        "presence-auth-yes",
    ],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_who_may_join_gets_a_signature(as_ann, channel, as_json):
    body = {"socket_id": "1.1", "channel_name": channel}

    response = as_ann.post(AUTH, body, **({"content_type": "application/json"} if as_json else {}))

    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    assert response.json() == {"auth": signed(f"1.1:{channel}")}


@pytest.mark.spec(220)
def test_who_may_join_an_encrypted_channel_gets_its_key(as_ann):
    answer = ask(as_ann, "private-encrypted-auth-yes").json()

    assert answer == {
        "auth": signed("1.1:private-encrypted-auth-yes"),
        "shared_secret": encryption.shared_secret(
            applications.default(), "private-encrypted-auth-yes"
        ),
    }


def test_nobody_joins_an_encrypted_channel_of_an_app_without_master_key(as_ann, configure, caplog):
    configure(ENCRYPTION_MASTER_KEY="")

    assert ask(as_ann, "private-encrypted-auth-yes").status_code == 403
    assert "no ENCRYPTION_MASTER_KEY" in caplog.text


@pytest.mark.spec(218)
@pytest.mark.parametrize(
    ("channel", "data"),
    [
        ("presence-auth-shown", {"user_id": "ANN", "user_info": {"name": "Ann <img onerror=x>"}}),
        ("presence-auth-other", {"user_id": "7", "user_info": {}}),
        ("private-auth-data", {"role": "owner"}),
    ],
)
def test_the_data_of_a_rule_is_signed_as_it_is_returned(as_ann, ann, channel, data):
    answer = ask(as_ann, channel).json()

    expected = json.loads(json.dumps(data).replace("ANN", str(ann.pk)))
    assert json.loads(answer["channel_data"]) == expected
    assert answer["auth"] == signed(f"1.1:{channel}:{answer['channel_data']}")


@pytest.mark.spec(217)
@pytest.mark.parametrize(
    "channel",
    ["private-auth-mine-bob", "private-auth-none", "private-unknown", "presence-unknown"],
)
def test_who_may_not_join_is_forbidden(as_ann, channel):
    response = ask(as_ann, channel)

    assert (response.status_code, response.json()) == (403, {"detail": "Forbidden"})


@pytest.mark.parametrize("channel", ["private-auth-raises", "private-auth-odd"])
def test_a_rule_that_fails_lets_nobody_in_and_tells_nothing(as_ann, caplog, channel):
    response = ask(as_ann, channel)

    assert (response.status_code, response.json()) == (403, {"detail": "Forbidden"})
    assert f"the rule of channel {channel} failed" in caplog.text


@pytest.mark.spec(219)
@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"channel_name": "private-auth-yes"}, "Invalid socket_id"),
        ({"channel_name": "private-auth-yes", "socket_id": "1"}, "Invalid socket_id"),
        ({"channel_name": "private-auth-yes", "socket_id": "1.1\n"}, "Invalid socket_id"),
        ({"channel_name": "private-auth-yes", "socket_id": "1.1:x"}, "Invalid socket_id"),
        ({"channel_name": "private-auth-yes", "socket_id": 1.1}, "Invalid socket_id"),
        ({"socket_id": "1.1"}, "Invalid channel_name"),
        ({"socket_id": "1.1", "channel_name": 5}, "Invalid channel_name"),
        ({"socket_id": "1.1", "channel_name": "room"}, "Invalid channel_name"),
        ({"socket_id": "1.1", "channel_name": "private-auth-yes\n"}, "Invalid channel_name"),
        ({"socket_id": "1.1", "channel_name": "private-" + "x" * 200}, "Invalid channel_name"),
        ({"socket_id": "1.1", "channel_name": "#server-to-user-1"}, "Invalid channel_name"),
        ({"socket_id": "1.1", "channel_name": ":user:{}"}, "Invalid channel_name"),
        ([], "Expected an object"),
    ],
)
def test_what_is_malformed_is_not_signed(as_ann, body, complaint):
    response = as_ann.post(AUTH, body, content_type="application/json")

    assert (response.status_code, response.json()) == (400, {"detail": complaint})


@pytest.mark.parametrize("path", [AUTH, USER_AUTH])
@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"a":NaN}', b"[" * 100_000])
def test_a_body_that_is_no_json_is_refused(as_ann, path, body):
    response = as_ann.post(path, body, content_type="application/json")

    assert (response.status_code, response.json()) == (
        400,
        {"detail": "The request body is not valid JSON"},
    )


def test_a_batch_of_names_that_are_no_text_is_refused(as_ann):
    body = b'{"socket_id":"1.1","channel_name":["private-\\ud800"]}'

    response = as_ann.post(AUTH, body, content_type="application/json")

    assert (response.status_code, response.json()) == (400, {"detail": "Invalid channel_name"})


def test_what_the_client_says_about_itself_is_not_signed(as_ann):
    forged = '{"user_id":"1"}'

    response = as_ann.post(
        AUTH,
        {"socket_id": "1.1", "channel_name": "presence-auth-yes", "channel_data": forged},
    )

    assert response.json() == {"auth": signed("1.1:presence-auth-yes")}


# ---- batches ----------------------------------------------------------------------------


@pytest.mark.spec(223)
@pytest.mark.parametrize("as_json", [True, False])
def test_a_batch_is_answered_channel_by_channel(as_ann, as_json):
    names = ["private-auth-yes", "private-auth-none", "room", "private-auth-yes"]
    if as_json:
        body = {"socket_id": "1.1", "channel_name": names}
        response = as_ann.post(AUTH, body, content_type="application/json")
    else:
        fields = {f"channel_name[{number}]": name for number, name in enumerate(names)}
        response = as_ann.post(AUTH, {"socket_id": "1.1", **fields})

    assert response.json() == {
        "private-auth-yes": {"status": 200, "data": {"auth": signed("1.1:private-auth-yes")}},
        "private-auth-none": {"status": 403},
        "room": {"status": 400},
    }


@pytest.mark.parametrize(("size", "status"), [(100, 200), (101, 400)])
def test_a_batch_has_a_limit(as_ann, size, status):
    fields = {f"channel_name[{number}]": f"private-{number}" for number in range(size)}

    assert as_ann.post(AUTH, {"socket_id": "1.1", **fields}).status_code == status


# ---- users ------------------------------------------------------------------------------


@pytest.mark.spec(221)
def test_a_user_is_signed_in(as_ann, ann):
    answer = as_ann.post(USER_AUTH, {"socket_id": "1.1"}).json()

    assert json.loads(answer["user_data"]) == {"id": str(ann.pk), "user_info": {"name": "Ann Lee"}}
    assert answer["auth"] == signed(f"1.1::user::{answer['user_data']}")


def test_the_site_says_what_its_users_show(as_ann, ann, configure):
    configure(USER_DATA=f"{__name__}.user_with_watchlist")

    answer = as_ann.post(USER_AUTH, {"socket_id": "1.1"}).json()

    assert json.loads(answer["user_data"]) == {
        "id": str(ann.pk),
        "user_info": {"name": "ann"},
        "watchlist": ["7"],
    }


def test_a_user_without_a_name_shows_the_user_name():
    assert default_user_data(User(pk=5, username="ann")) == {
        "id": "5",
        "user_info": {"name": "ann"},
    }


@pytest.mark.parametrize("socket_id", [None, "x", "1.1:private-a"])
def test_no_malformed_socket_signs_in(as_ann, socket_id):
    body = {"socket_id": socket_id} if socket_id else {}

    assert as_ann.post(USER_AUTH, body).status_code == 400


# ---- who is asking ----------------------------------------------------------------------


@pytest.mark.spec(217)
@pytest.mark.parametrize("path", [AUTH, USER_AUTH])
@pytest.mark.parametrize("append_slash", [True, False])
def test_who_is_not_logged_in_is_forbidden_and_never_redirected(
    db, client, settings, path, append_slash
):
    settings.APPEND_SLASH = append_slash

    response = client.post(path, {"socket_id": "1.1", "channel_name": "private-auth-yes"})

    assert response.status_code == 403
    assert response["Content-Type"] == "application/json"


@pytest.mark.parametrize("path", [AUTH, USER_AUTH])
def test_a_banned_user_is_forbidden(as_ann, ann, path):
    RealtimeUser.objects.create(app_id="3", user_id=str(ann.pk), banned_at=timezone.now())

    response = as_ann.post(path, {"socket_id": "1.1", "channel_name": "private-auth-yes"})

    assert (response.status_code, response.json()) == (403, {"detail": "You are banned"})


def test_an_inactive_user_is_forbidden(as_ann, ann):
    User.objects.filter(pk=ann.pk).update(is_active=False)

    assert ask(as_ann, "private-auth-yes").status_code == 403


@pytest.mark.spec(222)
@pytest.mark.parametrize("path", [AUTH, USER_AUTH])
@pytest.mark.parametrize(
    ("wanted", "sent", "status"),
    [(True, True, 200), (True, False, 403), (False, False, 200)],
    ids=["token", "no token", "switched off"],
)
def test_session_users_need_a_csrf_token_unless_it_is_switched_off(
    ann, configure, path, wanted, sent, status
):
    configure(AUTH_CSRF=wanted)
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(ann)
    browser.cookies["csrftoken"] = token = "a" * 32
    body = {"socket_id": "1.1", "channel_name": "private-auth-yes"}

    response = browser.post(path, body, headers={"X-CSRFToken": token} if sent else {})

    assert response.status_code == status


@pytest.mark.spec(222)
@pytest.mark.parametrize(("key", "status"), [("right", 200), ("wrong", 403)])
def test_token_users_need_no_csrf_token(ann, key, status):
    Token.objects.create(user=ann, key="right")
    caller = Client(enforce_csrf_checks=True)

    response = ask(caller, "private-auth-yes", headers={"Authorization": f"Token {key}"})

    assert response.status_code == status


@pytest.mark.parametrize("path", [AUTH, USER_AUTH])
def test_only_posts_are_answered(as_ann, path):
    assert as_ann.get(path).status_code == 405


def test_an_app_has_its_own_secret(as_ann, settings):
    settings.REALTIME = {"APP_ID": "5", "APP_KEY": "k", "APP_SECRET": "s"}

    answer = ask(as_ann, "private-auth-yes").json()

    assert answer == {"auth": "k:" + hmac_hex("1.1:private-auth-yes", "s")}
