"""What a webhook says."""

import json

import pytest

from realtime.protocol.app import WEBHOOK_KINDS, Token
from realtime.protocol.facts import ARRIVALS, DEPARTURES, KINDS, Fact, encode_body
from realtime.protocol.signing import sign_webhook

TOKEN = Token("278d425bdf160c739803", "7ad3773142a6692b25b8")
W1 = '{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"test_channel"}]}'
W2 = (
    '{"time_ms":1327078148132,"events":[{"name":"client_event","channel":"presence-room",'
    r'"event":"client-typing","data":"{\"on\":true}","socket_id":"1234.1234","user_id":"u1"}]}'
)


@pytest.mark.spec(194)
@pytest.mark.parametrize(
    ("fact", "body", "signature"),
    [
        (
            Fact(app_id="3", kind="channel_occupied", channel="test_channel"),
            W1,
            "709fdb84c03664445f7698120b0edf0acc1ab1c8c6e93a0368c61841d6b998aa",
        ),
        (
            Fact(
                app_id="3",
                kind="client_event",
                channel="presence-room",
                event="client-typing",
                data='{"on":true}',
                socket_id="1234.1234",
                user_id="u1",
            ),
            W2,
            "559fdb88799fd5961c3eaa01bbc35e03ff66314691efbaf009eb8917947f7124",
        ),
    ],
)
def test_the_published_vectors(fact, body, signature):
    assert encode_body(1327078148132, [fact]) == body
    assert sign_webhook(TOKEN, body.encode()) == signature


@pytest.mark.spec(202)
def test_a_count_is_a_number():
    fact = Fact(app_id="3", kind="subscription_count", channel="room", subscription_count=0)

    [event] = json.loads(encode_body(1, [fact]))["events"]

    assert event == {"name": "subscription_count", "channel": "room", "subscription_count": 0}


def test_whatever_text_there_is_becomes_ascii():
    fact = Fact(app_id="3", kind="client_event", channel="room", data="é\ud800\0")

    body = encode_body(1, [fact])

    assert body.isascii()
    assert json.loads(body)["events"][0]["data"] == "é\ud800\0"


def test_every_departure_has_its_arrival():
    assert {*ARRIVALS, *DEPARTURES} < set(KINDS)
    assert {DEPARTURES[departure]: departure for departure in DEPARTURES} == ARRIVALS
    assert set(KINDS) - set(WEBHOOK_KINDS) == {"user_online", "user_offline"}
