"""Questions about channels: the same answers for Django code and for the HTTP API.

Names, parameters and shapes are those of the official Python library.
"""

from collections.abc import Iterable
from typing import Any, Final

from channels.db import database_sync_to_async
from django.db import connection

from realtime import applications, last_events, loops
from realtime.presence import census, ledger
from realtime.protocol.app import App
from realtime.protocol.errors import RealtimeError
from realtime.protocol.names import Kind, is_cache_channel, is_channel_name, kind_of

USER_COUNT: Final = "user_count"
SUBSCRIPTION_COUNT: Final = "subscription_count"
CACHE: Final = "cache"
ATTRIBUTES: Final = frozenset({USER_COUNT, SUBSCRIPTION_COUNT, CACHE})


class InvalidQuery(RealtimeError, ValueError):
    """An attribute that does not exist, or not for this channel."""


def channels_info(
    prefix_filter: str | None = None,
    attributes: Iterable[str] = (),
    *,
    app_id: str | None = None,
) -> dict[str, dict[str, dict[str, int]]]:
    """The occupied channels, ``{"channels": {name: {…}}}``.

    Args:
        attributes: ``user_count``, allowed where *prefix_filter* starts with ``presence-``.

    Raises:
        InvalidQuery: an attribute that is not allowed here.
    """
    app = applications.default(app_id)
    prefix = prefix_filter or ""
    wanted = _known(attributes)
    for name in (SUBSCRIPTION_COUNT, CACHE):
        if name in wanted:
            raise InvalidQuery(f"{name} is not available for a list of channels")
    if USER_COUNT in wanted and not prefix.startswith("presence-"):
        raise InvalidQuery(
            "user_count may only be requested if filter_by_prefix starts with presence-"
        )
    if prefix and not is_channel_name(prefix, app.limits):
        return {"channels": {}}  # no channel can start so
    settle()
    names = census.occupied(app.id, prefix)
    if USER_COUNT not in wanted:
        return {"channels": {name: {} for name in names}}
    users = census.user_counts(app.id, names)
    return {"channels": {name: {USER_COUNT: users.get(name, 0)} for name in names}}


def channel_info(
    channel: str, attributes: Iterable[str] = (), *, app_id: str | None = None
) -> dict[str, Any]:
    """One channel, ``{"occupied": …}`` with the attributes asked for.

    Args:
        attributes: ``user_count`` on presence channels, ``subscription_count`` on all,
            ``cache`` on cache channels: ``{"data", "ttl"}`` of the last event or ``None``.

    Raises:
        InvalidQuery: the name is malformed, or an attribute is not allowed here.
    """
    app = applications.default(app_id)
    wanted = _known(attributes)
    _check_name(app, channel)
    if USER_COUNT in wanted and kind_of(channel) is not Kind.PRESENCE:
        raise InvalidQuery(
            "Cannot retrieve the user count unless the channel is a presence channel"
        )
    if CACHE in wanted and not is_cache_channel(channel):
        raise InvalidQuery("Cannot retrieve the cache unless the channel is a cache channel")
    settle()
    total = census.subscriptions(app.id, [channel]).get(channel, 0)
    answer: dict[str, Any] = {"occupied": total > 0}
    if USER_COUNT in wanted:
        answer[USER_COUNT] = census.user_counts(app.id, [channel]).get(channel, 0)
    if SUBSCRIPTION_COUNT in wanted:
        answer[SUBSCRIPTION_COUNT] = total
    if CACHE in wanted:
        kept = last_events.read(app.id, channel)
        answer[CACHE] = {"data": kept.data, "ttl": kept.seconds_left} if kept.at else None
    return answer


def users_info(channel: str, *, app_id: str | None = None) -> dict[str, list[dict[str, str]]]:
    """The members of a presence channel, ``{"users": [{"id": …}]}``.

    Raises:
        InvalidQuery: *channel* is no presence channel.
    """
    app = applications.default(app_id)
    _check_name(app, channel)
    if kind_of(channel) is not Kind.PRESENCE:
        raise InvalidQuery("Users can only be retrieved for presence channels")
    settle()
    return {"users": [{"id": user_id} for user_id in census.user_ids(app.id, channel)]}


def check_attributes(attributes: Iterable[str]) -> None:
    """Raise unless all *attributes* exist.

    Raises:
        InvalidQuery: one does not.
    """
    _known(attributes)


def attributes_of(app: App, wanted_by_channel: dict[str, set[str]]) -> dict[str, dict[str, int]]:
    """What a trigger answers about its channels; what does not apply is left out."""
    settle()
    totals = census.subscriptions(app.id, wanted_by_channel)
    users = census.user_counts(app.id, wanted_by_channel)
    answer: dict[str, dict[str, int]] = {}
    for channel, wanted in wanted_by_channel.items():
        entry = answer[channel] = {}
        if USER_COUNT in wanted and kind_of(channel) is Kind.PRESENCE:
            entry[USER_COUNT] = users.get(channel, 0)
        if SUBSCRIPTION_COUNT in wanted:
            entry[SUBSCRIPTION_COUNT] = totals.get(channel, 0)
    return answer


async def achannels_info(
    prefix_filter: str | None = None,
    attributes: Iterable[str] = (),
    *,
    app_id: str | None = None,
) -> dict[str, dict[str, dict[str, int]]]:
    """``channels_info`` for coroutines."""
    return await database_sync_to_async(channels_info)(prefix_filter, attributes, app_id=app_id)


async def achannel_info(
    channel: str, attributes: Iterable[str] = (), *, app_id: str | None = None
) -> dict[str, Any]:
    """``channel_info`` for coroutines."""
    return await database_sync_to_async(channel_info)(channel, attributes, app_id=app_id)


async def ausers_info(
    channel: str, *, app_id: str | None = None
) -> dict[str, list[dict[str, str]]]:
    """``users_info`` for coroutines."""
    return await database_sync_to_async(users_info)(channel, app_id=app_id)


def _known(attributes: Iterable[str]) -> set[str]:
    wanted = set(attributes)
    if unknown := wanted - ATTRIBUTES:
        raise InvalidQuery(f"Unknown info attribute: {ascii(min(unknown)[:40])[1:-1]}")
    return wanted


def _check_name(app: App, channel: str) -> None:
    if not is_channel_name(channel, app.limits):
        raise InvalidQuery("Invalid channel name")


def settle() -> None:
    """Let what this process has recorded reach the database, so that it reads its own."""
    # Within a transaction the caller may hold the lock that the ledger waits for.
    if loops.home() is not None and not connection.in_atomic_block:
        loops.from_sync(_flushed)


async def _flushed() -> None:
    recorded = ledger.peek()
    if recorded is not None:
        await recorded.flushed()
