"""What rows count by themselves finds what it is there for."""

from types import SimpleNamespace

import pytest

from tests.chaos.scenarios.crash import _twice
from tests.chaos.scenarios.long_run import _grown
from tests.chaos.scenarios.restart import busiest_second
from tests.chaos.scenarios.webhooks import Endpoint


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
