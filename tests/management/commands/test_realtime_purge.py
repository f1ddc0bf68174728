"""``manage.py realtime_purge``: forget who has not been here for long."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from realtime.models import RealtimeUser

pytestmark = pytest.mark.django_db


def run(*arguments):
    output = StringIO()
    call_command("realtime_purge", *arguments, stdout=output)
    return output.getvalue().strip()


@pytest.fixture(autouse=True)
def seen():
    """Users who were last seen so many days ago."""
    for days in (5, 40):
        RealtimeUser.objects.create(
            app_id="3", user_id=f"{days}", last_seen_at=timezone.now() - timedelta(days=days)
        )


@pytest.mark.parametrize(
    ("arguments", "deleted"), [((), 1), (("--days", "3"), 2), (("--days", "50"), 0)]
)
def test_users_not_seen_for_so_many_days_are_deleted(arguments, deleted):
    assert run(*arguments, "--dry-run") == f"Would delete 0 members and {deleted} users."
    assert RealtimeUser.objects.count() == 2

    assert run(*arguments) == f"Deleted 0 members and {deleted} users."

    assert RealtimeUser.objects.count() == 2 - deleted


def test_less_than_a_day_is_refused():
    with pytest.raises(CommandError, match="--days must be 1 or more"):
        run("--days", "0")
