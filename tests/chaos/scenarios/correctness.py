"""Rows C: nothing breaks, and nothing is lost, repeated, early or misdirected."""

import asyncio
import inspect
import json
import re
import sys
import time

from channels_redis.core import RedisChannelLayer

from realtime import bus
from tests import services
from tests.chaos.checkers import MOST_SENTENCES, Tally, before_success
from tests.chaos.client import Counter, Pusher
from tests.chaos.cluster import Cluster, Node
from tests.chaos.publisher import Publisher
from tests.chaos.rows import Browser, Run, row
from tests.e2e.sites import ROOT

BATCH = 10

CONVERSATIONS = (
    *("server_libraries", "channels", "presence", "users", "user_data", "features"),
    *("native_clients", "old_clients", "fallbacks", "webhooks"),
)
"""The end-to-end tests in which a library of somebody else speaks with the app."""
LEAST_CONVERSATIONS = 500
"""So that none goes away unseen."""
ODD_ENDS = {"failed", "error", "errors", "skipped", "xfailed", "xpassed", "deselected"}


async def _publish_numbers(
    publisher: Publisher, channel: str, count: int, except_socket: str | None = None
) -> int:
    """Publish *count* numbered events, ten per call; how many were accepted."""
    accepted = 0
    for start in range(0, count, BATCH):
        batch = [
            {
                "name": "n",
                "channel": channel,
                "data": f"{publisher.name}:{number}",
                **({"socket_id": except_socket} if except_socket else {}),
            }
            for number in range(start, min(start + BATCH, count))
        ]
        answer = await publisher.call("POST", "/batch_events", {"batch": batch})
        if answer.status == 200:
            accepted += len(batch)
    return accepted


def _counting(tally: Tally):
    def take(data: bytes) -> None:
        publisher, _, number = data.decode().partition(":")
        tally.take(publisher, int(number))

    return take


@row(
    "C1",
    inject="10 publishers with 10,000 events each, 50 subscribers on two nodes, no faults",
    hold="5,000,000 of 5,000,000 delivered, each publisher's order kept, 0 repeats",
    limit=420,
)
async def everything_arrives_in_order(run: Run) -> None:
    cluster = await run.cluster(2)
    publishers, events, subscribers = 10, run.n(10_000, least=BATCH), run.n(50, least=2)
    tallies = [Tally() for _ in range(subscribers)]
    counters = [
        await Counter.open(cluster[number % 2].port, "load", _counting(tally))
        for number, tally in enumerate(tallies)
    ]
    backends = [Publisher(cluster[n % 2].port, name=f"p{n}") for n in range(publishers)]
    started = time.monotonic()
    accepted = await asyncio.gather(
        *(_publish_numbers(backend, "load", events) for backend in backends)
    )
    due = sum(accepted)
    await run.until(
        lambda: all(tally.count >= due for tally in tallies), 60, "the last event", must=False
    )
    seconds = time.monotonic() - started
    delivered = sum(tally.count for tally in tallies)
    run.check("accepted", due, equals=publishers * events)
    run.check("delivered", delivered, equals=publishers * events * subscribers)
    run.check_none("out of order or twice", [fault for tally in tallies for fault in tally.faults])
    run.check("connections that stayed", sum(c.is_open for c in counters), equals=subscribers)
    run.note(f"{delivered / seconds:,.0f} deliveries a second")


@row(
    "C2",
    inject="subscribe and publish back to back through different nodes, 1,000 times with the"
    " pub/sub layer and 200 times with the queue layer, which needs no marker",
    hold="0 lost, 0 before the subscription is confirmed",
    limit=120,
    short=True,
)
async def no_event_falls_between(run: Run) -> None:
    cluster = await run.cluster(2)
    await _race(run, cluster, "", run.n(1_000, least=16))
    await _race_with_pusher_js(run, cluster, run.n(50, least=5))
    queue = await run.cluster(2, bus="queue")
    await _race(run, queue, "queue-", run.n(200, least=16))
    run.check_none("before the confirmation", before_success(run.history.records))


async def _race(run: Run, cluster: Cluster, label: str, races: int) -> None:
    racers = 8

    async def race(racer: int) -> None:
        early = Publisher(cluster[1].port, run.history, f"{label}early{racer}")
        late = Publisher(cluster[1].port, run.history, f"{label}late{racer}")
        async with asyncio.timeout(90):
            client = await Pusher.open(cluster[0].port, history=run.history)
            for number in range(races // racers):
                channel = f"{label}race-{racer}-{number}"
                publishing = asyncio.create_task(early.publish(channel, "early"))
                await client.subscribe(channel)
                await publishing
                received = client.expect("late", channel)
                answer = await late.publish(channel, "late")
                if answer.status == 200 and not await _came(received):
                    run.note(f"the event after the confirmation of {channel} did not come")
                client.unsubscribe(channel)
            await client.leave()

    await asyncio.gather(*(race(racer) for racer in range(racers)))
    # A subscriber leaves as soon as it has its event, so nothing is excused by time.
    late_ones = [
        item for item in run.history.of("publish") if item["publisher"].startswith(f"{label}late")
    ]
    got = {(item["publisher"], item["number"]) for item in run.history.of("received")}
    missed = [item for item in late_ones if (item["publisher"], item["number"]) not in got]
    accepted = sum(item["status"] == 200 for item in late_ones)
    run.check(f"{label}accepted", accepted, equals=races // racers * racers)
    run.check(f"{label}lost", len(missed), equals=0)


async def _came(received: "asyncio.Future[object]", seconds: float = 5) -> bool:
    done, _ = await asyncio.wait([received], timeout=seconds)
    return bool(done)


async def _race_with_pusher_js(run: Run, cluster, races: int) -> None:
    browser = Browser(run.node_js(), "races")
    await browser.connect(cluster[0].server.url, "e2e-key")
    publisher = Publisher(cluster[1].port, name="js")
    came = 0
    for number in range(races):
        channel = f"js-race-{number}"
        await browser.subscribe(channel)
        await publisher.publish(channel, "late")
        wait = await run.until(
            lambda channel=channel: browser.events(channel, "late"), 5, "the event", must=False
        )
        came += wait < 5
    run.check("seen by pusher-js", came, equals=races)


@row(
    "C3",
    inject="100,000 events that exclude one socket, published through the other node",
    hold="0 seen by the excluded socket, all seen by the others",
    limit=240,
    short=True,
)
async def senders_are_left_out(run: Run) -> None:
    cluster = await run.cluster(2)
    events = 10_000 if run.short else run.n(100_000, least=100)
    excluded_tally, near, far = Tally(), Tally(), Tally()
    excluded = await Counter.open(cluster[0].port, "news", _counting(excluded_tally))
    await Counter.open(cluster[0].port, "news", _counting(near))
    await Counter.open(cluster[1].port, "news", _counting(far))
    backends = [Publisher(cluster[1].port, name=f"p{number}") for number in range(4)]
    accepted = sum(
        await asyncio.gather(
            *(
                _publish_numbers(backend, "news", events // 4, excluded.socket_id)
                for backend in backends
            )
        )
    )
    await run.until(
        lambda: min(near.count, far.count) >= accepted, 30, "the last event", must=False
    )
    seen_of_its_own, seen_near, seen_far = excluded_tally.count, near.count, far.count
    # Whoever is deaf is left out as well.
    for_all = await _publish_numbers(Publisher(cluster[1].port, name="last"), "news", 1)
    await run.until(lambda: excluded_tally.count > seen_of_its_own, 10, "the last", must=False)
    run.check("accepted", accepted, equals=events // 4 * 4)
    run.check("seen by the excluded socket", seen_of_its_own, equals=0)
    run.check("seen of an event for all", excluded_tally.count - seen_of_its_own, equals=for_all)
    run.check("seen by a neighbour on its node", seen_near, equals=accepted)
    run.check("seen on the other node", seen_far, equals=accepted)
    run.check_none("out of order or twice", (near.faults + far.faults)[:MOST_SENTENCES])


@row(
    "C6",
    inject="expiry of groups on the queue layer set to 6 seconds; sockets three times as old",
    hold="a socket older than any expiry of the layer still receives; as shipped, groups are"
    " renewed at least as often before they expire",
    limit=90,
)
async def old_sockets_still_receive(run: Run) -> None:
    expiry, renewal = 6.0, 2.0
    cluster = await run.cluster(
        2,
        bus="queue",
        environment={
            "CHAOS_LAYER": json.dumps({"group_expiry": int(expiry)}),
            "CHAOS_RENEWAL_SECONDS": str(renewal),
        },
    )
    clients = [await Pusher.open(cluster[n % 2].port, history=run.history) for n in range(10)]
    for client in clients:
        await client.subscribe("old")
    await run.lasting(3 * expiry)
    publisher = Publisher(cluster[1].port, run.history)
    for _ in range(20):
        await publisher.publish("old")
    await run.until(lambda: min(c.received for c in clients) >= 20, 10, "the events", must=False)
    run.check("events of 20 that each socket got", min(c.received for c in clients), equals=20)
    # The group of all processes is as old as the others.
    user = await Pusher.open(cluster[0].port)
    await user.sign_in("old-user")
    answer = await publisher.call("POST", "/users/old-user/terminate_connections", {})
    await asyncio.wait([user.closed], timeout=5)
    run.check("status of a termination", answer.status, equals=200)
    run.check("its socket closed with", str(user.close_code), equals="4009")
    shipped = inspect.signature(RedisChannelLayer.__init__).parameters["group_expiry"].default
    run.check(
        "renewals before the layer forgets, as shipped",
        shipped / bus.RENEWAL_SECONDS,
        at_least=expiry / renewal,
    )


@row(
    "C7",
    inject="100 publishes over the capacity of the queue layer and of the in-memory layer, at once",
    hold="each delivered, or counted and logged as dropped; never silent",
    limit=90,
    short=True,
)
async def nothing_is_dropped_in_silence(run: Run) -> None:
    over = 100
    for kind, nodes, capacity in (("queue", 2, 50), ("memory", 1, 10_000)):
        layer = json.dumps({"capacity": capacity})
        cluster = await run.cluster(nodes, bus=kind, environment={"CHAOS_LAYER": layer})
        sender, receiver = cluster[0], cluster[nodes - 1]
        subscriber = await Pusher.open(receiver.port)
        await subscriber.subscribe("burst")
        offset = sender.log_size()
        if receiver is not sender:
            receiver.pause()  # so that its queue fills up
        answer = await sender.ask("burst", channel="burst", count=capacity + over)
        if receiver is not sender:
            receiver.resume()
        accepted = answer["accepted"]

        async def is_settled(
            c: Pusher = subscriber, at: Node = sender, due: int = accepted
        ) -> bool:
            return c.received + (await at.ask("state"))["dropped"] >= due

        await run.until_async(is_settled, 10, "all of them", must=False)
        counted = (await sender.ask("state"))["dropped"]
        logged = sender.lines("messages dropped", offset)
        run.note(
            f"{kind}: {accepted:,} accepted, {answer['refused']:,} refused,"
            f" {subscriber.received:,} delivered, {counted:,} counted as dropped"
        )
        silent = max(0, accepted - subscriber.received - counted)
        run.check(f"dropped in silence on the {kind} layer", silent, equals=0)
        run.check(f"lines about drops on the {kind} layer", len(logged), at_least=1)


@row(
    "C9",
    inject="official server libraries, pusher-js of old and new versions and clients of other"
    " languages, in the end-to-end conversations",
    hold="all conversations unchanged, none left out",
    limit=540,
)
async def official_libraries_notice_nothing(run: Run) -> None:
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider"]
    words += [f"tests/e2e/test_{name}.py" for name in CONVERSATIONS]
    words.append("tests/protocol/test_signing.py")  # the request vectors of the Ruby library
    status, output = await services.finish(words, 520, cwd=ROOT)
    run.outputs["pytest"] = output
    lines = output.strip().splitlines()
    tail = lines[-1] if lines else "no output"
    counts = {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", tail)}
    run.check("exit status of the conversations", status, equals=0)
    run.check("passed", counts.pop("passed", 0), at_least=LEAST_CONVERSATIONS)
    run.check("with another end", {n: c for n, c in counts.items() if n in ODD_ENDS}, equals={})
    run.note(tail.strip("= "))
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            run.note(line)


@row(
    "C10",
    inject="the histories of all other rows of this run",
    hold="repeated, re-ordered, flapping and early events: none in any",
    limit=60,
)
async def every_history_is_clean(run: Run) -> None:
    faulty = {name: faults for name, faults in run.earlier.items() if faults}
    run.check("histories judged", len(run.earlier), at_least=1)
    run.check_none(
        "faults", [f"{name}: {fault}" for name, faults in faulty.items() for fault in faults]
    )
