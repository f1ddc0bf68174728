"""Work for the database leaves the loop free, keeps its order and gets a connection that works."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, connections, transaction

from realtime.database import DatabaseThread, lock
from realtime.models import Server
from tests.conftest import soon, until


@pytest.fixture
async def thread():
    made = DatabaseThread("test-database")
    yield made
    await made.close()


async def test_work_runs_in_order_in_one_thread_and_the_loop_goes_on(thread):
    gate, order = threading.Event(), []

    def work(number):
        gate.wait()
        order.append((number, threading.current_thread().name))
        return number

    running = asyncio.gather(*(thread.run(lambda n=n: work(n)) for n in range(3)))
    await asyncio.sleep(0)
    assert not running.done()

    gate.set()
    assert await soon(running) == [0, 1, 2]
    assert [number for number, _ in order] == [0, 1, 2]
    assert len({name for _, name in order}) == 1
    assert order[0][1].startswith("test-database")


async def test_a_connection_that_failed_is_closed(database, thread):
    def names():
        return connection.connection

    await soon(thread.run(Server.objects.count))
    first = await soon(thread.run(names))
    assert first is not None

    database.away = True
    with pytest.raises(OperationalError):
        await soon(thread.run(Server.objects.count))
    database.away = False
    assert await soon(thread.run(names)) is None

    assert await soon(thread.run(Server.objects.count)) == 0


async def test_no_pool_of_the_site_is_used(database, thread, monkeypatch):
    options = connections.settings["default"]["OPTIONS"]

    def pool():
        Server.objects.count()
        return connection.settings_dict["OPTIONS"].get("pool")

    with monkeypatch.context() as patch:
        patch.setitem(options, "pool", {"max_size": 1})
        assert await soon(thread.run(pool)) is None
        assert options["pool"] == {"max_size": 1}  # for everybody else


async def test_a_thread_that_cannot_look_for_pools_says_so_and_looks_again(
    database, thread, monkeypatch
):
    broken = {"ENGINE": "no.such.engine", "OPTIONS": {"pool": True}}
    with monkeypatch.context() as patch:
        patch.setitem(connections.settings, "broken", broken)
        with pytest.raises(ImproperlyConfigured):
            await soon(thread.run(Server.objects.count))

    assert await soon(thread.run(Server.objects.count)) == 0


@pytest.mark.django_db(transaction=True)
def test_requests_that_hold_the_whole_pool_keep_nothing_waiting(monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("this database has no pool")

    async def count():
        thread = DatabaseThread("test-database")
        try:
            return await soon(thread.run(Server.objects.count))
        finally:
            await thread.close()

    connection.close()
    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as another_request:
        pool = {"min_size": 0, "max_size": 1, "timeout": 1}
        patch.setitem(connections.settings["default"]["OPTIONS"], "pool", pool)
        try:
            connection.ensure_connection()
            with pytest.raises(OperationalError):
                another_request.submit(Server.objects.count).result()

            assert asyncio.run(count()) == 0
        finally:
            connection.close()
            connection.close_pool()


async def test_closing_closes_the_connection_and_ends_the_thread(database):
    thread = DatabaseThread("short-lived")
    await soon(thread.run(Server.objects.count))
    await soon(thread.close())

    def running():
        return [item for item in threading.enumerate() if item.name.startswith("short-lived")]

    await until(lambda: not running())


@pytest.mark.django_db(transaction=True)
def test_rows_are_locked_where_the_database_can():
    with transaction.atomic():
        query = str(lock(Server.objects.all(), skip_locked=True).query)

    assert ("SKIP LOCKED" in query) == connection.features.has_select_for_update
