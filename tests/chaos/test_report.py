"""The page and the README say what the run saw."""

import dataclasses

from tests.chaos import report, scenarios
from tests.chaos.rows import ROWS, Check, Result

MACHINE = {"Date": "21 November 2026", "CPU": "a CPU, 2 cores"}
EMPTY = {"machine": {}, "rows": {}}


def result(row="A1", *, ok=True, seed=123456, notes=()):
    check = Check("last departure", "7.1 s", "≤ 10 s", ok)
    return Result(row, "held" if ok else "missed", [check], list(notes), 40.0, seed, 1.0)


def test_the_page_has_figure_and_machine():
    page = report.page(report.merged(EMPTY, [result()], MACHINE))

    assert "| CPU | a CPU, 2 cores |" in page
    assert "last departure: 7.1 s" in page
    assert "held, 21 November 2026, seed 123456 |" in page


def test_a_missed_figure_stands_out_with_what_was_to_hold():
    page = report.page(report.merged(EMPTY, [result(ok=False, notes=["why"])], MACHINE))

    assert "**last departure: 7.1 s** (hold ≤ 10 s)" in page
    assert "*why*" in page
    assert "missed, 21 November 2026" in page


def test_five_runs_are_kept_newest_first():
    data = EMPTY
    for seed in range(100_000, 100_007):
        data = report.merged(data, [result(seed=seed)], MACHINE)

    kept = [run["seed"] for run in data["rows"]["A1"]]
    assert kept == [100_006, 100_005, 100_004, 100_003, 100_002]
    assert "| A1 | held, held, held, held, held |" in report.page(data)


def test_a_row_that_was_not_run_keeps_its_result():
    data = report.merged(EMPTY, [result("A1"), result("A2")], MACHINE)

    data = report.merged(data, [result("A2", ok=False)], MACHINE)

    assert data["rows"]["A1"][0]["verdict"] == "held"
    assert [run["verdict"] for run in data["rows"]["A2"]] == ["missed", "held"]


def test_text_cannot_break_the_table():
    page = report.page(report.merged(EMPTY, [result(notes=["a | b\nc *d*"])], MACHINE))

    assert r"a \| b c \*d\*" in page


def test_the_badge_counts_rows_and_goes_between_its_marks():
    data = report.merged(EMPTY, [result("A1"), result("A2", ok=False)], MACHINE)
    readme = "# Name\n<!-- faults -->\nold\n<!-- /faults -->\nmore\n"

    written = report.with_badge(readme, data)

    assert "1 of 2 rows" in written
    assert "old" not in written
    assert written.startswith("# Name\n")
    assert written.endswith("more\n")
    assert report.with_badge(written, data) == written


def test_the_badge_has_the_days_of_all_rows():
    data = report.merged(EMPTY, [result("A1"), result("A2")], {"Date": "28 November 2026"})

    data = report.merged(data, [result("A2")], {"Date": "1 December 2026"})

    assert "held on 28 November 2026 and 1 December 2026," in report.badge(data)


def test_the_badge_tells_how_many_of_those_that_held_have_a_corrected_figure():
    rows = [result("A1"), result("A5"), dataclasses.replace(result("A6"), verdict="missed")]

    badge = report.badge(report.merged(EMPTY, rows, {"Date": "28 November 2026"}))

    assert badge.startswith("2 of 3 rows")
    assert ", 1 of them to a figure that was corrected" in badge


def test_earlier_runs_name_their_commits():
    data = EMPTY
    for commit in ("1234567", "89abcde"):
        data = report.merged(data, [result("A1")], {"Date": "1 December 2026", "Commit": commit})

    assert "| A1 | held 89abcde, held 1234567 |" in report.page(data)


def test_a_readme_without_marks_stays_as_it_is():
    assert report.with_badge("# Name\n", EMPTY) == "# Name\n"


def test_the_replay_command_repeats_the_run_as_it_was(monkeypatch):
    monkeypatch.delenv("SOAK_MINUTES", raising=False)
    assert report.again(result("D1")) == "make faults ROW=D1 SEED=123456"

    monkeypatch.setenv("SOAK_MINUTES", "2")
    small = dataclasses.replace(result("D1"), scale=0.2, short=True)
    expected = "make faults ROW=D1 SEED=123456 LANE=short SCALE=0.2 SOAK_MINUTES=2"
    assert report.again(small) == expected


def test_a_row_shows_what_it_ran_on_and_what_it_left(capsys, tmp_path):
    kept = dataclasses.replace(result(), clusters=["2 nodes, bus queue"], kept=[tmp_path / "A1.x"])

    report.show(kept)

    printed = capsys.readouterr().out
    assert "on 2 nodes, bus queue" in printed
    assert "A1.x" in printed
    assert "again: make faults ROW=A1 SEED=123456" in printed


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
