"""Who may read the numbers of a process."""

import builtins

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncClient

from realtime import trigger
from realtime.api import question
from tests.conftest import soon

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/realtime/metrics"


async def get(authorization=None, client=None):
    headers = {"Authorization": authorization} if authorization else {}
    return await soon((client or AsyncClient()).get(URL, headers=headers))


@pytest.fixture
def staff(django_user_model):
    """Browsers of users."""

    @sync_to_async
    def log_in(*, is_staff, is_active=True):
        user = django_user_model.objects.create_user("ann", is_staff=is_staff)
        client = AsyncClient()
        client.force_login(user)
        user.is_active = is_active
        user.save()
        return client

    return log_in


async def test_nobody_may_by_default(process):
    assert (await get("Bearer ")).status_code == 404
    assert (await get("Bearer s3cret")).status_code == 404


async def test_the_token_is_let_in(process, layer, configure):
    configure(METRICS_TOKEN="s3cret")

    answer = await get("Bearer s3cret")

    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain; version=")
    assert b"\nrealtime_outbox_waiting{" in answer.content
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("given", [None, "Bearer", "Bearer s3cre", "Bearer ä", "Basic s3cret"])
async def test_anything_else_is_not(process, configure, given):
    configure(METRICS_TOKEN="s3cret")

    answer = await get(given)

    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
    assert b"realtime_" not in answer.content


async def test_staff_are_let_in_where_the_site_says_so(process, layer, configure, staff):
    client = await staff(is_staff=True)
    assert (await get(client=client)).status_code == 404

    configure(METRICS_STAFF=True)

    assert (await get(client=client)).status_code == 200


@pytest.mark.parametrize("who", [{"is_staff": False}, {"is_staff": True, "is_active": False}])
async def test_other_users_are_not(process, configure, staff, who):
    configure(METRICS_STAFF=True)
    client = await staff(**who)

    assert (await get(client=client)).status_code == 403
    assert (await get()).status_code == 403


async def test_nothing_is_changed_by_asking(process, configure):
    configure(METRICS_TOKEN="s3cret")

    assert (await AsyncClient().post(URL)).status_code == 405


async def test_without_the_package_the_error_names_it(process, configure, monkeypatch):
    configure(METRICS_TOKEN="s3cret")
    real_import = builtins.__import__

    def without(name, globals=None, locals=None, fromlist=(), level=0):
        if "prometheus" in (fromlist or ()):
            raise ModuleNotFoundError("No module named 'prometheus_client'")
        return real_import(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", without)

    with pytest.raises(ImproperlyConfigured, match=r"the extra 'prometheus'"):
        await get("Bearer s3cret")


async def test_events_that_wait_are_counted(process, layer, configure):
    configure(METRICS_TOKEN="s3cret")
    await sync_to_async(trigger)("room", "greet", {}, durable=True)

    answer = await get("Bearer s3cret")

    [line] = [line for line in answer.content.decode().splitlines()
              if line.startswith("realtime_outbox_waiting{")]  # fmt: skip
    assert line.endswith(" 1.0")


async def test_a_database_that_hangs_does_not_hold_up_the_rest(
    database, layer, configure, monkeypatch
):
    monkeypatch.setattr(question, "ANSWER_SECONDS", 0.05)
    configure(METRICS_TOKEN="s3cret")
    database.open.clear()

    answer = await get("Bearer s3cret")

    assert answer.status_code == 200
    assert b"realtime_outbox_waiting{" not in answer.content
    database.open.set()
    monkeypatch.setattr(question, "ANSWER_SECONDS", 20)
    assert b"realtime_outbox_waiting{" in (await get("Bearer s3cret")).content


async def test_a_database_that_is_away_leaves_the_rest(database, layer, configure):
    configure(METRICS_TOKEN="s3cret")
    database.away = True

    answer = await get("Bearer s3cret")

    assert answer.status_code == 200
    assert b"realtime_outbox_waiting{" not in answer.content
    database.away = False
