"""The reference site in production form, with room for all that one machine can open."""

import cProfile
import os
import signal
import time

from project.settings import *  # noqa: F403
from project.settings import REALTIME

REALTIME = {
    **REALTIME,
    "LIMITS": {"PRESENCE_MEMBERS": 10_000},
    "MAX_CONNECTIONS": 20_000,
    "MAX_CONNECTIONS_PER_IP": 100_000,
    "CONNECTS_PER_SECOND_PER_IP": 10_000,
    "JOIN_SECONDS": 60,  # a thousand joins at once are to be counted, not refused
}

PROFILE = "BENCH_PROFILE"
"""Environment variable: the file for a profile of the thread that loads these settings."""

if _path := os.environ.get(PROFILE):
    # Of CPU time: an event loop that waits would otherwise be all there is to see.
    _profile = cProfile.Profile(time.thread_time)
    signal.signal(signal.SIGUSR1, lambda *_: _profile.enable())

    def _write(*_: object) -> None:
        _profile.disable()
        _profile.dump_stats(f"{_path}.part")
        os.replace(f"{_path}.part", _path)

    signal.signal(signal.SIGUSR2, _write)
