"""Probes of limits: what happens at the limit, and one step over it."""

from collections.abc import Awaitable, Callable

from tests.chaos.cluster import Cluster

Edge = tuple[bool, bool]
"""Whether the limit itself was accepted, and whether one step over it was refused."""

EDGES: dict[str, Callable[[Cluster], Awaitable[Edge]]] = {}


def edge(probe: Callable[[Cluster], Awaitable[Edge]]) -> Callable[[Cluster], Awaitable[Edge]]:
    """Declare the decorated function as the probe of the limit it is named after."""
    EDGES[probe.__name__] = probe
    return probe


TRIED_ELSEWHERE = {
    "activity_timeout_seconds": "tests/test_consumer.py",
    "auth_concurrency": "tests/api/test_admission.py",
    "body_seconds": "tests/servers/test_uvicorn.py",
    "cache_seconds": "tests/test_consumer.py",
    "drain_seconds": "tests/test_lifespan.py",
    "group_transitions": "tests/presence/test_ledger.py",
    "head_seconds": "tests/servers/test_uvicorn.py",
    "join_seconds": "tests/presence/test_ledger.py",
    "lease_seconds": "tests/presence/test_ledger.py",
    "linger_seconds": "tests/test_hub.py",
    "outbox_retention_seconds": "tests/test_outbox.py",
    "outbox_sweep_seconds": "tests/test_outbox.py",
    "ping_seconds": "tests/test_consumer.py",
    "pong_seconds": "tests/test_consumer.py",
    "publish_timeout_seconds": "tests/test_layer.py",
    "trusted_proxies": "tests/test_peer.py",
    "watchdog_seconds": "tests/test_bus.py",
    "webhook_retention_seconds": "tests/webhooks/test_deliveries.py",
}
"""Numbers of the settings that refuse nothing, or that one step from outside cannot pass; and the
test that changes each."""
