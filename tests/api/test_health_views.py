"""Is this process alive, and may it get traffic?"""

import asyncio
import json
import threading

import pytest
from django.test import AsyncClient

from realtime import hub
from realtime.api import question
from realtime.layer import CONTROL_GROUP
from realtime.presence import ledger
from tests.conftest import soon, until

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def ask():
    async def ask(name):
        answer = await soon(AsyncClient().get(f"/realtime/{name}"))
        return answer.status_code, json.loads(answer.content)

    return ask


async def test_a_process_is_up(process, ask):
    assert await ask("up") == (200, {"up": True})


async def test_a_fresh_process_is_ready(process, layer, ask):
    status, answers = await ask("ready")

    assert (status, set(answers.values())) == (200, {True})


async def test_a_process_with_connections_is_ready(connect, ask):
    client = await connect()
    await client.subscribe("presence-room", {"user_id": "ann"})

    status, answers = await ask("ready")

    assert (status, set(answers.values())) == (200, {True})


async def test_without_the_layer_a_fresh_process_is_not_ready(process, layer, ask):
    layer.broken = True

    status, answers = await ask("ready")

    assert (status, answers["layer"]) == (503, False)
    layer.broken = False


async def test_a_process_that_stops_is_not_ready(process, layer, ask):
    await hub.current().start()
    await hub.current().drain(1)

    status, answers = await ask("ready")

    assert (status, answers["accepting"]) == (503, False)


async def test_without_the_database_a_process_is_not_ready(database, process, layer, ask):
    database.away = True

    status, answers = await ask("ready")

    assert (status, answers["database"]) == (503, False)
    database.away = False


async def test_a_process_that_is_about_to_listen_is_ready_once_it_does(process, layer, ask):
    local = hub.current()

    status, answers = await ask("ready")

    assert (status, answers["layer"]) == (200, True)
    assert local.listening


async def test_a_process_that_hears_nothing_is_not_ready(process, layer, ask, configure):
    configure(WATCHDOG_SECONDS=0.01)
    await hub.current().start()
    layer.deaf = True
    await until(lambda: not hub.current().listening)

    status, answers = await ask("ready")

    assert (status, answers["layer"]) == (503, False)


async def test_a_layer_that_hangs_does_not_hold_up_the_answer(process, layer, ask, monkeypatch):
    monkeypatch.setattr(question, "ANSWER_SECONDS", 0.01)
    layer.gates[CONTROL_GROUP] = asyncio.Event()
    local = hub.current()

    status, answers = await ask("ready")

    assert (status, answers["layer"]) == (503, False)
    layer.repair()
    monkeypatch.setattr(question, "ANSWER_SECONDS", 20)
    await local.start()
    assert (await ask("ready"))[0] == 200


async def test_a_database_that_hangs_is_asked_by_one_thread(
    database, process, layer, ask, monkeypatch
):
    monkeypatch.setattr(question, "ANSWER_SECONDS", 0.05)
    database.open.clear()

    answers = [await ask("ready") for _ in range(3)]

    assert [(status, said["database"]) for status, said in answers] == [(503, False)] * 3
    assert sum(thread.name.startswith("health") for thread in threading.enumerate()) == 1
    database.open.set()
    monkeypatch.setattr(question, "ANSWER_SECONDS", 20)
    assert (await ask("ready"))[0] == 200


async def test_nothing_is_changed_by_asking(process, ask):
    assert (await AsyncClient().post("/realtime/up")).status_code == 405
    assert (await AsyncClient().post("/realtime/ready")).status_code == 405


async def test_a_process_that_lost_its_lease_is_not_ready(connect, ask, configure):
    configure(LEASE_SECONDS=60)
    client = await connect()
    await client.subscribe("presence-room", {"user_id": "ann"})
    await soon(ledger.current().flushed())
    ledger.current()._lease_until = 0.0

    status, answers = await ask("ready")

    assert (status, answers["lease"]) == (503, False)
    assert answers["database"]
    assert answers["layer"]
