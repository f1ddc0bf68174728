"""Rows B about peers that are slow, silent, too many or forged."""

import asyncio
import random
import time

from realtime.protocol import signing
from realtime.protocol.app import App
from realtime.protocol.errors import BadMessage, SignatureError, SubscriptionRefused
from tests.chaos import procfs
from tests.chaos.checkers import ghosts, lost
from tests.chaos.client import APP, Drain, Gone, Pusher, Raw, Refused, dial, path_of, sign, upgrade
from tests.chaos.cluster import Cluster, Node
from tests.chaos.procfs import MIB
from tests.chaos.publisher import Load, Publisher
from tests.chaos.rows import DriverLag, Run, percentile, row
from tests.chaos.scenarios.bus import subscribers


@row(
    "B1",
    inject="1, then 100 of 1,000 subscribers stop reading a flood of 500 × 1 KiB a second",
    hold="each dropped, and its descriptor free ≤ 5 s after it passed the backlog limit; memory"
    " ≤ 2 MiB per slow socket, and back ≤ 10 s after; p99 of the others ≤ 1.2 × undisturbed,"
    " or ≤ 50 ms",
    limit=300,
)
async def slow_readers_are_dropped(run: Run) -> None:
    cluster = await run.cluster(1)
    node = cluster[0]
    channels = [f"calm-{number}" for number in range(90)]
    calm = await subscribers(run, cluster, run.n(890, least=45), channels)
    fast = [await Drain.open(node.port) for _ in range(10)]
    for client in fast:
        await client.subscribe("flood")
    await _flood(run, node, channels, [], 4, "rehearsal")
    quiet = await _flood(run, node, channels, [], run.n(20, least=8), "undisturbed")
    for count in (1, run.n(100, least=5)):
        slow = [
            await Pusher.open(node.port, dialling={"receive_buffer": 4_096}) for _ in range(count)
        ]
        for client in slow:
            await client.subscribe("flood")
            client.transport.pause_reading()
        label = f"{count} slow"
        p99 = await _flood(run, node, channels, slow, run.n(60, least=15), label)
        run.check(f"{label}: p99 of others", p99, at_most=max(1.2 * quiet, 50), unit="ms")
        for client in slow:
            client.abort()
    run.check("others lost", sum(not client.is_open for client in calm + fast), equals=0)
    run.check_none("events lost by others", lost(run.history.records))


async def _flood(
    run: Run, node: Node, channels: list[str], slow: list[Pusher], seconds: float, label: str
) -> float:
    """Flood for some seconds; the p99 of the calm channels in milliseconds."""
    offset, before = node.log_size(), node.look()
    procfs.reset_peak(node.pid)
    started = time.monotonic()
    flood = Load([node.port], ["flood"], None, f"flood-{label}-", size=1_024)
    calm = Load([node.port], channels, run.history, f"calm-{label}-")
    dropping = asyncio.create_task(_dropped(run, node, slow, offset, seconds))
    lag = DriverLag()
    await asyncio.gather(flood.run_for(500, seconds, batch=10), calm.run_for(20, seconds))
    late = lag.stop()
    worst = await dropping
    if slow:
        run.check(f"{label}: dropped and free after", worst, at_most=5.0, unit="s")
        growth = (procfs.peak(node.pid) - before.rss) / MIB / len(slow)
        # A single socket cannot be told from the rest of the process below a few MiB.
        bound = max(2.0, 8 / len(slow))
        run.check(f"{label}: memory per slow socket", growth, at_most=bound, unit="MiB")

        def back() -> bool:
            return node.look().rss <= before.rss + max(8.0, 0.1 * len(slow)) * MIB

        again = await run.until(back, 10, "memory back", must=False)
        left = (node.look().rss - before.rss) / MIB
        run.note(f"{label}: {left:.1f} MiB more than before")
        run.check(f"{label}: memory back after", again, at_most=10.0, unit="s")
    latencies = [
        item["at"] - item["sent"]
        for item in run.history.of("received", since=started)
        if item["publisher"].startswith(f"calm-{label}-")
    ]
    flood.close()
    calm.close()
    p99 = percentile(latencies, 0.99) * 1000
    run.note(f"{label}: p99 {p99:.1f} ms, of which the driver {late:.1f} ms")
    return p99


async def _dropped(run: Run, node: Node, slow: list[Pusher], offset: int, seconds: float) -> float:
    """The longest time between the lines about dropped peers and the end of their connections."""
    if not slow:
        return 0.0
    ports = {client.transport.get_extra_info("sockname")[1] for client in slow}

    def told() -> int:
        return len(node.lines("dropped slow socket", offset))

    if await run.until(lambda: told() >= len(slow), seconds + 10, "drops", must=False) > seconds:
        run.note(f"{told()} of {len(slow)} were dropped")
        return float("inf")

    def gone() -> bool:
        return procfs.established(node.port, ports) == 0

    free = await run.until(gone, 10, "closed", must=False)
    if free == float("inf"):
        run.note(f"{procfs.established(node.port, ports)} of {len(slow)} are still open")
    return free


@row(
    "B7",
    inject="500 connections that send nothing, and 500 that send one byte of a request per second",
    hold="all closed ≤ 10 s (and a second); legitimate connects p99 ≤ 250 ms meanwhile",
    limit=90,
)
async def silent_connections_are_closed(run: Run) -> None:
    cluster = await run.cluster(1)
    port = cluster[0].port
    count = run.n(500, least=20)
    started = time.monotonic()
    silent = [await Raw.open(port) for _ in range(count)]
    dripping = [await Raw.open(port) for _ in range(count)]
    head = upgrade(path_of())
    drip = asyncio.create_task(_drip(dripping, head))
    connects = []
    while time.monotonic() - started < 12:
        at = time.monotonic()
        client = await Pusher.open(port)
        connects.append(time.monotonic() - at)
        client.abort()
        # Pacing: ten legitimate clients a second.
        await asyncio.sleep(0.1)
    drip.cancel()
    for label, listed in (("silent", silent), ("dripping", dripping)):
        still = sum(not raw.closed.done() for raw in listed)
        run.check(f"{label} connections still open after 12 s", still, equals=0)
        ends = [raw.closed.result() - started for raw in listed if raw.closed.done()]
        if ends:
            run.check(f"{label}: last closed after", max(ends), at_most=11.0, unit="s")
    run.check("legitimate connects, p99", percentile(connects, 0.99) * 1000, at_most=250, unit="ms")
    for raw in silent + dripping:
        raw.transport.abort()


async def _drip(listed: list[Raw], head: bytes) -> None:
    for position in range(len(head) - 1):
        for raw in listed:
            raw.write(head[position : position + 1])
        # The attack: a byte a second.
        await asyncio.sleep(1)


@row(
    "B8",
    inject="200 connects a second with a wrong key, for 60 s",
    hold="each closed with 4001; memory ± 4 MiB; ≤ 1 log line a second",
    limit=120,
)
async def wrong_keys_cost_nothing(run: Run) -> None:
    cluster = await run.cluster(1)
    node = cluster[0]
    await _wrong_keys(node, 200, 3)  # warm
    seconds = run.n(60, least=5)
    offset, before = node.log_size(), node.look()
    codes = await _wrong_keys(node, 200, seconds)
    after = node.look()
    lines = node.log_since(offset).count("\n")
    run.check("connects a second", len(codes) / seconds, at_least=180)
    run.check("not closed with 4001", sum(code != 4001 for code in codes), equals=0)
    run.check("memory", abs(after.rss - before.rss) / MIB, at_most=4.0, unit="MiB")
    run.check("log lines a second", lines / seconds, at_most=1.0)


async def _wrong_keys(node: Node, rate: float, seconds: float) -> list[int | None]:
    codes: list[int | None] = []
    running: set[asyncio.Task[None]] = set()

    async def one(number: int) -> None:
        try:
            client = await dial(
                Pusher, node.port, path_of(f"wrong-{number}"), source=f"127.0.0.{2 + number % 8}"
            )
            await asyncio.wait([client.closed], timeout=10)
            codes.append(client.close_code)
        except (OSError, TimeoutError):
            codes.append(None)

    due = time.monotonic()
    for number in range(int(rate * seconds)):
        task = asyncio.create_task(one(number))
        running.add(task)
        task.add_done_callback(running.discard)
        due += 1 / rate
        # Pacing: the rate of the attack.
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    if running:
        await asyncio.wait(running)
    return codes


@row(
    "B9",
    inject="10,000 subscribes on one socket",
    hold="refused past the limit of 1,000 with an error frame, the socket stays; Redis and the"
    " database see nothing of the refused",
    limit=90,
    short=True,
)
async def subscriptions_are_limited(run: Run) -> None:
    cluster = await run.cluster(1, database="postgres", bus="pubsub")
    limit = 1_000
    client = await Pusher.open(cluster[0].port)
    before = cluster.valkey.call("INFO", "commandstats")
    answers = [client.ask(f"many-{number}") for number in range(10_000)]
    await asyncio.wait(answers, timeout=60)
    done = [answer for answer in answers if answer.done()]
    refused = [answer for answer in done if isinstance(answer.exception(), Refused)]
    run.check("answered", len(done), equals=len(answers))
    run.check("confirmed", len(done) - len(refused), equals=limit)
    run.check("refused", len(refused), equals=len(answers) - limit)
    run.check("the socket stays", client.is_open and await client.round_trip() < 5, equals=True)
    after = cluster.valkey.call("INFO", "commandstats")
    subscribed = _calls(after, "subscribe") - _calls(before, "subscribe")
    # The channel of the process and the group of all processes come on top.
    run.check("SUBSCRIBE commands", subscribed, at_most=limit + 5)
    await client.round_trip()
    rows = await cluster[0].ask("rows")
    run.check("rows of channels", rows["Occupancy"], at_most=limit)


def _calls(stats: dict, command: str) -> int:
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


@row(
    "B10",
    inject="presence churn of 100 joins and leaves a second in a channel of 1,000",
    hold="p99 of other channels ≤ 2 × undisturbed, or ≤ 50 ms; ≤ 50 commits a second;"
    " members = users with a live socket at the end",
    limit=240,
)
async def churn_is_grouped(run: Run) -> None:
    cluster = await run.cluster(2)
    room = "presence-churn"
    count = run.n(1_000, least=50)
    users = [f"u{number}" for number in range(count)]
    stayers: list[Pusher] = []
    for number, node in enumerate(cluster.nodes):
        stayers += await _drains(node, room, users[number::2])
    channels = [f"calm-{number}" for number in range(10)]
    calm = await subscribers(run, cluster, 50, channels)
    seconds = run.n(20, least=6)
    await Load(cluster.ports, channels, run.history, "rehearsal-").run_for(20, 3)
    load = Load(cluster.ports, channels, run.history, "quiet-")
    await load.run_for(20, seconds)
    commits, started = cluster.postgres.commits(cluster.database), time.monotonic()
    load_on = Load(cluster.ports, channels, run.history, "churn-")
    over = time.monotonic() + seconds
    running, churned = asyncio.create_task(load_on.run_for(20, seconds)), 0
    tasks: set[asyncio.Task[bool]] = set()
    for node in cluster.nodes:
        await node.ask("lag")
    lag = DriverLag()
    due = time.monotonic()
    while time.monotonic() < over:
        task = asyncio.create_task(_come_and_go(cluster, room, churned))
        tasks.add(task)
        churned += 1
        due += 1 / 50  # a join and a leave each
        # Pacing of the churn.
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await running
    done = await asyncio.gather(*tasks)
    late = lag.stop()
    lags = [(await node.ask("lag"))["p99"] for node in cluster.nodes]
    run.note(f"p99 of lag: servers {', '.join(f'{v:.0f}' for v in lags)} ms, driver {late:.0f} ms")
    took = time.monotonic() - started
    rate = (cluster.postgres.commits(cluster.database) - commits) / took
    quiet, busy = _p99(run, "quiet-"), _p99(run, "churn-")
    run.check("joins that worked", sum(done), equals=churned)
    run.check("joins and leaves a second", 2 * churned / took, at_least=min(80, 80 * run.scale * 5))
    run.check("p99 of other channels", busy, at_most=max(2 * quiet, 50), unit="ms")
    run.check("commits a second", rate, at_most=50)
    publisher = Publisher(cluster[0].port)

    async def settled() -> bool:
        return set(await publisher.members(room)) == set(users)

    agreed = await run.until_async(settled, 15, "members", must=False)
    run.check("members agree after", agreed, at_most=10.0, unit="s")
    run.check_none("divergence", ghosts(await publisher.members(room), users, "the API")[:20])
    run.check("sockets lost", sum(not c.is_open for c in stayers + calm), equals=0)


async def _drains(node: Node, room: str, users: list[str]) -> list[Pusher]:
    gate = asyncio.Semaphore(50)

    async def one(user: str) -> Pusher:
        async with gate:
            client = await Drain.open(node.port)
            await client.subscribe(room, user, patience=60)
            return client

    return list(await asyncio.gather(*(one(user) for user in users)))


async def _come_and_go(cluster: Cluster, room: str, number: int) -> bool:
    client = None
    try:
        client = await Drain.open(cluster[number % 2].port)
        await client.subscribe(room, f"guest{number}")
    except (OSError, Gone, Refused, TimeoutError):
        return False
    else:
        return True
    finally:
        if client is not None:
            client.abort()


def _p99(run: Run, prefix: str) -> float:
    latencies = [
        item["at"] - item["sent"]
        for item in run.history.of("received")
        if item["publisher"].startswith(prefix)
    ]
    return percentile(latencies, 0.99) * 1000


@row(
    "B11",
    inject="100 client events a second from one socket, for 10 s",
    hold="10 a second delivered (and a burst of 10), the rest answered 4301; the socket stays",
    limit=60,
    short=True,
)
async def client_events_are_limited(run: Run) -> None:
    cluster = await run.cluster(1)
    sender = await Pusher.open(cluster[0].port)
    listener = await Pusher.open(cluster[0].port)
    for client in (sender, listener):
        await client.subscribe("private-typing")
    seconds, count = 10, 1_000
    started = due = time.monotonic()
    for number in range(count):
        sender.send("client-typing", {"n": number}, channel="private-typing")
        due += seconds / count
        # Pacing: the rate of the attack.
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    took = time.monotonic() - started
    await sender.round_trip()
    refused = sum(error.get("code") == 4301 for error in sender.errors)
    await run.until(lambda: listener.received + refused >= count, 5, "all events", must=False)
    run.check("delivered", listener.received, at_most=10 * took + 11)
    run.check("delivered at least", listener.received, at_least=10 * seconds - 1)
    run.check("delivered or refused", listener.received + refused, equals=count)
    run.check("the socket stays", sender.is_open, equals=True)


@row(
    "B12",
    inject="5,000 sockets, 100 of them members, that never answer pusher:ping",
    hold="all gone ≤ ping + pong + 5 s, with 4201; members removed; one who answers stays",
    limit=120,
)
async def dead_peers_are_noticed(run: Run) -> None:
    ping, pong = 10, 5
    cluster = await run.cluster(1, settings={"PING_SECONDS": ping, "PONG_SECONDS": pong})
    node = cluster[0]
    alive = await Pusher.open(node.port, client="js", history=run.history, name="alive")
    await alive.subscribe("presence-room", "alive")
    gate = asyncio.Semaphore(100)
    total, shown = run.n(5_000, least=100), run.n(100, least=5)

    async def dead(number: int) -> Pusher:
        async with gate:
            client = await Pusher.open(node.port, client="js", answers_pings=False)
            if number < shown:
                await client.subscribe("presence-room", f"u{number}")
            client.answers_control_pings = False
            return client

    clients = await asyncio.gather(*(dead(number) for number in range(total)))
    started = time.monotonic()
    await run.until(
        lambda: all(client.closed.done() for client in clients), ping + pong + 15, "end", must=False
    )
    still = [client for client in clients if not client.closed.done()]
    run.check("still there", len(still), equals=0)
    run.check("gone after", time.monotonic() - started, at_most=ping + pong + 5, unit="s")
    codes = [client.close_code for client in clients]
    run.check("closed with another code than 4201", sum(code != 4201 for code in codes), equals=0)
    publisher = Publisher(node.port)

    async def alone() -> bool:
        return await publisher.members("presence-room") == ["alive"]

    removed = await run.until_async(alone, 10, "members removed", must=False)
    run.check("members removed after", removed, at_most=5.0, unit="s")
    run.check("the one who answers stays", alive.is_open, equals=True)


@row(
    "B13",
    inject="400 connections to a process that may open 256 files",
    hold="no busy loop (≤ half a core); ≤ 1 log line a second; service resumes ≤ 5 s after they"
    " left",
    limit=90,
)
async def descriptors_run_out(run: Run) -> None:
    cluster = await run.cluster(1, prefix=("prlimit", "--nofile=256:256"))
    node = cluster[0]
    await (await Pusher.open(node.port)).leave()
    held = [await Raw.open(node.port) for _ in range(400)]
    for raw in held:
        raw.write(upgrade(path_of()))
    offset, before = node.log_size(), node.look()
    seconds = 8
    await run.lasting(seconds)
    after = node.look()
    lines = node.log_since(offset).count("\n")
    run.note(f"{after.fds} descriptors open")
    run.check("CPU", (after.cpu - before.cpu) / seconds, at_most=0.5, unit="cores")
    run.check("log lines a second", lines / seconds, at_most=1.0)
    run.check("the process lives", node.alive, equals=True)
    for raw in held:
        raw.transport.abort()

    async def serves() -> bool:
        try:
            client = await Pusher.open(node.port, patience=1)
        except (OSError, Gone, TimeoutError):
            return False
        client.abort()
        return True

    again = await run.until_async(serves, 15, "service again", must=False)
    run.check("service resumes after", again, at_most=5.0, unit="s")


@row(
    "B14",
    inject="1,000,000 mutated signatures over the three schemes",
    hold="0 accepted",
    limit=180,
)
async def forged_signatures_are_refused(run: Run) -> None:
    count = run.n(1_000_000, least=3_000)
    accepted, digest = await asyncio.to_thread(forge, run.seed, count)
    run.check("accepted", accepted, equals=0)
    run.check("tried", count, at_least=run.n(1_000_000, least=3_000))
    run.note(f"the forgeries of seed {run.seed} end in {digest:08x}")


def forge(seed: int, count: int) -> tuple[int, int]:
    """Try *count* forgeries; how many were accepted, and a digest of what was tried."""
    chance = random.Random(f"forge {seed}")
    app = App(id=APP.id, key=APP.key, secret=APP.secret)
    accepted, digest = 0, 0
    socket_id, channel, data = "123.456", "presence-room", '{"user_id":"1"}'
    user_data = '{"id":"1"}'
    channel_auth = sign(f"{socket_id}:{channel}:{data}")
    user_auth = sign(f"{socket_id}::user::{user_data}")
    # Each scheme accepts its own proof, so a refusal below is about the change.
    signing.verify_channel_auth(
        app, channel_auth, socket_id=socket_id, channel=channel, channel_data=data
    )
    signing.verify_user_auth(app, user_auth, socket_id=socket_id, user_data=user_data)
    query = [
        ("auth_key", APP.key),
        ("auth_timestamp", "1000"),
        ("auth_version", "1.0"),
    ]
    path = f"/apps/{APP.id}/channels"
    request_auth = sign(
        f"GET\n{path}\n" + "&".join(f"{name}={value}" for name, value in query)
    ).partition(":")[2]
    signing.verify_request(
        app,
        method="GET",
        paths=[path],
        query=[*query, ("auth_signature", request_auth)],
        body=b"",
        now=1000,
    )
    for number in range(count):
        scheme = number % 3
        proof = _mutated((channel_auth, user_auth, request_auth)[scheme], chance)
        digest = (digest * 31 + hash_text(proof)) & 0xFFFFFFFF
        try:
            if scheme == 0:
                signing.verify_channel_auth(
                    app, proof, socket_id=socket_id, channel=channel, channel_data=data
                )
            elif scheme == 1:
                signing.verify_user_auth(app, proof, socket_id=socket_id, user_data=user_data)
            else:
                signing.verify_request(
                    app,
                    method="GET",
                    paths=[path],
                    query=[*query, ("auth_signature", proof)],
                    body=b"",
                    now=1000,
                )
        except (BadMessage, SubscriptionRefused, SignatureError):
            continue
        accepted += 1
    return accepted, digest


def hash_text(text: str) -> int:
    """The same for the same text in every process, as ``hash`` is not."""
    value = 5381
    for sign_ in text[-24:]:
        value = (value * 33 + ord(sign_)) & 0xFFFFFFFF
    return value


_HEX = "0123456789abcdef"
_ODD = "0Oé٣\u0000 \n:g"


def _mutated(proof: str, chance: random.Random) -> str:
    """Another text than *proof*, mostly close to it."""
    while True:
        match chance.randrange(8):
            case 0:
                at = chance.randrange(len(proof))
                changed = proof[:at] + chance.choice(_HEX + _ODD) + proof[at + 1 :]
            case 1:
                at = chance.randrange(len(proof) + 1)
                changed = proof[:at] + chance.choice(_HEX + _ODD) + proof[at:]
            case 2:
                at = chance.randrange(len(proof))
                changed = proof[:at] + proof[at + 1 :]
            case 3:
                changed = proof[: chance.randrange(len(proof))]
            case 4:
                changed = proof.swapcase() if chance.random() < 0.5 else proof.title()
            case 5:
                changed = proof + chance.choice(["\n", " ", "0", "\0", ":", proof[-4:]])
            case 6:
                changed = "".join(chance.choices(_HEX, k=chance.choice([0, 1, 63, 64, 65])))
            case _:
                key, _, digest = proof.rpartition(":")
                swapped = list(digest)
                first, second = chance.sample(range(len(swapped)), 2)
                swapped[first], swapped[second] = swapped[second], swapped[first]
                changed = f"{key}:{''.join(swapped)}" if key else "".join(swapped)
        if changed != proof:
            return changed
