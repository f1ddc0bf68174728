"""``python -m tests.bench.trigger_probe ROUNDS CALLS``: what ``realtime.trigger`` takes.

Runs as a synchronous program of its own, such as a worker of a task queue or a WSGI server.
Prints the microseconds of a call for each round, how often it was called in all, and how many
messages were sent past it.
"""

import json
import sys
import time

import django

django.setup()

import realtime  # noqa: E402 - needs the apps to be loaded
from realtime import layer, loops  # noqa: E402

GROUP = layer.layer_group("", "nobody")
DATA = {"text": "x" * 88}


def measure(calls: int) -> dict[str, float]:
    """Microseconds of one call: of the clock, and of CPU in all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        realtime.trigger("bench", "event", DATA)
    return {
        "trigger": (time.perf_counter() - wall) / calls * 1e6,
        "trigger_cpu": (time.process_time() - cpu) / calls * 1e6,
        "layer": loops.from_sync(lambda: _layer(calls)),
    }


async def _layer(calls: int) -> float:
    """Microseconds of what the layer does for one call, without a change of thread."""
    wall = time.perf_counter()
    for _ in range(calls):
        await layer.send(GROUP, {"type": "bench", "data": DATA})
    return (time.perf_counter() - wall) / calls * 1e6


if __name__ == "__main__":
    rounds, calls = (int(word) for word in sys.argv[1:])
    warm = max(1, calls // 4)
    measure(warm)
    seen = [measure(calls) for _ in range(rounds)]
    made = warm + rounds * calls
    print(json.dumps({"rounds": seen, "triggers": made, "sends": made}))
