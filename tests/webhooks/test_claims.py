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
