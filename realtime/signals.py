"""Django signals for what happens in the apps, sent by the server processes.

A receiver runs in a thread with a database connection, after the commit, at least once, in
one server process.  All have ``sender=None`` and ``app_id``; ``docs/reference/signals.md``
lists what else each of them has.
"""

from typing import Final

from django.dispatch import Signal

channel_occupied = Signal()
channel_vacated = Signal()
member_added = Signal()
member_removed = Signal()
client_event = Signal()
cache_miss = Signal()
subscription_count = Signal()
user_online = Signal()
user_offline = Signal()

BY_KIND: Final = {
    "channel_occupied": channel_occupied,
    "channel_vacated": channel_vacated,
    "member_added": member_added,
    "member_removed": member_removed,
    "client_event": client_event,
    "cache_miss": cache_miss,
    "subscription_count": subscription_count,
    "user_online": user_online,
    "user_offline": user_offline,
}
