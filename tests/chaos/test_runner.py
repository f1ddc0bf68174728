"""A row that did not end, held nothing or recorded nothing has not held."""

import asyncio
import os

import pytest

from tests.chaos import runner
from tests.chaos.rows import Row
from tests.chaos.runner import judge_kept, perform


@pytest.fixture
def outcome(tmp_path):
    """Perform a row; its result."""

    async def perform_row(work, *, id="B14", limit=10.0, seed=123456, **options):
        row = Row(id, "inject", "hold", work, limit, False, False)
        return await perform(row, None, seed=seed, keep=tmp_path, **options)

    return perform_row


def received(run, number):
    run.history.add("ann", "received", channel="news", publisher="p", number=number)


def subscribed(run):
    run.history.add("ann", "subscribed", channel="news", members=None)


async def holds(run):
    run.check("figure", 1, equals=1)


async def test_a_row_whose_figures_hold_has_held(outcome):
    result = await outcome(holds)

    assert result.ok
    assert result.kept == []


async def test_a_row_without_figures_is_missed(outcome):
    async def work(run):
        pass

    assert (await outcome(work)).verdict == "missed"


async def test_one_figure_that_does_not_hold_misses_the_row(outcome):
    async def work(run):
        run.check("one", 1, equals=1)
        run.check("two", 1, equals=2)

    assert (await outcome(work)).verdict == "missed"


async def test_a_row_that_breaks_is_missed_and_leaves_its_traceback(outcome, tmp_path):
    async def work(run):
        await holds(run)
        raise LookupError("x" * 1_000)

    result = await outcome(work)

    assert result.verdict == "missed"
    assert result.checks[-1].seen.startswith("LookupError: xxx")
    assert result.kept == [tmp_path / "B14-123456-traceback.txt"]
    assert "in work" in result.kept[0].read_text()


@pytest.mark.parametrize("holding", [True, False])
async def test_a_missed_row_leaves_what_its_programs_printed(outcome, tmp_path, holding):
    async def work(run):
        run.outputs |= {"pytest": "1 failed", "silent": ""}
        run.check("figure", holding, equals=True)

    result = await outcome(work)

    assert result.kept == ([] if holding else [tmp_path / "B14-123456-pytest.txt"])
    assert all(path.read_text() == "1 failed" for path in result.kept)


async def test_a_row_that_takes_too_long_says_its_limit(outcome):
    async def work(run):
        await holds(run)
        await asyncio.Event().wait()

    result = await outcome(work, limit=0.01)

    assert result.verdict == "missed"
    assert result.checks[-1].seen == "the row took more than its limit of 0.01 s"


async def test_another_timeout_is_not_taken_for_the_limit(outcome):
    async def work(run):
        await holds(run)
        raise TimeoutError

    result = await outcome(work)

    assert result.verdict == "missed"
    assert result.checks[-1].seen == "TimeoutError: "


async def test_what_a_row_opened_is_closed_when_it_breaks(outcome):
    closed = []

    async def work(run):
        run.stack.callback(closed.append, True)
        raise LookupError

    await outcome(work)

    assert closed == [True]


async def test_a_fault_in_the_history_misses_the_row(outcome):
    async def work(run):
        await holds(run)
        subscribed(run)
        received(run, 0)
        received(run, 0)

    earlier = {}
    result = await outcome(work, earlier=earlier)

    assert result.verdict == "missed"
    assert len(earlier["B14"]) == 1
    assert "twice" in earlier["B14"][0]


async def test_a_history_of_injected_faults_alone_is_not_judged(outcome):
    async def work(run):
        await holds(run)
        run.fault("kill -9")

    earlier = {}
    result = await outcome(work, earlier=earlier)

    assert earlier == {}
    assert [check.name for check in result.checks] == ["figure"]


async def test_a_row_that_has_to_record_clients_is_missed_without(outcome):
    async def work(run):
        await holds(run)
        run.fault("kill -9")

    result = await outcome(work, id="A1")

    assert result.verdict == "missed"
    assert result.checks[-1].name == "records of clients in the history"


class Place:
    """A node whose log says which injection points were passed."""

    name = "a"

    def __init__(self, armed, missed):
        self.armed = armed
        self._missed = missed

    def never_hit(self):
        return self._missed


@pytest.mark.parametrize(("missed", "ok"), [([], True), (["bus.receive"], False)])
async def test_an_injection_point_that_was_armed_has_to_be_hit(outcome, tmp_path, missed, ok):
    place = Place(["bus.receive"], missed)
    place.log = tmp_path / "1-a.log"
    place.log.touch()

    async def work(run):
        await holds(run)
        run.nodes.append(place)

    assert (await outcome(work)).ok is ok


async def test_the_files_of_the_last_runs_are_kept(outcome, tmp_path):
    async def work(run):
        await holds(run)
        subscribed(run)

    (tmp_path / "B1-1.jsonl").touch()
    for age, seed in enumerate(range(100_005, 100_000, -1)):
        result = await outcome(work, seed=seed)
        os.utime(result.kept[0], (age, age))

    left = sorted(path.name for path in tmp_path.glob("B14-*"))
    assert len(left) == runner.KEPT_RUNS
    assert "B14-100001.jsonl" in left
    assert (tmp_path / "B1-1.jsonl").exists()


async def test_kept_histories_can_be_judged_later(outcome, tmp_path):
    async def bad(run):
        subscribed(run)
        received(run, 1)
        received(run, 0)

    async def good(run):
        subscribed(run)
        received(run, 0)

    for age, (id, seed, work) in enumerate(
        [("A4", 100_009, bad), ("A4", 100_001, good), ("A5", 100_001, bad)]
    ):
        result = await outcome(work, id=id, seed=seed)
        os.utime(result.kept[0], (age, age))

    found = judge_kept(tmp_path)
    assert found["A4"] == []
    assert len(found["A5"]) == 1
