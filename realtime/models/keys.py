"""Primary keys that follow from what a row stands for.

Rows that many processes write at once are written and locked under such a key, in groups and
without being read first.
"""

import functools
import uuid
from typing import Final

_NAMESPACE: Final = uuid.UUID("5d0a2f0c-3c29-5a0e-8a3e-9d4a6c1f7b21")


@functools.lru_cache(maxsize=4_096)  # one join asks for that of its user four times
def row_id(*parts: str) -> uuid.UUID:
    """The primary key of the row that stands for *parts*, in that order."""
    # NUL cannot occur in any part, so different parts never join to the same text.
    return uuid.uuid5(_NAMESPACE, "\0".join(parts))
