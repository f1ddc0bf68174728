"""Counters of refusals, drops and losses."""

import ast
import threading
from pathlib import Path

import pytest

import realtime
from realtime import metrics
from realtime.metrics import COUNTERS
from realtime.protocol.errors import Fatal, PleaseReconnect, PongTimeout

PACKAGE = Path(realtime.__file__).parent

CALLS = [
    node
    for path in sorted(PACKAGE.rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "metrics.count"
]


def test_a_counter_starts_at_zero_and_grows(counted):
    assert counted("publishes_refused") == 0

    metrics.count("publishes_refused")
    metrics.count("publishes_refused", 3)

    assert counted("publishes_refused") == 4


def test_the_values_of_a_label_are_counted_apart(counted):
    metrics.count("over_capacity", reason="flood")

    assert counted("over_capacity", "flood") == 1
    assert counted("over_capacity", "address") == 0


def test_every_counter_is_in_a_snapshot_under_the_name_prometheus_gives_it():
    assert {name: set(values) for name, values in metrics.snapshot().items()} == {
        f"realtime_{name}_total": set(counter.values) for name, counter in COUNTERS.items()
    }


def test_threads_lose_no_count(counted):
    def work():
        for _ in range(5_000):
            metrics.count("publishes_refused")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counted("publishes_refused") == 20_000


@pytest.mark.parametrize("call", CALLS, ids=ast.unparse)
def test_what_the_code_counts_is_declared(call):
    counter = COUNTERS[call.args[0].value]

    assert [keyword.arg for keyword in call.keywords] == [counter.label] * bool(counter.label)
    for keyword in call.keywords:
        if isinstance(keyword.value, ast.Constant):
            assert keyword.value.value in counter.values


def test_every_declared_counter_is_counted_somewhere():
    assert {call.args[0].value for call in CALLS} == set(COUNTERS)


@pytest.mark.parametrize("name", [name for name in COUNTERS if COUNTERS[name].label == "reason"])
def test_every_reason_is_given_somewhere(name):
    texts = {
        node.value
        for path in PACKAGE.rglob("*.py")
        if path.name != "metrics.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
    }

    assert set(COUNTERS[name].values) <= texts


def subclasses(kind):
    for child in kind.__subclasses__():
        yield child
        yield from subclasses(child)


def test_every_close_code_has_a_counter():
    codes = {str(kind.code) for kind in subclasses(Fatal)}
    later = {str(kind.code) for kind in (PleaseReconnect, PongTimeout)}

    assert codes - later == set(COUNTERS["connections_refused"].values)


def codes_that_end_a_connection():
    """Of the errors with which an open connection ends, and of closes that have no error."""
    codes = {kind.__name__: kind.code for kind in subclasses(Fatal)}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name, first = ast.unparse(node.func), node.args[0]
            if name.endswith((".end", "._fail")) and isinstance(first, ast.Call):
                yield codes[ast.unparse(first.func)]
            elif name.endswith((".close", "Close")) and isinstance(first, ast.Constant):
                yield first.value


def test_every_code_that_ends_a_connection_has_a_counter():
    codes = {str(code) for code in codes_that_end_a_connection()}

    assert codes == set(COUNTERS["connections_closed"].values)


@pytest.mark.parametrize(
    ("seconds", "counts"), [(0, [1, 0, 0]), (0.1, [1, 0, 0]), (0.2, [0, 1, 0]), (9, [0, 0, 1])]
)
def test_a_time_is_counted_in_the_bucket_that_ends_after_it(seconds, counts):
    histogram = metrics.Histogram((0.1, 1))

    histogram.observe(seconds)

    assert histogram.counts == counts
    assert histogram.total == seconds
