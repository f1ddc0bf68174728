"""Two endpoints of former libraries."""

import json

import pytest

EVENTS = "/apps/3/channels/room/events"


@pytest.fixture(autouse=True)
def _layer(layer):
    """Events go nowhere else."""


def sent(layer):
    """The events sent, as channel, name, data and who does not get it."""
    frames = [(json.loads(message["text"]), message["except"]) for message in layer.events()]
    return [(frame["channel"], frame["event"], frame["data"], who) for frame, who in frames]


@pytest.mark.parametrize("data", ['{"a": 1}', "żółć", ""])
def test_the_body_is_the_data_of_the_event(api, layer, data):
    answer = api.post(EVENTS, data.encode(), query="name=greet&socket_id=1.2")

    assert (answer.status_code, answer.content) == (202, b"202 ACCEPTED\n")
    assert answer["Content-Type"] == "text/plain; charset=utf-8"
    assert sent(layer) == [("room", "greet", data, "1.2")]


def test_nobody_need_be_left_out(api, layer):
    api.post(EVENTS, b"1", query="name=greet")

    assert sent(layer) == [("room", "greet", "1", None)]


@pytest.mark.parametrize(
    ("query", "body", "status"),
    [
        ("", b"1", 400),
        ("name=greet&socket_id=nonsense", b"1", 400),
        ("name=pusher:greet", b"1", 400),
        ("name=greet", b"\xff", 400),
        ("name=greet", b"x" * 10_241, 413),
    ],
)
def test_what_breaks_a_limit_is_refused_in_text(api, layer, query, body, status):
    answer = api.post(EVENTS, body, query=query)

    assert answer.status_code == status
    assert answer["Content-Type"].startswith("text/plain")
    assert sent(layer) == []


def test_a_wrong_signature_is_refused(api, layer):
    assert api.post(EVENTS, b"1", query="name=greet", secret="wrong").status_code == 401
    assert api.get("/apps/3/channels/room/stats", secret="wrong").status_code == 401
    assert sent(layer) == []


def test_they_count_for_the_limit_of_the_app(api, layer, configure):
    configure(LIMITS={"API_EVENTS_PER_SECOND": 1})

    statuses = {api.post(EVENTS, b"1", query="name=greet").status_code for _ in range(5)}

    assert statuses == {202, 429}


@pytest.mark.parametrize(
    ("channel", "stats"),
    [
        ("room", {"occupied": True, "connection_count": 3}),
        ("presence-room", {"occupied": True, "user_count": 2, "connection_count": 3}),
        ("empty", {"occupied": False, "connection_count": 0}),
    ],
)
def test_stats_are_the_numbers_under_their_former_names(api, occupied, channel, stats):
    answer = api.get(f"/apps/3/channels/{channel}/stats")

    assert (answer.status_code, answer.json()) == (200, stats)


def test_stats_of_no_channel_are_refused(api):
    assert api.get("/apps/3/channels/a:b/stats").status_code == 400
