"""Row H3: each limit, tried at its edge and one step over it, against a running server."""

import asyncio
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from realtime import conf, sockets
from realtime.protocol.app import Limits
from realtime.protocol.frames import Frame
from tests.chaos.client import Gone, Pusher, Refused, sign
from tests.chaos.cluster import Cluster
from tests.chaos.edge import EDGES, TRIED_ELSEWHERE, Edge, edge
from tests.chaos.publisher import Publisher
from tests.chaos.rows import Run, row
from tests.chaos.scenarios import server_edges
from tests.chaos.websocket import TEXT, frame
from tests.e2e.sites import ROOT

SMALL = {
    "CHANNEL_NAME_CHARS": 30,
    "EVENT_NAME_CHARS": 20,
    "EVENT_DATA_BYTES": 100,
    "CHANNELS_PER_TRIGGER": 3,
    "EVENTS_PER_BATCH": 2,
    "CLIENT_EVENTS_PER_SECOND": 4,
    "PRESENCE_MEMBERS": 2,
    "PRESENCE_USER_ID_CHARS": 10,
    "PRESENCE_USER_INFO_BYTES": 40,
    "SIGNIN_USER_ID_CHARS": 12,
    "MESSAGE_BYTES": 4_000,
    "MALFORMED_MESSAGES": 3,
    "SUBSCRIPTIONS_PER_CONNECTION": 4,
    "WATCHLIST_USER_IDS": 3,
}

STRICT = {"MESSAGES_PER_SECOND": 10, "SUBSCRIPTIONS_PER_CONNECTION": 5, "FLOOD_SECONDS": 2}
"""What slows every client down has a process of its own too."""

API_EVENTS = 5
AUTHORIZATION = 2
"""Seconds."""


@row(
    "H3",
    inject="each limit of the settings, lowered, tried at the limit and one over it",
    hold="accepted at the limit, refused above it; no limit without such a test, and no other"
    " number of the settings without a test that changes it",
    limit=60,
    short=True,
)
async def limits_hold_at_their_edge(run: Run) -> None:
    settings: dict[str, Any] = {
        "LIMITS": SMALL,
        **server_edges.SETTINGS,
        "API_BODY_BYTES": 1_000,
        "MAX_CONNECTIONS": 40,
    }
    cluster = await run.cluster(1, settings=settings)
    # What refuses connections has a process of its own, or nothing else could connect.
    narrow: dict[str, Any] = {"MAX_APP_CONNECTIONS": 5}
    crowded = await run.cluster(1, settings=narrow)
    # The addresses of this machine are counted where a header could name another.
    single: dict[str, Any] = {
        "MAX_CONNECTIONS_PER_IP": 6,
        "CONNECTS_PER_SECOND_PER_IP": 1,
        "CLIENT_IP_HEADER": "X-Forwarded-For",
        "LIMITS": {**STRICT, "API_EVENTS_PER_SECOND": API_EVENTS},
    }
    strict = await run.cluster(1, settings=single)
    wary: dict[str, Any] = {
        "AUTHORIZED_CONNECTIONS": True,
        "LIMITS": {"AUTHORIZATION_SECONDS": AUTHORIZATION},
    }
    limits = {item.name for item in dataclasses.fields(Limits)}
    numbers = {
        item.name
        for item in dataclasses.fields(conf.Settings)
        if item.type in (int, float, int | None)
    }
    limits |= numbers - TRIED_ELSEWHERE.keys()
    places = {
        "max_app_connections": crowded,
        "authorization_seconds": await run.cluster(1, settings=wary),
    } | dict.fromkeys(
        (
            "api_events_per_second",
            "connects_per_second_per_ip",
            "flood_seconds",
            "max_connections_per_ip",
            "messages_per_second",
        ),
        strict,
    )
    wrong = []
    tried = limits & EDGES.keys()
    if run.short:  # on a slow machine what is over a rate comes when there is room again
        tried = {name for name in tried if "second" not in name}
    for name in sorted(tried):
        accepted, refused = await EDGES[name](places.get(name, cluster))
        if not accepted:
            wrong.append(f"{name}: refused at the limit")
        if not refused:
            wrong.append(f"{name}: accepted above the limit")
    run.check("limits tried", len(tried), at_least=15)
    run.check_none("wrong at their edge", wrong)
    run.check("without a test at their edge", sorted(limits - EDGES.keys()), equals=[])
    run.check("settings that are gone", sorted(TRIED_ELSEWHERE.keys() - numbers), equals=[])
    idle = [name for name, test in TRIED_ELSEWHERE.items() if not _changes(ROOT / test, name)]
    run.check("settings that no test changes", idle, equals=[])


def _changes(test: Path, name: str) -> bool:
    """Whether a test sets the setting *name*."""
    return re.search(rf"{name.upper()}(=|\"\]? ?[:=])", test.read_text()) is not None


async def _client(cluster: Cluster) -> Pusher:
    return await Pusher.open(cluster[0].port)


async def _status(cluster: Cluster, path: str, body: dict[str, Any]) -> int:
    return (await Publisher(cluster[0].port).call("POST", path, body)).status


async def _event(cluster: Cluster, **changes: Any) -> bool:
    body = {"name": "event", "channel": "news", "data": "x", **changes}
    return await _status(cluster, "/events", body) == 200


async def _subscribes(client: Pusher, *arguments: Any, **options: Any) -> bool:
    try:
        await client.subscribe(*arguments, **options)
    except (Refused, Gone):
        return False
    return True


async def _joins(client: Pusher, channel: str, user: str, info: Any) -> bool:
    data = json.dumps({"user_id": user, "user_info": info}, separators=(",", ":"))
    auth = {"channel_data": data, "auth": sign(f"{client.socket_id}:{channel}:{data}")}
    return await _subscribes(client, channel, auth=auth)


@edge
async def channel_name_chars(cluster: Cluster) -> Edge:
    client, most = await _client(cluster), SMALL["CHANNEL_NAME_CHARS"]
    return await _subscribes(client, "r" * most), not await _subscribes(client, "r" * (most + 1))


@edge
async def event_name_chars(cluster: Cluster) -> Edge:
    most = SMALL["EVENT_NAME_CHARS"]
    return await _event(cluster, name="e" * most), not await _event(cluster, name="e" * (most + 1))


@edge
async def event_data_bytes(cluster: Cluster) -> Edge:
    most = SMALL["EVENT_DATA_BYTES"]
    # Two bytes each in UTF-8: characters are not what is counted.
    within, beyond = "é" * (most // 2), "é" * (most // 2) + "x"
    return await _event(cluster, data=within), not await _event(cluster, data=beyond)


@edge
async def channels_per_trigger(cluster: Cluster) -> Edge:
    names = [f"news-{number}" for number in range(SMALL["CHANNELS_PER_TRIGGER"] + 1)]
    return await _event(cluster, channels=names[1:]), not await _event(cluster, channels=names)


@edge
async def events_per_batch(cluster: Cluster) -> Edge:
    item = {"name": "event", "channel": "news", "data": "x"}
    most = SMALL["EVENTS_PER_BATCH"]
    within = await _status(cluster, "/batch_events", {"batch": [item] * most})
    beyond = await _status(cluster, "/batch_events", {"batch": [item] * (most + 1)})
    return within == 200, beyond == 400


@edge
async def client_events_per_second(cluster: Cluster) -> Edge:
    client, most = await _client(cluster), SMALL["CLIENT_EVENTS_PER_SECOND"]
    await client.subscribe("private-x")
    for number in range(most + 1):
        client.send("client-x", {"n": number}, channel="private-x")
    await client.round_trip()
    codes = [error.get("code") for error in client.errors]
    return len(codes) <= 1, codes == [4301]


@edge
async def presence_members(cluster: Cluster) -> Edge:
    most = SMALL["PRESENCE_MEMBERS"]
    clients = [await _client(cluster) for _ in range(most + 1)]
    joined = [
        await _joins(client, "presence-few", f"u{number}", {})
        for number, client in enumerate(clients)
    ]
    return all(joined[:most]), not joined[most]


@edge
async def presence_user_id_chars(cluster: Cluster) -> Edge:
    client, most = await _client(cluster), SMALL["PRESENCE_USER_ID_CHARS"]
    within = await _joins(client, "presence-id", "u" * most, {})
    return within, not await _joins(client, "presence-id-2", "u" * (most + 1), {})


@edge
async def presence_user_info_bytes(cluster: Cluster) -> Edge:
    client, most = await _client(cluster), SMALL["PRESENCE_USER_INFO_BYTES"]
    frame_of_it = len('{"n":""}')
    within = await _joins(client, "presence-info", "u1", {"n": "x" * (most - frame_of_it)})
    beyond = await _joins(client, "presence-info-2", "u1", {"n": "x" * (most - frame_of_it + 1)})
    return within, not beyond


@edge
async def signin_user_id_chars(cluster: Cluster) -> Edge:
    most = SMALL["SIGNIN_USER_ID_CHARS"]

    async def signs_in(user: str) -> bool:
        try:
            await (await _client(cluster)).sign_in(user)
        except Refused:
            return False
        return True

    return await signs_in("u" * most), not await signs_in("u" * (most + 1))


@edge
async def watchlist_user_ids(cluster: Cluster) -> Edge:
    async def codes(watched: int) -> list[Any]:
        client = await _client(cluster)
        names = [f"w{number}" for number in range(watched)]
        user_data = json.dumps({"id": "ann", "watchlist": names})
        auth = sign(f"{client.socket_id}::user::{user_data}")
        client.send("pusher:signin", {"auth": auth, "user_data": user_data})
        await client.round_trip()
        return [error.get("code") for error in client.errors]

    most = SMALL["WATCHLIST_USER_IDS"]
    return await codes(most) == [], await codes(most + 1) == [4302]


@edge
async def authorization_seconds(cluster: Cluster) -> Edge:
    client = await _client(cluster)
    began = asyncio.get_running_loop().time()
    await asyncio.wait([client.closed], timeout=AUTHORIZATION + 5)
    seconds = asyncio.get_running_loop().time() - began
    return seconds > AUTHORIZATION - 0.1, client.close_code == 4009


@edge
async def message_bytes(cluster: Cluster) -> Edge:
    client, most = await _client(cluster), SMALL["MESSAGE_BYTES"]
    empty = len('{"event":"pusher:ping","data":""}')

    def ping(size: int) -> bytes:
        filler = "x" * (size - empty)
        return frame(TEXT, f'{{"event":"pusher:ping","data":"{filler}"}}'.encode())

    answer = client.expect("pusher:pong")
    client.write(ping(most))
    await asyncio.wait([answer], timeout=5)
    within = answer.done() and not answer.exception()
    client.write(ping(most + 1))
    await asyncio.wait([client.closed], timeout=5)
    return within, client.close_code == 1009


@edge
async def malformed_messages(cluster: Cluster) -> Edge:
    client, most = await _client(cluster), SMALL["MALFORMED_MESSAGES"]
    for _ in range(most):
        client.write(frame(TEXT, b"nonsense"))
    answer = client.expect("pusher:pong")
    client.write(frame(TEXT, b"nonsense"))  # not a ping: that would begin the count anew
    await asyncio.wait([client.closed, answer], timeout=5, return_when=asyncio.FIRST_COMPLETED)
    return len(client.errors) == most, client.close_code == 1008


@edge
async def subscriptions_per_connection(cluster: Cluster) -> Edge:
    client, most = await _client(cluster), SMALL["SUBSCRIPTIONS_PER_CONNECTION"]
    within = [await _subscribes(client, f"sub-{number}") for number in range(most)]
    return all(within), not await _subscribes(client, "one-more")


async def _turns() -> None:
    """Let the loop do what is due, and what becomes due by that: a socket is judged in turns."""
    for _ in range(5):
        await asyncio.sleep(0)


@edge
async def backlog_chars(cluster: Cluster) -> Edge:
    """The kernel holds back what it likes, so this one is tried without a network."""
    dropped = []
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def stuck(message: dict[str, Any]) -> None:
        await never

    socket = sockets.Socket("1", "1.1", stuck, backlog_chars=100, drop=lambda: dropped.append(True))
    socket.push(Frame("x" * 100))
    await _turns()
    within = not dropped
    socket.push(Frame("x"))
    await _turns()
    never.cancel()
    return within, bool(dropped)


@edge
async def api_body_bytes(cluster: Cluster) -> Edge:
    empty = len(json.dumps({"batch": [], "x": ""}))

    async def status(size: int) -> int:
        return await _status(cluster, "/batch_events", {"batch": [], "x": "x" * (size - empty)})

    return await status(1_000) != 413, await status(1_001) == 413


async def _fill(
    cluster: Cluster, most: int, source: str | None = None
) -> tuple[list[int | None], int | None]:
    """Close codes of as many connections as are allowed, and of one more."""
    clients = []
    last: int | None = None
    for _ in range(most + 1):
        try:
            clients.append(await Pusher.open(cluster[0].port, dialling={"source": source}))
        except Gone as error:
            last = error.code
        except OSError:
            last = 0
    codes = [client.close_code for client in clients]
    for client in clients:
        await client.leave()
    return codes, last


@edge
async def max_app_connections(cluster: Cluster) -> Edge:
    codes, last = await _fill(cluster, 5)
    return codes == [None] * 5, last == 4004


@edge
async def max_connections_per_ip(cluster: Cluster) -> Edge:
    codes, last = await _fill(cluster, 6, source="127.0.0.2")
    return codes == [None] * 6, last == 4100


@edge
async def connects_per_second_per_ip(cluster: Cluster) -> Edge:
    """Ten seconds' worth may come at once."""
    options = {"dialling": {"source": "127.0.0.3"}}
    for _ in range(10):
        try:
            await (await Pusher.open(cluster[0].port, **options)).leave()
        except Gone:
            return False, True
    for _ in range(5):  # one more may be let in for each second that passes meanwhile
        try:
            await (await Pusher.open(cluster[0].port, **options)).leave()
        except Gone as error:
            return True, error.code == 4100
    return True, False


@edge
async def api_events_per_second(cluster: Cluster) -> Edge:
    item = {"name": "event", "channel": "news", "data": "x"}
    within = await _status(cluster, "/batch_events", {"batch": [item] * API_EVENTS})
    return within == 200, await _status(cluster, "/events", item) == 429


@edge
async def messages_per_second(cluster: Cluster) -> Edge:
    """A faster client is read later, and loses nothing."""
    most = STRICT["MESSAGES_PER_SECOND"]

    async def seconds(count: int) -> float:
        client = await Pusher.open(cluster[0].port, dialling={"source": "127.0.0.4"})
        for _ in range(count - 1):
            client.send("pusher:ping")
        started = asyncio.get_running_loop().time()
        await client.subscribe("last")
        took = asyncio.get_running_loop().time() - started
        await client.leave()
        return took

    # The message after the limit is read at once, and the next one a tenth of a second later.
    return await seconds(most) < 1, await seconds(2 * most + 1) >= 0.9


@edge
async def flood_seconds(cluster: Cluster) -> Edge:
    most, rate = STRICT["FLOOD_SECONDS"], STRICT["MESSAGES_PER_SECOND"]

    async def closed(seconds: float) -> int | None:
        """The close code after a flood that is held back for so long."""
        client = await Pusher.open(cluster[0].port, dialling={"source": "127.0.0.5"})
        for _ in range(int(rate + rate * seconds)):
            client.send("pusher:ping")
        answer = client.ask("last")
        await asyncio.wait([answer], timeout=10)
        code = client.close_code
        await client.leave()
        return code

    return await closed(most - 0.5) is None, await closed(most + 2) == 4100


@edge
async def max_connections(cluster: Cluster) -> Edge:
    """Counts from what the probes before it left open."""
    open_now = (await cluster[0].ask("state"))["connections"]
    codes, last = await _fill(cluster, 40 - open_now)
    return codes == [None] * (40 - open_now), last == 4100
