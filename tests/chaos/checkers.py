"""Pure functions that find what a history must not contain.

Each takes records as ``history`` describes them and returns a sentence per fault, so an
empty list means that the promise held.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from tests.chaos.history import Record
from tests.e2e.nodejs import Event

MOST_SENTENCES = 20
FOR_EVER = float("inf")


@dataclass
class _Stay:
    """One client in one channel, from its confirmation to its end."""

    since: float
    until: float = FOR_EVER


def lost(
    records: Sequence[Record],
    *,
    settle: float = 2.0,
    excused: Callable[[Record], bool] | None = None,
) -> list[str]:
    """Accepted events that a client did not get though it was subscribed all the time.

    Args:
        settle: seconds a client must stay subscribed after the answer to the publisher;
            less, and the event may still have been on its way.
        excused: publications that may be lost, for example those under way in a crash.
    """
    stays = _stays(records)
    got = {
        (item["client"], item["channel"], item["publisher"], item["number"])
        for item in records
        if item["kind"] == "received"
    }
    by_channel: dict[str, list[tuple[str, _Stay]]] = {}
    for (client, channel), list_of_stays in stays.items():
        by_channel.setdefault(channel, []).extend((client, stay) for stay in list_of_stays)
    faults = []
    for item in records:
        if item["kind"] != "publish" or item["status"] != 200 or (excused and excused(item)):
            continue
        for client, stay in by_channel.get(item["channel"], ()):
            if client == item.get("except"):
                continue
            was_there = stay.since <= item["at"] and item["until"] + settle <= stay.until
            key = (client, item["channel"], item["publisher"], item["number"])
            if was_there and key not in got:
                faults.append(
                    f"{client} lost {_event(item)}, accepted at {item['until']:.3f}"
                    f" while it was subscribed since {stay.since:.3f}"
                )
    return faults


def repeated(records: Iterable[Record]) -> list[str]:
    """Events that one connection of a client got twice.

    A repeat of a durable event carries the same ``id``, by which clients drop it; such a
    repeat is none.
    """
    seen: dict[tuple[str, str, str, object], object] = {}
    faults = []
    for item in records:
        if item["kind"] == "opened":
            seen = {key: value for key, value in seen.items() if key[0] != item["client"]}
        if item["kind"] != "received":
            continue
        key = (item["client"], item["channel"], item["publisher"], item["number"])
        mark = item.get("id")
        if key in seen and (mark is None or seen[key] != mark):
            faults.append(f"{item['client']} got {_event(item)} twice")
        seen[key] = mark
    return faults


def reordered(records: Iterable[Record]) -> list[str]:
    """Events of one publisher on one channel that a client got in another order.

    A number that comes again is a repeat and not counted here.
    """
    latest: dict[tuple[str, str, str], int] = {}
    seen: dict[tuple[str, str, str], set[int]] = {}
    faults = []
    for item in records:
        if item["kind"] != "received":
            continue
        key = (item["client"], item["channel"], item["publisher"])
        known = seen.setdefault(key, set())
        if item["number"] < latest.get(key, -1) and item["number"] not in known:
            faults.append(f"{item['client']} got {_event(item)} after number {latest[key]}")
        known.add(item["number"])
        latest[key] = max(latest.get(key, -1), item["number"])
    return faults


def ghosts(shown: Collection[str], live: Collection[str], where: str) -> list[str]:
    """Members shown without a live socket, live users not shown, and users shown twice."""
    faults = [f"{where} shows {user}, who is gone" for user in sorted(set(shown) - set(live))]
    faults += [f"{where} lacks {user}, who is there" for user in sorted(set(live) - set(shown))]
    twice = {user for user in shown if list(shown).count(user) > 1} if _doubles(shown) else set()
    return faults + [f"{where} shows {user} twice" for user in sorted(twice)]


def flapping(records: Iterable[Record]) -> list[str]:
    """Joins and departures of one user that one observer did not see alternate."""
    present: dict[tuple[str, str], set[str]] = {}
    faults = []
    for item in records:
        kind = item["kind"]
        if kind == "subscribed" and item.get("members") is not None:
            present[item["client"], item["channel"]] = set(item["members"])
        elif kind == "closed":
            present = {key: value for key, value in present.items() if key[0] != item["client"]}
        elif kind == "unsubscribed":
            present.pop((item["client"], item["channel"]), None)
        elif kind in ("member_added", "member_removed"):
            members = present.get((item["client"], item["channel"]))
            if members is None:
                continue  # before the confirmation: a fault of another kind
            user, came = item["user"], kind == "member_added"
            if came == (user in members):
                verb = "come while present" if came else "leave while absent"
                faults.append(
                    f"{item['client']} saw {user} {verb} in {item['channel']} at {item['at']:.3f}"
                )
            (members.add if came else members.discard)(user)
    return faults


def before_success(records: Iterable[Record]) -> list[str]:
    """Events of a channel that a client got before its subscription was confirmed."""
    confirmed: set[tuple[str, str]] = set()
    waiting: set[tuple[str, str]] = set()
    faults = []
    for item in records:
        kind = item["kind"]
        key = (item["client"], item.get("channel", ""))
        if kind == "asked":
            waiting.add(key)
        elif kind == "subscribed":
            waiting.discard(key)
            confirmed.add(key)
        elif kind == "unsubscribed":
            confirmed.discard(key)
        elif kind in ("opened", "closed"):
            confirmed = {other for other in confirmed if other[0] != item["client"]}
            waiting = {other for other in waiting if other[0] != item["client"]}
        elif kind in ("received", "member_added", "member_removed") and key not in confirmed:
            when = "before it was confirmed" if key in waiting else "without a subscription"
            faults.append(f"{item['client']} got an event of {item['channel']} {when}")
    return faults


EVERY_RUN = {
    "repeated": repeated,
    "re-ordered": reordered,
    "flapping": flapping,
    "before success": before_success,
}
"""The checkers that hold whatever is done to the system.  ``lost`` and ``ghosts`` need to
know what a row excuses."""

JUDGED = {"received", "subscribed", "member_added", "member_removed"}
"""Kinds of records of which ``EVERY_RUN`` can find anything wrong."""


def every_run(records: Sequence[Record]) -> list[str]:
    """What the checkers of ``EVERY_RUN`` find, each fault with the name of its checker."""
    return [f"{name}: {fault}" for name, check in EVERY_RUN.items() for fault in check(records)]


@dataclass
class Tally:
    """``lost``, ``repeated`` and ``reordered`` for one client and events too many to keep.

    Publishers number their events from 0 without a gap.
    """

    next_number: dict[str, int] = field(default_factory=dict)
    count: int = 0
    faults: list[str] = field(default_factory=list)

    def take(self, publisher: str, number: int) -> None:
        """Note one event."""
        self.count += 1
        due = self.next_number.get(publisher, 0)
        if number == due:
            self.next_number[publisher] = due + 1
        elif len(self.faults) < MOST_SENTENCES:
            what = "again or late" if number < due else f"instead of {due}"
            self.faults.append(f"number {number} of {publisher} came {what}")
            self.next_number[publisher] = max(due, number + 1)

    def missing(self, expected: dict[str, int]) -> int:
        """How many events of *expected*, publisher to count, did not come."""
        return sum(expected.values()) - self.count


def as_records(channel: str, events: Iterable[Event]) -> list[Record]:
    """What one pusher-js client reported of a presence channel, as records of a history."""
    kinds = {"pusher:member_added": "member_added", "pusher:member_removed": "member_removed"}
    records: list[Record] = []
    for event in events:
        record: Record = {"at": event.order, "client": event.client, "channel": channel}
        if event.event == "pusher:subscription_succeeded":
            records.append({**record, "kind": "subscribed", "members": list(event.data["members"])})
        else:
            records.append({**record, "kind": kinds[event.event], "user": event.data["id"]})
    return records


def _stays(records: Iterable[Record]) -> dict[tuple[str, str], list[_Stay]]:
    stays: dict[tuple[str, str], list[_Stay]] = {}
    for item in records:
        if item["kind"] == "subscribed":
            stays.setdefault((item["client"], item["channel"]), []).append(_Stay(item["at"]))
        elif item["kind"] == "unsubscribed":
            _end(stays.get((item["client"], item["channel"]), ()), item["at"])
        elif item["kind"] == "closed":
            for (client, _), listed in stays.items():
                if client == item["client"]:
                    _end(listed, item["at"])
    return stays


def _end(stays: Sequence[_Stay], at: float) -> None:
    for stay in stays:
        stay.until = min(stay.until, at) if stay.until is not FOR_EVER else at


def _doubles(shown: Collection[str]) -> bool:
    return len(set(shown)) != len(shown)


def _event(item: Record) -> str:
    return f"event {item['number']} of {item['publisher']} on {item['channel']}"
