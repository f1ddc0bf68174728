"""What waits to be committed, and who waits for it."""

import asyncio
from collections.abc import Sequence

from realtime import metrics
from realtime.presence import store
from realtime.presence.transitions import Join, Transition
from realtime.protocol.errors import LimitReached, SubscriptionRefused
from realtime.protocol.facts import Fact

Entry = tuple[Transition, asyncio.Future[store.Roster | None] | None]
"""What happened, and who waits for it to be committed."""


def given_up(entry: Entry) -> bool:
    """Whether nobody waits any more for what somebody waited for."""
    return entry[1] is not None and entry[1].done()


def facts_in(group: Sequence[Entry]) -> int:
    """How many facts there are among *group*."""
    return sum(isinstance(move, Fact) for move, _ in group)


def refuse(group: Sequence[Entry], error: Exception) -> list[Entry]:
    """Let the joins of a group fail that cannot be written, and drop its facts.

    Returns:
        the rest, of which nothing may be lost.
    """
    metrics.count("facts_dropped", facts_in(group))
    for _, waiting in group:
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)
    return [entry for entry in group if entry[1] is None and not isinstance(entry[0], Fact)]


def answer(entry: Entry, outcome: store.Outcome) -> None:
    """Tell whoever waits for a join how it went."""
    joining, waiting = entry
    if waiting is None or waiting.done() or not isinstance(joining, Join):
        return
    if joining in outcome.banned:
        waiting.set_exception(SubscriptionRefused("This user is banned"))
    elif joining in outcome.crowded:
        waiting.set_exception(
            LimitReached(f"Presence channel is full: {joining.limit} members at most")
        )
    else:
        waiting.set_result(outcome.rosters.get((joining.app_id, joining.channel)))
