"""The page and the README say what the runs saw."""

import pytest

from tests.chaos import page, report
from tests.chaos.rows import Check

EMPTY = {"machine": {}, "rows": {}}


def machine(day="21 November 2026", commit="1234567"):
    return {"Date": day, "CPU": "a CPU, 2 cores", "Commit": commit}


@pytest.fixture
def after():
    """The data after runs of these results, the newest last."""

    def made(*runs, **seen):
        data = EMPTY
        for results in runs:
            data = report.merged(data, results, machine(**seen))
        return data

    return made


def test_the_page_has_figure_and_machine(after, result):
    written = page.page(after([result()]))

    assert "| CPU | a CPU, 2 cores |" in written
    assert "<summary>Held: 1 figure</summary>" in written
    assert "| last departure | ≤ 10 s | 7.1 s |" in written
    assert "held, 21 November 2026, seed 123456, commit 1234567" in written


def test_a_missed_figure_stands_out(after, result):
    written = page.page(after([result(ok=False, notes=["why"])]))

    assert "| **missed** |" in written
    assert "<summary>Missed: 1 figure, 1 missed</summary>" in written
    assert "| last departure | ≤ 10 s | **7.1 s** |" in written
    assert "* why\n" in written
    assert "* **A1** (last departure): Not looked into yet." in written


def test_figures_of_three_runs_stand_beside_each_other(after, result):
    written = page.page(after(*[[result(seen=seen)] for seen in ("4 s", "3 s", "2 s", "1 s")]))

    assert "| Figure | To hold | Seen | Before | Before |" in written
    assert "| last departure | ≤ 10 s | 1 s | 2 s | 3 s |" in written


def test_figures_stand_in_the_order_of_the_newest_run(after, result):
    def run(*, ghosts):
        return [result(checks=[Check("lost", "1", "0", True), Check("ghosts", "1", "0", ghosts)])]

    written = page.page(after(run(ghosts=False), run(ghosts=True)))

    assert "| lost | 0 | 1 | 1 |\n| ghosts | 0 | 1 | **1** |" in written


def test_figures_are_found_by_their_names(after, result):
    def run(*seen):
        return [result(checks=[Check(name, value, "0", True) for name, value in seen])]

    written = page.page(
        after(run(("lost", "1"), ("ghosts", "2"), ("lost", "3")), run(("lost", "4"), ("lost", "5")))
    )

    assert "| lost | 0 | 4 | 1 |\n| lost | 0 | 5 | 3 |" in written
    assert "| ghosts |" not in written
    again = page.page(after(run(("lost", "4")), run(("ghosts", "2"))))
    assert "| ghosts | 0 | 2 |  |" in again


def test_a_figure_that_only_an_earlier_run_has_is_shown_where_it_was_missed(after, result):
    late = Check("end of the row", "never", "in time", False)

    written = page.page(after([result(ok=False, checks=[late])], [result()]))

    assert "| end of the row | in time |  | **never** |" in written
    assert "* **A1** (end of the row): Not looked into yet." in written


def test_an_earlier_figure_has_its_own_bound_where_that_was_another(after, result):
    def run(seen, hold):
        return [result(checks=[Check("p99", seen, hold, True)])]

    written = page.page(after(run("6 ms", "≤ 10 ms"), run("3 ms", "≤ 4 ms")))

    assert "| p99 | ≤ 4 ms | 3 ms | 6 ms (≤ 10 ms) |" in written


def test_the_page_says_which_rows_agree(result):
    data = EMPTY
    for ok in (True, False, False):
        data = report.merged(data, [result("A1"), result("A2", ok=ok)], machine())
        data = report.merged(data, [result("A3", ok=False)], machine())
    data = report.merged(data, [result("B1")], machine())

    written = page.page(data)

    assert "2 of 4 rows held in their\n" not in written
    assert (
        "2 of 4 rows held in their newest run, 1 in each of their last 3, all of them on commit"
        " 1234567.\nMissed each time: A3.\nNot the same each time, or not run so often: A2, B1.\n"
    ) in written
    assert "| **missed** | missed, held |" in written

    other = page.page(report.merged(data, [result("A1")], machine(commit="89abcde")))
    assert "1 in each of their last 3.\n" in other


def test_text_is_not_taken_for_markup(after, result):
    written = page.page(after([result(notes=["a | b\nc *d*"])]))

    assert r"* a \| b c \*d\*" in written


def test_the_badge_counts_rows_and_goes_between_its_marks(after, result):
    data = after([result("A1"), result("A2", ok=False)])
    readme = "# Name\n<!-- faults -->\nold\n<!-- /faults -->\nmore\n"

    written = page.with_badge(readme, data)

    assert "1 of 2 rows" in written
    assert "old" not in written
    assert written.startswith("# Name\n")
    assert written.endswith("more\n")
    assert page.with_badge(written, data) == written


def test_the_badge_has_the_days_of_all_rows(result):
    data = report.merged(EMPTY, [result("A1"), result("A2")], machine("28 November 2026"))

    data = report.merged(data, [result("A2")], machine("1 December 2026"))

    assert "held on 28 November 2026 and 1 December 2026," in page.badge(data)


def test_the_badge_tells_how_many_of_those_that_held_have_a_corrected_figure(after, result):
    badge = page.badge(after([result("A1"), result("A5"), result("A6", ok=False)]))

    assert badge.startswith("2 of 3 rows")
    assert ", 1 of them to a figure that was corrected" in badge


def test_earlier_runs_name_their_commits(result):
    data = EMPTY
    for commit in ("1234567", "89abcde"):
        data = report.merged(data, [result("A1")], machine(commit=commit))

    runs, on = "held, 21 November 2026, seed 123456, commit", "a CPU, 2 cores"
    written = page.page(data)
    assert f"* Runs, newest first: {runs} 89abcde, {on}; {runs} 1234567, {on}\n" in written


def test_a_readme_without_marks_stays_as_it_is():
    assert page.with_badge("# Name\n", EMPTY) == "# Name\n"
