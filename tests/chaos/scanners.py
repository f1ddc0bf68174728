"""Pure functions that read source code for the rows about the code itself."""

import ast
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from websockets.frames import CloseCode

Source = tuple[Path, ast.Module]

_CLOSE = re.compile(r"(?:Close|\.close)\((\d{4}),")
_ENDLESS_ITERATORS = {"count", "cycle", "repeat", "listen"}


def sources(home: Path) -> list[Source]:
    """The modules below *home*, without migrations."""
    paths = [path for path in sorted(home.rglob("*.py")) if "migrations" not in path.parts]
    return [(path, ast.parse(path.read_text())) for path in paths]


def documented_codes(page: str) -> set[int]:
    """The codes that tables of *page* explain, one per line."""
    return {int(code) for code in re.findall(r"^\| (\d{4}) \|", page, re.MULTILINE)}


def produced_codes(sources: Iterable[str]) -> set[int]:
    """The codes with which *sources* close connections, and those that the engine says itself."""
    found = {int(code) for text in sources for code in _CLOSE.findall(text)}
    return found | {CloseCode.PROTOCOL_ERROR.value, CloseCode.INVALID_DATA.value}


def expected_codes(trees: Iterable[Source]) -> set[int]:
    """Numbers that a test holds an answer against.

    That is a number in an assertion, or in the parameters of a test; one that a test sends, or
    that stands anywhere else, shows nothing about the server.
    """
    found: set[int] = set()
    for _, tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Assert):
                found |= _numbers([node.test])
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
                node.name.startswith("test")
            ):
                found |= _numbers(node.decorator_list)
    return found


def _numbers(roots: Iterable[ast.AST]) -> set[int]:
    return {
        node.value
        for root in roots
        for node in ast.walk(root)
        if isinstance(node, ast.Constant) and type(node.value) is int
    }


def bare_tasks(trees: Iterable[Source], *, may: Collection[str]) -> list[str]:
    """Tasks that are started without the module that looks after them.

    Args:
        may: names of files that may do so.
    """
    return [
        f"{path.name}:{node.lineno} {ast.unparse(node.func)}"
        for path, tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("create_task", "ensure_future"))
        and path.name not in may
    ]


def started(trees: Iterable[Source], starter: str) -> dict[str, str]:
    """The tasks that *starter*, ``spawn`` or ``supervise``, is called for: name and coroutine."""
    return {
        ast.literal_eval(node.args[1]): _coroutine(node.args[0])
        for _, tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).rpartition(".")[2] == starter
        and len(node.args) == 2
        and isinstance(node.args[1], ast.Constant)
    }


def _coroutine(argument: ast.expr) -> str:
    function = argument.func if isinstance(argument, ast.Call) else argument
    return ast.unparse(function).rpartition(".")[2]


def endless(trees: Iterable[Source]) -> dict[str, str]:
    """Coroutines with a loop that has no end of its own, and where each is."""
    return {
        node.name: f"{path.name}:{node.lineno} {node.name}"
        for path, tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef) and any(map(_never_ends, ast.walk(node)))
    }


def _never_ends(node: ast.AST) -> bool:
    if isinstance(node, ast.While):
        return isinstance(node.test, ast.Constant) and bool(node.test.value)
    if isinstance(node, ast.For | ast.AsyncFor) and isinstance(node.iter, ast.Call):
        return ast.unparse(node.iter.func).rpartition(".")[2] in _ENDLESS_ITERATORS
    return False


def first_arguments(trees: Iterable[Source], function: str) -> set[str]:
    """The texts with which a function is called whose name ends so."""
    return {
        node.args[0].value
        for _, tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and ast.unparse(node.func).endswith(function)
    }
