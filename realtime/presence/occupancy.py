"""Which channels have subscriptions: how many in this process, and whether in any.

The first subscription in the cluster and the last one are decided under the lock of the
channel's row, which is taken only when a process goes from none to some or back, and somebody
wants to know.  Rows are locked in key order, after those of members.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import QuerySet
from django.utils import timezone

from realtime.models import ChannelState, Occupancy
from realtime.protocol.facts import Fact
from realtime.webhooks.facts import CACHE_MISS_SECONDS

Channel = tuple[str, str]
"""App id and name."""


@dataclass(frozen=True, slots=True)
class Occupy:
    """A channel has that many subscriptions in this process now."""

    app_id: str
    channel: str
    subscriptions: int


def write(server_id: UUID, items: Sequence[Occupy]) -> dict[Channel, bool]:
    """Write the counts of one process; return the channels that came (or went) there."""
    latest = {(item.app_id, item.channel): item.subscriptions for item in items}
    if not latest:
        return {}
    held = Occupancy.objects.filter(server=server_id, channel__in={name for _, name in latest})
    rows = {
        (app_id, name): key for app_id, name, key in held.values_list("app_id", "channel", "pk")
    }
    before = rows.keys() & latest.keys()
    gone = {key for key in before if not latest[key]}
    if gone:
        Occupancy.objects.filter(pk__in=[rows[key] for key in gone]).delete()
    Occupancy.objects.bulk_create(
        [
            Occupancy(server_id=server_id, app_id=key[0], channel=key[1], subscriptions=total)
            for key, total in latest.items()
            if total
        ],
        update_conflicts=True,
        unique_fields=["server", "app_id", "channel"],
        update_fields=["subscriptions"],
    )
    came = {key for key, total in latest.items() if total and key not in before}
    return {**dict.fromkeys(gone, False), **dict.fromkeys(came, True)}


def reap(servers: Collection[UUID], limit: int) -> list[Channel]:
    """Delete *limit* counts of dead processes; return the channel of each."""
    held = Occupancy.objects.filter(server__in=servers)
    rows = list(held.values_list("pk", "app_id", "channel")[:limit])
    Occupancy.objects.filter(pk__in=[row[0] for row in rows]).delete()
    return [(app_id, channel) for _, app_id, channel in rows]


def settle(
    moved: Mapping[Channel, bool], misses: Iterable[Fact], server_id: UUID | None = None
) -> list[Fact]:
    """Decide under their locks what is news to the cluster.

    Args:
        moved: channels that came, or went, in some process; written already.
        misses: facts of the kind ``cache_miss``.
        server_id: the process in which they came.

    Returns:
        which channels were first occupied or last vacated, and the misses that are no repeats.
    """
    missed = {(fact.app_id, fact.channel): fact for fact in misses}
    states = _lock({*moved, *missed})
    changed = _flip([states[key] for key in moved], moved, server_id)
    now = timezone.now()
    recent = now - timedelta(seconds=CACHE_MISS_SECONDS)
    news = [
        key
        for key in missed
        # One from the future was written before the clock was put back.
        if not recent < (states[key].cache_missed_at or recent) <= now
    ]
    if news:
        ChannelState.objects.filter(pk__in=[states[key].pk for key in news]).update(
            cache_missed_at=now
        )
    return [
        *(
            Fact(
                app_id=state.app_id,
                kind="channel_occupied" if state.occupied else "channel_vacated",
                channel=state.channel,
            )
            for state in changed
        ),
        *(missed[key] for key in news),
    ]


def vacant_since(before: datetime) -> QuerySet[ChannelState]:
    """Channels that have been empty since before *before*; whoever comes makes the row anew."""
    return ChannelState.objects.filter(occupied=False, changed_at__lt=before)


def _lock(keys: Collection[Channel]) -> dict[Channel, ChannelState]:
    if not keys:
        return {}
    rows = {ChannelState.key_of(*key): key for key in keys}
    # Writing a row that is there locks it, and makes it anew if it was deleted meanwhile.
    ChannelState.objects.bulk_create(
        [ChannelState(id=pk, app_id=rows[pk][0], channel=rows[pk][1]) for pk in sorted(rows)],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["changed_at"],
    )
    return {rows[state.pk]: state for state in ChannelState.objects.filter(pk__in=list(rows))}


def _flip(
    states: Sequence[ChannelState], moved: Mapping[Channel, bool], server_id: UUID | None
) -> list[ChannelState]:
    """Those of the locked *states* that no other process has, as they are now."""
    if not states:
        return []
    others = Occupancy.objects.filter(channel__in={state.channel for state in states})
    if server_id is not None:
        others = others.exclude(server=server_id)
    elsewhere = set(others.values_list("app_id", "channel").distinct())
    changed = [state for state in states if (state.app_id, state.channel) not in elsewhere]
    for state in changed:
        state.occupied = moved[state.app_id, state.channel]
    for occupied in (False, True):
        keys = [state.pk for state in changed if state.occupied is occupied]
        if keys:
            ChannelState.objects.filter(pk__in=keys).update(occupied=occupied)
    return changed
