"""The reference site in production form, with room for all that one machine can open."""

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
