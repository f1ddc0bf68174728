"""Is this process alive, and may it get traffic?"""

import json

import pytest
from django.test import AsyncClient

from realtime import hub
from tests.conftest import soon

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


async def test_nothing_is_changed_by_asking(process, ask):
    assert (await AsyncClient().post("/realtime/up")).status_code == 405
    assert (await AsyncClient().post("/realtime/ready")).status_code == 405
