"""Channels and connections in Django's admin."""

import datetime

import pytest
from django.utils import timezone

from realtime.models import Server

pytestmark = pytest.mark.django_db(transaction=True)


def test_channels_are_added_up_over_all_processes(as_staff, server):
    response = as_staff().get("/admin/realtime/occupancy/")

    rows = {row.channel: (row.subscribed, row.users) for row in response.context["cl"].queryset}
    assert rows == {"presence-room": (3, 2), "room": (5, 0)}
    page = response.content.decode()
    assert '<td class="field-members">2</td>' in page
    assert '<td class="field-members">-</td>' in page


def test_channels_of_a_dead_process_do_not_count(as_staff, server):
    Server.objects.filter(pk=server).update(expires_at=timezone.now() - datetime.timedelta(1))

    response = as_staff().get("/admin/realtime/occupancy/")

    assert [row.channel for row in response.context["cl"].queryset] == ["presence-room"]


def test_connections_are_listed_with_user_channel_and_process(as_staff, server):
    page = as_staff().get("/admin/realtime/membership/").content.decode()

    assert page.count('field-channel">presence-room') == 3
    assert page.count('field-channel">signed in') == 1
    assert 'field-user">&lt;img onerror=x&gt; (bob)' in page
