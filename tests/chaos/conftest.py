"""What the tests of the harness share."""

from collections.abc import Callable

import pytest

from tests.chaos.rows import Check, Result


@pytest.fixture
def result() -> Callable[..., Result]:
    """Makes results of a row with one figure."""

    def make(row="A1", *, seen="7.1 s", ok=True, seed=123456, notes=(), **changed):
        check = Check("last departure", seen, "≤ 10 s", ok)
        verdict = "held" if ok else "missed"
        parts = {"checks": [check], "notes": list(notes), "seconds": 40.0, "scale": 1.0, **changed}
        return Result(row, verdict, seed=seed, **parts)

    return make
