"""What the harness reads and breaks inside a server process."""

import asyncio
import collections
import gc
import json
import logging
import threading
import time
from urllib.parse import parse_qsl

from asgiref.sync import sync_to_async
from django.db import connections, transaction

from realtime import conf, faults, hub, layer, metrics, trigger
from realtime.layer import Envelope, PublishFailed
from realtime.presence import ledger
from realtime.protocol.messages import encode_event

LAG_STEP_SECONDS = 0.01
LAG_STEPS_PER_MS = 10

requests: collections.Counter[str] = collections.Counter()
_lags: collections.Counter[int] = collections.Counter()
"""How often the loop was late by so many steps: a list of all would be the memory that row D1
sees growing."""
_probe: list[asyncio.Task] = []


def count_request(path):
    requests[path] += 1


async def answer(scope, receive, send):
    """Call the function the path names with the query as its arguments."""
    name = scope["path"].removeprefix("/chaos/")
    arguments = dict(parse_qsl(scope["query_string"].decode()))
    try:
        status, body = 200, await DOORS[name](**arguments)
    except PublishFailed as error:
        status, body = 503, {"error": str(error)}
    except Exception as error:
        logging.getLogger("chaos").warning("the harness asked for %s: %r", name, error)
        status, body = 500, {"error": repr(error)}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def state():
    """What this process holds."""
    gc.collect()
    local, local_ledger = hub.peek(), ledger.peek()
    return {
        "tasks": sorted(_task_name(task) for task in asyncio.all_tasks()),
        "threads": threading.active_count(),
        "connections": local.connections() if local else 0,
        "channels": len(local._channels) if local else 0,
        "users": len(local._users) if local else 0,
        "requests": dict(requests),
        "dropped": metrics.snapshot()["realtime_layer_messages_dropped_total"][""],
        "writing": local_ledger is not None and local_ledger._writer is not None,
        "recoveries": local.recoveries if local else 0,
        "objects": len(gc.get_objects()),
    }


def _task_name(task):
    """The name of a task that has one, else what it runs."""
    name = task.get_name()
    return task.get_coro().__qualname__ if name.startswith("Task-") else name


async def lag():
    """How late the loop ran what was due, in milliseconds, since the last question."""
    if not _probe:
        _probe.append(asyncio.create_task(_measure_lag(), name="chaos probe"))
    counts = dict(_lags) or {0: 1}
    _lags.clear()
    return {
        "count": sum(counts.values()),
        "p50": _percentile(counts, 0.5),
        "p99": _percentile(counts, 0.99),
        "max": max(counts) / LAG_STEPS_PER_MS,
    }


def _percentile(counts, share):
    """In milliseconds, from how often there was each."""
    below = int(sum(counts.values()) * share)
    for steps in sorted(counts):
        below -= counts[steps]
        if below < 0:
            break
    return steps / LAG_STEPS_PER_MS


async def _measure_lag():
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LAG_STEP_SECONDS
        # The measurement itself: how much later than due this returns.
        await asyncio.sleep(LAG_STEP_SECONDS)
        late = max(0.0, loop.time() - due)
        _lags[round(late * 1000 * LAG_STEPS_PER_MS)] += 1


async def end_receiver(how):
    """End the task in which channels-redis reads from Redis, by cancelling or by an error."""
    ended = 0
    for shard in layer.channel_layer()._shards:
        if shard._receive_task is None:
            continue
        if how == "cancel":
            shard._receive_task.cancel()
        else:
            shard._pubsub = _Failing(shard._pubsub)
        ended += 1
    return {"ended": ended}


class _Failing:
    """A subscription whose next read fails as one on a dead link does, once."""

    def __init__(self, real):
        self._real = real
        self._failed = False

    def __getattr__(self, name):
        return getattr(self._real, name)

    async def get_message(self, **options):
        if self._failed:
            return await self._real.get_message(**options)
        self._failed = True
        raise TimeoutError("injected by the harness")


async def arm(point, action):
    """Let an injection point break the next time it is passed, as if it were armed from the start.

    Most points are passed by what a row does to get going, so the environment is too early.
    """
    faults._armed()[point] = action
    return {}


async def durable(channel, name, data, rollback="0"):
    """A durable trigger inside a transaction of Django code."""

    def work():
        with transaction.atomic():
            # A durable event is an object, into which the app puts the id of the event.
            trigger(channel, name, json.loads(data), durable=True)
            if rollback == "1":
                transaction.set_rollback(True)
        return {"at": time.monotonic()}

    return await sync_to_async(work, thread_sensitive=False)()


async def plain(channel, name, data, rollback="0"):
    """An ordinary trigger inside a transaction of Django code."""

    def work():
        with transaction.atomic():
            trigger(channel, name, data)
            if rollback == "1":
                transaction.set_rollback(True)
        return {"at": time.monotonic()}

    return await sync_to_async(work, thread_sensitive=False)()


async def burst(channel, count):
    """Publish *count* events in one turn of the loop, as far as the layer lets us."""
    app = conf.apps()[0]
    envelopes = [
        Envelope(app.id, channel, encode_event("burst", channel, str(number)))
        for number in range(int(count))
    ]
    answers = await asyncio.gather(
        *(layer.publish([envelope]) for envelope in envelopes), return_exceptions=True
    )
    refused = sum(isinstance(answer, Exception) for answer in answers)
    return {"accepted": len(envelopes) - refused, "refused": refused}


async def webhooks():
    """How many deliveries there are, by path of the endpoint and status."""

    def count():
        from django.db.models import Count

        from realtime.models import WebhookDelivery

        found = WebhookDelivery.objects.values_list("url", "status").annotate(count=Count("pk"))
        counts = collections.defaultdict(dict)
        for url, status, number in found.order_by("url"):
            counts[url.rpartition("/")[2]][status] = number
        # This thread belongs to the harness and must not keep a connection of its own.
        connections.close_all()
        return counts

    return await sync_to_async(count, thread_sensitive=False)()


async def rows():
    """How many rows of each model there are."""

    def count():
        from django.apps import apps

        models = apps.get_app_config("realtime").get_models()
        counts = {model.__name__: model.objects.count() for model in models}
        present = apps.get_model("realtime", "Member").objects.filter(present=True)
        counts["Member present"] = present.count()
        # This thread belongs to the harness and must not keep a connection of its own.
        connections.close_all()
        return counts

    return await sync_to_async(count, thread_sensitive=False)()


DOORS = {
    "state": state,
    "lag": lag,
    "end-receiver": end_receiver,
    "arm": arm,
    "durable": durable,
    "plain": plain,
    "burst": burst,
    "rows": rows,
    "webhooks": webhooks,
}
