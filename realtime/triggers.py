"""Sending events from Django code, and what the HTTP API shares with it.

Everything is checked in the caller's stack, encoded once, and sent when the transaction
around the call has committed.  Names and parameters are those of the official library.

A durable event is written into that transaction and sent from there, so neither a crash nor an
outage of the layer loses it; see ``outbox``.
"""

import functools
import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from channels.db import database_sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, transaction

from realtime import applications, encryption, last_events, layer, loops, outbox
from realtime.layer import Envelope, PublishFailed
from realtime.protocol.app import App
from realtime.protocol.errors import DataTooLarge, InvalidTrigger
from realtime.protocol.messages import encode_event
from realtime.protocol.names import (
    Kind,
    check_event_name,
    check_triggerable,
    is_signin_user_id,
    is_socket_id,
    kind_of,
    user_channel,
)

logger = logging.getLogger(__name__)


def trigger(
    channels: str | Sequence[str],
    event_name: str,
    data: object,
    socket_id: str | None = None,
    *,
    app_id: str | None = None,
    using: str | None = None,
    durable: bool = False,
) -> None:
    """Send an event to *channels* once the current transaction has committed.

    Outside a transaction it is sent at once.  A rolled-back transaction sends nothing.

    Args:
        data: text goes out as it is, anything else as JSON; for an encrypted channel it is
            encrypted before it leaves this process.
        socket_id: the one connection that does not get the event, usually the sender's.
        app_id: the app, where a site has several.
        using: the database of the transaction, where a site has several.
        durable: keep the event in the database until the channel layer took it: at least
            once, in order per channel.  Then *data* is a mapping, and goes out with one more
            key, ``event_id``, by which a client recognises a repeat.

    Raises:
        InvalidTrigger: a name or the data breaks a limit.  Raised here, not after commit.
        TypeError: an argument is of the wrong type.
        ValueError: a durable event for a transaction of another database.
        PublishFailed: the channel layer did not take the event.  Within a transaction this
            is logged instead: what is committed cannot be taken back.  Never of durable ones.
    """
    app = applications.default(app_id)
    if durable:
        data = _with_event_id(data)
    text = _sealed(app, channels, _text(data))
    _send(encode(app, channels, event_name, text, socket_id), using, durable=durable)


def trigger_batch(
    batch: Sequence[Mapping[str, Any]],
    already_encoded: bool = False,
    *,
    app_id: str | None = None,
    using: str | None = None,
    durable: bool = False,
) -> None:
    """Send several events, in order, as ``trigger`` does.

    Args:
        batch: at most ten of ``{"channel", "name", "data"}``, each with an optional
            ``"socket_id"``.
        already_encoded: the data of all is text, which goes out as it is in any case; here
            because the official library has it.
        durable: all of them, or none.

    Raises:
        InvalidTrigger: any of them breaks a limit; then none is sent.
        TypeError: the data is not text, though *already_encoded*.
    """
    if already_encoded and not all(isinstance(item["data"], str) for item in batch):
        raise TypeError("already_encoded data must be text")
    app = applications.default(app_id)
    _send(encode_batch(app, _texts(app, batch, durable=durable)), using, durable=durable)


def send_to_user(
    user_id: str,
    event_name: str,
    data: object,
    *,
    app_id: str | None = None,
    using: str | None = None,
    durable: bool = False,
) -> None:
    """Send an event to every connection signed in as *user_id*, as ``trigger`` does."""
    if not isinstance(user_id, str):
        raise TypeError(f"user_id must be a string, not {type(user_id).__name__}")
    app = applications.default(app_id)
    if not is_signin_user_id(user_id, app.limits):
        raise InvalidTrigger("Invalid user id")
    channel = user_channel(user_id)
    trigger(channel, event_name, data, app_id=app.id, using=using, durable=durable)


async def atrigger(
    channels: str | Sequence[str],
    event_name: str,
    data: object,
    socket_id: str | None = None,
    *,
    app_id: str | None = None,
    durable: bool = False,
) -> None:
    """``trigger`` for coroutines, which have no transaction: it is sent at once."""
    app = await _adefault(app_id)
    if durable:
        data = _with_event_id(data)
    text = _sealed(app, channels, _text(data))
    await _asend(encode(app, channels, event_name, text, socket_id), durable=durable)


async def atrigger_batch(
    batch: Sequence[Mapping[str, Any]], *, app_id: str | None = None, durable: bool = False
) -> None:
    """``trigger_batch`` for coroutines."""
    app = await _adefault(app_id)
    await _asend(encode_batch(app, _texts(app, batch, durable=durable)), durable=durable)


async def asend_to_user(
    user_id: str,
    event_name: str,
    data: object,
    *,
    app_id: str | None = None,
    durable: bool = False,
) -> None:
    """``send_to_user`` for coroutines."""
    app = await _adefault(app_id)
    if not is_signin_user_id(user_id, app.limits):
        raise InvalidTrigger("Invalid user id")
    await atrigger(user_channel(user_id), event_name, data, app_id=app.id, durable=durable)


def encode(
    app: App,
    channels: str | Sequence[str],
    event_name: str,
    data: str,
    socket_id: str | None = None,
) -> list[Envelope]:
    """Check one event and encode it for each of its channels.

    Raises:
        InvalidTrigger, DataTooLarge: it breaks a limit.
        TypeError: an argument is of the wrong type.
    """
    names = [channels] if isinstance(channels, str) else list(dict.fromkeys(channels))
    limits = app.limits
    if not names:
        raise InvalidTrigger("An event needs at least one channel")
    if len(names) > limits.channels_per_trigger:
        raise InvalidTrigger(f"An event may go to {limits.channels_per_trigger} channels at most")
    for value in (*names, event_name):
        if not isinstance(value, str):
            raise TypeError(f"channel and event names must be text, not {type(value).__name__}")
    for name in names:
        check_triggerable(name, limits)
    check_event_name(event_name, limits)
    if len(data.encode("utf-8", "surrogatepass")) > limits.event_data_bytes:
        raise DataTooLarge(
            "The data content of this event exceeds the allowed maximum"
            f" ({limits.event_data_bytes} bytes). See https://pusher.com/docs/channels/"
            "server_api/http-api#publishing-events for more info"
        )
    if socket_id is not None and not is_socket_id(socket_id):
        raise InvalidTrigger("Invalid socket_id")
    return [
        Envelope(app.id, name, encode_event(event_name, name, data), socket_id) for name in names
    ]


def encode_batch(app: App, items: Sequence[Mapping[str, Any]]) -> list[Envelope]:
    """Check several events and encode them, in order; see ``encode``."""
    if len(items) > app.limits.events_per_batch:
        raise InvalidTrigger(f"Batch too large: {app.limits.events_per_batch} events at most")
    envelopes: list[Envelope] = []
    for item in items:
        envelopes += encode(app, item["channel"], item["name"], item["data"], item.get("socket_id"))
    return envelopes


def send_now(envelopes: Sequence[Envelope], *, source: str = "trigger") -> None:
    """Publish from synchronous code; see ``layer.publish``."""
    if loops.home() is None and layer.is_in_memory():
        _warn_that_nobody_listens()
    envelopes = last_events.stamped(envelopes)
    last_events.keep(envelopes)
    loops.from_sync(functools.partial(layer.publish, envelopes, source=source))


def _send(envelopes: Sequence[Envelope], using: str | None, *, durable: bool) -> None:
    """Publish when the transaction commits, or now where there is none."""
    if durable:
        if using not in (None, DEFAULT_DB_ALIAS):
            raise ValueError(f"durable events live in the database {DEFAULT_DB_ALIAS!r}")
        outbox.add(envelopes)
    elif transaction.get_connection(using).in_atomic_block:
        transaction.on_commit(functools.partial(_send_or_log, envelopes), using=using, robust=True)
    else:
        send_now(envelopes)


async def asend_now(envelopes: Sequence[Envelope], *, source: str = "trigger") -> None:
    """``send_now`` for coroutines."""
    envelopes = last_events.stamped(envelopes)
    await last_events.akeep(envelopes)
    await layer.publish(envelopes, source=source)


async def _asend(envelopes: Sequence[Envelope], *, durable: bool) -> None:
    if durable:
        await database_sync_to_async(outbox.add)(envelopes)
    else:
        await asend_now(envelopes)


@functools.cache
def _warn_that_nobody_listens() -> None:
    """Say once what a management command or a shell would otherwise never tell."""
    logger.warning(
        "events of this process reach nobody: the channel layer is in memory, and the"
        " connections are in another process; set CHANNEL_LAYERS to Redis"
    )


def _send_or_log(envelopes: Sequence[Envelope]) -> None:
    try:
        send_now(envelopes)
    except PublishFailed as error:
        logger.error("%d events of a committed transaction were lost: %s", len(envelopes), error)


def _with_event_id(data: object) -> dict[str, Any]:
    """*data* with the key by which clients drop repeats; pusher-js shows them nothing else."""
    if not isinstance(data, Mapping):
        raise TypeError("the data of a durable event must be a mapping, to hold its event_id")
    return {"event_id": uuid.uuid4().hex, **data}


def _texts(app: App, batch: Sequence[Mapping[str, Any]], *, durable: bool) -> list[dict[str, Any]]:
    """The events of *batch* with their data as text."""
    texts = [_text(_with_event_id(item["data"]) if durable else item["data"]) for item in batch]
    return [
        {**item, "data": _sealed(app, item["channel"], text)}
        for item, text in zip(batch, texts, strict=True)
    ]


def _sealed(app: App, channels: str | Sequence[str], text: str) -> str:
    """*text*, encrypted where it is for an encrypted channel."""
    names = {channels} if isinstance(channels, str) else set(channels)
    if not any(isinstance(name, str) and kind_of(name) is Kind.ENCRYPTED for name in names):
        return text
    if len(names) > 1:
        raise InvalidTrigger("An event for an encrypted channel goes to that channel alone")
    return encryption.encrypt(app, names.pop(), text)


def _text(data: object) -> str:
    if isinstance(data, str):
        return data
    if isinstance(data, bytes | bytearray):
        raise TypeError("event data must be text or JSON, not bytes")
    # Not escaped: the limit on data counts UTF-8 bytes, and an escape is twice as long.
    return json.dumps(
        data, cls=DjangoJSONEncoder, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )


async def _adefault(app_id: str | None) -> App:
    return await database_sync_to_async(applications.default)(app_id)
