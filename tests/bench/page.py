"""The results in the docs: between two marks of a page that people write otherwise."""

import json

from tests.bench import table
from tests.bench.results import Results
from tests.e2e.sites import ROOT

PAGE = ROOT / "docs" / "explanation" / "performance.md"
CHART = PAGE.with_suffix(".svg")
DATA = PAGE.with_suffix(".json")
MARKS = ("<!-- results -->", "<!-- /results -->")


def write(results: Results, chart: str) -> None:
    """Put the tables into the page, and the chart and all rounds beside it."""
    CHART.write_text(chart)
    DATA.write_text(json.dumps(results.as_json(), indent=1) + "\n")
    PAGE.write_text(between_marks(PAGE.read_text(), content(results)))


def between_marks(text: str, new: str) -> str:
    """*text* with *new* in place of what stands between the marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, _, rest = text.partition(MARKS[0])
    _, found, after = rest.partition(MARKS[1])
    if not found:
        raise ValueError(f"{PAGE.name} has lost its marks {MARKS[0]} and {MARKS[1]}")
    return f"{before}{MARKS[0]}\n\n{new}\n\n{MARKS[1]}{after}"


def content(results: Results) -> str:
    """What stands between the marks."""
    about = [["", "This run"], *([name, value] for name, value in results.about.items())]
    parts = [
        f"![CPU per delivered event]({CHART.name})",
        _left_aligned(about),
        "### Goals",
        table.markdown(table.goal_rows(results, every=True)),
    ]
    for scenario in results.figures:
        parts += [
            f"### {table.SHAPES[scenario].title}",
            table.markdown(table.rows(results, scenario)),
        ]
    remarks = [
        *results.warnings,
        *(f"left out: {name}: {why}" for name, why in results.left_out.items()),
    ]
    if remarks:
        parts += ["### Remarks", "\n".join(f"* {text}" for text in remarks)]
    return "\n\n".join(parts)


def _left_aligned(cells: list[list[str]]) -> str:
    return table.markdown(cells).replace("---:", "---")
