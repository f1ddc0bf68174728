"""Sending events from Django code."""

import datetime
import decimal
import json
import uuid

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import transaction
from django.utils.functional import lazystr

from realtime import triggers
from realtime.layer import PublishFailed
from realtime.protocol.errors import DataTooLarge, InvalidTrigger
from realtime.triggers import (
    asend_to_user,
    atrigger,
    atrigger_batch,
    encode_batch,
    send_to_user,
    trigger,
    trigger_batch,
)

ROOM = {"event": "greet", "channel": "room", "data": "hello"}


def frames(layer):
    """The events sent so far, as browsers get them."""
    return [json.loads(message["text"]) for message in layer.events()]


# ---- when -------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_outside_a_transaction_an_event_is_sent_at_once(layer):
    trigger("room", "greet", "hello")

    assert frames(layer) == [ROOM]


@pytest.mark.django_db(transaction=True)
def test_within_a_transaction_it_is_sent_after_the_commit(layer):
    with transaction.atomic():
        trigger("room", "greet", "hello")
        assert frames(layer) == []

    assert frames(layer) == [ROOM]


@pytest.mark.django_db(transaction=True)
def test_a_rolled_back_transaction_sends_nothing(layer):
    with transaction.atomic():
        trigger("room", "greet", "outer")
        with transaction.atomic():
            trigger("room", "greet", "inner")
            transaction.set_rollback(True)

    assert [frame["data"] for frame in frames(layer)] == ["outer"]


@pytest.mark.django_db(transaction=True)
def test_events_of_one_transaction_keep_their_order(layer):
    with transaction.atomic():
        trigger("a", "one", "")
        trigger_batch([{"channel": "a", "name": "two", "data": ""}])
        send_to_user("ann", "three", "")

    assert [frame["event"] for frame in frames(layer)] == ["one", "two", "three"]


@pytest.mark.django_db(transaction=True)
def test_a_layer_that_is_away_is_told_to_the_caller(layer):
    layer.broken = True

    with pytest.raises(PublishFailed):
        trigger("room", "greet", "hello")


@pytest.mark.django_db(transaction=True)
def test_a_layer_that_is_away_does_not_undo_a_commit(layer, caplog):
    layer.broken = True

    with transaction.atomic():
        trigger(["a", "b"], "greet", "hello")

    assert "2 events of a committed transaction were lost" in caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize(
    "call",
    [
        lambda: trigger("no spaces", "greet", "hello"),
        lambda: trigger_batch([{"channel": "no spaces", "name": "greet", "data": ""}]),
        lambda: send_to_user("no spaces", "greet", "hello"),
    ],
)
def test_a_bad_call_fails_in_the_stack_of_the_caller(layer, call):
    """The test runs in a transaction that never commits."""
    with pytest.raises(InvalidTrigger):
        call()

    assert layer.sent == []


async def test_synchronous_code_beside_connections_reaches_them(connect):
    client = await connect()
    await client.subscribe("room")

    await sync_to_async(trigger)("room", "greet", "hello")

    assert await client.frame() == ROOM


@pytest.mark.django_db(transaction=True)
def test_events_that_reach_nobody_are_worth_one_warning(layer, caplog):
    triggers._warn_that_nobody_listens.cache_clear()

    trigger("room", "greet", "one")
    trigger("room", "greet", "two")

    assert caplog.text.count("events of this process reach nobody") == 1


# ---- what -------------------------------------------------------------------------------


@pytest.fixture
def send(layer, transactional_db):
    """Sends one event; returns the frames."""

    def send(channels="room", event="greet", data="hello", socket_id=None):
        trigger(channels, event, data, socket_id)
        return frames(layer)

    return send


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        ({"a": [1, None, True]}, '{"a":[1,null,true]}'),
        (None, "null"),
        (1.5, "1.5"),
        (datetime.date(2026, 1, 2), '"2026-01-02"'),
        (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), '"2026-01-02T03:04:05Z"'),
        (decimal.Decimal("1.10"), '"1.10"'),
        (uuid.UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
        (lazystr("lazy"), '"lazy"'),
    ],
)
def test_text_goes_out_as_it_is_and_anything_else_as_json(send, data, text):
    assert [frame["data"] for frame in send(data=data)] == [text]


@pytest.mark.parametrize(
    ("data", "error"), [(b"bytes", TypeError), (object(), TypeError), (float("nan"), ValueError)]
)
def test_data_that_is_no_json_is_refused(send, layer, data, error):
    with pytest.raises(error):
        send(data=data)

    assert layer.sent == []


@pytest.mark.parametrize(
    ("channels", "sent"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), (("a", "b", "a"), ["a", "b"])],
)
def test_every_channel_gets_the_event_once(send, channels, sent):
    assert [frame["channel"] for frame in send(channels)] == sent


@pytest.mark.spec(118)
def test_one_connection_can_be_left_out(send, layer):
    send(socket_id="123.456")

    assert [message["except"] for message in layer.events()] == ["123.456"]


@pytest.mark.spec(169, 170, 171, 172, 56)
@pytest.mark.parametrize(
    "within",
    [
        {"channels": [f"c{number}" for number in range(100)]},
        {"channels": "c" * 200},
        {"event": "e" * 200},
        {"data": "x" * 10_240},
        {"data": "é" * 5_120},
        {"data": "é" * 5_119 + "xx"},
        {"channels": "#server-to-user-" + "u" * 200},
    ],
    ids=lambda within: next(iter(within)),
)
def test_what_reaches_a_limit_is_sent(send, within):
    assert send(**within)


@pytest.mark.spec(169, 170, 171, 172, 174)
@pytest.mark.parametrize(
    ("beyond", "error"),
    [
        ({"channels": [f"c{number}" for number in range(101)]}, "100 channels at most"),
        ({"channels": []}, "at least one channel"),
        ({"channels": "c" * 201}, "Invalid channel name"),
        ({"channels": ""}, "Invalid channel name"),
        ({"channels": "room\n"}, "Invalid channel name"),
        ({"channels": ["room", "#other"]}, "Invalid channel name"),
        ({"event": "e" * 201}, "at most 200 characters"),
        ({"event": ""}, "must not be empty"),
        ({"event": "pusher:ping"}, "reserved"),
        ({"event": "pusher_internal:member_added"}, "reserved"),
        ({"event": "\ud800"}, "not valid text"),
        ({"data": "x" * 10_241}, r"exceeds the allowed maximum \(10240 bytes\)"),
        ({"data": "é" * 5_120 + "x"}, "exceeds the allowed maximum"),
        ({"socket_id": "1"}, "Invalid socket_id"),
        ({"socket_id": "1.1\n"}, "Invalid socket_id"),
        ({"socket_id": ""}, "Invalid socket_id"),
    ],
)
def test_what_is_beyond_a_limit_is_refused(send, layer, beyond, error):
    with pytest.raises(InvalidTrigger, match=error):
        send(**beyond)

    assert layer.sent == []


@pytest.mark.parametrize("bad", [{"channels": [5]}, {"channels": 5}, {"event": None}])
def test_arguments_of_the_wrong_type_are_refused(send, bad):
    with pytest.raises(TypeError):
        send(**bad)


def test_too_much_data_has_an_error_of_its_own(send):
    with pytest.raises(DataTooLarge):
        send(data="x" * 10_241)


# ---- batches and users ------------------------------------------------------------------


@pytest.mark.spec(178)
@pytest.mark.django_db(transaction=True)
def test_a_batch_holds_ten_events(layer):
    item = {"channel": "room", "name": "greet", "data": {}}

    trigger_batch([item] * 10)
    with pytest.raises(InvalidTrigger, match="Batch too large"):
        trigger_batch([item] * 11)

    assert len(layer.events()) == 10


@pytest.mark.spec(180)
@pytest.mark.django_db(transaction=True)
def test_one_bad_event_of_a_batch_stops_all(layer):
    good = {"channel": "room", "name": "greet", "data": "", "socket_id": "1.1"}

    with pytest.raises(InvalidTrigger):
        trigger_batch([good, {**good, "name": ""}])

    assert layer.sent == []


def test_a_batch_is_encoded_in_order(app):
    item = {"name": "greet", "data": ""}

    envelopes = encode_batch(
        app, [{**item, "channel": "b", "socket_id": "1.1"}, {**item, "channel": "a"}]
    )

    assert [(item.channel, item.except_socket_id) for item in envelopes] == [
        ("b", "1.1"),
        ("a", None),
    ]


@pytest.mark.django_db(transaction=True)
def test_an_event_for_a_user_goes_to_the_channel_of_that_user(layer):
    send_to_user("ann", "greet", {})

    assert [frame["channel"] for frame in frames(layer)] == ["#server-to-user-ann"]


@pytest.mark.parametrize(
    ("user_id", "error"), [("", InvalidTrigger), ("a b", InvalidTrigger), (5, TypeError)]
)
def test_an_event_needs_a_user_that_can_sign_in(user_id, error):
    with pytest.raises(error):
        send_to_user(user_id, "greet", {})


# ---- apps and loops ---------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_an_app_can_be_named(layer, configure):
    configure(APPS=[{"ID": "4", "KEY": "k", "SECRET": "s"}])

    trigger("room", "greet", "", app_id="4")

    assert [message["app"] for message in layer.events()] == ["4"]


@pytest.mark.django_db
def test_an_unknown_app_is_refused():
    with pytest.raises(ImproperlyConfigured, match="no realtime app with the id 5"):
        trigger("room", "greet", "", app_id="5")


async def test_a_coroutine_cannot_call_the_synchronous_function(layer):
    with pytest.raises(SynchronousOnlyOperation):
        trigger("room", "greet", "hello")

    assert layer.sent == []


async def test_coroutines_have_twins(layer):
    await atrigger("room", "greet", "hello", "1.1")
    await atrigger_batch([{"channel": "room", "name": "greet", "data": {}}])
    await asend_to_user("ann", "greet", [1])

    assert [frame["data"] for frame in frames(layer)] == ["hello", "{}", "[1]"]
    assert layer.events()[0]["except"] == "1.1"


@pytest.mark.parametrize(
    "call",
    [
        lambda: atrigger("no spaces", "greet", ""),
        lambda: atrigger_batch([{"channel": "room", "name": "", "data": ""}]),
        lambda: asend_to_user("no spaces", "greet", ""),
    ],
)
async def test_the_twins_check_as_well(layer, call):
    with pytest.raises(InvalidTrigger):
        await call()

    assert layer.sent == []
