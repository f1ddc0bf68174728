"""What happened in a run, one fact per line, in the order in which the driver saw it.

Every record has ``at`` (seconds on the monotonic clock, which all processes of a machine
share), ``client`` and ``kind``:

======================  ==========================================================
kind                    and
======================  ==========================================================
opened, closed          ``code`` of the close frame, or None
asked                   ``channel``: a subscribe left
subscribed              ``channel``, ``members`` on presence channels
unsubscribed            ``channel``
received                ``channel``, ``publisher``, ``number``, ``id`` of durable ones
member_added            ``channel``, ``user``
member_removed          ``channel``, ``user``
publish                 ``channel``, ``publisher``, ``number``, ``status``, ``until``
fault                   ``what`` was done to the system
======================  ==========================================================
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class History:
    """The records of one row, kept in memory until the row is over."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, client: str, kind: str, **facts: Any) -> None:
        """Note what just happened."""
        self.records.append({"at": time.monotonic(), "client": client, "kind": kind, **facts})

    def of(self, *kinds: str, since: float = 0.0) -> Iterator[Record]:
        """The records of some kinds, oldest first."""
        return (item for item in self.records if item["kind"] in kinds and item["at"] >= since)

    def write(self, path: Path) -> None:
        """Keep the records as JSON lines."""
        with path.open("w") as file:
            for record in self.records:
                file.write(json.dumps(record, separators=(",", ":")) + "\n")


def read(path: Path) -> list[Record]:
    """The records of a file that ``History.write`` wrote."""
    with path.open() as file:
        return [json.loads(line) for line in file]
