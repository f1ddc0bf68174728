"""Server processes and what happens in them, for the tests of rows."""

import json
import uuid

import pytest

from realtime.presence import lease, store


def members_in(roster):
    """What a browser is told of the members: their count, ids and what each shows."""
    return json.loads(json.loads(roster.text)["data"])["presence"]


@pytest.fixture
def servers():
    """Three living server processes."""
    ids = [uuid.uuid4() for _ in range(3)]
    for server in ids:
        lease.take(server, 60)
    return ids


@pytest.fixture
def apply(servers):
    """Applies transitions, by default on the first server."""

    def apply(*transitions, on=0):
        return store.apply(servers[on], transitions, 60)

    return apply
