"""How an event reaches the other server processes."""

import asyncio
import re
import time

import pytest
from channels.layers import InMemoryChannelLayer, channel_layers

from realtime import metrics
from realtime.layer import (
    BUNDLE_CHARS,
    BUNDLE_EVENTS,
    CONTROL_GROUP,
    IN_MEMORY_CAPACITY,
    Envelope,
    PublishFailed,
    channel_layer,
    layer_group,
    publish,
    publish_termination,
)
from realtime.protocol.attendance import Announcement
from realtime.protocol.errors import RealtimeError


def test_without_a_configured_layer_there_is_one_in_memory(settings):
    settings.CHANNEL_LAYERS = {}

    layer = channel_layer()

    assert isinstance(layer, InMemoryChannelLayer)
    assert layer.get_capacity("specific.inmemory!x") == IN_MEMORY_CAPACITY
    assert channel_layer() is layer


def test_the_layer_in_memory_is_made_anew_when_the_setting_changes(settings):
    settings.CHANNEL_LAYERS = {}
    before = channel_layer()

    settings.CHANNEL_LAYERS = {"other": {}}

    assert channel_layer() is not before


async def test_the_layer_in_memory_forgets_no_group(settings, monkeypatch):
    settings.CHANNEL_LAYERS = {}
    layer = channel_layer()
    await layer.group_add("group", "channel")
    next_year = time.time() + 365 * 86_400
    monkeypatch.setattr("channels.layers.time.time", lambda: next_year)

    await layer.group_send("group", {"type": "hello"})

    assert await layer.receive("channel") == {"type": "hello"}


def test_a_configured_layer_is_used(layer):
    assert channel_layer() is layer


def test_the_setting_names_the_layer(settings, configure):
    backend = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    settings.CHANNEL_LAYERS = {"default": backend, "realtime": backend}
    configure(LAYER="realtime")

    # An object of our own: the site's consumers keep theirs, whatever happens to ours.
    assert type(channel_layer()) is type(channel_layers["realtime"])
    assert channel_layer() is channel_layer()
    assert channel_layer() is not channel_layers["realtime"]


@pytest.mark.parametrize("channel", ["room", "presence-" + "=@,;" * 40, "#server-to-user-ü"])
def test_group_names_suit_every_layer(channel):
    assert re.fullmatch(r"[A-Za-z0-9_.\-]{1,99}", layer_group("3", channel))


def test_group_names_tell_apps_and_channels_apart():
    groups = {layer_group(app, channel) for app in ("3", "31") for channel in ("a", "1:a", "b")}

    assert len(groups) == 6


@pytest.mark.parametrize(
    "envelope",
    [
        Envelope("3", "room", "text"),
        Envelope("3", "room", "text", "1.1"),
        Envelope("3", "presence-room", "text", None, Announcement("u1", 7, True, 5)),
    ],
)
def test_an_envelope_survives_its_journey(envelope):
    assert Envelope.of(envelope.message()) == envelope


def test_since_when_a_member_shows_something_survives_its_journey():
    envelope = Envelope("3", "presence-room", "text", None, Announcement("u1", 7, True, 5))

    assert Envelope.of(envelope.message()).announcement.shown_since == 5


def test_a_process_of_the_version_before_is_understood():
    message = Envelope("3", "presence-room", "text", None, Announcement("u1", 7, True)).message()
    del message["member"][3:]

    assert Envelope.of(message).announcement == Announcement("u1", 7, True)


def test_the_wire_between_processes_is_fixed():
    envelope = Envelope("3", "room", "text", "1.1", Announcement("u1", 7, True, 5))

    assert envelope.message() == {
        "type": "realtime.event",
        "app": "3",
        "channel": "room",
        "text": "text",
        "except": "1.1",
        "member": ["u1", 7, True, 5],
    }


async def test_one_envelope_is_one_message_to_one_group(layer):
    envelopes = [Envelope("3", "a", "1"), Envelope("3", "b", "2"), Envelope("3", "a", "3")]

    before = time.time()
    await publish(envelopes)

    times = [message.pop("at") for _, message in layer.sent]
    assert layer.sent == [
        (layer_group("3", envelope.channel), envelope.message()) for envelope in envelopes
    ]
    assert before <= times[0] <= times[1] <= times[2] <= time.time()


async def test_neighbours_of_one_channel_share_a_message(layer):
    envelopes = [Envelope("3", name, str(number)) for number, name in enumerate("aabbba")]

    await publish(envelopes)

    shared = [
        [event["text"] for event in message.get("events", [message])] for _, message in layer.sent
    ]
    assert shared == [["0", "1"], ["2", "3", "4"], ["5"]]
    assert [group for group, _ in layer.sent] == [layer_group("3", name) for name in "aba"]
    assert [event["text"] for event in layer.events()] == list("012345")


@pytest.mark.parametrize(
    ("texts", "sizes"),
    [
        (["x"] * (BUNDLE_EVENTS + 1), [BUNDLE_EVENTS, 1]),
        (["x" * (BUNDLE_CHARS // 2)] * 3, [2, 1]),
        (["x", "x" * BUNDLE_CHARS, "x"], [1, 1, 1]),
    ],
)
async def test_a_message_of_the_layer_has_so_many_events_at_most(layer, texts, sizes):
    await publish([Envelope("3", "a", text) for text in texts])

    assert [len(message.get("events", [1])) for _, message in layer.sent] == sizes
    assert [event["text"] for event in layer.events()] == texts


async def test_of_bundles_the_taken_are_counted_as_published(layer, counted, monkeypatch):
    send, sent = layer.group_send, []

    async def once(group, message):
        sent.append(message)
        layer.broken = len(sent) > 1
        await send(group, message)

    monkeypatch.setattr(layer, "group_send", once)

    with pytest.raises(PublishFailed):
        await publish([Envelope("3", name, "1") for name in "aaabb"])

    assert counted("events_published", "trigger") == 3
    assert counted("publishes_refused") == 2


@pytest.mark.parametrize("source", ["trigger", "client"])
async def test_what_the_layer_took_is_counted_by_where_it_came_from(layer, counted, source):
    more = {} if source == "trigger" else {"source": source}

    await publish([Envelope("3", "a", "1"), Envelope("3", "b", "2")], **more)

    assert counted("events_published", source) == 2


async def test_what_the_layer_refused_is_not_counted_as_published(layer, counted):
    layer.broken = True

    with pytest.raises(PublishFailed):
        await publish([Envelope("3", "a", "1")])

    assert counted("events_published", "trigger") == 0
    assert counted("publishes_refused") == 1


async def test_a_termination_is_one_message_to_all_processes(layer):
    await publish_termination("3", "u1", members=True)

    message = {"type": "realtime.terminate", "app": "3", "user": "u1", "members": True}
    assert layer.sent == [(CONTROL_GROUP, message)]


async def test_whatever_a_layer_raises_becomes_one_error(layer):
    layer.broken = True

    with pytest.raises(PublishFailed, match="does not answer: ConnectionError"):
        await publish([Envelope("3", "room", "text")])


async def test_a_layer_that_hangs_is_given_up(layer, configure, monkeypatch):
    configure(PUBLISH_TIMEOUT_SECONDS=0.01)

    async def hang(group, message):
        await asyncio.Event().wait()

    monkeypatch.setattr(layer, "group_send", hang)

    with pytest.raises(PublishFailed, match="TimeoutError"):
        await publish([Envelope("3", "room", "text")])


async def test_an_event_the_layer_in_memory_has_no_room_for_is_refused(settings):
    settings.CHANNEL_LAYERS = {}
    layer = channel_layer()
    await layer.group_add(layer_group("3", "room"), "reader")
    for _ in range(IN_MEMORY_CAPACITY):
        await layer.group_send(layer_group("3", "room"), {})

    with pytest.raises(PublishFailed, match="ChannelFull"):
        await publish([Envelope("3", "room", "text")])


async def test_events_that_were_not_taken_are_counted(layer, monkeypatch):
    taken = []

    async def take_one(group, message):
        if taken:
            raise ConnectionError("gone")
        taken.append(message)

    monkeypatch.setattr(layer, "group_send", take_one)
    before = metrics.snapshot()["realtime_publishes_refused_total"][""]

    with pytest.raises(PublishFailed):
        await publish([Envelope("3", name, "text") for name in "abc"])

    assert metrics.snapshot()["realtime_publishes_refused_total"][""] == before + 2


async def test_a_failure_within_a_failure_is_reported_once(layer, monkeypatch):
    async def fail(group, message):
        raise PublishFailed("as it was")

    monkeypatch.setattr(layer, "group_send", fail)

    with pytest.raises(PublishFailed, match=r"\Aas it was\Z"):
        await publish([Envelope("3", "room", "text")])


def test_a_failed_publish_is_an_error_of_this_package():
    assert issubclass(PublishFailed, RealtimeError)
