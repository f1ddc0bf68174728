"""``python -m tests.bench.rows_probe FILE``: a profile of writing the rows of presence.

It is the work of the thread that writes, for groups as large as there are; prints how many joins.
"""

import cProfile
import sys
import time
import uuid

import django

django.setup()

from realtime import conf  # noqa: E402 - needs the apps to be loaded
from realtime.presence import lease, store  # noqa: E402
from realtime.presence.transitions import Join  # noqa: E402
from realtime.protocol.messages import Member  # noqa: E402

GROUPS = 10
LEASE_SECONDS = 600.0


def main(path: str) -> None:
    """Write groups of joins, each into a channel of its own, and profile all but the first."""
    server, size = uuid.uuid4(), conf.get().group_transitions
    lease.take(server, LEASE_SECONDS)
    profile = cProfile.Profile(time.thread_time)
    for group in range(GROUPS + 1):
        joins = [
            Join("1", f"presence-{group}", f"{group}.{number}", Member(f"u{group}-{number}"))
            for number in range(size)
        ]
        if group:
            profile.enable()
        store.apply(server, joins, LEASE_SECONDS)
        profile.disable()
    profile.dump_stats(path)
    print(GROUPS * size)


if __name__ == "__main__":
    main(sys.argv[1])
