"""``manage.py realtime_purge``: forget what is long past."""

import uuid
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from realtime.models import ChannelState, RealtimeUser, WebhookDelivery, WebhookQueue

pytestmark = pytest.mark.django_db


def run(*arguments):
    output = StringIO()
    call_command("realtime_purge", *arguments, stdout=output)
    return output.getvalue().strip()


@pytest.fixture(autouse=True)
def seen():
    """A user, an empty channel and a failed webhook of so many days ago each."""
    queue = WebhookQueue.objects.create(id=uuid.uuid4())
    for days in (5, 40):
        then = timezone.now() - timedelta(days=days)
        RealtimeUser.objects.create(app_id="3", user_id=f"{days}", last_seen_at=then)
        ChannelState.objects.create(
            id=ChannelState.key_of("3", f"{days}"), app_id="3", channel=f"{days}", changed_at=then
        )
        WebhookDelivery.objects.create(
            queue=queue,
            app_id="3",
            url="https://example.com/",
            events=1,
            channels=[],
            status="failed",
            next_attempt_at=then,
            expires_at=then,
            finished_at=then,
        )


@pytest.mark.parametrize(
    ("arguments", "deleted"), [((), 1), (("--days", "3"), 2), (("--days", "50"), 0)]
)
def test_what_is_so_many_days_old_is_deleted(arguments, deleted):
    said = (
        f"0 members and {deleted} users.",
        f"{deleted} empty channels and {deleted} failed webhooks.",
    )
    assert run(*arguments, "--dry-run") == "\n".join(f"Would delete {line}" for line in said)
    assert RealtimeUser.objects.count() == 2

    assert run(*arguments) == "\n".join(f"Deleted {line}" for line in said)

    for model in (RealtimeUser, ChannelState, WebhookDelivery):
        assert model.objects.count() == 2 - deleted


@pytest.mark.parametrize(
    ("days", "message"),
    [("0", "1 or more"), ("36501", "36500 or less"), ("9999999999", "36500 or less")],
)
def test_days_that_are_none_are_refused(days, message):
    with pytest.raises(CommandError, match=f"--days must be {message}"):
        run("--days", days)


def test_a_hundred_years_are_not_too_many():
    assert run("--days", "36500").startswith("Deleted 0 members")
