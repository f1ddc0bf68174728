"""Cache channels, encryption, watchlists, counts and authorized connections, with pusher-js."""

import base64

import pusher as pusher_http
import pytest

from tests.e2e.conftest import LIBRARY_SECONDS
from tests.e2e.site.users import WATCHERS
from tests.e2e.sites import App, manage

MASTER_KEY = "zyrm8pvV2C9fJcBfhyXzvxbJVN/H7QLmbe0xJi1GhPU="


def encrypting_library(site):
    """The official Python library, which encrypts by itself."""
    return pusher_http.Pusher(
        app_id=site.app.id,
        key=site.app.key,
        secret=site.app.secret,
        host="127.0.0.1",
        port=site.last.port,
        ssl=False,
        timeout=LIBRARY_SECONDS,
        encryption_master_key_base64=MASTER_KEY,
    )


def trigger_durably(site, channel, event, data):
    """Our own ``trigger`` in a process of its own, which reaches the servers on every layer."""
    code = f"trigger({channel!r}, {event!r}, {data!r}, durable=True)"
    manage(site.environment, "shell", "-c", f"from realtime import trigger; {code}")


@pytest.mark.spec(109, 111, 187, 224)
@pytest.mark.parametrize("prefix", ["cache-", "private-cache-"])
def test_the_last_event_of_a_cache_channel_is_there_for_who_comes_later(
    connect, site, pusher, unique, prefix
):
    channel = unique(prefix)
    early = connect(site.new_user())
    early.subscribe(channel)
    early.wait_for("pusher:cache_miss", on=channel)
    pusher.trigger(channel, "price", {"eur": 1})
    pusher.trigger(channel, "price", {"eur": 2})
    assert [early.wait_for("price", on=channel).data for _ in range(2)] == [{"eur": 1}, {"eur": 2}]

    late = connect(site.new_user(), at=site.last)
    late.subscribe(channel)

    assert late.wait_for("price", on=channel).data == {"eur": 2}
    assert late.names(channel) == []
    kept = pusher.channel_info(channel, ["cache"])["cache"]
    assert (kept["data"], 0 < kept["ttl"] <= 1800) == ('{"eur": 2}', True)


@pytest.mark.spec(69, 220, 224)
@pytest.mark.parametrize("prefix", ["private-encrypted-", "private-encrypted-cache-"])
def test_encrypted_events_are_read_by_who_may_subscribe(connect, site, unique, prefix):
    channel = unique(prefix)
    client = connect(site.new_user())
    client.subscribe(channel)

    encrypting_library(site).trigger(channel, "secret", {"text": "Grüße"})

    assert client.wait_for("secret", on=channel).data == {"text": "Grüße"}
    frame = client.wait_for_frame("secret")["data"]
    assert len(base64.b64decode(frame["nonce"])) == 24


@pytest.mark.spec(69)
def test_what_our_own_trigger_encrypts_is_read(connect, site, unique):
    channel = unique("private-encrypted-")
    client = connect(site.new_user())
    client.subscribe(channel)

    trigger_durably(site, channel, "secret", {"text": "Grüße"})

    assert client.wait_for("secret", on=channel).data["text"] == "Grüße"
    assert "Grüße" not in str(client.wait_for_frame("secret"))


@pytest.mark.spec(149, 150, 224)
def test_a_watcher_sees_a_user_come_and_go(connect, site):
    watching = site.new_user()
    while int(watching.id) % WATCHERS:
        watching = site.new_user()
    watched = site.new_user()
    assert int(watched.id) == int(watching.id) - 1
    watcher = connect(watching)
    watcher.sign_in()
    assert watcher.wait_for("offline", on="watchlist").data["user_ids"] == [watched.id]

    client = connect(watched, at=site.last)
    client.sign_in()
    assert watcher.wait_for("online", on="watchlist").data["user_ids"] == [watched.id]

    client.call("disconnect")
    assert watcher.wait_for("offline", on="watchlist").data["user_ids"] == [watched.id]


@pytest.mark.spec(105, 224)
def test_subscribers_see_how_many_they_are(new_client, site, channel):
    first = new_client(site.first, "counting")
    first.subscribe(channel)
    count = {"subscription_count": 1}
    assert first.wait_for("pusher:subscription_count", on=channel).data == count

    second = new_client(site.last, "counting")
    second.subscribe(channel)
    for client in (first, second):
        client.wait_for(
            "pusher:subscription_count",
            on=channel,
            where=lambda event: event.data == {"subscription_count": 2},
        )

    second.call("unsubscribe", channel=channel)
    first.wait_for("pusher:subscription_count", on=channel, where=lambda event: event.data == count)


@pytest.mark.spec(51)
def test_who_does_not_sign_in_in_time_stays_away(new_client, site, channel):
    client = new_client(site.first, App("1003", "authorized", "in-time").key)
    client.call("subscribe", channel=channel)

    error = client.wait_for("error", on="connection").data
    assert error["data"]["code"] == 4009
    client.wait_for_state("disconnected")
