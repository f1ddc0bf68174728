"""Each checker is shown a history it must reject, and one it must let pass."""

import pytest

from tests.chaos import checkers
from tests.chaos.checkers import Tally
from tests.chaos.history import History, read
from tests.e2e.nodejs import Event


def record(at, client, kind, **facts):
    return {"at": at, "client": client, "kind": kind, **facts}


def subscribed(at, client="ann", channel="news", **facts):
    return record(at, client, "subscribed", channel=channel, **facts)


def received(at, number, client="ann", channel="news", publisher="p", **facts):
    return record(
        at, client, "received", channel=channel, publisher=publisher, number=number, **facts
    )


def published(at, number, status=200, channel="news", publisher="p", took=0.1, **facts):
    return record(
        at,
        publisher,
        "publish",
        channel=channel,
        publisher=publisher,
        number=number,
        status=status,
        until=at + took,
        **facts,
    )


def came(at, user, client="ann", channel="presence-x"):
    return record(at, client, "member_added", channel=channel, user=user)


def left(at, user, client="ann", channel="presence-x"):
    return record(at, client, "member_removed", channel=channel, user=user)


# ---- lost -------------------------------------------------------------------------------


def test_an_event_that_a_subscriber_never_got_is_lost():
    (fault,) = checkers.lost([subscribed(0), published(1, 0), received(1.1, 0), published(2, 1)])

    assert "event 1 of p" in fault


def test_an_event_is_lost_by_each_subscriber_apart():
    history = [subscribed(0), subscribed(0, "bob"), published(1, 0), received(1.1, 0)]

    (fault,) = checkers.lost(history)

    assert fault.startswith("bob")


@pytest.mark.parametrize(
    "history",
    [
        [subscribed(0), published(1, 0), received(1.1, 0)],
        [subscribed(0), published(1, 0, status=503)],
        [subscribed(2), published(1, 0)],
        [subscribed(0, channel="other"), published(1, 0)],
        [subscribed(0), published(1, 0), record(2, "ann", "closed", code=None)],
        [subscribed(0), published(1, 0), record(2, "ann", "unsubscribed", channel="news")],
        [subscribed(0), published(1, 0, **{"except": "ann"})],
    ],
    ids=["came", "refused", "before", "elsewhere", "went", "left", "excluded"],
)
def test_an_event_nobody_had_to_get_is_not_lost(history):
    assert checkers.lost(history) == []


def test_a_subscriber_who_left_long_after_still_lost_the_event():
    history = [subscribed(0), published(1, 0), record(9, "ann", "closed", code=None)]

    assert len(checkers.lost(history)) == 1


def test_a_second_stay_does_not_excuse_the_first():
    away = record(9, "ann", "closed", code=None)

    assert len(checkers.lost([subscribed(0), published(1, 0), away, subscribed(10)])) == 1


def test_an_excused_publication_may_be_lost():
    history = [subscribed(0), published(1, 0), published(2, 1)]

    (fault,) = checkers.lost(history, excused=lambda item: item["number"] == 0)

    assert "event 1" in fault


# ---- repeated ---------------------------------------------------------------------------


def test_an_event_that_came_twice_is_repeated():
    (fault,) = checkers.repeated([received(1, 0), received(2, 0)])

    assert "twice" in fault


@pytest.mark.parametrize(
    "history",
    [
        [received(1, 0), received(2, 1)],
        [received(1, 0), received(2, 0, publisher="q")],
        [received(1, 0), received(2, 0, channel="other")],
        [received(1, 0), received(2, 0, client="bob")],
        [received(1, 0, id="x"), received(2, 0, id="x")],
        [received(1, 0), record(2, "ann", "opened"), received(3, 0)],
    ],
    ids=["numbers", "publishers", "channels", "clients", "same id", "new connection"],
)
def test_different_events_are_no_repeat(history):
    assert checkers.repeated(history) == []


def test_a_durable_repeat_with_another_id_is_one():
    assert len(checkers.repeated([received(1, 0, id="x"), received(2, 0, id="y")])) == 1


# ---- re-ordered -------------------------------------------------------------------------


def test_an_earlier_event_after_a_later_one_is_out_of_order():
    (fault,) = checkers.reordered([received(1, 0), received(2, 2), received(3, 1)])

    assert "event 1 of p" in fault
    assert "after number 2" in fault


@pytest.mark.parametrize(
    "history",
    [
        [received(1, 0), received(2, 5), received(3, 6)],
        [received(1, 5), received(2, 0, publisher="q")],
        [received(1, 5), received(2, 0, channel="other")],
        [received(1, 5), received(2, 0, client="bob")],
        [received(1, 0), received(2, 1), received(3, 0)],
    ],
    ids=["gap", "publishers", "channels", "clients", "repeat"],
)
def test_order_holds_per_client_channel_and_publisher(history):
    assert checkers.reordered(history) == []


# ---- ghosts -----------------------------------------------------------------------------


def test_a_member_without_a_socket_is_a_ghost():
    assert checkers.ghosts(["ann", "bob"], ["ann"], "the list") == [
        "the list shows bob, who is gone"
    ]


def test_a_user_who_is_there_must_be_shown():
    assert checkers.ghosts(["ann"], ["ann", "bob"], "the list") == [
        "the list lacks bob, who is there"
    ]


def test_a_user_is_shown_once():
    assert checkers.ghosts(["ann", "ann"], ["ann"], "the list") == ["the list shows ann twice"]


def test_the_right_members_are_no_ghosts():
    assert checkers.ghosts(["bob", "ann"], {"ann", "bob"}, "the list") == []


# ---- flapping ---------------------------------------------------------------------------


def seeing(*members):
    return subscribed(0, channel="presence-x", members=list(members))


@pytest.mark.parametrize(
    "history",
    [
        [seeing(), came(1, "bob"), came(2, "bob")],
        [seeing("bob"), came(1, "bob")],
        [seeing("bob"), left(1, "bob"), left(2, "bob")],
        [seeing(), left(1, "bob")],
    ],
    ids=["comes twice", "comes while listed", "leaves twice", "leaves without coming"],
)
def test_joins_and_departures_must_alternate(history):
    assert len(checkers.flapping(history)) == 1


@pytest.mark.parametrize(
    "history",
    [
        [seeing(), came(1, "bob"), left(2, "bob"), came(3, "bob")],
        [seeing("bob"), left(1, "bob"), came(2, "bob")],
        [seeing("bob"), came(1, "eve"), left(2, "bob")],
        [seeing("bob"), record(1, "ann", "closed", code=None), seeing(), came(3, "bob")],
        [
            seeing("bob"),
            record(1, "ann", "unsubscribed", channel="presence-x"),
            seeing(),
            came(3, "bob"),
        ],
        [seeing("bob"), came(1, "bob", channel="presence-y")],
    ],
    ids=["alternate", "listed first", "two users", "reconnect", "subscribe again", "elsewhere"],
)
def test_alternation_starts_with_the_list(history):
    assert checkers.flapping(history) == []


# ---- before success ---------------------------------------------------------------------


ASKED = record(0, "ann", "asked", channel="news")


def test_an_event_before_the_confirmation_is_early():
    (fault,) = checkers.before_success([ASKED, received(1, 0), subscribed(2)])

    assert "before it was confirmed" in fault


def test_an_event_without_a_subscription_is_wrong():
    (fault,) = checkers.before_success([received(1, 0)])

    assert "without a subscription" in fault


def test_an_event_of_the_connection_before_is_wrong():
    history = [ASKED, subscribed(1), record(2, "ann", "opened"), received(3, 0)]

    assert len(checkers.before_success(history)) == 1


def test_a_departure_before_the_confirmation_is_early():
    assert len(checkers.before_success([left(1, "bob")])) == 1


def test_events_after_the_confirmation_are_fine():
    assert checkers.before_success([ASKED, subscribed(1), received(2, 0), received(3, 1)]) == []


# ---- tally ------------------------------------------------------------------------------


def tallied(*numbers):
    tally = Tally()
    for number in numbers:
        tally.take("p", number)
    return tally


@pytest.mark.parametrize("numbers", [(0, 2), (0, 0), (0, 1, 2, 1)], ids=["gap", "twice", "late"])
def test_a_tally_rejects(numbers):
    assert len(tallied(*numbers).faults) == 1


def test_a_tally_that_counts_on_is_clean():
    tally = tallied(0, 1, 2)

    assert tally.faults == []
    assert tally.missing({"p": 4}) == 1


def test_a_tally_keeps_a_bounded_number_of_sentences():
    assert len(tallied(*[0] * 1_000).faults) == checkers.MOST_SENTENCES


# ---- history ----------------------------------------------------------------------------


def test_a_history_survives_its_file(tmp_path):
    history = History()
    history.add("ann", "opened")
    history.add("driver", "fault", what="kill -9 node a")

    history.write(tmp_path / "a.jsonl")

    assert read(tmp_path / "a.jsonl") == history.records
    assert [item["what"] for item in history.of("fault")] == ["kill -9 node a"]


# ---- pusher-js --------------------------------------------------------------------------


def reported(name, data, order):
    return Event("js", "presence-x", f"pusher:{name}", data, order)


LISTED = reported("subscription_succeeded", {"members": {"bob": {}}}, 1)


@pytest.mark.parametrize(
    "events",
    [
        [LISTED, reported("member_added", {"id": "bob"}, 2)],
        [LISTED, reported("member_removed", {"id": "eve"}, 2)],
        [LISTED, *(reported("member_removed", {"id": "bob"}, order) for order in (2, 3))],
    ],
    ids=["comes while listed", "leaves while absent", "leaves twice"],
)
def test_what_pusher_js_reports_is_judged_like_a_history(events):
    (fault,) = checkers.flapping(checkers.as_records("presence-x", events))

    assert fault.startswith("js saw")


def test_a_list_that_pusher_js_gets_again_replaces_the_first():
    events = [LISTED, reported("subscription_succeeded", {"members": {}}, 2)]
    events += [reported("member_added", {"id": "bob"}, 3)]

    assert checkers.flapping(checkers.as_records("presence-x", events)) == []


# ---- all of them ------------------------------------------------------------------------


def test_each_fault_names_its_checker():
    history = [seeing("bob"), came(1, "bob"), subscribed(0), received(1, 1), received(2, 0)]

    faults = checkers.every_run(history)

    assert [fault.split(":")[0] for fault in faults] == ["re-ordered", "flapping"]
