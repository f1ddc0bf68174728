"""A figure that nothing was measured for passes no bound."""

import pytest

from tests.chaos.rows import NEVER, Run, percentile


@pytest.fixture
async def run(tmp_path):
    return Run("A1", 123456, 1.0, None)


@pytest.fixture
async def short(tmp_path):
    return Run("A1", 123456, 1.0, None, short=True)


def test_a_percentile_is_the_value_below_which_the_share_lies():
    values = [float(value) for value in range(100, 0, -1)]

    assert percentile(values, 0.5) == 51
    assert percentile(values, 0.99) == 100
    assert percentile(values, 1.0) == 100
    assert percentile([7.0], 0.0) == 7


def test_silence_has_no_percentile():
    assert percentile([], 0.99) == NEVER


@pytest.mark.parametrize(
    ("value", "bound"),
    [
        (5, {"at_most": 4}),
        (NEVER, {"at_most": 4}),
        (5, {"at_most": NEVER}),
        (float("nan"), {"at_most": 4}),
        (5, {"at_least": 6}),
        (5, {"equals": 6}),
        ([1], {"equals": []}),
    ],
)
async def test_a_figure_beyond_its_bound_is_missed(run, value, bound):
    assert not run.check("figure", value, **bound)
    assert [check.ok for check in run.checks] == [False]


@pytest.mark.parametrize(
    ("value", "bound"), [(4, {"at_most": 4}), (6, {"at_least": 6}), ([], {"equals": []})]
)
async def test_a_figure_within_its_bound_holds(run, value, bound):
    assert run.check("figure", value, **bound)
    assert [check.ok for check in run.checks] == [True]


async def test_faults_are_counted_and_the_first_ones_shown(run):
    assert not run.check_none("lost", ["a", "b", "c", "d"])

    assert run.checks[0].seen == "4"
    assert run.notes == ["a", "b", "c"]


async def test_the_short_lane_shows_a_latency_and_does_not_hold_it(short):
    short.check("p99", 70.0, at_most=50, unit="ms")

    assert short.checks == []
    assert short.notes == ["p99: 70 ms, held to ≤ 50 ms in the whole table only"]


async def test_the_short_lane_gives_more_seconds(short, run):
    assert short.check("seconds", 6.0, at_most=2, unit="s")
    assert not short.check("seconds", 6.1, at_most=2, unit="s")
    assert not short.check("seconds", NEVER, at_most=2, unit="s")
    assert not run.check("seconds", 2.1, at_most=2, unit="s")
    assert short.checks[0].hold == "≤ 6 s"


async def test_the_short_lane_holds_that_something_was_measured(short):
    short.check("p99", NEVER, at_most=50, unit="ms")

    assert [check.ok for check in short.checks] == [False]


async def test_a_condition_that_does_not_come(run):
    assert await run.until(lambda: False, 0, "nothing", must=False) == NEVER
    with pytest.raises(TimeoutError, match="nothing: not within 0 s"):
        await run.until(lambda: False, 0, "nothing")
