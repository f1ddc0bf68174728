"""The Pusher HTTP API."""

import json

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection

from realtime import logs
from realtime.api import throttling
from realtime.models import RealtimeUser

EVENTS, BATCH = "/apps/3/events", "/apps/3/batch_events"
EVENT = {"name": "greet", "channel": "room", "data": "hello"}


@pytest.fixture
def one_moment(monkeypatch):
    """The allowance of an app is full, and no time passes."""
    throttling._budgets.clear()
    monkeypatch.setattr(throttling, "monotonic", lambda: 100.0)
    yield
    throttling._budgets.clear()


@pytest.fixture(autouse=True)
def _layer(layer):
    """Events go nowhere else."""


def answer(response):
    return response.status_code, response.content.decode()


def sent(layer):
    """The events sent, as channel, name and data."""
    frames = [json.loads(message["text"]) for message in layer.events()]
    return [(frame["channel"], frame["event"], frame["data"]) for frame in frames]


# ---- events -----------------------------------------------------------------------------


@pytest.mark.spec(166, 167, 177)
@pytest.mark.parametrize(
    ("channels", "reached"),
    [
        ({"channels": ["a", "b", "a"]}, ["a", "b"]),
        ({"channel": "a"}, ["a"]),
        ({"channel": "a", "channels": ["b"]}, ["b"]),
    ],
)
def test_an_event_reaches_its_channels(api, layer, channels, reached):
    response = api.post(EVENTS, {"name": "greet", "data": "hello", **channels})

    assert answer(response) == (200, "{}")
    assert response["Content-Type"] == "application/json"
    assert sent(layer) == [(channel, "greet", "hello") for channel in reached]


@pytest.mark.spec(117)
@pytest.mark.parametrize(
    "data", ["hello", "", '{"n":12345678901234567890, "n":1.0}', "zażółć\u0000"]
)
def test_data_is_passed_on_verbatim(api, layer, data):
    api.post(EVENTS, {**EVENT, "data": data})

    assert sent(layer) == [("room", "greet", data)]


@pytest.mark.spec(173)
def test_an_event_may_go_to_a_user(api, layer):
    assert api.post(EVENTS, {**EVENT, "channel": "#server-to-user-ann"}).status_code == 200
    assert [channel for channel, *_ in sent(layer)] == ["#server-to-user-ann"]


@pytest.mark.spec(174)
def test_a_socket_can_be_left_out(api, layer):
    assert api.post(EVENTS, {**EVENT, "socket_id": "1.1"}).status_code == 200
    assert layer.events()[0]["except"] == "1.1"


def test_parameters_may_be_in_the_query(api, layer):
    response = api.post(EVENTS, query="name=greet&channels[]=a&channels[]=b&data=x%20y")

    assert answer(response) == (200, "{}")
    assert sent(layer) == [("a", "greet", "x y"), ("b", "greet", "x y")]


@pytest.mark.spec(168, 174)
@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"name": "greet", "data": ""}, "Missing required parameter: channels"),
        ({**EVENT, "channel": 5}, "Expected channel parameter to be a string"),
        ({**EVENT, "channels": "a"}, "Expected channels parameter to be an array of strings"),
        ({**EVENT, "channels": [5]}, "Expected channels parameter to be an array of strings"),
        ({**EVENT, "channels": []}, "An event needs at least one channel"),
        ({**EVENT, "channel": "no spaces"}, "Invalid channel name: no spaces"),
        ({**EVENT, "channel": "#other"}, "Invalid channel name: #other"),
        ({**EVENT, "name": None}, "Missing required parameter: name"),
        ({**EVENT, "name": 5}, "Expected name parameter to be a string"),
        ({**EVENT, "name": "pusher:x"}, "Event name is reserved: pusher:x"),
        ({**EVENT, "data": None}, "Missing required parameter: data"),
        ({**EVENT, "data": {"a": 1}}, "Expected data parameter to be a string"),
        ({**EVENT, "socket_id": "1"}, "Invalid socket_id"),
        ({**EVENT, "socket_id": 1}, "Expected socket_id parameter to be a string"),
        ({**EVENT, "info": ["user_count"]}, "Expected info parameter to be a string"),
        ({**EVENT, "info": "users"}, "Unknown info attribute: users"),
        (b"{", "The request body is not valid JSON"),
        (b"\xff", "The request body is not valid JSON"),
        (b'{"a":NaN}', "The request body is not valid JSON"),
        (b"[" * 100_000, "The request body is not valid JSON"),
        (b"[]", "The request body is not a JSON object"),
    ],
)
def test_a_bad_event_is_refused_with_a_reason(api, layer, body, complaint):
    assert answer(api.post(EVENTS, body)) == (400, f"{complaint}\n")
    assert layer.sent == []


@pytest.mark.spec(169, 170, 171, 172)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"data": "x" * 10_240}, 200),
        ({"data": "x" * 10_241}, 413),
        ({"data": "é" * 5_120}, 200),
        ({"data": "é" * 5_120 + "x"}, 413),
        ({"channels": [f"c{number}" for number in range(100)]}, 200),
        ({"channels": [f"c{number}" for number in range(101)]}, 400),
        ({"name": "n" * 200}, 200),
        ({"name": "n" * 201}, 400),
        ({"channel": "c" * 200}, 200),
        ({"channel": "c" * 201}, 400),
    ],
)
def test_limits_hold_to_the_last_byte(api, body, status):
    assert api.post(EVENTS, {**EVENT, **body}).status_code == status


def test_too_much_data_is_answered_in_pushers_words(api):
    status, text = answer(api.post(EVENTS, {**EVENT, "data": "x" * 10_241}))

    assert status == 413
    assert text.startswith(
        "The data content of this event exceeds the allowed maximum (10240 bytes). See https://"
    )


@pytest.mark.spec(175, 176)
def test_info_is_told_of_every_channel(api, occupied):
    channels = ["presence-room", "room", "empty", "room"]

    response = api.post(
        EVENTS,
        {"name": "n", "data": "", "channels": channels, "info": "user_count, subscription_count"},
    )

    assert response.json() == {
        "channels": {
            "presence-room": {"user_count": 2, "subscription_count": 3},
            "room": {"subscription_count": 3},
            "empty": {"subscription_count": 0},
        }
    }


@pytest.mark.parametrize("info", ["", " ", ","])
def test_empty_info_is_none(api, info):
    assert answer(api.post(EVENTS, {**EVENT, "info": info})) == (200, "{}")


# ---- batches ----------------------------------------------------------------------------


@pytest.mark.spec(178)
@pytest.mark.parametrize(("size", "status"), [(0, 200), (10, 200), (11, 400)])
def test_a_batch_holds_ten_events(api, layer, size, status):
    response = api.post(BATCH, {"batch": [EVENT] * size})

    assert response.status_code == status
    assert len(layer.events()) == (size if status == 200 else 0)
    if status == 400:
        assert "Batch too large" in response.content.decode()


@pytest.mark.spec(177)
def test_a_batch_is_sent_in_order(api, layer):
    batch = [
        {"channel": "b", "name": "one", "data": "1", "socket_id": "1.1"},
        {"channel": "a", "name": "two", "data": "2"},
    ]

    assert answer(api.post(BATCH, {"batch": batch})) == (200, "{}")
    assert sent(layer) == [("b", "one", "1"), ("a", "two", "2")]
    assert [message["except"] for message in layer.events()] == ["1.1", None]


@pytest.mark.spec(179)
def test_the_answer_to_a_batch_has_its_length_and_order(api, occupied):
    batch = [
        {**EVENT, "channel": "presence-room", "info": "user_count"},
        EVENT,
        {**EVENT, "info": "subscription_count,user_count"},
        {**EVENT, "channel": "presence-room"},
    ]

    assert api.post(BATCH, {"batch": batch}).json() == {
        "batch": [{"user_count": 2}, {}, {"subscription_count": 3}, {}]
    }


@pytest.mark.spec(180)
@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ({**EVENT, "data": "x" * 10_241}, 413),
        ({**EVENT, "channel": None}, 400),
        ({**EVENT, "name": ""}, 400),
        ({**EVENT, "info": "users"}, 400),
        ({"channels": ["a"], "name": "n", "data": ""}, 400),
        ("text", 400),
    ],
)
def test_one_bad_event_fails_the_whole_batch(api, layer, bad, status):
    assert api.post(BATCH, {"batch": [EVENT, bad]}).status_code == status
    assert layer.sent == []


@pytest.mark.parametrize("body", [{}, {"batch": {}}, {"batch": "x"}])
def test_a_batch_is_an_array(api, body):
    assert answer(api.post(BATCH, body)) == (
        400,
        "Expected batch parameter to be an array of objects\n",
    )


# ---- channels ---------------------------------------------------------------------------


@pytest.mark.spec(79, 181, 182, 183, 184)
@pytest.mark.parametrize(
    ("query", "status", "expected"),
    [
        ("", 200, {"channels": {"presence-room": {}, "room": {}}}),
        ("filter_by_prefix=ro", 200, {"channels": {"room": {}}}),
        ("filter_by_prefix=x", 200, {"channels": {}}),
        (
            "filter_by_prefix=presence-&info=user_count",
            200,
            {"channels": {"presence-room": {"user_count": 2}}},
        ),
        ("info=user_count", 400, "starts with presence-"),
        ("filter_by_prefix=presence-&info=subscription_count", 400, "not available"),
        ("filter_by_prefix=presence-&info=x", 400, "Unknown info attribute: x"),
    ],
)
def test_occupied_channels_are_listed(api, occupied, query, status, expected):
    response = api.get("/apps/3/channels", query=query)

    assert response.status_code == status
    if status == 200:
        assert response.json() == expected
    else:
        assert expected in response.content.decode()


@pytest.mark.spec(181)
def test_no_channels_are_an_object(api):
    assert answer(api.get("/apps/3/channels")) == (200, '{"channels":{}}')


@pytest.mark.spec(185, 186)
@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("room", "", {"occupied": True}),
        ("room", "info=subscription_count", {"occupied": True, "subscription_count": 3}),
        ("never", "", {"occupied": False}),
        (
            "presence-room",
            "info=user_count,subscription_count",
            {"occupied": True, "user_count": 2, "subscription_count": 3},
        ),
        ("room", "info=user_count", "Cannot retrieve the user count unless"),
        ("room", "info=users", "Unknown info attribute: users"),
        ("no%20spaces", "", "Invalid channel name"),
        ("%23server-to-user-ann", "", "Invalid channel name"),
    ],
)
def test_one_channel_is_described(api, occupied, path, query, expected):
    response = api.get(f"/apps/3/channels/{path}", query=query)

    if isinstance(expected, dict):
        assert (response.status_code, response.json()) == (200, expected)
    else:
        assert response.status_code == 400
        assert response.content.decode().startswith(expected)


@pytest.mark.spec(188)
@pytest.mark.parametrize(
    ("channel", "expected"),
    [
        ("presence-room", (200, '{"users":[{"id":"ann"},{"id":"bob"}]}')),
        ("presence-empty", (200, '{"users":[]}')),
        ("room", (400, "Users can only be retrieved for presence channels\n")),
    ],
)
def test_the_users_of_a_channel_are_listed(api, occupied, channel, expected):
    assert answer(api.get(f"/apps/3/channels/{channel}/users")) == expected


# ---- users ------------------------------------------------------------------------------


@pytest.mark.spec(148, 189)
@pytest.mark.parametrize("body", [None, {}])
@pytest.mark.parametrize(("path", "user"), [("u-42", "u-42"), ("a%40b", "a@b")])
def test_the_connections_of_a_user_are_terminated(api, layer, body, path, user):
    sent = f"/apps/3/users/{path}/terminate_connections"

    response = api.post(sent, body, RAW_URI=sent)

    assert answer(response) == (200, "{}")
    [(_, message)] = layer.sent
    assert (message["app"], message["user"], message["members"]) == ("3", user, False)


def test_a_user_that_cannot_sign_in_is_not_terminated(api, layer):
    response = api.post("/apps/3/users/a%20b/terminate_connections")

    assert answer(response) == (400, "Invalid user id\n")
    assert layer.sent == []


# ---- trouble ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [(EVENTS, EVENT), (BATCH, {"batch": [EVENT]}), ("/apps/3/users/u/terminate_connections", {})],
)
def test_a_layer_that_is_away_is_unavailable(api, layer, caplog, path, body):
    layer.broken = True

    assert answer(api.post(path, body)) == (503, "Service unavailable, try again later\n")
    [record] = [item for item in caplog.records if item.levelname == "ERROR"]
    assert record.name == "realtime.api.views"
    assert "a call of the HTTP API failed: the channel layer does not answer" in caplog.text


def test_a_flood_of_refused_calls_is_one_line(api, caplog, counted, monkeypatch):
    monkeypatch.setattr(logs, "QUIET_SECONDS", 60)  # a slow machine needs more than one
    for _ in range(20):
        assert api.post(EVENTS, b"{").status_code == 400
        assert api.post(EVENTS, EVENT, secret="wrong").status_code == 401

    assert [item.getMessage() for item in caplog.records] == [
        "a call of the HTTP API was refused with 400: /apps/3/events",
        "a call of the HTTP API was refused with 401: /apps/3/events",
    ]
    assert counted("api_requests_refused", "400") == 20
    assert counted("api_requests_refused", "401") == 20


@pytest.mark.parametrize(
    ("path", "body"),
    [(EVENTS, {**EVENT, "channels": ["a", "b", "c"]}), (BATCH, {"batch": [EVENT] * 3})],
)
def test_an_app_that_sends_too_much_is_told_when_to_come_back(
    api, configure, layer, counted, one_moment, path, body
):
    configure(LIMITS={"API_EVENTS_PER_SECOND": 3})
    assert api.post(path, body).status_code == 200

    response = api.post(path, body)

    assert answer(response) == (429, "Too many events, try again in 1 s\n")
    assert response["Retry-After"] == "1"
    assert len(layer.events()) == 3
    assert counted("api_requests_refused", "429") == 1


def test_calls_that_break_another_limit_spend_nothing(api, configure, one_moment):
    configure(LIMITS={"API_EVENTS_PER_SECOND": 2})

    for _ in range(5):
        assert api.post(EVENTS, {**EVENT, "channel": "no spaces"}).status_code == 400

    assert api.post(EVENTS, EVENT).status_code == 200
    assert api.get("/apps/3/channels").status_code == 200


def test_a_database_that_is_away_is_unavailable(api):
    def away(*arguments):
        raise OperationalError("away")

    with connection.execute_wrapper(away):
        assert api.get("/apps/3/channels").status_code == 503


def test_an_error_of_the_site_is_not_hidden(api, settings):
    settings.REALTIME = {"APP_SECRT": "misspelt"}

    with pytest.raises(ImproperlyConfigured):
        api.post(EVENTS, EVENT)


@pytest.mark.spec(191)
@pytest.mark.parametrize("append_slash", [True, False])
@pytest.mark.parametrize("method", ["get", "post", "put"])
@pytest.mark.parametrize("path", ["/apps/", "/apps/3/events/", "/mounted/apps/3/x"])
def test_other_paths_are_not_found_and_never_redirected(
    client, settings, append_slash, method, path
):
    settings.APPEND_SLASH = append_slash

    response = getattr(client, method)(path)

    assert answer(response) == (404, "404 NOT FOUND\n")


def test_other_methods_are_not_allowed(api):
    assert api.get(EVENTS).status_code == 405
    assert api.post("/apps/3/channels", {}).status_code == 405


@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/xml", "nonsense"])
def test_the_answer_is_json_whatever_is_accepted(api, accept):
    response = api.post(EVENTS, EVENT, HTTP_ACCEPT=accept)

    assert (response.status_code, response["Content-Type"]) == (200, "application/json")


def test_a_browser_of_another_site_learns_nothing(api):
    response = api.post(EVENTS, EVENT, HTTP_ORIGIN="https://evil.com")

    assert not [name for name in response.headers if name.lower().startswith("access-control")]


def test_the_content_type_does_not_matter(api):
    assert api.post(EVENTS, EVENT, CONTENT_TYPE="text/plain").status_code == 200


@pytest.mark.django_db(transaction=True)
def test_events_of_the_api_wait_for_no_transaction(api, layer, settings):
    settings.DATABASES["default"]["ATOMIC_REQUESTS"] = True
    try:
        api.post(EVENTS, EVENT)
        assert sent(layer) == [("room", "greet", "hello")]
    finally:
        settings.DATABASES["default"]["ATOMIC_REQUESTS"] = False


# ---- users ------------------------------------------------------------------------------

ANN = "/apps/3/users/ann"


@pytest.fixture
def ann(occupied):
    return RealtimeUser.objects.get(app_id="3", user_id="ann")


def test_a_user_is_described(api, ann):
    response = api.get(ANN)

    body = response.json()
    assert response.status_code == 200
    assert set(body) == {
        *("id", "user_info", "online", "banned", "channels", "first_seen_at", "last_seen_at")
    }
    assert (body["id"], body["online"], body["channels"]) == ("ann", True, ["presence-room"])


def test_what_a_user_shows_is_set_and_deleted(api, ann):
    response = api("PATCH", ANN, {"user_info": {"name": "Anna"}})
    assert (response.status_code, response.json()["user_info"]) == (200, {"name": "Anna"})
    assert api.get(ANN).json()["user_info"] == {"name": "Anna"}

    assert answer(api("DELETE", ANN)) == (200, "{}")

    assert api.get(ANN).json()["user_info"] is None


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", ["/apps/3/users/nobody", "/apps/3/users/a/b"])
def test_a_user_nobody_knows_is_not_found(api, method, path):
    body = {"user_info": {}} if method == "PATCH" else None

    assert answer(api(method, path, body)) == (404, "No such user\n")


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_a_call_about_a_user_is_signed(api, ann, method):
    body = {"user_info": {}} if method == "PATCH" else None

    assert api(method, ANN, body, secret="wrong").status_code == 401
    assert RealtimeUser.objects.get(user_id="ann").user_info_override is None


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({}, 400, "Missing required parameter: user_info"),
        ({"user_info": None}, 400, "Missing required parameter: user_info"),
        ({"user_info": "x"}, 400, "Expected user_info parameter to be an object"),
        ({"user_info": {"n": "x" * 1_024}}, 413, "user_info is larger than 1024 bytes"),
    ],
    ids=["nothing", "null", "text", "too large"],
)
def test_what_no_user_may_show_is_refused(api, ann, body, status, text):
    assert answer(api("PATCH", ANN, body)) == (status, f"{text}\n")


def test_other_methods_on_a_user_are_refused(api, ann):
    assert api.post(ANN, {}).status_code == 405
