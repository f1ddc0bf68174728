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
