"""Staff, and a process with users to look at."""

import uuid

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from realtime.models import Member, RealtimeUser
from realtime.presence import lease, store
from realtime.presence.transitions import Join, Occupy
from realtime.protocol import messages

USERS = "/admin/realtime/realtimeuser/"
EVIL = '{"name":"<img onerror=x>"}'


@pytest.fixture
def as_staff():
    """Browsers of staff with some permissions, besides viewing everything of this app."""

    def log_in(*codenames, view=True):
        user = User.objects.create_user("staff", is_staff=True)
        ours = Permission.objects.filter(content_type__app_label="realtime")
        user.user_permissions.set(ours.filter(codename__in=codenames))
        if view:
            user.user_permissions.add(*ours.filter(codename__startswith="view_"))
        browser = Client()
        browser.force_login(user)
        return browser

    return log_in


@pytest.fixture
def as_root():
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    return browser


@pytest.fixture
def server():
    """A process with two users, one of them twice, and a second process with another."""
    first, second = uuid.uuid4(), uuid.uuid4()
    for server in (first, second):
        lease.take(server, 60)

    def join(user, socket_id, channel="presence-room"):
        return Join("3", channel, socket_id, messages.Member(user, EVIL))

    store.apply(
        first,
        [
            join("ann", "1.1"),
            join("ann", "1.2"),
            join("ann", "1.1", Member.ONLINE),
            Occupy("3", "presence-room", 2),
            Occupy("3", "room", 5),
        ],
        60,
    )
    store.apply(second, [join("bob", "2.1"), Occupy("3", "presence-room", 1)], 60)
    RealtimeUser.objects.create(app_id="3", user_id="offline")
    return first


def users(*user_ids):
    return [str(RealtimeUser.key_of("3", user_id)) for user_id in user_ids]


def texts(response):
    """What staff is told."""
    return [str(message) for message in response.context["messages"]]
