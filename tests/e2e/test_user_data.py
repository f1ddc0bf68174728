"""User data changed through the server, and apps changed in the database, seen by pusher-js."""

import hashlib
import hmac
import json
import subprocess
import time
from urllib.parse import quote

import pytest

from tests.e2e import sites

PATIENCE = 15
"""Seconds a server may take to read a new row, which is longer than it keeps the old ones."""

NEW = {"name": "Anna", "status": "away"}


@pytest.fixture
def channel(unique):
    return unique("presence-signed-in-")


@pytest.fixture
def call(site):
    """Signed calls about a user, at another process than the clients'."""

    def signed(method, user, body=None):
        path = f"/apps/{site.app.id}/users/{quote(user.id)}"
        query = f"auth_key={site.app.key}&auth_timestamp={int(time.time())}&auth_version=1.0"
        if body is not None:
            query += f"&body_md5={hashlib.md5(json.dumps(body).encode()).hexdigest()}"
        text = f"{method}\n{path}\n{query}"
        signature = hmac.new(site.app.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        url = f"{path}?{query}&auth_signature={signature}"
        status, answer = site.last.request(method, url, body=body)
        assert status == 200, answer
        return json.loads(answer)

    return signed


def knows(server, number):
    """Whether a server has read the row of an app."""
    path = f"/apps/{number}/channels"
    query = f"auth_key=key-{number}&auth_timestamp={int(time.time())}&auth_version=1.0"
    signature = hmac.new(b"s", f"GET\n{path}\n{query}".encode(), hashlib.sha256).hexdigest()
    return server.request("GET", f"{path}?{query}&auth_signature={signature}")[0] == 200


@pytest.fixture
def member(connect, channel):
    """Makes clients that are in the channel as who signed in."""

    def start(user, **options):
        client = connect(user, **options)
        client.sign_in()
        client.subscribe(channel)
        return client

    return start


def news(client, channel):
    """The arrivals and departures that a client has seen, in order."""
    return [name for name in client.names(channel) if name.startswith("pusher:member_")]


def test_an_update_is_seen_by_everybody_and_counted_by_nobody(member, site, channel, call):
    user = site.new_user()
    here, there = member(site.new_user(), at=site.first), member(site.new_user(), at=site.last)
    tabs = [member(user, at=site.first), member(user, at=site.last)]
    for witness in (here, there):
        witness.wait_for(
            "pusher:member_added", on=channel, where=lambda event: event.data["id"] == user.id
        )

    assert call("PATCH", user, {"user_info": NEW})["user_info"] == NEW

    for client in (here, there, *tabs):
        client.wait_for(
            "pusher:member_added",
            on=channel,
            where=lambda event: event.data == {"id": user.id, "info": NEW},
        )
        assert "pusher:member_removed" in news(client, channel)
        members = client.call("members", channel=channel)
        assert members["count"] == len(members["members"]) == 3
        assert members["members"][user.id] == NEW
    for tab in tabs:
        assert tab.call("me", channel=channel)["now"] == {"id": user.id, "info": NEW}


def test_an_update_is_listed_for_whoever_comes_later_and_holds(member, site, channel, call):
    user = site.new_user()
    tab = member(user)
    call("PATCH", user, {"user_info": NEW})
    tab.wait_for("pusher:member_added", on=channel)
    tab.call("disconnect")

    again = member(user, at=site.last)

    assert again.call("me", channel=channel)["me"] == {"id": user.id, "info": NEW}
    late = member(site.new_user(), at=site.last)
    assert late.call("members", channel=channel)["members"][user.id] == NEW


def test_a_channel_that_says_itself_what_to_show_is_left_alone(connect, site, unique, call):
    channel, user = unique("presence-own-data-"), site.new_user()
    client = connect(user)
    client.sign_in()
    members = client.subscribe(channel)

    call("PATCH", user, {"user_info": NEW})
    client.expect_nothing(
        "pusher:member_added", on=channel, until=lambda: client.call("wait", ms=500)
    )

    assert client.call("members", channel=channel) == members


def test_what_is_deleted_is_shown_no_more(member, site, channel, call):
    user = site.new_user()
    witness, client = member(site.new_user()), member(user, at=site.last)
    call("PATCH", user, {"user_info": NEW})

    assert call("DELETE", user) == {}

    witness.wait_for(
        "pusher:member_added",
        on=channel,
        where=lambda event: event.data["id"] == user.id and not event.data.get("info"),
    )
    assert witness.call("members", channel=channel)["count"] == 2
    assert client.call("state") == "connected"


def test_an_erased_user_is_gone(member, site, channel):
    user = site.new_user()
    witness, client = member(site.new_user()), member(user, at=site.last)

    if site.kind == "daphne-memory":  # no other process reaches its connections
        with pytest.raises(subprocess.CalledProcessError):
            sites.manage(site.environment, "realtime_erase_user", user.id)
        return
    report = sites.manage(site.environment, "realtime_erase_user", user.id)

    client.wait_for_state("disconnected")
    witness.wait_for(
        "pusher:member_removed", on=channel, where=lambda event: event.data["id"] == user.id
    )
    assert "RealtimeUser" in report
    found = sites.manage(site.environment, "realtime_erase_user", user.id, "--dry-run")
    assert "nobody knows this user" in found


# ---- apps -------------------------------------------------------------------------------


@pytest.fixture
def row(site, unique):
    """An app of the database, and a way to change it from outside."""
    number = unique("app-").removeprefix("app-").zfill(6)

    def shell(code):
        sites.manage(
            site.environment,
            *("shell", "-c", f"from realtime.models import Application as A\n{code}"),
        )

    shell(
        f"A.objects.create(name='Shop', app_id='{number}', key='key-{number}', secret='s',"
        " allowed_origins=['*'])"
    )
    deadline = time.monotonic() + PATIENCE
    while not all(knows(server, number) for server in site.servers):
        assert time.monotonic() < deadline, "the servers do not read the row"
        time.sleep(0.2)  # within applications.FRESH_SECONDS
    yield (
        f"key-{number}",
        lambda fields: shell(f"A.objects.filter(app_id='{number}').update({fields})"),
    )
    shell(f"A.objects.filter(app_id='{number}').delete()")


def test_a_disabled_app_loses_its_connections(new_client, site, row):
    key, change = row
    clients = [new_client(server, key) for server in site.servers]
    for client in clients:
        client.wait_for_state("connected")

    change("enabled=False")

    for client in clients:
        assert client.wait_for_frame("pusher:error")["data"]["code"] == 4003
        client.wait_for_state("disconnected")
