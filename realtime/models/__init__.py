"""What is remembered beyond one process: apps, users, who is where, and what is to be sent."""

from realtime.models.application import Application
from realtime.models.keys import row_id
from realtime.models.outbox import OutboxChannel, OutboxEntry, OutboxEntryQuerySet
from realtime.models.presence import (
    Member,
    MemberQuerySet,
    Membership,
    Occupancy,
    OccupancyQuerySet,
    RealtimeUser,
    RealtimeUserQuerySet,
    Server,
    ServerQuerySet,
)

__all__ = [
    "Application",
    "Member",
    "MemberQuerySet",
    "Membership",
    "Occupancy",
    "OccupancyQuerySet",
    "OutboxChannel",
    "OutboxEntry",
    "OutboxEntryQuerySet",
    "RealtimeUser",
    "RealtimeUserQuerySet",
    "Server",
    "ServerQuerySet",
    "row_id",
]
