"""Row D6: what many clients do at once when all of them are cut off."""

import asyncio

from tests.chaos.client import Pusher
from tests.chaos.cluster import Cluster
from tests.chaos.publisher import Http
from tests.chaos.rows import Browser, Run, row
from tests.chaos.scenarios.restart import residents


@row(
    "D6",
    inject="reconnect storm: 2,000 clients of private channels reset at once",
    hold="all subscribed again ≤ 30 s; the auth view of the site gets 2,000 requests, one per"
    " client; loop lag p99 ≤ 250 ms",
    limit=240,
)
async def storm_is_weathered(run: Run) -> None:
    cluster = await run.cluster(2)
    balancer = run.proxy(*cluster.ports)
    count, browser_count = run.n(1_900, least=40), run.n(100, least=4)
    authorizer = SiteAuthorizer(cluster)
    channels = [f"private-storm-{number}" for number in range(20)]
    clients = await residents(
        run, balancer.port, count, channels, authorize=lambda n: authorizer.of(n, channels)
    )
    node_js = run.node_js()
    browsers = [Browser(node_js, f"browser-{number}") for number in range(browser_count)]
    for number, browser in enumerate(browsers):
        user = cluster.users[number % len(cluster.users)]
        await browser.connect(f"http://127.0.0.1:{balancer.port}", "e2e-key", user)
        await browser.subscribe(channels[0])
    for node in cluster.nodes:
        await node.ask("lag")
    before = await _auth_requests(cluster)
    run.fault("every connection reset")
    dropped = await asyncio.to_thread(balancer.reset_all)

    def back() -> bool:
        return all(len(item.subscribed) > 1 and item.settled for item in clients)

    seconds = await run.until(back, 60, "all subscribed again", must=False)
    succeeded = "pusher:subscription_succeeded"
    seconds_js = await run.until(
        lambda: all(len(item.events(channels[0], succeeded)) > 1 for item in browsers),
        60,
        "all pusher-js clients subscribed again",
        must=False,
    )
    lags = [await node.ask("lag") for node in cluster.nodes]
    requests = await _auth_requests(cluster) - before
    run.check("connections reset", dropped, at_least=count + browser_count)
    run.check("all subscribed again after", seconds, at_most=30.0, unit="s")
    run.check("pusher-js subscribed again after", seconds + seconds_js, at_most=30.0, unit="s")
    run.check("requests to the auth view", requests, equals=count + browser_count)
    run.check("loop lag p99", max(lag["p99"] for lag in lags), at_most=250, unit="ms")


class SiteAuthorizer:
    """Asks the auth endpoint of the site as pages do: each over a connection of its own."""

    def __init__(self, cluster: Cluster) -> None:
        self._users, self._ports = cluster.users, cluster.ports

    def of(self, number: int, channels: list[str]):
        """A function that authorizes the client *number* for its channel."""
        channel = channels[number % len(channels)]
        token = self._users[number % len(self._users)].token
        connection = Http(self._ports[number % len(self._ports)])

        async def authorize(client: Pusher) -> dict:
            try:
                answer = await connection.ask_site(token, client.socket_id, channel, patience=60)
            finally:
                connection.close()
            if answer.status != 200:
                raise RuntimeError(f"the auth view answers {answer.status}")
            return dict(answer.json())

        return authorize


async def _auth_requests(cluster: Cluster) -> int:
    total = 0
    for node in cluster.nodes:
        total += (await node.ask("state"))["requests"].get("/pusher/auth", 0)
    return total
