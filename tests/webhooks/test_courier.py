"""Facts, endpoints and receivers in a server process."""

import threading
import uuid

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError

from realtime.models import PendingFact, WebhookDelivery, WebhookQueue
from realtime.webhooks import claims, courier, deliveries, facts, sending
from tests.conftest import ID, PATIENCE, soon, until, until_async
from tests.webhooks.conftest import client_event, later


@pytest.fixture
async def local(process, monkeypatch):
    """The courier of this process, which looks often."""
    monkeypatch.setattr(courier, "SWEEP_SECONDS", 0.01)
    monkeypatch.setattr(courier, "IDLE_SECONDS", 0.02)
    made = courier.current()
    yield made
    await made.stop()


@pytest.fixture
def happen(process):
    """Writes facts as the ledger does."""

    async def happen(*found):
        await sync_to_async(facts.write)(found)

    return happen


def runs(name):
    return any(thread.name == name for thread in threading.enumerate())


async def rows(model=WebhookDelivery, **conditions):
    return await sync_to_async(lambda: list(model.objects.filter(**conditions).order_by("pk")))()


async def until_rows(model=WebhookDelivery, count=1, **conditions):
    async def look():
        found = await rows(model, **conditions)
        return [found] if len(found) == count else None

    [found] = await until_async(look)
    return found


async def test_what_happens_is_told(local, receiver, endpoints, happen):
    endpoints(receiver.url())
    local.start()
    local.start()

    await happen(client_event(), client_event("private-other"))

    await until(lambda: len(receiver.told()) == 2)
    [delivery] = await until_rows(status="sent")
    assert (delivery.attempts, delivery.response_status, delivery.response_excerpt) == (
        1,
        200,
        "ok",
    )
    assert receiver.told() == ["client_event private-room", "client_event private-other"]


@pytest.mark.spec(205, 206)
async def test_a_request_that_failed_is_repeated_byte_for_byte(
    local, receiver, endpoints, happen, monkeypatch
):
    monkeypatch.setattr(claims, "FIRST_PAUSE_SECONDS", 0.05)
    endpoints(receiver.url())
    receiver.status("/hook", 500, body="not now")
    local.start()
    await happen(client_event())
    await until(lambda: len(receiver.requests) == 2)
    await happen(client_event(data="second"))

    receiver.status("/hook", 200)

    await until_rows(count=2, status="sent")
    first, *others, last = receiver.requests
    assert {item.body for item in others} == {first.body}
    assert {item.headers["X-Pusher-Signature"] for item in others} == {
        first.headers["X-Pusher-Signature"]
    }
    assert last.events[0]["data"] == "second"


async def test_an_endpoint_that_hangs_delays_no_other(local, receiver, endpoints, happen):
    endpoints(*(receiver.url(f"/{name}") for name in "abc"))
    receiver.answers["/b"] = b""
    local.start()
    await happen(client_event())
    await until(lambda: len(receiver.requests) == 3)

    for number in range(5):
        await happen(client_event(data=str(number)))
        await until(lambda number=number: sum(
            item["data"] == str(number) for path in ("/a", "/c")
            for request in receiver.at(path) for item in request.events) == 2)  # fmt: skip

    assert len(receiver.at("/b")) == 1


async def test_so_many_endpoints_at_a_time_and_no_more(
    local, receiver, endpoints, happen, monkeypatch
):
    monkeypatch.setattr(courier, "AT_ONCE", 2)
    urls = [receiver.url(f"/{number}") for number in range(4)]
    endpoints(*urls)
    for number in range(4):
        receiver.answers[f"/{number}"] = b""
    local.start()
    await happen(client_event())
    await until_rows(WebhookQueue, count=2, claimed_by__isnull=False)

    receiver.let_go.set()
    receiver.answers.clear()

    await until_rows(count=4, status="sent")


async def test_endpoints_that_hang_give_their_slots_back(
    local, receiver, endpoints, happen, monkeypatch
):
    monkeypatch.setattr(courier, "AT_ONCE", 2)
    monkeypatch.setattr(sending, "ANSWER_SECONDS", 0.05)
    urls = [receiver.url(f"/{number}") for number in range(3)]
    endpoints(*urls)
    receiver.answers.update({"/0": b"", "/1": b""})
    local.start()
    await happen(*(client_event(f"private-{number}") for number in range(3)))

    await until(lambda: receiver.at("/2"))
    await until_rows(WebhookQueue, count=2, failures__gte=1, paused_until__isnull=False)


async def test_what_is_late_is_given_up_also_without_the_extra(
    local, endpoints, happen, monkeypatch
):
    monkeypatch.setattr(courier, "PURGE_SECONDS", 0)
    local._can_send = False
    endpoints("http://127.0.0.1:1/")
    local.start()
    await happen(client_event())
    await until_rows(status="waiting")

    await sync_to_async(later)(300)

    await until_rows(status="failed")


@pytest.mark.parametrize("what", ["collect", "purge"])
async def test_an_error_elsewhere_keeps_nothing_from_being_sent(
    local, receiver, endpoints, happen, monkeypatch, caplog, what
):
    endpoints(receiver.url())
    await happen(client_event())
    await sync_to_async(deliveries.collect)()

    def fail():
        raise ValueError("secret of a row")

    monkeypatch.setattr(deliveries, what, fail)
    local.start()

    await until(lambda: receiver.requests)
    assert "failed: ValueError" in caplog.text
    assert "secret of a row" not in caplog.text


async def test_a_queue_that_another_process_works_on_is_left_to_it(
    local, receiver, endpoints, happen
):
    endpoints(receiver.url("/a"), receiver.url("/b"))
    token, queue = uuid.uuid4(), WebhookQueue.key_of(ID, receiver.url("/a"))
    await sync_to_async(claims.take)(queue, token)
    local.start()
    await happen(client_event())
    await until(lambda: receiver.at("/b"))
    assert not receiver.at("/a")

    await sync_to_async(claims.release)(queue, token)

    await until(lambda: receiver.at("/a"))


async def test_a_departure_is_told_after_its_delay(local, receiver, endpoints, happen):
    endpoints(receiver.url())
    local.start()
    await happen(
        facts.Fact(app_id=ID, kind="channel_vacated", channel="room"), client_event("private-x")
    )
    await until(lambda: receiver.told() == ["client_event private-x"])

    await sync_to_async(later)(3)

    await until(lambda: receiver.told()[1:] == ["channel_vacated room"])


async def test_receivers_of_signals_run_in_a_thread_and_a_slow_one_delays_no_webhook(
    local, receiver, endpoints, happen, heard
):
    go_on, threads = threading.Event(), []

    def slow(**_):
        threads.append(threading.current_thread().name)
        go_on.wait(PATIENCE)

    seen = heard("client_event", slow)
    endpoints(receiver.url())
    local.start()
    await happen(client_event(data="1"))
    await until(lambda: threads)

    await happen(client_event(data="2"))
    await until(lambda: len(receiver.told()) == 2)

    assert len(seen) == 1
    go_on.set()
    await until_rows(PendingFact, count=0)
    assert [item["data"] for item in seen] == ["1", "2"]
    assert set(threads) == {"realtime-signals"}


async def test_without_endpoints_receivers_of_signals_are_told(local, happen, heard):
    seen = heard("client_event")
    local.start()

    await happen(client_event())

    await until(lambda: seen)
    assert await rows() == []


async def test_without_the_extra_requests_wait_and_the_log_says_so(
    local, receiver, endpoints, happen, caplog
):
    local._can_send = False
    endpoints(receiver.url())
    local.start()
    await happen(client_event())

    await until(lambda: "httpx2" in caplog.text)

    [delivery] = await rows()
    assert delivery.status == "waiting"
    assert receiver.requests == []


async def test_an_app_that_is_gone_is_an_error_of_the_request(local, happen, monkeypatch):
    monkeypatch.setattr("realtime.applications.by_id", lambda app_id: None)
    queue = await sync_to_async(WebhookQueue.objects.create)(id=uuid.uuid4())
    now = "2026-01-01T00:00Z"
    await sync_to_async(WebhookDelivery.objects.create)(
        queue=queue, app_id="9", url="http://example.com/", body="{}", events=1, channels=[],
        next_attempt_at=now, expires_at="2100-01-01T00:00Z",
    )  # fmt: skip

    local.start()

    [delivery] = await until_rows(attempts=1)
    assert delivery.error == "there is no such app any more"


async def test_a_database_that_is_away_is_waited_for(
    local, database, receiver, endpoints, happen, caplog
):
    endpoints(receiver.url())
    await happen(client_event())
    database.away = True
    local.start()
    await until(lambda: "webhooks cannot be read" in caplog.text)

    database.away = False

    await until(lambda: receiver.requests)


async def test_a_stop_lets_go_of_the_queues(local, receiver, endpoints, happen, monkeypatch):
    monkeypatch.setattr(courier, "STOP_SECONDS", 0.5)
    endpoints(receiver.url("/a"), receiver.url("/b"))
    receiver.answers["/a"] = b""
    local.start()
    await happen(client_event())
    await until(lambda: receiver.at("/a"))
    await until_rows(status="sent")

    await soon(local.stop())
    await soon(local.stop())
    local.start()

    assert await rows(WebhookQueue, claimed_by__isnull=False) == []
    [waiting] = await rows(status="waiting")
    assert waiting.url.endswith("/a")


async def test_a_stop_does_not_wait_for_a_receiver_that_hangs(local, happen, heard, monkeypatch):
    monkeypatch.setattr(courier, "STOP_SECONDS", 0.5)
    hanging, go_on = threading.Event(), threading.Event()

    def hang(**_):
        hanging.set()
        go_on.wait(PATIENCE)

    heard("client_event", hang)
    local.start()
    await happen(client_event())
    await until(hanging.is_set)

    await soon(local.stop())

    go_on.set()
    await until(lambda: not runs("realtime-signals"))


async def test_a_stop_ends_both_threads_though_the_database_hangs(
    local, database, receiver, endpoints, happen, heard, monkeypatch
):
    monkeypatch.setattr(courier, "STOP_SECONDS", 0.5)
    endpoints(receiver.url())
    receiver.answers["/hook"] = b""
    told = heard("client_event")
    local.start()
    await happen(client_event())
    await until(lambda: receiver.requests and told and local._teller is None)
    database.open.clear()
    await until(database.waiting.is_set)

    await soon(local.stop())

    await until(lambda: not runs("realtime-signals"))
    assert runs("realtime-webhooks")
    database.open.set()
    await until(lambda: not runs("realtime-webhooks"))


@pytest.mark.parametrize("where", ["next_attempt", "settle"])
async def test_a_failure_on_the_way_is_a_retry(
    local, receiver, endpoints, happen, monkeypatch, where
):
    real, failures = getattr(deliveries, where), []

    def once(*arguments):
        if not failures:
            failures.append(where)
            raise OperationalError("away")
        return real(*arguments)

    monkeypatch.setattr(deliveries, where, once)
    endpoints(receiver.url())
    local.start()
    await happen(client_event())

    await until_rows(status="sent")

    assert len({item.body for item in receiver.requests}) == 1
