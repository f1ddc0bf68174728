"""Rows A about ends that are meant: draining one node, and replacing all of them."""

import asyncio
import time
from collections import Counter

from tests.chaos.checkers import lost
from tests.chaos.client import Gone, Pusher, Refused
from tests.chaos.cluster import Node
from tests.chaos.history import History
from tests.chaos.publisher import Load, Publisher
from tests.chaos.rows import Browser, Run, row
from tests.chaos.scenarios.bus import last_ones_arrive
from tests.chaos.scenarios.outbox import SWEPT_SECONDS, check_durable, durable_stream, ordinary

AT_ONCE, SHORTLY = 0.0, 1.0
TAB = "presence-own-data-drain"
"""A channel that pusher-js may join through the auth endpoint of the site."""
TRAVEL_SECONDS = 3.0
"""Of a member from one process to another, before it counts as a departure."""
FEWEST_PER_SECOND = 100
"""What a drain closes a second, however few there are."""
SETTLE_SECONDS = 0.25
"""From the answer to a publisher to the arrival at a client, with room for a busy driver."""
SUCCEEDED = "pusher:subscription_succeeded"


class Resident:
    """A client that comes back as pusher-js does.

    Args:
        port: of a balancer; a client knows no nodes.
    """

    def __init__(
        self,
        port: int,
        channel: str,
        history: History | None,
        name: str,
        user: str | None = None,
        authorize=None,
    ) -> None:
        self.port = port
        self.channel = channel
        self.history = history
        self.name = name
        self.user = user
        self.authorize = authorize
        self.client: Pusher | None = None
        self.codes: list[tuple[float, int | None]] = []
        """When and with which code each of its connections ended."""
        self.turned_away: list[int | None] = []
        """With which codes it was not let in."""
        self.subscribed: list[float] = []
        """When each of its subscriptions was confirmed."""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._live())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self.client is not None:
            self.client.abort()

    @property
    def settled(self) -> bool:
        """Whether it is connected and subscribed."""
        return (
            self.client is not None
            and self.client.is_open
            and len(self.subscribed) > len(self.codes)
        )

    async def _live(self) -> None:
        while True:
            code = await self._visit()
            if code is not None and (4000 <= code <= 4099 or code >= 4300):
                return
            pause = AT_ONCE if code is not None and 4200 <= code <= 4299 else SHORTLY
            # How long pusher-js waits before it comes back.
            await asyncio.sleep(pause)

    async def _visit(self) -> int | None:
        """Live through one connection; the code it ended with."""
        try:
            client = await Pusher.open(self.port, history=self.history, name=self.name, patience=30)
        except Gone as error:
            self.turned_away.append(error.code)
            return error.code
        except (OSError, TimeoutError):
            self.turned_away.append(None)
            return None
        self.client = client
        try:
            auth = await self.authorize(client) if self.authorize else None
            await client.subscribe(self.channel, self.user, auth, patience=60)
        except (Gone, Refused, OSError, TimeoutError, RuntimeError):
            client.abort()
            return client.close_code
        self.subscribed.append(time.monotonic())
        await client.closed
        self.codes.append((time.monotonic(), client.close_code))
        client.abort()
        return client.close_code


async def residents(
    run: Run, port: int, count: int, channels: list[str], *, recorded: bool = False, **options
) -> list[Resident]:
    """Residents that all have settled; they leave with the row."""
    made = [
        Resident(
            port,
            channels[number % len(channels)],
            run.history if recorded else None,
            f"r{number}-{channels[0]}",
            **{name: value(number) for name, value in options.items()},
        )
        for number in range(count)
    ]
    for start in range(0, len(made), 100):
        group = made[start : start + 100]
        for resident in group:
            resident.start()
        await run.until(
            lambda group=group: all(item.settled for item in group), 60, "residents settle"
        )
    run.stack.push_async_callback(_stop, made)
    return made


async def _stop(made: list[Resident]) -> None:
    await asyncio.gather(*(resident.stop() for resident in made))


def busiest_second(times: list[float]) -> int:
    """The most events of any second."""
    ordered = sorted(times)
    most, start = 0, 0
    for end, at in enumerate(ordered):
        while at - ordered[start] > 1:
            start += 1
        most = max(most, end - start + 1)
    return most


@row(
    "A9",
    inject="SIGTERM to a node with 2,000 sockets, 50 more of them of pusher-js, behind a balancer"
    " that asks whether it is ready; window 20 s",
    hold="503 at once; 4200 spread evenly over the window, ≤ 150 reconnects in any second at the"
    " other node; all back ≤ 25 s, members ≤ 3 s after their close (90 %); 0 departures of those;"
    " all hear the next event once; exit 0 ≤ 25 s; a second SIGTERM ends it at once",
    limit=240,
)
async def drained_node_hands_over(run: Run) -> None:
    window = 20
    cluster = await run.cluster(2, settings={"DRAIN_SECONDS": window})
    leaving, staying = cluster[0], cluster[1]
    # First all to one node; the balancer learns of the other when the first says it is not ready.
    balancer = run.proxy(leaving.port)
    count = run.n(2_000, least=60)
    tabs = await residents(
        run, balancer.port, count // 10, [TAB], user=lambda number: f"tab{number}"
    )
    others = await residents(run, balancer.port, count - count // 10, ["news"])
    browser_count = run.n(50, least=3)
    node_js = run.node_js()
    browsers = [Browser(node_js, f"browser-{number}") for number in range(browser_count)]
    for browser in browsers:
        await browser.connect(f"http://127.0.0.1:{balancer.port}", "e2e-key")
        await browser.subscribe("news")
    visitors = cluster.users[1 : 1 + run.n(10, least=2)]
    visiting = [Browser(node_js, f"visitor-{user.id}") for user in visitors]
    for browser, user in zip(visiting, visitors, strict=True):
        await browser.connect(f"http://127.0.0.1:{balancer.port}", "e2e-key", user)
        await browser.subscribe(TAB)
    watcher = await Pusher.open(staying.port, history=run.history, name="watcher")
    await watcher.subscribe(TAB, "watcher")
    witness = Browser(node_js, "witness")
    await witness.connect(staying.server.url, "e2e-key", cluster.users[0])
    await witness.subscribe(TAB)

    before = len(balancer.accepted)
    term_at = run.fault("SIGTERM to node a")
    leaving.terminate()
    ending = asyncio.create_task(_end_of(leaving, window + 20))
    not_ready = await run.until_async(lambda: _says_503(leaving), 5, "503", must=False)
    balancer.upstreams = [("127.0.0.1", staying.port)]
    switched_at = time.monotonic()

    everybody = tabs + others
    came_back = await run.until(
        lambda: (
            all(len(r.subscribed) > 1 and r.settled for r in everybody)
            and all(len(item.events("news", SUCCEEDED)) > 1 for item in browsers)
            and all(len(item.events(TAB, SUCCEEDED)) > 1 for item in visiting)
        ),
        window + 20,
        "everybody is back",
        must=False,
    )
    back = came_back + (switched_at - term_at)
    status, exited = await ending
    await run.lasting(10)  # longer than the lease: whoever would be reaped is by then

    ends = [(at - term_at, code) for r in everybody for at, code in r.codes[:1]]
    codes = Counter(str(code) for _, code in ends)
    reconnects = balancer.accepted[before:]
    elsewhere = [at for at in reconnects if at >= switched_at]
    run.check("503 after", not_ready, at_most=1.0, unit="s")
    run.check("closed with 4200", codes["4200"], equals=len(everybody))
    if len(codes) > 1:
        run.note(f"close codes: {dict(codes)}")
    _check_spread(run, [at for at, _ in ends], window)
    run.check("reconnects in the busiest second", busiest_second(elsewhere), at_most=150)
    turned_away = Counter(str(code) for r in everybody for code in r.turned_away)
    run.note(
        f"{len(reconnects) - len(elsewhere)} reconnects met the node that was leaving;"
        f" turned away: {dict(turned_away)}"
    )
    run.check("all back, with pusher-js, after", back, at_most=25.0, unit="s")
    away = {r.user: r.subscribed[1] - r.codes[0][0] for r in tabs if len(r.subscribed) > 1}
    run.note(f"members were away for up to {max(away.values(), default=0.0):.2f} s")
    left = {item["user"] for item in run.history.of("member_removed", since=term_at)}
    left |= {event.data["id"] for event in witness.events(TAB, "pusher:member_removed")}
    soon = {user for user, seconds in away.items() if seconds <= TRAVEL_SECONDS}
    run.check("members who came back ≤ 3 s", len(soon), at_least=int(0.9 * len(tabs)))
    run.check("departures of those who came back ≤ 3 s", len(soon & left), equals=0)
    run.check("departures of pusher-js clients", len(left & {u.id for u in visitors}), equals=0)
    run.check_none("pusher-js: out of turn", witness.flapping(TAB))
    run.check("exit status", status, equals=0)
    run.check("exit after", exited - term_at, at_most=25.0, unit="s")
    for browser in browsers + visiting:
        went = [state for state in browser.states() if state != "connecting"]
        if went != ["connected", "connected"]:
            run.note(f"{browser.client.name} went through {browser.states()}")
    once = sum(browser.states().count("connected") == 2 for browser in browsers + visiting)
    run.check("pusher-js clients that came back once", once, equals=len(browsers + visiting))
    await _next_event_is_heard(run, staying, others, browsers)
    await _second_signal(run, window)


def _check_spread(run: Run, times: list[float], window: float) -> None:
    """Hold that closes are spread evenly over the window; few are gone sooner."""
    due = min(window, len(times) / FEWEST_PER_SECOND)
    first = min(times, default=0.0)
    spread = max(times, default=0.0) - first
    run.check("closes spread over", spread, at_least=0.8 * due, unit="s")
    fifths = Counter(min(4, int((at - first) / due * 5)) for at in times)
    share = max(fifths.values(), default=0) / max(1, len(times))
    run.check("most closes in a fifth of that", share * 100, at_most=30, unit="%")


async def _next_event_is_heard(
    run: Run, node: Node, clients: list[Resident], browsers: list[Browser]
) -> None:
    """Hold that whoever was moved gets an event, and gets it once."""
    status = (await Publisher(node.port).publish("news")).status
    run.check("status of the next event", status, equals=200)

    def counts() -> list[int]:
        ours = [item.client.received if item.client else 0 for item in clients]
        return ours + [len(item.events("news", "event")) for item in browsers]

    await run.until(lambda: all(counts()), 5, "the next event", must=False)
    # Time for a repeat: what pusher-js answers now it answers after all that came before.
    for browser in browsers:
        await browser.state()
    once = counts().count(1)
    run.check("clients that heard it once", once, equals=len(clients) + len(browsers))


async def _end_of(node: Node, seconds: float) -> tuple[int, float]:
    """The exit status of a process, and when it ended."""
    return await node.exited(seconds), time.monotonic()


async def _says_503(node: Node) -> bool:
    return await node.health("ready") == 503


async def _second_signal(run: Run, window: int) -> None:
    cluster = await run.cluster(1, settings={"DRAIN_SECONDS": window})
    clients = [await Pusher.open(cluster[0].port) for _ in range(50)]
    cluster[0].terminate()
    await asyncio.wait([client.closed for client in clients], return_when=asyncio.FIRST_COMPLETED)
    again_at = run.fault("second SIGTERM")
    cluster[0].terminate()
    await cluster[0].exited(window + 10)
    run.check("end after a second SIGTERM", time.monotonic() - again_at, at_most=2.0, unit="s")


@row(
    "A10",
    inject="rolling restart of two nodes, ten times, under 100 ordinary messages and 20 durable"
    " triggers a second; clients move between them behind a balancer that is told before a node"
    " ends, and others on a third node stay",
    hold="0 durable ones lost; ordinary ones lost only while that very client was away, or closed"
    " within 0.25 s of the answer to the publisher; at least half are accepted",
    limit=360,
)
async def rolling_restarts_lose_nothing_that_was_promised(run: Run) -> None:
    cluster = await run.cluster(3, settings={"DRAIN_SECONDS": 2})
    restarted, kept = cluster.nodes[:2], cluster.nodes[2]
    balancer = run.proxy(*(node.port for node in restarted))
    channels = [f"news-{number}" for number in range(10)]
    # Whoever is in a browser may be away at any moment; these are there all the time.
    for channel in channels:
        witness = await Pusher.open(kept.port, history=run.history, name=f"witness-{channel}")
        await witness.subscribe(channel)
    count = run.n(100, least=20)
    clients = await residents(run, balancer.port, count, channels, recorded=True)
    over = asyncio.Event()
    load = Load([balancer.port], channels, run.history, "p")
    publishing = asyncio.create_task(load.run(100, lambda: not over.is_set()))
    durable = asyncio.create_task(
        durable_stream(run.history, cluster.nodes, channels, over, rate=20)
    )
    statuses = []
    for _ in range(run.n(10, least=2)):
        for node in restarted:
            run.fault(f"SIGTERM to node {node.name}")
            # The replacement takes the same port, so its start follows the end.
            balancer.upstreams = [("127.0.0.1", n.port) for n in restarted if n is not node]
            node.terminate()
            statuses.append(await node.exited(30))
            node.spawn()
            await node.ready()
            balancer.upstreams = [("127.0.0.1", n.port) for n in restarted]
    over.set()
    ended_at = time.monotonic()
    await publishing
    await durable
    await run.until(lambda: all(client.settled for client in clients), 30, "everybody is back")
    await last_ones_arrive(run, ended_at - SWEPT_SECONDS)
    run.check("exit statuses other than 0", sum(status != 0 for status in statuses), equals=0)
    accepted = sum(status == 200 for _, status, _ in load.answers)
    run.check("ordinary ones accepted", accepted, at_least=len(load.answers) // 2)
    run.check("ordinary ones sent", len(load.answers), at_least=500)
    run.note(f"{len(load.answers) - accepted} ordinary ones were not accepted")
    faults = lost(ordinary(run), settle=SETTLE_SECONDS)
    run.check_none("ordinary ones lost by clients that were there", faults)
    check_durable(run, at_least=100)
