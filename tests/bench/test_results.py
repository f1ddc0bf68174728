"""Medians, ratios, goals, tables and the chart."""

import xml.etree.ElementTree as ElementTree

import pytest

from tests.bench import chart, functions, page, profile, table
from tests.bench.load.client import is_whole
from tests.bench.load.generator import percentiles
from tests.bench.results import Results, median, ratio


@pytest.fixture
def results():
    """Three rounds, the second of which disturbed everybody."""
    made = Results(about={"Python": "3.11"})
    for disturbance in (1, 2, 1):
        made.add("fan-out", "fast-redis", {"cpu": 6.0 * disturbance, "rate": 90_000})
        made.add("fan-out", "soketi-redis", {"cpu": 12.0 * disturbance, "rate": 70_000})
        made.add("fan-out", "limit", {"cpu": 5.0 * disturbance, "rate": 150_000})
    for _ in range(2):
        made.add("growth", "fast-redis", {"cpu_500": 6.0, "cpu_5000": 6.3, "cpu_share_500": 1})
    return made


def test_median_and_ratio_of_nothing_are_nothing():
    assert median([]) is None
    assert ratio([], [1.0]) is None
    assert ratio([1.0], [0.0]) is None


def test_ratios_are_between_what_was_measured_in_the_same_round():
    assert ratio([10, 40], [20, 20]) == 1.25
    assert ratio([10, 40, 9], [20, 80, 6]) == 0.5


def test_a_row_has_medians_and_ratios(results):
    header, fast, soketi, limit = table.rows(results, "fan-out")

    assert header == ["Server", "µs CPU per delivery", "× soketi, Redis", "× limit", "deliveries/s"]
    assert fast == ["this server, `make serve`, Redis", "6.00", "0.50", "1.20", "90,000"]
    assert soketi[2:4] == ["1.00", "2.40"]
    assert limit[-1] == "150,000"


def test_a_figure_of_several_sizes_gets_a_column_for_each(results):
    header, row = table.rows(results, "growth")

    assert header[1:] == ["µs CPU per delivery at 500", "µs CPU per delivery at 5,000"]
    assert row[1:] == ["6.00", "6.30"]


def test_goals_that_were_measured_are_judged(results):
    _, *rows = table.goal_rows(results)
    judged = {title: (measured, verdict) for title, _, measured, verdict in rows}

    assert judged["CPU per delivery, Redis, against soketi with Redis"] == ("0.50 ×", "met")
    assert judged["CPU per delivery with most subscribers, against fewest"] == ("1.05 ×", "met")
    assert "in-process trigger" not in judged


def test_a_goal_that_is_missed_says_so(results):
    results.add("trigger", "fast-redis", {"trigger": 250})

    assert ["in-process trigger", "≤ 200 µs", "250 µs", "missed"] in table.goal_rows(results)


def test_the_docs_say_which_goals_were_not_measured(results):
    rows = table.goal_rows(results, every=True)

    assert ["in-process trigger", "≤ 200 µs", "–", "not measured"] in rows


def test_the_terminal_gets_aligned_columns():
    assert table.aligned([["a", "b"], ["long", "10"]]) == "a      b\nlong  10"


def test_the_docs_get_a_table():
    assert table.markdown([["a", "b"], ["x|y", "1"]]) == "| a | b |\n| --- | ---: |\n| x\\|y | 1 |"


def test_json_has_rounds_beside_medians(results):
    found = results.as_json()["scenarios"]["fan-out"]["fast-redis"]["cpu"]

    assert found == {"median": 6.0, "rounds": [6.0, 12.0, 6.0]}


def test_the_chart_has_a_bar_for_each_the_cheapest_first(results):
    root = ElementTree.fromstring(chart.draw(results))
    space = "{http://www.w3.org/2000/svg}"
    texts = [item.text for item in root.iter(f"{space}text")]
    widths = [float(item.get("width")) for item in root.iter(f"{space}rect")][1:]

    assert texts[2::2] == ["5.0", "6.0", "12.0"]
    assert widths == sorted(widths)
    assert widths[2] / widths[1] == pytest.approx(2, rel=0.01)


def test_the_page_keeps_what_people_wrote(results):
    before = f"# Title\n\n{page.MARKS[0]}\nold\n{page.MARKS[1]}\n\nEnd\n"
    after = page.between_marks(before, page.content(results))

    assert after.startswith(f"# Title\n\n{page.MARKS[0]}\n")
    assert after.endswith(f"{page.MARKS[1]}\n\nEnd\n")
    assert "old" not in after
    assert "| 6.00 |" in after
    assert page.between_marks(after, page.content(results)) == after


def test_a_page_without_marks_is_left_alone():
    with pytest.raises(ValueError, match="marks"):
        page.between_marks("# Title", "new")


def test_the_page_of_the_docs_has_its_marks():
    assert page.between_marks(page.PAGE.read_text(), "new")


def test_percentiles_are_in_milliseconds():
    assert percentiles([]) == {}
    assert percentiles([n * 1_000_000 for n in range(101)]) == {"p50": 50, "p95": 95, "p99": 99}


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Len", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", True),
    ],
)
def test_answers_are_whole_when_all_has_come(answer, whole):
    assert is_whole(answer) == whole


def test_functions_in_c_count_for_their_callers():
    ours, theirs = "/x/realtime/hub.py", "/y/redis/asyncio/client.py"
    stats = {
        (ours, 1, "deliver"): (1, 1, 2.0, 5.0, {}),
        (theirs, 1, "send"): (1, 1, 1.0, 2.0, {}),
        ("~", 0, "<len>"): (3, 3, 4.0, 4.0, {(ours, 1, "deliver"): (2, 2, 3.0, 3.0)}),
        ("/lib/asyncio/tasks.py", 1, "wait"): (1, 1, 0.5, 0.5, {}),
    }

    assert profile.shares(stats) == {
        "the rest of realtime": 5.0,
        "redis-py": 1.0,
        profile.OTHERS: 0.5,
    }


def test_a_path_counts_for_the_package_that_it_is_in():
    packages = "/srv/realtime/.venv/lib/python3.11/site-packages"

    assert profile.share_of(f"{packages}/uvicorn/protocols/websockets/auto.py").startswith(
        "uvicorn"
    )
    assert profile.share_of(f"{packages}/redis/client.py") == "redis-py"


def test_the_table_of_single_functions_is_read():
    text = (
        "\ndecode a subscription      1.23 µs      321 instructions."
        "\nHub.deliver to 1 sockets   10.00 µs.\n1 passed"
    )

    assert functions.read(text) == {
        "decode a subscription": {"each": 1.23, "instructions": 321},
        "Hub.deliver to 1 sockets": {"each": 10.0},
    }
