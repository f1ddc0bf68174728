"""The results as tables, for the terminal and for the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.bench.contestants import CONTESTANTS
from tests.bench.goals import GOALS
from tests.bench.results import Results

REFERENCES = {"soketi-redis": "× soketi, Redis", "limit": "× limit"}


@dataclass(frozen=True)
class Column:
    """One figure of a scenario."""

    figure: str
    heading: str
    digits: int = 1
    compared: bool = False
    """Whether ratios to the references stand beside it."""


@dataclass(frozen=True)
class Shape:
    """A table: its title and its columns.  Figures that end in a size get a column per size."""

    title: str
    columns: tuple[Column, ...]
    first: str = "Server"


_CPU = Column("cpu", "µs CPU per delivery", 2, compared=True)
_JOINED = Column("joined", "deliveries per write", 2)
_RATE = Column("rate", "deliveries/s", 0)
_LATENCY = (Column("p50", "p50 ms", 2), Column("p95", "p95 ms", 2), Column("p99", "p99 ms", 2))
_REDIS = (
    Column("bus_cpu", "Redis: µs per delivery", 2),
    Column("messages", "layer messages per event", 2),
)
_BUSY = (Column("cpu_share", "server busy", 2), Column("load", "load busy", 2))

SHAPES = {
    "fan-out": Shape(
        "500 subscribers, one HTTP publisher in sequence",
        (_CPU, _JOINED, _RATE, *_LATENCY, *_REDIS, *_BUSY),
    ),
    "sixteen": Shape(
        "500 subscribers, 16 HTTP publishers",
        (_CPU, _JOINED, _RATE, *_LATENCY, *_REDIS, *_BUSY),
    ),
    "half-rate": Shape(
        "500 subscribers, half of the deliveries per second that soketi with Redis reaches",
        (*_LATENCY, _RATE, _CPU, _JOINED, *_BUSY),
    ),
    "lone": Shape("500 subscribers, ten events a second, each alone", (*_LATENCY, _CPU, *_BUSY)),
    "publish": Shape(
        "One HTTP publisher in sequence, one subscriber",
        (
            Column("publish", "µs CPU per publish", 0, compared=True),
            Column("publishes", "publishes/s", 0),
            Column("kept", "requests per connection", 0),
        ),
    ),
    "connect": Shape(
        "Connect and subscribe",
        (
            Column("connect", "µs CPU each", 0, compared=True),
            Column("connects", "connects/s", 0),
            Column("load", "load busy", 2),
        ),
    ),
    "memory": Shape("Memory per idle connection, subscribed", (Column("rss", "KiB at {size}", 1),)),
    "crowd": Shape(
        "5,000 subscribers of one channel, one HTTP publisher in sequence",
        (_CPU, _JOINED, _RATE, Column("load", "load busy", 2)),
    ),
    "growth": Shape(
        "One channel of more subscribers",
        (
            Column("cpu", "µs CPU per delivery at {size}", 2),
            Column("joined", "deliveries per write at {size}", 2),
        ),
    ),
    "channels": Shape(
        "500 subscribers of one channel, with so many channels occupied",
        (Column("cpu", "µs CPU per delivery with {size}", 2),),
    ),
    "presence": Shape(
        "Joins into one presence channel, all at once",
        (
            Column("joins", "joins/s", 0),
            Column("cpu", "µs CPU per join, with its announcements", 0, compared=True),
            Column("loop", "of these, the event loop: µs", 0),
            Column("announced", "announcements each", 0),
            Column("load", "load busy", 2),
        ),
    ),
    "workers": Shape(
        "Processes that share Redis and 500 subscribers",
        (
            Column("cpu", "µs CPU per delivery, {size} proc.", 2),
            Column("rate", "deliveries/s, {size} proc.", 0),
            Column("per_cpu_second", "per CPU second, {size} proc.", 0),
            Column("joined", "deliveries per write, {size} proc.", 2),
        ),
    ),
    "trigger": Shape(
        "`trigger()` in synchronous code, Redis",
        (
            Column("trigger", "µs per call", 0),
            Column("trigger_cpu", "µs CPU per call", 0),
            Column("layer", "of these, the layer alone: µs", 0),
            Column("messages", "layer messages per event", 2),
        ),
    ),
    "functions": Shape(
        "Single functions",
        (Column("each", "µs", 2), Column("instructions", "instructions of Python's bytecode", 0)),
        first="Function",
    ),
}


def rows(results: Results, scenario: str) -> list[list[str]]:
    """Header and cells of a scenario; a figure that nobody has gets no column."""
    shape = SHAPES[scenario]
    measured = results.figures[scenario]
    columns = [
        (column, figure, heading)
        for column in shape.columns
        for figure, heading in _figures(column, results, scenario)
    ]
    header = [shape.first]
    for column, _, heading in columns:
        header.append(heading)
        header += [text for name, text in _references(results, scenario) if column.compared]
    cells = [header]
    for name in measured:
        known = CONTESTANTS.get(name)
        row = [known.title if known else name]
        for column, figure, _ in columns:
            row.append(number(results.median(scenario, name, figure), column.digits))
            if column.compared:
                row += [
                    number(results.ratio(scenario, name, other, figure), 2)
                    for other, _ in _references(results, scenario)
                ]
        cells.append(row)
    return cells


def _figures(column: Column, results: Results, scenario: str) -> Iterator[tuple[str, str]]:
    """The figures of a column with their headings: itself, or one for each size."""
    names = dict.fromkeys(name for kept in results.figures[scenario].values() for name in kept)
    if column.figure in names:
        yield column.figure, column.heading
    sizes = {
        int(end)
        for name in names
        if name.startswith(f"{column.figure}_")
        and (end := name.removeprefix(f"{column.figure}_")).isdecimal()
    }
    for size in sorted(sizes):
        yield f"{column.figure}_{size}", column.heading.format(size=f"{size:,}")


def _references(results: Results, scenario: str) -> list[tuple[str, str]]:
    measured = results.figures[scenario]
    return [(name, heading) for name, heading in REFERENCES.items() if name in measured]


def number(value: float | None, digits: int) -> str:
    """A figure for people: thousands apart, a dash for none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def goal_rows(results: Results, *, every: bool = False) -> list[list[str]]:
    """The goals that this run measured.

    Args:
        every: whether to show the others, too.
    """
    cells = [["Goal", "wanted", "measured", ""]]
    for goal in GOALS:
        value = goal.read(results)
        wanted = f"{'≥' if goal.at_least else '≤'} {goal.bound:,g} {goal.unit}"
        if value is not None:
            measured = f"{number(value, 2 if abs(value) < 100 else 0)} {goal.unit}"
            cells.append([goal.title, wanted, measured, "met" if goal.met(value) else "missed"])
        elif every:
            cells.append([goal.title, wanted, "–", "not measured"])
    return cells


def text(results: Results, scenario: str) -> str:
    """A scenario for the terminal."""
    return f"{SHAPES[scenario].title}\n{aligned(rows(results, scenario))}"


def goals_text(results: Results) -> str:
    """The goals for the terminal."""
    return aligned(goal_rows(results))


def aligned(cells: Sequence[Sequence[str]]) -> str:
    """Columns of equal width: words to the left, figures to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        first = row[0].ljust(widths[0])
        others = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def markdown(cells: Sequence[Sequence[str]]) -> str:
    """A table for the docs."""
    header, *body = ([cell.replace("|", "\\|") for cell in row] for row in cells)
    rule = ["---", *("---:" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *body))
