"""The rows that every push runs, as tests; ``make faults`` runs all of them."""

import asyncio
import random
from contextlib import ExitStack

import pytest
import uvloop

from tests.chaos import scenarios
from tests.chaos.cluster import Ground
from tests.chaos.rows import ROWS, perform

scenarios.load()
SHORT = sorted(name for name, declared in ROWS.items() if declared.short)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    with ExitStack() as stack:
        yield Ground(tmp_path_factory.mktemp("chaos"), stack)


@pytest.mark.parametrize("name", SHORT)
def test_row_holds(name, ground, tmp_path):
    seed = random.SystemRandom().randrange(10**5, 10**6)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(perform(ROWS[name], ground, seed=seed, short=True, keep=tmp_path))

    missed = [
        f"{item.name}: {item.seen} (hold {item.hold})" for item in result.checks if not item.ok
    ]
    again = f"make faults ROW={name} SEED={seed}"
    assert result.ok, "\n".join([*missed, *result.notes, f"again: {again}"])
