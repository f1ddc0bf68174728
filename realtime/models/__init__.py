"""What is remembered beyond one process: apps, users, who is where, what is to be sent."""

from realtime.models.application import Application
from realtime.models.keys import row_id
from realtime.models.outbox import OutboxChannel, OutboxEntry, OutboxEntryQuerySet
from realtime.models.presence import (
    ChannelState,
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
from realtime.models.webhooks import PendingFact, WebhookDelivery, WebhookEndpoint, WebhookQueue

__all__ = [
    "Application",
    "ChannelState",
    "Member",
    "MemberQuerySet",
    "Membership",
    "Occupancy",
    "OccupancyQuerySet",
    "OutboxChannel",
    "OutboxEntry",
    "OutboxEntryQuerySet",
    "PendingFact",
    "RealtimeUser",
    "RealtimeUserQuerySet",
    "Server",
    "ServerQuerySet",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookQueue",
    "row_id",
]
