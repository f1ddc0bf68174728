"""Every row of the table is there, and what rows count by themselves finds what it is for."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from tests.chaos import scenarios
from tests.chaos.rows import ROWS, Run
from tests.chaos.scenarios.crash import Departures, _twice
from tests.chaos.scenarios.long_run import _grown
from tests.chaos.scenarios.outbox import DURABLE, SWEPT_SECONDS, check_durable
from tests.chaos.scenarios.restart import busiest_second
from tests.chaos.scenarios.webhooks import Endpoint


def test_every_row_of_the_table_is_declared():
    scenarios.load()

    wanted = {f"A{n}" for n in range(1, 16)} - {"A14"}
    wanted |= {f"B{n}" for n in range(1, 15)}
    wanted |= {f"C{n}" for n in range(1, 11)} - {"C8"}
    wanted |= {f"D{n}" for n in range(1, 7)} | {f"H{n}" for n in range(1, 8)}
    assert set(ROWS) == wanted


def test_the_short_lane_is_what_every_push_runs():
    scenarios.load()

    short = {name for name, declared in ROWS.items() if declared.short}
    assert short == {"A5", "A11", "B2", "B9", "B11", "C2", "C3", "C7"} | {
        f"H{number}" for number in range(1, 8)
    }


@pytest.mark.parametrize(
    ("times", "most"),
    [
        ([], 0),
        ([5.0], 1),
        ([0.0, 2.0, 4.0], 1),
        ([3.0, 0.9, 1.0, 1.1, 1.2], 4),
        ([0.9, 1.0, 1.1, 7.0, 7.2], 3),
    ],
    ids=["nothing", "one", "apart", "across a full second", "two bursts"],
)
def test_the_busiest_second_may_begin_anywhere(times, most):
    assert busiest_second(times) == most


@pytest.mark.parametrize(
    ("seen", "count"),
    [(["a", "b", "a", "b"], 2), (["a", "b", "a"], 1), (["a", "a", "a", "b"], 0), ([], 0)],
    ids=["both", "one came once", "thrice", "nobody"],
)
def test_users_count_who_came_exactly_twice(seen, count):
    assert _twice(seen, ["a", "b"]) == count


def test_what_grew_is_named_with_its_growth():
    before, after = {"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 5, "c": 0, "d": 4}

    assert _grown(before, after) == {"b": 3, "d": 4}


@pytest.mark.parametrize(
    ("numbers", "channels"),
    [({"x": [1, 2, 3]}, []), ({"x": [1, 3, 2], "y": [1]}, ["x"]), ({"y": [2, 1]}, ["y"])],
)
def test_an_endpoint_that_got_webhooks_out_of_order_says_where(numbers, channels):
    endpoint = SimpleNamespace(name="well", numbers=numbers)

    faults = Endpoint.out_of_order(endpoint)

    assert [fault.split(":")[0] for fault in faults] == [f"well {name}" for name in channels]


async def post(port, value):
    """Send *value* as JSON and return the first line of the answer."""
    body = json.dumps(value).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_an_endpoint_has_its_port_before_it_listens_and_counts_each_telling():
    departures = Departures()
    left = [{"channel": "presence-room", "user_id": user} for user in ("ann", "bob")]
    with pytest.raises(ConnectionRefusedError):
        await post(departures.port, {"events": left})

    await departures.start()
    for events in (left, left[:1]):
        assert b" 200 " in await post(departures.port, {"events": events})
    departures.stop()

    assert departures.told == {("presence-room", "ann"): 2, ("presence-room", "bob"): 1}
    with pytest.raises(ConnectionRefusedError):
        await post(departures.port, {"events": left})


def durable(*came, status=200):
    """A run with one durable trigger, and the times at which one subscriber got it."""
    run = Run("A6", 123456, 1.0, None)
    event = {"channel": "orders", "publisher": DURABLE, "number": 0}
    run.history.records += [
        {"at": 0, "client": "ann", "kind": "subscribed", "channel": "orders"},
        {"at": 1, "client": DURABLE, "kind": "publish", "status": status, "until": 1.1, **event},
        *({"at": at, "client": "ann", "kind": "received", "id": "x", **event} for at in came),
        {"at": 2 + SWEPT_SECONDS, "client": "ann", "kind": "closed", "code": None},
    ]
    return run


@pytest.mark.parametrize(
    ("run", "ok"),
    [
        (lambda: durable(1.2), True),
        (lambda: durable(1.2, 5), True),
        (lambda: durable(), False),
        (lambda: durable(status=503), False),
    ],
    ids=["came", "came again", "lost", "none committed"],
)
async def test_each_committed_trigger_has_to_come(run, ok):
    run = run()

    check_durable(run, at_least=1)

    assert all(check.ok for check in run.checks) is ok
