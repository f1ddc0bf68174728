"""pusher-js, unmodified, on public and private channels."""

import pytest


@pytest.mark.spec(1, 15, 16, 17, 18, 60, 62, 117, 166, 224)
def test_public_event_reaches_a_subscriber(connect, pusher, channel):
    client = connect()
    client.subscribe(channel)

    pusher.trigger(channel, "greet", {"text": "Grüße 👋"})

    assert client.wait_for("greet", on=channel).data == {"text": "Grüße 👋"}


@pytest.mark.spec(63, 217, 224)
def test_private_event_reaches_a_subscriber(connect, site, pusher, unique):
    channel, client = unique("private-"), connect(site.new_user())
    client.subscribe(channel)

    pusher.trigger(channel, "greet", "hello")

    assert client.wait_for("greet", on=channel).data == "hello"


@pytest.mark.spec(217)
def test_visitor_is_refused_a_private_channel(connect, unique):
    channel, client = unique("private-"), connect()

    client.call("subscribe", channel=channel)

    refusal = client.wait_for("pusher:subscription_error", on=channel).data
    assert refusal["status"] == 403
    assert client.call("state") == "connected"


@pytest.mark.spec(217)
def test_channel_without_a_rule_is_refused(connect, site, unique):
    channel, client = unique("presence-nobody-wrote-a-rule-"), connect(site.new_user())

    client.call("subscribe", channel=channel)

    assert client.wait_for("pusher:subscription_error", on=channel).data["status"] == 403


@pytest.mark.spec(47)
def test_events_arrive_in_the_order_of_their_triggers(connect, pusher, channel):
    client = connect()
    client.subscribe(channel)

    for start in range(0, 200, 10):
        pusher.trigger_batch(
            [
                {"channel": channel, "name": "count", "data": number}
                for number in range(start, start + 10)
            ]
        )

    assert [client.wait_for("count", on=channel).data for _ in range(200)] == list(range(200))


@pytest.mark.spec(118)
def test_socket_id_excludes_that_connection_only(connect, pusher, channel):
    sender, other = connect(), connect()
    sender.subscribe(channel)
    other.subscribe(channel)

    pusher.trigger(channel, "greet", {}, sender.socket_id)
    pusher.trigger(channel, "fence", {})

    other.wait_for("greet", on=channel)
    sender.expect_nothing("greet", on=channel, until=lambda: sender.wait_for("fence", on=channel))


@pytest.mark.spec(75)
def test_no_event_after_unsubscribing(connect, pusher, channel, unique):
    client, fence = connect(), unique("fence-")
    client.subscribe(channel)

    client.call("unsubscribe", channel=channel)
    client.subscribe(fence)
    pusher.trigger([channel, fence], "greet", {})

    client.expect_nothing("greet", on=channel, until=lambda: client.wait_for("greet", on=fence))


@pytest.mark.spec(77)
def test_unsubscribing_and_subscribing_in_one_burst_ends_subscribed(open_wire, pusher, channel):
    wire = open_wire()
    wire.subscribe(channel)

    wire.send("pusher:unsubscribe", {"channel": channel})
    wire.subscribe(channel)
    pusher.trigger(channel, "greet", {})

    wire.wait_for("greet")


@pytest.fixture
def two_members(connect, site, unique):
    """A private channel with two users, each at another process where there are two."""
    channel = unique("private-")
    sender = connect(site.new_user(), at=site.first)
    other = connect(site.new_user(), at=site.last)
    sender.subscribe(channel)
    other.subscribe(channel)
    return channel, sender, other


@pytest.mark.spec(121, 122, 130, 136, 224)
def test_client_event_reaches_the_others_once(two_members):
    channel, sender, other = two_members

    sender.trigger(channel, "client-typing", {"on": True})
    other.trigger(channel, "client-fence", {})

    sender.expect_nothing(
        "client-typing", on=channel, until=lambda: sender.wait_for("client-fence", on=channel)
    )
    assert other.wait_for("client-typing", on=channel).data == {"on": True}
    sender.trigger(channel, "client-fence", {})
    other.expect_nothing(
        "client-typing", on=channel, until=lambda: other.wait_for("client-fence", on=channel)
    )


@pytest.mark.spec(125)
def test_client_event_on_a_private_channel_names_no_user(two_members):
    channel, sender, other = two_members

    sender.trigger(channel, "client-typing", {})

    assert "user_id" not in other.wait_for_frame("client-typing")


@pytest.mark.spec(124, 126)
def test_client_event_on_a_presence_channel_names_its_sender(connect, site, unique):
    channel, user = unique("presence-own-data-"), site.new_user()
    sender, other = connect(user), connect(site.new_user(), at=site.last)
    sender.subscribe(channel)
    other.subscribe(channel)
    other.call("bind", channel=channel, event="client-typing")

    sender.trigger(channel, "client-typing", {"user_id": "somebody else"})

    seen = other.wait_for("client-typing", on=f"{channel} bound")
    assert seen.metadata == {"user_id": user.id}


@pytest.mark.spec(127)
def test_client_event_on_a_public_channel_is_refused(open_wire, pusher, channel):
    sender, other = open_wire(), open_wire()
    sender.subscribe(channel)
    other.subscribe(channel)

    sender.send("client-typing", {}, channel=channel)

    assert sender.wait_for("pusher:error")["data"]["code"] is None
    pusher.trigger(channel, "fence", {})
    assert other.receive()["event"] == "fence"


@pytest.mark.spec(132)
def test_client_events_beyond_ten_a_second_are_refused(two_members):
    channel, sender, other = two_members

    sender.call("trigger_many", channel=channel, event="client-count", count=30)

    error = sender.wait_for_frame("pusher:error")
    assert error["data"]["code"] == 4301
    assert [other.wait_for("client-count", on=channel).data for _ in range(10)] == list(range(10))
    other.trigger(channel, "client-fence", {})
    sender.wait_for("client-fence", on=channel)
    assert sender.call("state") == "connected"
