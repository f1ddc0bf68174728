"""Requests of one virtual WebSocket that reach different processes.

Two hubs and two registries in one loop stand for two processes: all that they share is the
layer.
"""

import asyncio
import json

import pytest

from realtime import hub, loops, triggers
from realtime.fallback import reception, relay, virtual
from realtime.fallback.application import Fallback
from realtime.fallback.registry import Registry
from realtime.fallback.relay import Relay, group_of
from realtime.fallback.virtual import Name
from tests.conftest import ID, soon, until


@pytest.fixture
async def processes(process, new_browser):
    """The HTTP side of two processes."""
    hubs = [hub.current(), hub.Hub()]
    registries = [Registry(Relay(each)) for each in hubs]
    yield [Fallback(lambda mine=mine: mine) for mine in registries]
    for mine in registries:
        for socket in [*mine._sockets.values()]:
            socket.end()
    await until(lambda: not any(task.get_name().startswith("fallback") for task in loops._tasks))
    await hubs[1].stop()


@pytest.fixture
def patient(monkeypatch):
    """An owner has the time that a slow machine needs."""
    monkeypatch.setattr(relay, "ANSWER_SECONDS", 5)


@pytest.fixture
def hasty(monkeypatch):
    """Nobody is there, and so nobody is waited for."""
    monkeypatch.setattr(relay, "ANSWER_SECONDS", 0.01)


@pytest.fixture
async def away(processes, new_browser, hasty):
    """A client whose owner is the first process, and the second one to ask."""
    first, second = processes
    browser = new_browser(first)
    stream = await browser.open()
    browser._application = second
    return browser, stream


@pytest.mark.spec(209, 210)
async def test_messages_find_the_owner(away):
    browser, stream = away

    await browser.ask("room")

    assert (await stream.event())[0] == "pusher_internal:subscription_succeeded"


async def test_so_does_a_ping(away):
    browser, stream = away

    assert await browser.send() == 204

    assert await stream.line() == "a[]"


@pytest.mark.spec(209)
async def test_a_stream_elsewhere_is_fed_by_the_owner(away, patient):
    browser, first = away
    second = browser.request("xhr_streaming")
    assert await first.ended() == 'c[2010,"Another connection still open"]\n'

    await browser.ask("room")
    assert (await second.event())[0] == "pusher_internal:subscription_succeeded"
    for number in range(20):
        await triggers.atrigger("room", "count", number)

    seen = []
    while len(seen) < 20:
        seen += [json.loads(message["data"]) for message in await second.messages()]
    assert seen == [*range(20)]


@pytest.mark.spec(212)
async def test_polls_may_go_to_either(processes, new_browser, hasty, monkeypatch):
    browser = new_browser(processes[0])
    await (await browser.open("xhr")).ended()
    monkeypatch.setattr(relay, "ANSWER_SECONDS", 5)

    for number in range(4):
        browser._application = processes[number % 2]
        await browser.ask(f"room-{number}")
        browser._application = processes[(number + 1) % 2]
        [answer] = await browser.poll()
        assert answer["channel"] == f"room-{number}"
    assert hub.current().connections(ID) == 1


@pytest.mark.spec(216)
async def test_a_stream_elsewhere_is_switched_without_a_loss(away, patient, monkeypatch):
    monkeypatch.setattr(reception, "RESPONSE_CHARS", 1_000)
    browser, first = away
    second = browser.request("xhr_streaming")
    await first.ended()
    await browser.ask("room")
    await second.event()
    await triggers.atrigger("room", "large", {"x": "x" * 1_000})
    await second.event()

    await triggers.atrigger("room", "between", 1)
    third = browser.request("xhr_streaming")
    second.go_away()

    assert await third.event() == ("between", 1)


async def test_the_owner_hears_of_a_client_that_breaks_off(away, patient, monkeypatch):
    monkeypatch.setattr(virtual, "RETURN_SECONDS", 0.01)
    browser, first = away
    second = browser.request("xhr_streaming")
    await first.ended()
    await browser.send()
    assert await second.line() == "a[]"

    second.go_away()

    await until(lambda: hub.current().connections(ID) == 0)


async def test_the_owner_notices_a_process_that_is_gone(away, patient, monkeypatch):
    monkeypatch.setattr(virtual, "RETURN_SECONDS", 0.01)
    monkeypatch.setattr(relay, "ARRIVAL_SECONDS", 0.01)
    browser, first = away
    second = browser.request("xhr_streaming", reads=False)
    await first.ended()
    await browser.ask("room")

    await until(lambda: hub.current().connections(ID) == 0)
    second.read()
    await second.ended()


async def test_a_close_reaches_a_client_elsewhere(away, patient):
    browser, first = away
    second = browser.request("xhr_streaming")
    await first.ended()
    await browser.send()
    assert await second.line() == "a[]"

    await hub.current().drain(0.1)

    assert (await second.messages())[0]["data"]["code"] == 4200
    assert await second.line() == 'c[4200,"Please reconnect immediately"]'
    assert await second.ended() == ""


async def test_a_process_that_stops_sends_those_elsewhere_that_it_only_answers(away, patient):
    browser, first = away
    second = browser.request("xhr_streaming")
    await first.ended()
    await browser.send()
    assert await second.line() == "a[]"

    await browser._application._sockets()._relay.drain(0.1)

    assert (await second.messages())[0]["data"]["code"] == 4200
    assert await second.line() == 'c[4200,"Please reconnect immediately"]'
    assert await second.ended() == ""
    assert hub.current().connections(ID) == 1


async def test_a_process_that_stops_asks_nobody(processes, new_browser, hasty):
    browser = new_browser(processes[0])
    await browser.open()
    browser._application = processes[1]
    browser._application._sockets()._relay._hub.stopping = True
    hub.current().stopping = True  # the consumers of both have the hub of this loop

    request = browser.request("xhr_streaming")

    assert await request.line() == "o"
    assert (await request.messages())[0]["data"]["code"] == 4100


async def test_an_owner_that_is_not_heard_any_more_ends_the_stream(away, patient, monkeypatch):
    monkeypatch.setattr(relay, "SILENCE_SECONDS", 0.05)
    browser, _ = away
    second = browser.request("xhr_streaming")

    assert await second.ended() == ""


async def test_who_is_known_nowhere_is_new(processes, new_browser, hasty):
    assert await new_browser(processes[1]).open()
    assert await new_browser(processes[0]).open()


async def test_an_owner_that_answers_too_late_makes_way_for_the_new_one(
    away, connect, layer, monkeypatch
):
    """Each message of the client reaches one virtual WebSocket, from a third process too."""
    browser, first = away
    witness = await connect()
    await witness.subscribe("private-room")
    await browser.ask("private-room")
    await first.event()
    answer, send = asyncio.Event(), layer.group_send

    async def late(group, message):
        if message.get("word") == "mine":
            await answer.wait()
        await send(group, message)

    monkeypatch.setattr(layer, "group_send", late)
    second = await browser.open()
    answer.set()
    third = Registry(Relay(hub.Hub()))
    browser._application = Fallback(lambda: third)
    await browser.ask("private-room")
    await second.event()

    for hand in ("left", "right"):
        await browser.say("client-wave", {"hand": hand}, channel="private-room")

    assert await witness.event() == ("client-wave", {"hand": "left"})
    assert await witness.event() == ("client-wave", {"hand": "right"})
    await until(lambda: hub.current().connections(ID) == 2)
    await witness.is_silent()


async def test_messages_of_a_page_that_may_not_connect_are_not_passed_on(
    processes, new_browser, layer
):
    stranger = new_browser(processes[0], headers={"origin": "https://evil.example"})

    assert await stranger.send("{}") == 404

    assert not [group for group, _ in layer.sent if group.startswith("realtime.virtual.")]


async def test_who_sends_too_fast_through_another_process_is_sent_away(
    processes, new_browser, hasty, configure, counted, monkeypatch
):
    monkeypatch.setattr(virtual, "INCOMING_CHARS", 1_000)
    configure(LIMITS={"MESSAGES_PER_SECOND": 1, "SUBSCRIPTIONS_PER_CONNECTION": 1})
    browser = new_browser(processes[0])
    stream = await browser.open()
    browser._application = processes[1]

    for _ in range(3):
        assert await browser.send(*["{}"] * 20) == 204

    while not (line := await stream.line()).startswith("c"):
        pass
    assert line == 'c[4100,"Over capacity"]'
    assert counted("over_capacity", "flood") == 1


async def test_without_a_layer_a_message_is_refused(away, layer):
    browser, _ = away
    layer.broken = True

    assert await browser.send("{}") == 503

    layer.repair()


async def test_without_a_layer_a_client_is_turned_away(processes, new_browser, layer, hasty):
    await new_browser(processes[0]).open()
    await new_browser(processes[1]).open()
    layer.broken = True

    request = new_browser(processes[1]).request("xhr_streaming")
    lines = (await request.ended()).splitlines()

    assert lines[0] == "o"
    assert lines[-1] == 'c[4100,"Over capacity"]'
    layer.repair()


async def test_the_groups_of_whoever_is_gone_are_left(away, layer, monkeypatch):
    monkeypatch.setattr(virtual, "RETURN_SECONDS", 0.01)
    _, stream = away
    [group] = {name for name in layer.groups_joined if name.startswith("realtime.virtual.")}

    stream.go_away()

    await until(lambda: group in layer.groups_left)


def test_a_group_has_a_name_that_every_layer_takes():
    group = group_of(Name("key" * 30, "1", "s" * 32, "https://example.com"))

    assert len(group) < 100
    assert group.replace(".", "").isalnum()


def test_the_parts_of_a_name_are_told_apart():
    assert group_of(Name("a", "b", "c", None)) != group_of(Name("ab", "", "c", None))
    assert group_of(Name("a", "b", "c", "d")) != group_of(Name("a", "b", "cd", None))


async def test_an_answer_that_comes_late_is_for_nobody(local_hub):
    own = Relay(local_hub)

    own._on_word({"request": "unknown", "word": "mine"})

    assert await soon(asyncio.sleep(0)) is None
