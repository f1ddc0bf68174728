"""The order of the rows, what is written when, and what a run returns."""

import asyncio
import json

import pytest

from tests.chaos import __main__ as chaos
from tests.chaos import report, runner, scenarios
from tests.chaos.rows import ROWS, Row


@pytest.fixture
def rows(monkeypatch, tmp_path):
    """A table of rows that hold, and files of its own; the names of rows as they begin."""
    begun, found_written = [], []

    def declare(name, ok=True, seconds=0.0, short=True, idle=False):
        async def work(run):
            begun.append(name)
            await asyncio.sleep(seconds)
            run.check("figure", ok, equals=True)
            found_written.append(written() if report.DATA.exists() else {})

        monkeypatch.setitem(ROWS, name, Row(name, "inject", "hold", work, 10, short, idle))

    def written():
        return json.loads(report.DATA.read_text())["rows"]

    for name in list(ROWS):
        monkeypatch.delitem(ROWS, name)
    monkeypatch.setattr(scenarios, "load", lambda: None)
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(report, "DATA", tmp_path / "page.json")
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    monkeypatch.setattr(chaos, "ROOT", tmp_path)
    monkeypatch.setattr(chaos, "HISTORIES", tmp_path / "chaos")
    monkeypatch.setattr(runner, "RECORDED", set())
    for variable in ("SCALE", "SOAK_MINUTES"):
        monkeypatch.delenv(variable, raising=False)
    report.README.write_text("<!-- faults -->\n<!-- /faults -->\n")
    declare.begun, declare.written, declare.found_written = begun, written, found_written
    return declare


def test_a_whole_run_writes_the_page_and_the_readme(rows):
    for name in ("H7", "C10", "B1"):
        rows(name)

    assert chaos.main([]) == 0

    assert rows.begun == ["B1", "C10", "H7"]
    assert [set(found) for found in rows.found_written] == [set(), set(), {"B1", "C10"}]
    assert set(rows.written()) == {"B1", "C10", "H7"}
    assert "3 of 3 rows" in report.README.read_text()


def test_idle_rows_run_beside_the_others_and_before_those_that_judge(rows):
    for name in ("A1", "B1", "C10", "H7"):
        rows(name)
    rows("A2", seconds=1, idle=True)

    results = chaos.run(chaos.ordered(list(ROWS)), seed=123456)

    assert [result.id for result in results] == ["A1", "B1", "A2", "C10", "H7"]
    assert set(rows.begun[:3]) == {"A1", "A2", "B1"}


def test_a_part_of_the_table_writes_nothing(rows):
    rows("B1")
    rows("B2", short=False)

    assert chaos.main(["--lane", "short"]) == 0
    assert chaos.main(["--row", "b2"]) == 0

    assert rows.begun == ["B1", "B2"]
    assert not report.PAGE.exists()


def test_a_missed_row_fails_the_run(rows, capsys):
    rows("B1", ok=False)
    rows("B2")

    assert chaos.main(["--lane", "short", "--seed", "123456"]) == 1

    printed = capsys.readouterr().out
    assert "B1 begins, 10 s at most: inject" in printed
    assert "again: make faults ROW=B1 SEED=123456 LANE=short\n" in printed
    assert "1 of 2 rows held" in printed
    assert "missed: B1" in printed


@pytest.mark.parametrize(
    ("lane", "load", "status"),
    [("all", 1.0, 1), ("all", 1_000.0, 0), ("short", 1.0, 0)],
    ids=["calm", "crowded", "on any machine"],
)
def test_a_table_that_takes_too_long_fails_the_run(rows, monkeypatch, capsys, lane, load, status):
    rows("B1", seconds=0.01)
    monkeypatch.setattr(report, "write", lambda *arguments: None)
    monkeypatch.setitem(chaos.BUDGETS, lane, 0.01)
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, load, 0.0))

    assert chaos.main(["--lane", lane]) == status
    assert "too long" in capsys.readouterr().out
    assert chaos.main(["--lane", lane, "--row", "B1"]) == 0


def test_a_row_that_does_not_exist_is_refused(rows):
    with pytest.raises(SystemExit):
        chaos.main(["--row", "Z1"])
