"""From facts to requests, and how they go on."""

import json
import uuid
from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from realtime import applications
from realtime.models import (
    Application,
    PendingFact,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookQueue,
)
from realtime.webhooks import claims, deliveries, facts
from realtime.webhooks.deliveries import Answer
from tests.conftest import ID, KEY, SECRET
from tests.webhooks.conftest import client_event, later, pending

pytestmark = pytest.mark.django_db

URL = "https://example.com/hook"
OTHER = "https://example.com/other"
TOKEN = uuid.uuid4()


def collect(*found):
    """Make requests of *found*; return them in order."""
    facts.write(found)
    deliveries.collect()
    return list(WebhookDelivery.objects.order_by("pk"))


def events(delivery):
    return json.loads(delivery.body)["events"]


def next_attempt(url=URL, app_id=ID):
    queue = WebhookQueue.key_of(app_id, url)
    if not claims.renew(queue, TOKEN):
        assert claims.take(queue, TOKEN)
    return deliveries.next_attempt(queue, TOKEN)


# ---- collecting -------------------------------------------------------------------------


@pytest.mark.spec(204)
def test_at_most_twenty_events_go_into_a_request(endpoints):
    endpoints(URL)

    made = collect(*(client_event(data=str(number)) for number in range(45)))

    assert [delivery.events for delivery in made] == [20, 20, 5]
    assert [len(events(delivery)) for delivery in made] == [20, 20, 5]
    data = [event["data"] for delivery in made for event in events(delivery)]
    assert data == [str(number) for number in range(45)]
    assert pending() == []


@pytest.mark.spec(203)
def test_without_batching_each_event_is_a_request(endpoints):
    endpoints(URL, WEBHOOK_BATCHING=False)

    made = collect(client_event(), client_event(), client_event())

    assert [len(events(delivery)) for delivery in made] == [1, 1, 1]


@pytest.mark.spec(204)
def test_apps_are_never_mixed(endpoints):
    endpoints(URL)
    Application.objects.create(app_id="9", name="Row", key="row", secret="row-secret")
    WebhookEndpoint.objects.create(app_id="9", url=URL)

    made = collect(client_event(), client_event(app_id="9"), client_event())

    assert sorted((delivery.app_id, delivery.events) for delivery in made) == [("3", 2), ("9", 1)]
    assert len({delivery.queue_id for delivery in made}) == 2


@pytest.mark.spec(207)
def test_an_endpoint_is_told_what_it_wants(endpoints):
    endpoints(
        {"URL": URL, "KINDS": ["client_event"], "CHANNEL_PREFIXES": ["private-"]},
        {"URL": OTHER, "KINDS": ["cache_miss"]},
    )
    WebhookEndpoint.objects.create(app_id=ID, url="https://example.com/off", enabled=False)

    [made] = collect(client_event(), client_event("presence-room"))

    assert made.url == URL
    assert events(made) == [
        {
            "name": "client_event",
            "channel": "private-room",
            "event": "client-x",
            "data": "1",
            "socket_id": "1.2",
        }
    ]


def test_an_endpoint_that_another_process_has_just_heard_of_is_told():
    assert applications.webhooks(ID) == ()
    WebhookEndpoint.objects.bulk_create([WebhookEndpoint(app_id=ID, url=URL)])

    assert len(collect(client_event())) == 1


def test_an_endpoint_that_is_listed_twice_is_told_once(endpoints):
    endpoints(URL, {"URL": URL, "KINDS": ["client_event"]})

    assert len(collect(client_event())) == 1


def test_what_is_not_due_waits(endpoints):
    endpoints(URL)

    assert collect(client_event(), removed()) != []
    assert pending() == ["member_removed"]
    later(3)

    assert deliveries.collect() == 1
    assert pending() == []


def removed():
    return facts.Fact(app_id=ID, kind="member_removed", channel="presence-room", user_id="ann")


def test_facts_for_receivers_of_signals_stay_until_they_have_heard(endpoints, heard):
    endpoints(URL)
    heard("client_event")

    collect(client_event())

    assert list(PendingFact.objects.values_list("kind", "collected")) == [("client_event", True)]
    assert deliveries.collect() == 0


def test_nobody_waits_for_a_collector_that_stands_still(endpoints, frozen):
    endpoints(URL)
    frozen(WebhookQueue.COLLECTOR)
    facts.write([client_event()])

    assert deliveries.collect() == 0
    assert pending() == ["client_event"]


@pytest.mark.parametrize(
    "changes", [{"details": "no JSON"}, {"details": "[1]"}, {"kind": "of_tomorrow"}], ids=str
)
def test_a_fact_that_cannot_be_read_is_left_out_and_counted(endpoints, heard, counted, changes):
    endpoints(URL)
    heard("client_event")
    facts.write([client_event()])
    PendingFact.objects.update(**changes)

    [made] = collect(client_event("private-good"))

    assert made.channels == ["private-good"]
    assert [row.channel for row in PendingFact.objects.all()] == ["private-good"]
    assert counted("facts_dropped") == 1


# ---- attempts ---------------------------------------------------------------------------


def test_an_attempt_is_signed_with_the_oldest_key(endpoints):
    endpoints(URL)
    [made] = collect(client_event())

    attempt = next_attempt()

    assert attempt.body.decode() == made.body
    assert attempt.token == (KEY, SECRET)


def test_a_key_about_to_be_retired_still_signs(endpoints):
    endpoints(URL, APP_OLD_KEY="old-key", APP_OLD_SECRET="old-secret")
    collect(client_event())

    assert next_attempt().token == ("old-key", "old-secret")


def test_the_request_of_an_app_that_is_gone_cannot_be_signed():
    WebhookEndpoint.objects.create(app_id="9", url=URL)
    collect(client_event(app_id="9"))

    assert next_attempt(app_id="9").token is None


def test_whoever_lost_the_claim_gets_nothing(endpoints):
    endpoints(URL)
    [made] = collect(client_event())
    assert claims.take(made.queue_id, TOKEN)

    assert deliveries.next_attempt(made.queue_id, uuid.uuid4()) is None


@pytest.mark.parametrize("status", [200, 204, 299])
def test_any_2xx_is_success(endpoints, status):
    endpoints(URL)
    [made] = collect(client_event())

    deliveries.settle(made.pk, Answer(status, "fine\0"))

    made.refresh_from_db()
    assert (made.status, made.attempts, made.response_status) == ("sent", 1, status)
    assert made.response_excerpt == "fine\ufffd"
    assert made.finished_at is not None
    assert next_attempt() is None


@pytest.mark.spec(205, 206)
@pytest.mark.parametrize("answer", [Answer(500), Answer(302), Answer(199), Answer(error="late")])
def test_what_failed_is_repeated_ever_later_and_given_up_after_five_minutes(endpoints, answer):
    endpoints(URL)
    [made] = collect(client_event())
    pauses, bodies = [], set()

    while (attempt := next_attempt()) is not None:
        bodies.add(attempt.body)
        deliveries.settle(attempt.pk, answer)
        made.refresh_from_db()
        if made.status != "waiting":
            break
        pauses.append((made.next_attempt_at - timezone.now()).total_seconds())
        later(pauses[-1] + 0.01)

    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60, 60, 52], abs=1.5)
    assert 290 <= sum(pauses) <= 300
    assert (made.status, made.attempts) == ("failed", len(pauses) + 1)
    assert bodies == {made.body.encode()}
    assert json.loads(made.body)["time_ms"] / 1000 == pytest.approx(
        timezone.now().timestamp(), abs=60
    )


def test_what_nobody_sent_in_five_minutes_is_given_up(endpoints):
    endpoints(URL)
    [made] = collect(client_event())
    later(300)

    assert next_attempt() is None
    made.refresh_from_db()
    assert (made.status, made.attempts) == ("failed", 0)


def test_a_failed_request_holds_back_those_that_share_a_channel_and_no_others(endpoints):
    endpoints(URL, OTHER, WEBHOOK_BATCHING=False)
    collect(*(client_event(f"private-{name}") for name in "abab"))

    def try_one(status, url=URL):
        attempt = next_attempt(url)
        if attempt is None:
            return None
        deliveries.settle(attempt.pk, Answer(status))
        return json.loads(attempt.body)["events"][0]["channel"][-1]

    assert [try_one(500)] + [try_one(200) for _ in range(3)] == ["a", "b", "b", None]
    assert [try_one(200, OTHER) for _ in range(5)] == ["a", "b", "a", "b", None]
    later(1)
    assert [try_one(200) for _ in range(3)] == ["a", "a", None]


def test_what_waits_holds_back_what_shares_any_of_its_channels(endpoints):
    endpoints(URL)
    for channels in ("a", "ab", "bc", "d"):
        collect(*(client_event(f"private-{name}") for name in channels))
    deliveries.settle(next_attempt().pk, Answer(500))

    attempt = next_attempt()

    assert json.loads(attempt.body)["events"][0]["channel"] == "private-d"


def test_a_free_request_is_found_behind_many_that_wait(endpoints):
    endpoints(URL, WEBHOOK_BATCHING=False)
    collect(*(client_event() for _ in range(deliveries.FEW)), client_event("private-free"))
    deliveries.settle(next_attempt().pk, Answer(500))

    assert b"private-free" in next_attempt().body


def test_queues_that_somebody_works_on_are_not_ready(endpoints):
    endpoints(URL, OTHER)
    collect(client_event())
    one, other = WebhookQueue.key_of(ID, URL), WebhookQueue.key_of(ID, OTHER)
    assert set(deliveries.ready()) == {one, other}

    claims.take(one, TOKEN)

    assert deliveries.ready() == [other]


def test_an_endpoint_that_is_down_is_left_alone_and_one_that_answers_is_not(endpoints):
    endpoints(URL, OTHER)
    made = {delivery.url: delivery for delivery in collect(client_event())}
    deliveries.settle(made[URL].pk, Answer(error="late", unreachable=True))
    deliveries.settle(made[OTHER].pk, Answer(500))

    collect(client_event("private-free"))

    down, up = (WebhookQueue.objects.get(id=WebhookQueue.key_of(ID, url)) for url in (URL, OTHER))
    assert deliveries.ready() == [up.pk]
    assert (down.failures, up.failures, up.paused_until) == (1, 0, None)
    assert b"private-free" in next_attempt(OTHER).body
    claims.release(up.pk, TOKEN)

    WebhookQueue.objects.update(paused_until=timezone.now() - timedelta(seconds=1))

    assert deliveries.ready() == [up.pk, down.pk]  # the older one, but it may be down still
    deliveries.settle(next_attempt(URL).pk, Answer(200))
    down.refresh_from_db()
    assert (down.failures, down.paused_until) == (0, None)


def test_what_waits_behind_a_failed_request_is_not_looked_at_before_its_time(
    endpoints, monkeypatch
):
    monkeypatch.setattr(deliveries, "FEW", 2)
    monkeypatch.setattr(deliveries, "LOOKED_AT", 4)
    endpoints(URL, WEBHOOK_BATCHING=False)
    first, *_ = collect(*(client_event() for _ in range(7)))
    queue = WebhookQueue.key_of(ID, URL)
    deliveries.settle(next_attempt().pk, Answer(500))
    assert next_attempt() is None
    claims.release(queue, TOKEN)

    assert deliveries.ready() == []

    collect(client_event("private-free"))
    assert deliveries.ready() == [queue]
    monkeypatch.setattr(deliveries, "LOOKED_AT", 2_000)
    assert b"private-free" in next_attempt().body
    claims.release(queue, TOKEN)
    later(1)
    assert deliveries.ready() == [queue]
    assert next_attempt().pk == first.pk


@pytest.mark.parametrize("change", [{"enabled": False}, None], ids=["disabled", "deleted"])
def test_an_endpoint_that_was_removed_gets_nothing_more(endpoints, counted, change):
    endpoint = WebhookEndpoint.objects.create(app_id=ID, url=URL)
    collect(client_event())
    collect(client_event())
    rows = WebhookEndpoint.objects.filter(pk=endpoint.pk)
    if change is None:
        rows.delete()
    else:
        rows.update(**change)
        applications.refresh()

    assert next_attempt() is None
    found = WebhookDelivery.objects.values_list("status", "error")
    assert list(found) == [("failed", "endpoint was removed")] * 2
    assert counted("webhook_attempts", "failed") == 2
    assert deliveries.send_again(WebhookDelivery.objects.all()) == 0
    assert WebhookDelivery.objects.count() == 2


def test_an_endpoint_that_only_another_process_has_heard_of_is_not_taken_for_removed():
    endpoint = WebhookEndpoint.objects.create(app_id=ID, url=URL)
    collect(client_event())
    WebhookEndpoint.objects.update(enabled=False)
    applications.refresh()
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(enabled=True)

    assert next_attempt() is not None


def test_a_request_that_staff_deleted_meanwhile_is_no_error(endpoints):
    endpoints(URL)
    [made] = collect(client_event())
    made_pk = made.pk
    made.delete()

    deliveries.settle(made_pk, Answer(200))


def test_attempts_are_counted(endpoints, counted):
    endpoints(URL)
    [made] = collect(client_event())

    deliveries.settle(made.pk, Answer(500))
    deliveries.settle(made.pk, Answer(200))
    collect(client_event())
    later(300)
    next_attempt()

    results = [counted("webhook_attempts", value) for value in ("retried", "sent", "failed")]
    assert results == [1, 1, 1]


# ---- afterwards -------------------------------------------------------------------------


def test_what_is_sent_again_is_a_new_request_of_now(endpoints):
    endpoints(URL)
    [made] = collect(client_event())
    old = made.body.replace(str(json.loads(made.body)["time_ms"]), "1")
    WebhookDelivery.objects.update(body=old, status="failed")

    assert deliveries.send_again(WebhookDelivery.objects.all()) == 1

    attempt = next_attempt()
    assert attempt.pk != made.pk
    body = json.loads(attempt.body)
    assert body["events"] == events(made)
    assert body["time_ms"] > 1
    assert attempt.body.startswith(b'{"time_ms":')


def test_what_was_sent_is_kept_for_a_while_and_what_failed_for_longer(endpoints, configure):
    endpoints(URL, WEBHOOK_RETENTION_SECONDS=60)
    sent, failed = collect(client_event()), collect(client_event())[1:]
    deliveries.settle(sent[0].pk, Answer(200))
    WebhookDelivery.objects.filter(pk=failed[0].pk).update(
        status="failed", finished_at=timezone.now()
    )
    assert deliveries.purge() == 0

    WebhookDelivery.objects.update(finished_at=F("finished_at") - timedelta(seconds=61))

    assert deliveries.purge() == 1
    assert [row.status for row in WebhookDelivery.objects.all()] == ["failed"]
    assert deliveries.count_failed(timezone.now()) == 1
    assert deliveries.delete_failed(timezone.now() - timedelta(seconds=70)) == 0
    assert deliveries.delete_failed(timezone.now()) == 1


def test_facts_that_nobody_has_heard_are_bounded_and_those_not_collected_stay(endpoints, heard):
    heard("client_event")
    endpoints(URL, WEBHOOK_RETENTION_SECONDS=60)
    collect(client_event())
    facts.write([client_event("private-late")])
    later(61)

    assert deliveries.purge() == 1

    [row] = PendingFact.objects.all()
    assert row.channel == "private-late"
    assert len(collect()) == 2


def test_what_failed_is_deleted_in_the_end(endpoints):
    endpoints(URL)
    collect(client_event())
    moment = timezone.now() - timedelta(days=30) + timedelta(minutes=1)
    WebhookDelivery.objects.update(status="failed", finished_at=moment)
    assert deliveries.purge() == 0

    WebhookDelivery.objects.update(finished_at=moment - timedelta(minutes=2))

    assert deliveries.purge() == 1
    assert not WebhookDelivery.objects.exists()


def test_what_nobody_could_send_is_given_up_without_a_look_at_its_queue(endpoints, counted):
    endpoints(URL)
    [late] = collect(client_event())
    later(300)
    collect(client_event())

    assert deliveries.give_up() == 1
    assert deliveries.give_up() == 0

    late.refresh_from_db()
    assert (late.status, late.finished_at is None) == ("failed", False)
    assert counted("webhook_attempts", "failed") == 1
    assert WebhookDelivery.objects.filter(status="waiting").count() == 1
