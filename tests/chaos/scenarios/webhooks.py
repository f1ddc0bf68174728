"""Row D5: endpoints of webhooks that are away, that hang, and that are well beside them."""

import asyncio
import json
import socket
import time
from collections import defaultdict
from dataclasses import dataclass, field

from tests.chaos.client import Pusher
from tests.chaos.cluster import Cluster
from tests.chaos.rows import Run, percentile, row
from tests.chaos.scenarios.long_run import fill_threads

WELL = ("well-0", "well-1", "well-2")
KEPT_SECONDS = 300
"""Pusher docs, "Webhooks": how long a request is repeated."""
CHANNELS = 20
PER_SECOND = 10
"""Client events; they become some four requests a second to each endpoint."""


@dataclass
class Endpoint:
    """An HTTP server that notes client events, or does nothing at all."""

    name: str
    hangs: bool = False
    bodies: list[bytes] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    numbers: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Of the events by channel, in the order in which they came first."""
    _server: asyncio.Server | None = None

    def __post_init__(self) -> None:
        # Bound from now on, so that nobody else takes the port; refuses until it listens.
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.name}"

    async def start(self) -> None:
        """Listen from now on."""
        self._server = await asyncio.start_server(self._serve, sock=self._socket)

    def stop(self) -> None:
        """Refuse again, and give the port back."""
        if self._server is not None:
            self._server.close()
        self._socket.close()

    @property
    def total(self) -> int:
        return sum(map(len, self.numbers.values()))

    def out_of_order(self) -> list[str]:
        return [
            f"{self.name} {channel}: {seen}"
            for channel, seen in self.numbers.items()
            if seen != sorted(seen)
        ]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.partition(b":")[2])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length:")
                )
                body = await reader.readexactly(length)
                if self.hangs:
                    await reader.read()  # until the other side gives up
                    break
                self._note(body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    def _note(self, body: bytes) -> None:
        now = time.monotonic()
        repeated = body in self.bodies[-1_000:]
        self.bodies.append(body)
        if repeated:
            return
        for event in json.loads(body)["events"]:
            data = json.loads(event["data"])
            self.latencies.append(now - data["t"])
            self.numbers[event["channel"]].append(data["n"])


@row(
    "D5",
    inject="a webhook target down for 4 minutes, another one for good, and one that hangs",
    hold="healthy targets p99 ≤ 1 s; failed calls retried for 5 minutes, then visible as failed;"
    " order per channel kept; 0 threads or descriptors gained",
    limit=480,
)
async def webhook_targets_fail(run: Run) -> None:
    down_seconds = 240 * min(1.0, run.scale)
    well = [Endpoint(name) for name in WELL]
    down, gone, hanging = Endpoint("down"), Endpoint("gone"), Endpoint("hanging", hangs=True)
    endpoints = [*well, down, gone, hanging]
    for endpoint in endpoints:
        run.stack.callback(endpoint.stop)
    cluster = await run.cluster(
        2,
        settings={
            "WEBHOOKS": [{"URL": item.url, "KINDS": ["client_event"]} for item in endpoints],
            "WEBHOOK_PRIVATE_TARGETS": True,
        },
    )
    for endpoint in (*well, hanging):
        await endpoint.start()
    channels = [f"private-{number}" for number in range(CHANNELS)]
    clients = [await Pusher.open(port) for port in cluster.ports]
    giving_up = asyncio.create_task(_given_up(cluster, {gone.name, hanging.name}))
    began = time.monotonic()
    for client in clients:
        for channel in channels:
            await client.subscribe(channel)

    sent = await _load(run, clients, channels, 10, 0)  # opens what stays open for good
    await fill_threads(cluster, "rows")
    before = await _inside(cluster)
    run.fault("one endpoint is down, one is gone, one hangs")
    sent = await _load(run, clients, channels, down_seconds, sent)
    await down.start()
    back_at = run.fault("the endpoint that was down is back")
    sent = await _load(run, clients, channels, 20 * min(1.0, run.scale), sent)

    caught_up = await run.until(lambda: down.total == sent, 70, "caught up", must=False)
    run.note(f"caught up {time.monotonic() - back_at:.0f} s after the endpoint was back")
    run.check("events that the endpoint got that was down", down.total, equals=sent)
    run.check("it has them all after", caught_up, at_most=70.0, unit="s")
    for endpoint in well:
        run.check(f"events that {endpoint.name} got", endpoint.total, equals=sent)
    latencies = [seconds for endpoint in well for seconds in endpoint.latencies]
    run.check("latency p99 of healthy ones", percentile(latencies, 0.99), at_most=1.0, unit="s")
    run.note(f"median {percentile(latencies, 0.5) * 1000:.0f} ms")
    disorder = [fault for endpoint in (*well, down) for fault in endpoint.out_of_order()]
    run.check_none("out of order within a channel", disorder)
    if run.scale < 1:
        giving_up.cancel()
    for name, at in (await giving_up).items() if run.scale >= 1 else ():
        seconds = at - began
        # No attempt begins that could end after the five minutes, so the last is a little early.
        run.check(f"{name}: first given up after", seconds, at_least=KEPT_SECONDS - 15, unit="s")
        run.check(f"{name}: first given up before", seconds, at_most=KEPT_SECONDS + 15, unit="s")
    counts = await cluster[0].ask("webhooks")
    run.note(f"deliveries by endpoint and status: {counts}")
    run.check("failed at healthy ones", sum(counts[n].get("failed", 0) for n in WELL), equals=0)

    gained: list[dict[str, int]] = []

    async def as_before() -> bool:
        gained[:] = [
            {key: new[key] - old[key] for key in old if new[key] > old[key]}
            for old, new in zip(before, await _inside(cluster), strict=True)
        ]
        return not any(gained)

    seconds = await run.until_async(as_before, 30, "as before", must=False)
    if not run.check("threads and descriptors as before after", seconds, at_most=30.0, unit="s"):
        run.note(f"more than before, on each node: {gained}")


async def _load(
    run: Run, clients: list[Pusher], channels: list[str], seconds: float, sent: int
) -> int:
    """Client events at a steady rate; how many there were in the end."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = json.dumps({"n": sent, "t": time.monotonic()})
        channel = channels[sent % len(channels)]
        # One channel is always used by one client: only so there is an order to keep.
        clients[(sent % len(channels)) % len(clients)].send("client-x", data, channel=channel)
        sent += 1
        # Pacing of the load.
        await asyncio.sleep(1 / PER_SECOND)
    return sent


async def _inside(cluster: Cluster) -> list[dict[str, int]]:
    """Threads and descriptors of each node."""
    return [
        {"threads": (await node.ask("state"))["threads"], "descriptors": node.look().fds}
        for node in cluster.nodes
    ]


async def _given_up(cluster: Cluster, names: set[str]) -> dict[str, float]:
    """When the first delivery to each of these endpoints was shown as failed, for good."""
    found: dict[str, float] = {}
    while found.keys() != names:
        # Pacing: the answer counts rows, and a second more or less is none of five minutes.
        await asyncio.sleep(1)
        counts = await cluster[0].ask("webhooks")
        for name in names - found.keys():
            if counts.get(name, {}).get("failed"):
                found[name] = time.monotonic()
    return found
