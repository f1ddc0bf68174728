"""Each socket sees a member come and go in turns, whatever the order of the news."""

from hypothesis import given, settings
from hypothesis import strategies as st

from realtime.protocol import attendance
from realtime.protocol.attendance import Announcement, Attendance, View


def came(version, user_id="ann"):
    return Announcement(user_id, version, present=True)


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


# ---- whatever the order -----------------------------------------------------------------

USERS = "ab"
commits = st.lists(st.sampled_from(USERS), max_size=12)


@settings(max_examples=300)
@given(commits, st.data())
def test_every_socket_sees_turns_and_ends_with_the_truth(toggles, data):
    """Members toggle in the database; their news arrive in any order, and some twice.

    Sockets come in between.  Each waits for its list, which is as new as what had arrived when
    it began to wait or newer, and then hears what was held for it.
    """
    truth, gone, news, lists = {}, {}, [], [View()]
    for version, user_id in enumerate(toggles, start=1):
        present = truth.pop(user_id, None) is None
        (truth if present else gone)[user_id] = version
        gone = {name: gone[name] for name in gone if name not in truth}
        news.append(Announcement(user_id, version, present=present))
        lists.append(View(dict(truth), dict(gone)))
    arriving = data.draw(st.permutations(news + news[::3]))
    moment = st.integers(0, len(arriving))
    waits = [sorted(wait) for wait in data.draw(st.lists(st.tuples(moment, moment), max_size=4))]
    room, arrived, sockets, waiting = Attendance(), 0, {}, {}

    def see(name, change):
        present = sockets[name]
        assert (change.user_id in present) != change.present, "not in turns"
        (present.add if change.present else present.discard)(change.user_id)

    for now in range(len(arriving) + 1):
        for name, (start, _) in enumerate(waits):
            if start == now:
                waiting[name] = (data.draw(st.integers(arrived, len(toggles))), [])
        for name, (_, end) in enumerate(waits):
            if end == now:
                listed, held = waiting.pop(name)
                wanted = room.admit(str(name), lists[listed], held, first=not sockets)
                sockets[str(name)] = set(lists[listed].present)
                for change, wants in zip(held, wanted, strict=True):
                    if wants:
                        see(str(name), change)
        if now == len(arriving):
            break
        change = arriving[now]
        arrived = max(arrived, change.version)
        if sockets:
            shared, own = room.hear(change)
            for name in sockets:
                if own.get(name, shared):
                    see(name, change)
        for _, held in waiting.values():
            held.append(change)

    for name, present in sockets.items():
        assert present == set(truth), name
