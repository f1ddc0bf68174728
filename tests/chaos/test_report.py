"""The data file remembers the last runs of each row."""

from tests.chaos import report

MACHINE = {"Date": "21 November 2026", "Commit": "1234567"}
EMPTY = {"machine": {}, "rows": {}}


def test_five_runs_are_kept_newest_first(result):
    data = EMPTY
    for seed in range(100_000, 100_007):
        data = report.merged(data, [result(seed=seed)], MACHINE)

    kept = [run["seed"] for run in data["rows"]["A1"]]
    assert kept == [100_006, 100_005, 100_004, 100_003, 100_002]


def test_a_row_that_was_not_run_keeps_its_result(result):
    data = report.merged(EMPTY, [result("A1"), result("A2")], MACHINE)

    data = report.merged(data, [result("A2", ok=False)], MACHINE)

    assert data["rows"]["A1"][0]["verdict"] == "held"
    assert [run["verdict"] for run in data["rows"]["A2"]] == ["missed", "held"]


def test_a_run_has_its_day_and_its_commit(result):
    run = report.merged(EMPTY, [result()], MACHINE)["rows"]["A1"][0]

    assert (run["date"], run["commit"]) == ("21 November 2026", "1234567")
