"""Each scanner is shown code that it must find something in, and code that is fine."""

import ast
from pathlib import Path

import pytest

from tests.chaos import scanners


def code(text):
    return [(Path("module.py"), ast.parse(text))]


def test_codes_are_read_from_tables_only():
    page = "| Code | Message |\n| --- | --- |\n| 4001 | no app, see 4999 |\nA 4002 in the text\n"

    assert scanners.documented_codes(page) == {4001}


def test_codes_are_those_of_the_package_and_of_the_engine():
    texts = ["return [Close(1003, 'no')]", "socket.close(4100, why)", "open(4001, 4002)"]

    assert scanners.produced_codes(texts) == {1003, 4100, 1002, 1007}


@pytest.mark.parametrize(
    "text",
    [
        "def test_it():\n    assert error['code'] == 4001",
        "async def test_it():\n    assert (4001, 'why') == await client.closed()",
        "@pytest.mark.parametrize('code', [4001])\ndef test_it(code): ...",
    ],
    ids=["compared", "within", "parameter"],
)
def test_a_code_that_is_held_against_an_answer_is_expected(text):
    assert scanners.expected_codes(code(text)) == {4001}


@pytest.mark.parametrize(
    "text",
    [
        "CODE = 4001",
        "def test_it():\n    socket.close(4001)",
        "@wait(4001)\ndef helper(): ...",
        "def test_it():\n    assert 'in the year 4001'",
        "def test_it():\n    assert True",
    ],
    ids=["constant", "sent", "helper", "text", "no number"],
)
def test_a_number_anywhere_else_is_not(text):
    assert scanners.expected_codes(code(text)) == set()


@pytest.mark.parametrize("call", ["asyncio.create_task(work())", "loop.create_task(work())"])
def test_a_bare_task_is_found(call):
    assert scanners.bare_tasks(code(call), may=[]) == [f"module.py:1 {call.partition('(')[0]}"]
    assert scanners.bare_tasks(code(call), may=["module.py"]) == []


def test_tasks_are_known_by_their_name():
    package = code(
        "loops.spawn(self._write(), 'writer')\n"
        "loops.supervise(self._sweep, 'sweeper')\n"
        "other.spawn(process)\n"
    )

    assert scanners.started(package, "spawn") == {"writer": "_write"}
    assert scanners.started(package, "supervise") == {"sweeper": "_sweep"}


@pytest.mark.parametrize(
    "loop",
    [
        "while True",
        "while 1",
        "for step in itertools.count()",
        "async for message in self._pubsub.listen()",
    ],
)
def test_an_endless_coroutine_is_found(loop):
    text = f"async def work(self):\n    {loop}:\n        await step()"

    assert scanners.endless(code(text)) == {"work": "module.py:1 work"}


@pytest.mark.parametrize(
    "text",
    [
        "async def work():\n    while waiting:\n        await step()",
        "async def work():\n    for step in steps:\n        await step()",
        "def work():\n    while True: ...",
    ],
    ids=["condition", "list", "not a coroutine"],
)
def test_what_ends_is_not_endless(text):
    assert scanners.endless(code(text)) == {}


def test_the_texts_of_calls_are_found():
    text = "faults.point('a')\nnode.point(name)\nawait victim.arm('b', 'exit')\nfaults.point()"

    assert scanners.first_arguments(code(text), "faults.point") == {"a"}
    assert scanners.first_arguments(code(text), ".arm") == {"b"}
