"""Row A12: a process whose wall clock is wrong."""

import asyncio
import time
from collections.abc import Collection, Sequence

from tests.chaos.client import Pusher
from tests.chaos.cluster import Cluster, Node
from tests.chaos.crowd import everybody_present, members, observers
from tests.chaos.history import Record
from tests.chaos.publisher import Publisher
from tests.chaos.rows import Run, row
from tests.chaos.shift import Shift

ROOM = "presence-room"
SIGNS = str.maketrans({"+": "fast-", "-": "slow-"})
"""For names of channels, which may not have every sign."""


@row(
    "A12",
    inject="clock of one node +1 h, then -1 h, while it runs",
    hold="0 departures; the members of the other node, killed, are seen leaving ≤ 10 s after it by"
    " the node with the wrong clock, and not sooner than a lease; members of a drained one arrive"
    " elsewhere without having left; rate limit unchanged; signatures made by a right clock refused"
    " with 401 and a log line that names the clock",
    limit=180,
)
async def wrong_clock_changes_signatures_only(run: Run) -> None:
    clock = await asyncio.to_thread(Shift, run.ground.home)
    cluster = await run.cluster(2, start=False)
    cluster[0].environment |= clock.environment
    for node in cluster.nodes:
        node.spawn()
    for node in cluster.nodes:
        await node.ready()
    watching = await observers(run, cluster[1], ROOM, 2)
    users = [f"u{number}" for number in range(run.n(50, least=5))]
    settled = await members(cluster[0], ROOM, users)
    await everybody_present(run, watching, set(users))
    publisher = Publisher(cluster[0].port)
    run.check("before: status of a publish", (await publisher.publish("news")).status, equals=200)
    for shift, seconds in (("+1h", 3_600), ("-1h", -3_600)):
        logged = cluster[0].log_size()
        jumped_at = run.fault(f"clock of node a {shift}")
        clock.set(seconds)
        await run.lasting(run.n(12, least=12))  # twice the lease
        answer = await publisher.publish("news")
        removed = _left(run, users, jumped_at)
        run.check(f"{shift}: departures", len(removed), equals=0)
        run.check(f"{shift}: sockets lost", sum(not c.is_open for c in settled), equals=0)
        run.check(f"{shift}: status of a publish", answer.status, equals=401)
        lines = cluster[0].lines(r"(?i)clock|timestamp|signature window", logged)
        run.check(f"{shift}: the log names the clock", bool(lines), equals=True)
        accepted, refused, seconds = await _client_events(cluster[0], 30)
        # Ten a second, and ten at once: a busy machine takes its time, and lets more through.
        allowed = 11 + 10 * seconds
        run.check(f"{shift}: of 30 client events taken at most", accepted, at_most=allowed)
        run.check(f"{shift}: client events of 30 refused with 4301", refused, at_least=1)
        run.check(f"{shift}: client events of 30 taken", accepted, at_least=10)
        await _reap_alone(run, cluster, shift)
    await _drain(run, cluster, users, settled)


def _left(run: Run, users: Collection[str], since: float) -> list[Record]:
    return [item for item in run.history.of("member_removed", since=since) if item["user"] in users]


async def _reap_alone(run: Run, cluster: Cluster, shift: str) -> None:
    """Kill the node with the right clock, so that only the other one can notice."""
    wrong, right = cluster.nodes
    room = f"presence-reaped-{shift.translate(SIGNS)}"
    (watching,) = await observers(run, wrong, room, 1)
    users = {f"doomed-{shift}-{number}" for number in range(run.n(50, least=5))}
    await members(right, room, users)
    await everybody_present(run, [watching], users)
    killed_at = run.fault(f"kill -9 node {right.name}")
    right.kill()
    await run.until(lambda: not watching.present[room] & users, 15, "the departures", must=False)
    left = _left(run, users, killed_at)
    last = max((item["at"] for item in left), default=float("inf")) - killed_at
    first = min((item["at"] for item in left), default=0.0) - killed_at
    run.check(f"{shift}: departures from the dead node", len(left), equals=len(users))
    run.check(f"{shift}: the last of them after", last, at_most=10.0, unit="s")
    # Renewed every two seconds, so at least four of its six are left.
    run.check(f"{shift}: the first of them after", first, at_least=3.5, unit="s")
    right.spawn()
    await right.ready()


async def _drain(
    run: Run, cluster: Cluster, users: Sequence[str], settled: Sequence[Pusher]
) -> None:
    """Stop the node with the wrong clock; its members come back with the other one at once."""
    wrong, right = cluster.nodes
    watching = await observers(run, right, ROOM, 2)
    await everybody_present(run, watching, set(users))
    ended_at = run.fault(f"SIGTERM to node {wrong.name}")
    wrong.terminate()

    async def move(user: str, client: Pusher) -> Pusher:
        await client.closed
        (moved,) = await members(right, ROOM, [user])
        return moved

    moved = await asyncio.gather(*map(move, users, settled))
    run.check("exit status", await wrong.exited(30), equals=0)
    await run.lasting(run.n(12, least=12))  # twice the lease
    run.check("drained: departures", len(_left(run, users, ended_at)), equals=0)
    run.check("drained: members elsewhere", sum(c.is_open for c in moved), equals=len(users))


async def _client_events(node: Node, count: int) -> tuple[int, int, float]:
    """How many of *count* client events at once were taken, how many refused; in which time."""
    client = await Pusher.open(node.port)
    await client.subscribe("private-clock")
    started = time.monotonic()
    for number in range(count):
        client.send("client-x", {"n": number}, channel="private-clock")
    await client.round_trip()
    seconds = time.monotonic() - started
    refused = sum(error.get("code") == 4301 for error in client.errors)
    client.abort()
    return count - refused, refused, seconds
