"""A place in a cluster knows what was to break there and did not."""

import pytest

from tests.chaos.cluster import Node

LOG = """\
WARNING realtime.faults fault injected: exit at outbox.after_commit
WARNING realtime.faults fault injected: raise at bus.receive
INFO something else at ledger.after_commit
"""


@pytest.mark.parametrize(
    ("armed", "missed"),
    [
        ([], []),
        (["bus.receive", "outbox.after_commit"], []),
        (["ledger.after_commit"], ["ledger.after_commit"]),
        (["bus.receive", "bus.receive"], ["bus.receive"]),
    ],
    ids=["nothing", "all hit", "never hit", "hit once of twice"],
)
def test_points_that_were_armed_and_not_passed(tmp_path, armed, missed):
    log = tmp_path / "a.log"
    log.write_text(LOG)
    node = Node("a", [], {}, log)
    node.armed += armed

    assert node.never_hit() == missed
