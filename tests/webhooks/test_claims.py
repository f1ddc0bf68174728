"""One process at a time works on a queue."""

import uuid
from datetime import timedelta

import pytest
from django.db.models.functions import Now

from realtime.models import WebhookQueue
from realtime.webhooks import claims

pytestmark = pytest.mark.django_db

QUEUE, ONE, OTHER = (uuid.uuid4() for _ in range(3))


def test_a_queue_is_claimed_by_one_and_let_go():
    assert claims.take(QUEUE, ONE)
    assert not claims.take(QUEUE, OTHER)
    assert claims.renew(QUEUE, ONE)
    claims.release(QUEUE, OTHER)
    assert not claims.take(QUEUE, OTHER)

    claims.release(QUEUE, ONE)

    assert claims.take(QUEUE, OTHER)
    assert not claims.renew(QUEUE, ONE)


@pytest.mark.parametrize("seconds", [-1, 3_600])
def test_a_claim_that_ran_out_or_comes_from_another_time_holds_nobody_up(seconds):
    claims.take(QUEUE, ONE)
    WebhookQueue.objects.update(claimed_until=Now() + timedelta(seconds=seconds))

    assert claims.take(QUEUE, OTHER)
    assert not claims.renew(QUEUE, ONE)


def test_nobody_waits_for_a_process_that_stands_still(frozen):
    frozen(QUEUE)

    assert not claims.take(QUEUE, ONE)
    assert claims.take(uuid.uuid4(), ONE)


def test_a_pause_doubles_up_to_its_longest_and_is_over_when_the_endpoint_answers():
    claims.take(QUEUE, ONE)
    claims.release(QUEUE, ONE)
    rows, pauses = WebhookQueue.objects.filter(pk=QUEUE), []

    def pause():
        claims.pause(rows)
        row = rows.annotate(now=Now()).get()
        pauses.append((row.paused_until - row.now).total_seconds())

    for _ in range(7):
        pause()
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30], abs=0.9)
    assert not claims.take(QUEUE, ONE)

    claims.resume(rows)

    assert claims.take(QUEUE, ONE)
    pause()
    assert pauses[-1] == pytest.approx(1, abs=0.9)


@pytest.mark.parametrize("seconds", [-1, 3_600])
def test_a_pause_that_is_over_or_comes_from_another_time_holds_nobody_up(seconds):
    until = Now() + timedelta(seconds=seconds)
    WebhookQueue.objects.create(id=QUEUE, failures=3, paused_until=until)

    assert claims.take(QUEUE, ONE)
