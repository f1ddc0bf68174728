"""Row C4: whom staff throws out is out, on every process."""

import asyncio
import json
import time
from collections import Counter
from urllib.parse import urlencode

from tests.chaos.client import Gone, Pusher, Refused
from tests.chaos.cluster import Cluster
from tests.chaos.publisher import Http, Publisher
from tests.chaos.rows import Run, percentile, row
from tests.e2e.sites import User

ADMITTED, TURNED_AWAY, NO_ANSWER = "admitted", "turned away", "no answer"


@row(
    "C4",
    inject="terminate a user with 50 sockets on two nodes, 100 times; then a ban",
    hold="all sockets closed with 4009 ≤ 1 s (p99 of 100 runs); after the ban 0 are admitted, the"
    " auth views refuse, and whoever signed in while it was made is closed",
    limit=240,
)
async def kicked_is_kicked(run: Run) -> None:
    cluster = await run.cluster(2)
    runs, sockets = run.n(100, least=5), 50
    publisher = Publisher(cluster[1].port, name="staff")
    seconds, wrong_codes = [], 0
    bystander = await Pusher.open(cluster[0].port)
    await bystander.sign_in("somebody-else")
    for number in range(runs):
        user = f"user-{number}"
        clients = await asyncio.gather(*(_signed_in(cluster, n, user) for n in range(sockets)))
        started = time.monotonic()
        answer = await publisher.call("POST", f"/users/{user}/terminate_connections", {})
        await asyncio.wait([asyncio.shield(client.closed) for client in clients], timeout=10)
        closed = [client for client in clients if client.closed.done()]
        seconds.append(time.monotonic() - started if len(closed) == sockets else float("inf"))
        wrong_codes += sum(client.close_code != 4009 for client in clients)
        if answer.status != 200:
            run.note(f"the call answered {answer.status}")
    run.check("slowest of 50 sockets, p99", percentile(seconds, 0.99), at_most=1.0, unit="s")
    run.check("closed with another code", wrong_codes, equals=0)
    run.check("socket of another user stays", bystander.is_open, equals=True)
    await _banned_stay_out(run, cluster, run.n(50, least=6))


async def _signed_in(cluster: Cluster, number: int, user: str) -> Pusher:
    client = await Pusher.open(cluster[number % 2].port)
    await client.sign_in(user)
    return client


async def _banned_stay_out(run: Run, cluster: Cluster, attempts: int) -> None:
    user = cluster.users[0]
    inside = [await _signed_in(cluster, number, user.id) for number in range(2)]
    allowed = await _asked_to_sign(cluster, inside[0].socket_id, user)
    run.check("auth views before the ban", allowed, equals=[200] * 4)
    banned = asyncio.Event()
    racers = [asyncio.create_task(_keep_trying(cluster, n, user, banned)) for n in range(4)]
    # So that the ban is made in the middle of sign-ins, and not before the first.
    await inside[0].round_trip()
    http = Http(cluster[0].port)
    headers = {"Authorization": f"Token {cluster.staff.token}", "Content-Type": "application/json"}
    body = json.dumps({"reason": "row C4"}).encode()
    answer = await http.request("POST", f"/realtime/users/{user.id}/ban", body, headers)
    banned.set()
    fresh = Counter([await _try(cluster, number, user) for number in range(attempts)])
    raced = [client for clients in await asyncio.gather(*racers) for client in clients]
    once_in = inside + raced
    await asyncio.wait([asyncio.shield(client.closed) for client in once_in], timeout=5)
    codes = Counter(str(client.close_code) for client in once_in)
    run.check("status of the ban", answer.status, equals=200)
    run.check("sign-ins after the ban", dict(fresh), equals={TURNED_AWAY: attempts})
    run.check("whoever was in closed with", dict(codes), equals={"4009": len(once_in)})
    run.note(f"{len(raced)} sign-ins worked while the ban was made")
    refused = await _asked_to_sign(cluster, "1.1", user)
    run.check("auth views after the ban", refused, equals=[403] * 4)


async def _keep_trying(
    cluster: Cluster, number: int, user: User, banned: asyncio.Event
) -> list[Pusher]:
    """Sign in again and again until the ban is made; the clients that were let in."""
    let_in = []
    while not banned.is_set():
        client = await Pusher.open(cluster[number % 2].port)
        try:
            await client.sign_in(user.id)
        except (Refused, Gone):
            client.abort()
        else:
            let_in.append(client)
    return let_in


async def _try(cluster: Cluster, number: int, user: User) -> str:
    """What comes of one sign-in by a new connection."""
    client = await Pusher.open(cluster[number % 2].port)
    try:
        await client.sign_in(user.id)
    except (Refused, Gone):
        return TURNED_AWAY
    except TimeoutError:
        return NO_ANSWER
    finally:
        client.abort()
    return ADMITTED


async def _asked_to_sign(cluster: Cluster, socket_id: str, user: User) -> list[int]:
    """The statuses of both auth views of both nodes."""
    statuses = []
    for port in cluster.ports:
        http = Http(port)
        headers = {
            "Authorization": f"Token {user.token}",
            "Content-Type": "application/x-www-form-urlencoded",
        }
        for view, form in (
            ("auth", {"socket_id": socket_id, "channel_name": "private-row"}),
            ("user-auth", {"socket_id": socket_id}),
        ):
            body = urlencode(form).encode()
            answer = await http.request("POST", f"/pusher/{view}", body, headers)
            statuses.append(answer.status)
        http.close()
    return statuses
