"""The compliance table: which tests show which line of ``tests/compliance.toml``.

``python -m tests.compliance --write`` makes ``docs/reference/compliance.md``, ``--check`` says
what is wrong with it.  Markers are read from the source, so no test needs to be imported.
"""

import argparse
import ast
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parent
CHECKLIST = TESTS / "compliance.toml"
PAGE = TESTS.parent / "docs" / "reference" / "compliance.md"

SHOWN = "shown"
REASONED = ("open", "partly", "argued")
"""States that need a reason.  An open line has no test; the other two have some."""

HEAD = """\
# Compliance

What a Pusher server must do, line by line, and the tests that would fail if it did not. The page
is made from the markers of the tests by `python -m tests.compliance --write`, and a test fails
when it is out of date. Paths are below `tests/`.

| State | Lines | Means |
| --- | --- | --- |
| shown | {shown} | The tests fail if the line does not hold. |
| partly | {partly} | The tests show a part; the rest is not there yet. |
| argued | {argued} | No test can show the line as it stands; the reason is given. |
| open | {open} | No test; it waits for what is named. |
"""


@dataclass(frozen=True)
class Line:
    """One line of the checklist: its state, the reason for that, and its tests."""

    number: int
    group: str
    text: str
    state: str
    reason: str
    tests: tuple[str, ...]


class BadMarker(Exception):
    """A marker that cannot be read, or belongs to no test."""


def read_checklist(
    checklist: Mapping[str, Any], tests: Mapping[int, list[str]]
) -> tuple[Line, ...]:
    """The lines of *checklist*, in its order, with their *tests*."""
    reasons = {
        int(number): (state, reason)
        for state in REASONED
        for number, reason in checklist[state].items()
    }
    return tuple(
        Line(
            int(number),
            group["title"],
            text,
            *reasons.get(int(number), (SHOWN, "")),
            tuple(tests.get(int(number), ())),
        )
        for name, group in checklist.items()
        if name not in REASONED
        for number, text in group["lines"].items()
    )


def read_markers(root: Path) -> dict[int, list[str]]:
    """The tests below *root* by the lines they are marked with, as ``path::name``.

    Raises:
        BadMarker: a marker is no decorator of a test, or its numbers are no literals.
    """
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(root.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        place = str(path.relative_to(root))
        used: set[ast.Call] = set()
        for name, markers in _marked(tree, ()):
            used.update(markers)
            numbers = {number for marker in markers for number in _numbers(marker, place)}
            for number in sorted(numbers):
                found[number].append(f"{place}::{name}")
        if len(used) < sum(_is_marker(node) for node in ast.walk(tree)):
            raise BadMarker(f"{place}: a spec marker that decorates no test")
    return dict(found)


def complaints(checklist: Mapping[str, Any], tests: Mapping[int, list[str]]) -> list[str]:
    """What does not fit between the checklist and the markers, one sentence each."""
    lines = read_checklist(checklist, tests)
    known = Counter(line.number for line in lines)
    listed = Counter(int(number) for state in REASONED for number in checklist[state])
    found = [f"line {number} is there twice" for number, times in known.items() if times > 1]
    found += [f"line {number} has two states" for number, times in listed.items() if times > 1]
    found += [f"there is no line {number}" for number in sorted({*tests, *listed} - {*known})]
    for line in lines:
        if line.state == "open" and line.tests:
            found.append(f"line {line.number} is open, but has {line.tests[0]}")
        elif line.state != "open" and not line.tests:
            found.append(f"line {line.number} is {line.state}, but has no test")
    return found


def render(lines: tuple[Line, ...]) -> str:
    """The page."""
    states = Counter(line.state for line in lines)
    parts = [HEAD.format(**{state: states[state] for state in (SHOWN, *REASONED)})]
    for title in dict.fromkeys(line.group for line in lines):
        parts.append(f"\n## {title}\n\n| Line | What holds | State | Tests |")
        parts.append("\n| --- | --- | --- | --- |\n")
        parts += [_row(line) for line in lines if line.group == title]
    return "".join(parts)


def _row(line: Line) -> str:
    state = f"{line.state}: {line.reason}" if line.reason else line.state
    tests = "<br>".join(f"`{test}`" for test in line.tests)
    return f"| {line.number} | {line.text} | {state} | {tests} |\n"


def _marked(
    node: ast.AST, inherited: tuple[ast.Call, ...], prefix: str = ""
) -> Iterator[tuple[str, tuple[ast.Call, ...]]]:
    """Every test below *node* with its markers, those of its class included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own = tuple(item for item in child.decorator_list if _is_marker(item))
            if isinstance(child, ast.ClassDef):
                yield from _marked(child, (*inherited, *own), f"{prefix}{child.name}::")
            elif child.name.startswith("test_"):
                yield f"{prefix}{child.name}", (*inherited, *own)


def _is_marker(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.spec"


def _numbers(marker: ast.Call, place: str) -> list[int]:
    numbers: list[int] = []
    try:
        for argument in marker.args:
            if isinstance(argument, ast.Starred):
                numbers += ast.literal_eval(argument.value)
            else:
                numbers.append(ast.literal_eval(argument))
    except ValueError:
        numbers = []
    if not numbers:
        raise BadMarker(f"{place}:{marker.lineno}: the lines of a marker are written as numbers")
    return numbers


def load() -> dict[str, Any]:
    """The checklist as it is written."""
    return tomllib.loads(CHECKLIST.read_text(encoding="utf-8"))


def main() -> int:
    """Write or check the page; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.compliance", description=__doc__)
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--write", action="store_true", help="make the page")
    choice.add_argument("--check", action="store_true", help="say what is wrong with it")
    asked = parser.parse_args()
    checklist, tests = load(), read_markers(TESTS)
    page = render(read_checklist(checklist, tests))
    wrong = complaints(checklist, tests)
    if asked.write:
        PAGE.write_text(page, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page:
        wrong.append("the page is out of date: run python -m tests.compliance --write")
    print("\n".join(wrong) or "every line has its tests or its reason")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
