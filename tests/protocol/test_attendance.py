"""Each socket sees a member come and go in turns, whatever the order of the news."""

from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.protocol import attendance
from realtime.protocol.attendance import Announcement, Attendance, Heard, View


def came(version, user_id="ann"):
    return Announcement(user_id, version, present=True)


def renewed(version, since, user_id="ann"):
    """The member is there, and shows since some version what it shows."""
    return Announcement(user_id, version, True, since)


def went(version, user_id="ann"):
    return Announcement(user_id, version, present=False)


def told(*members):
    """An attendance whose first socket was given a list, as versions by user."""
    made = Attendance()
    made.admit("first", View(dict(members)), [], first=True)
    return made


# ---- the shared view --------------------------------------------------------------------


def test_news_is_heard_once():
    room = told()

    assert room.hear(came(1)) == (True, {})
    assert room.hear(came(1)) == (False, {})
    assert room.hear(went(2)) == (True, {})
    assert room.hear(came(1)) == (False, {})


def test_a_change_that_was_overtaken_is_not_heard_twice():
    room = told(("ann", 1))

    assert room.hear(came(3)) == (False, {})
    assert room.hear(went(2)) == (False, {})
    assert room.hear(went(4)) == (True, {})


def test_the_departure_of_somebody_unknown_is_not_heard():
    room = told()

    assert room.hear(went(2)) == (False, {})
    assert room.hear(came(1)) == (False, {})


def test_the_first_socket_brings_the_view():
    room = told(("ann", 1))
    assert room.admit("second", View({"bob": 5}), [], first=True) == []

    assert room.hear(went(6, "ann")) == (False, {})
    assert room.hear(went(6, "bob")) == (True, {})


# ---- sockets apart ----------------------------------------------------------------------


def test_a_newer_list_needs_no_news_that_is_on_its_way():
    room = told()
    room.admit("late", View({"ann": 4}), [], first=False)

    assert room.hear(came(4)) == (True, {"late": False})
    assert room.hear(went(5)) == (True, {})


def test_a_newer_list_needs_no_departure_from_before_it():
    room = told(("ann", 1))
    room.admit("late", View({"ann": 4}), [], first=False)

    assert room.hear(went(3)) == (True, {"late": False})
    assert room.hear(came(4)) == (True, {"late": False})


def test_a_list_without_a_member_needs_no_departure():
    room = told(("ann", 1))
    room.admit("late", View({}), [], first=False)

    assert room.hear(went(2)) == (True, {"late": False})
    assert room.hear(came(3)) == (True, {})


def test_a_socket_apart_hears_a_return_that_the_others_never_missed():
    room = told(("ann", 1))
    room.admit("late", View({}), [], first=False)

    assert room.hear(came(3)) == (False, {"late": True})
    assert room.hear(went(2)) == (False, {})


def test_a_socket_that_left_is_forgotten():
    room = told()
    room.admit("late", View({"ann": 4}), [], first=False)
    room.dismiss("late")
    room.dismiss("first")

    assert room.hear(came(4)) == (True, {})


def test_what_was_held_is_judged_by_the_list():
    room = told()
    held = [came(1), went(2), came(3), came(9, "bob"), went(10, "cy")]

    assert room.admit("late", View({"ann": 2}), held, first=False) == [
        False,
        False,
        False,
        True,
        False,
    ]


# ---- what members show ------------------------------------------------------------------


def test_a_member_that_shows_something_else_is_renewed_once():
    room = told(("ann", 1))

    assert room.hear(renewed(2, 2)) == (Heard.RENEWAL, {})
    assert room.hear(renewed(2, 2)) == (Heard.NOTHING, {})
    assert room.hear(renewed(5, 2)) == (Heard.NOTHING, {})


def test_a_renewal_that_was_lost_comes_with_later_news():
    room = told(("ann", 1))

    assert room.hear(renewed(4, 2)) == (Heard.RENEWAL, {})
    assert room.hear(renewed(2, 2)) == (Heard.NOTHING, {})


def test_whoever_did_not_know_the_member_hears_of_an_arrival():
    room = told()

    assert room.hear(renewed(2, 2)) == (Heard.CHANGE, {})


def test_a_socket_whose_list_shows_it_already_hears_no_renewal():
    room = told(("ann", 1))
    room.admit("late", View({"ann": 3}), [], first=False)

    assert room.hear(renewed(3, 3)) == (Heard.RENEWAL, {"late": Heard.NOTHING})


def test_a_renewal_that_was_held_is_judged_by_the_list():
    room = told()

    held = [renewed(2, 2), renewed(3, 3)]

    assert room.admit("late", View({"ann": 2}), held, first=False) == [
        Heard.NOTHING,
        Heard.RENEWAL,
    ]


# ---- memory -----------------------------------------------------------------------------


def test_departures_that_nothing_can_overtake_are_forgotten(monkeypatch):
    monkeypatch.setattr(attendance, "REMEMBERED_DEPARTURES", 2)
    minute = attendance.OVERTAKING_SECONDS * 1_000_000
    view = View()
    for version, user_id in enumerate("abcd", start=1):
        view.hear(went(version, user_id))
    assert list(view.departed) == ["a", "b", "c", "d"]

    view.hear(went(minute + 3, "e"))

    assert list(view.departed) == ["c", "d", "e"]


# ---- a crowd ----------------------------------------------------------------------------


def test_a_crowd_with_one_list_is_told_the_same():
    room = told(("ann", 1))
    listed = View({"ann": 1, "bob": 2, "cid": 3})
    for socket_id in ("bob's", "cid's"):
        assert room.admit(socket_id, listed, [], first=False) == []

    nothing = {"bob's": Heard.NOTHING, "cid's": Heard.NOTHING}
    assert room.hear(came(2, "bob")) == (Heard.CHANGE, nothing)
    assert room.hear(came(3, "cid")) == (Heard.CHANGE, nothing)
    assert room.hear(went(4, "bob")) == (Heard.CHANGE, {})


def test_one_of_a_crowd_that_leaves_is_forgotten_and_the_others_are_not():
    room = told()
    listed = View({"bob": 2, "cid": 3})
    for socket_id in ("bob's", "cid's"):
        room.admit(socket_id, listed, [], first=False)

    room.dismiss("bob's")

    assert room.hear(came(3, "cid")) == (Heard.CHANGE, {"cid's": Heard.NOTHING})


def test_one_of_a_crowd_that_heard_more_meanwhile_is_judged_by_itself():
    room = told()
    listed = View({"bob": 2, "cid": 3})
    assert room.admit("bob's", listed, [went(5, "cid")], first=False) == [Heard.CHANGE]
    assert room.admit("cid's", listed, [], first=False) == []

    assert room.hear(went(5, "cid")) == (
        Heard.NOTHING,
        {"cid's": Heard.CHANGE},
    )


def test_news_that_the_list_lacks_keeps_a_socket_from_its_crowd():
    room = told(("ann", 1))
    listed = View({"ann": 1, "bob": 2, "cid": 3})
    assert room.admit("bob's", listed, [], first=False) == []
    assert room.hear(went(5, "cid")) == (Heard.NOTHING, {"bob's": Heard.CHANGE})

    assert room.admit("cid's", listed, [went(5, "cid")], first=False) == [Heard.CHANGE]

    assert room.hear(came(2, "bob")) == (
        Heard.CHANGE,
        {"bob's": Heard.NOTHING, "cid's": Heard.NOTHING},
    )
    assert room.hear(came(6, "cid")) == (Heard.CHANGE, {})


def test_news_that_the_list_has_keeps_no_socket_from_its_crowd():
    room = told(("ann", 1))
    listed = View({"ann": 1, "bob": 2})
    room.admit("bob's", listed, [], first=False)

    assert room.admit("cid's", listed, [came(2, "bob")], first=False) == []

    nothing = {"bob's": Heard.NOTHING, "cid's": Heard.NOTHING}
    assert room.hear(came(2, "bob")) == (Heard.CHANGE, nothing)


def test_a_list_that_all_agreed_with_is_compared_again_after_news():
    room = told(("ann", 1))
    listed = View({"ann": 1})
    assert room.admit("bob's", listed, [], first=False) == []
    assert room.hear(went(5)) == (Heard.CHANGE, {})

    assert room.admit("cid's", listed, [], first=False) == []

    assert room.hear(came(6)) == (Heard.CHANGE, {"cid's": Heard.NOTHING})


def test_a_crowd_costs_one_comparison(monkeypatch):
    compared = []

    class Counted(dict):
        def items(self):
            compared.append(len(self))
            return super().items()

    room = told(("ann", 1))
    listed = View(Counted(ann=1, bob=2))
    monkeypatch.setattr(attendance, "dict", Counted, raising=False)

    for number in range(100):
        room.admit(str(number), listed, [], first=False)

    assert compared == [2]


# ---- whatever the order -----------------------------------------------------------------

USERS = "abAB"
"""In capitals a user who shows something else."""
commits = st.lists(st.sampled_from(USERS), max_size=12)


@settings(max_examples=300)
@given(commits, st.data())
def test_every_socket_sees_turns_and_ends_with_the_truth(toggles, data):
    """Members toggle in the database, or show something else; their news arrive in any order,
    some twice and some, which may be lost, only with the last of that member.

    Sockets come in between.  Each waits for its list, which is as new as what had arrived when
    it began to wait or newer, and then hears what was held for it.
    """
    truth, gone, shown, news, lists = {}, {}, {}, [], [(View(), {})]
    for version, letter in enumerate(toggles, start=1):
        user_id = letter.lower()
        there = user_id in truth
        present = there if letter.isupper() else not there
        truth.pop(user_id, None)
        (truth if present else gone)[user_id] = version
        if present:
            shown[user_id] = version
        gone = {name: gone[name] for name in gone if name not in truth}
        news.append(Announcement(user_id, version, present, shown.get(user_id, 0)))
        lists.append((View(dict(truth), dict(gone)), {name: shown[name] for name in truth}))
    last = {change.user_id: change.version for change in news}
    lost = {change.version for change in news if last[change.user_id] != change.version}
    lost &= data.draw(st.sets(st.integers(1, 12)))
    news = [change for change in news if change.version not in lost]
    arriving = data.draw(st.permutations(news + news[::3]))
    moment = st.integers(0, len(arriving))
    waits = [sorted(wait) for wait in data.draw(st.lists(st.tuples(moment, moment), max_size=4))]
    room, arrived, sockets, waiting = Attendance(), 0, {}, {}

    def see(name, change, heard):
        seen = sockets[name]
        if heard is Heard.RENEWAL:
            del seen[change.user_id]  # must be there, or it is not in turns
        assert (change.user_id in seen) != change.present, "not in turns"
        if change.present:
            seen[change.user_id] = change.shown_since
        else:
            del seen[change.user_id]

    for now in range(len(arriving) + 1):
        for name, (start, _) in enumerate(waits):
            if start == now:
                waiting[name] = (data.draw(st.integers(arrived, len(toggles))), [])
        for name, (_, end) in enumerate(waits):
            if end == now:
                listed, held = waiting.pop(name)
                view, seen = lists[listed]
                wanted = room.admit(str(name), view, held, first=not sockets)
                sockets[str(name)] = dict(seen)
                for change, heard in zip(held, wanted or [Heard.NOTHING] * len(held), strict=True):
                    if heard:
                        see(str(name), change, heard)
        if now == len(arriving):
            break
        change = arriving[now]
        arrived = max(arrived, change.version)
        if sockets:
            shared, own = room.hear(change)
            for name in sockets:
                if heard := own.get(name, shared):
                    see(name, change, heard)
        for _, held in waiting.values():
            held.append(change)

    for name, seen in sockets.items():
        assert seen == {user_id: shown[user_id] for user_id in truth}, name
