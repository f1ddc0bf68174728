"""Server processes in Django's admin."""

import datetime

import pytest
from django.utils import timezone

from realtime.models import Server

pytestmark = pytest.mark.django_db(transaction=True)


def test_processes_are_listed_with_their_lease(as_staff, server):
    Server.objects.exclude(pk=server).update(expires_at=timezone.now() - datetime.timedelta(1))

    page = as_staff().get("/admin/realtime/server/").content.decode()

    assert page.count('alt="True"') == page.count('alt="False"') == 1
    assert '<td class="field-subscribed">7</td>' in page
