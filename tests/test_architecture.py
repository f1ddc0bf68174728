"""The architecture, executable."""

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGE = ROOT / "realtime"
FILES = sorted(
    path.relative_to(PACKAGE)
    for path in PACKAGE.rglob("*.py")
    if "migrations" not in path.parts and path.name != "__init__.py"
)

LINES_OF_A_FILE = 400
CODE_OF_THE_PACKAGE = 12_000

WITHOUT_BEHAVIOUR = {"protocol/app.py", "presence/transitions.py"}
"""Dataclasses only."""

SOCKET_WRITER = "sockets.py"
"""A short-lived task that its socket holds itself."""


def test_the_protocol_is_pure():
    modules = [f"realtime.protocol.{path.stem}" for path in FILES if path.parts[0] == "protocol"]
    script = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True).split()

    assert not {"django", "asyncio", "channels", "asgiref", "rest_framework"} & set(loaded)
    assert set(modules) <= set(loaded)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_module_has_a_test_file(path):
    if path.parts[0] == "templatetags":
        expected = TESTS / "test_templatetags.py"
    else:
        expected = TESTS / path.parent / f"test_{path.name}"

    assert expected.exists() or str(path) in WITHOUT_BEHAVIOUR


@pytest.mark.parametrize("path", FILES, ids=str)
def test_no_file_is_too_long(path):
    assert len((PACKAGE / path).read_text().splitlines()) <= LINES_OF_A_FILE


def lines_of_code(source: str) -> int:
    """Lines that hold a token of code: no blank lines, comments or docstrings."""
    words = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines, at_start = set(), True
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in words or token.type == tokenize.ENDMARKER:
            at_start = at_start or token.type == tokenize.NEWLINE
        elif not (at_start and token.type == tokenize.STRING):  # a bare string is a docstring
            lines.update(range(token.start[0], token.end[0] + 1))
            at_start = False
    return len(lines)


def test_words_are_not_counted_as_code():
    source = (
        '"""What\nit is."""\n\nx = 1  # why\n\n\ndef f():\n    """Do."""\n    return """a\nb"""\n'
    )

    assert lines_of_code(source) == 4


def test_the_package_is_not_too_long():
    """ADR 0026."""
    assert sum(lines_of_code((PACKAGE / path).read_text()) for path in FILES) <= CODE_OF_THE_PACKAGE


@pytest.mark.parametrize("path", FILES, ids=str)
def test_long_lived_tasks_are_looked_after(path):
    """Bare tasks are lost when nobody holds them, and their errors with them."""
    calls = [
        ast.unparse(node)
        for node in ast.walk(ast.parse((PACKAGE / path).read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("create_task", "ensure_future")
    ]

    allowed = {"loops.py": ["asyncio.create_task"], SOCKET_WRITER: ["asyncio.create_task"] * 2}
    assert calls == allowed.get(str(path), [])


@pytest.mark.parametrize("path", FILES, ids=str)
def test_every_module_says_what_it_is(path):
    assert ast.get_docstring(ast.parse((PACKAGE / path).read_text()))


def test_nothing_reads_what_another_process_could_have_pickled():
    for path in FILES:
        assert "pickle" not in (PACKAGE / path).read_text()
