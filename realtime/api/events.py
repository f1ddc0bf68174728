"""What a back end says when it sends events, read and checked.

Source: Pusher docs, "HTTP API reference", ``events`` and ``batch_events``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rest_framework.exceptions import ParseError

from realtime import queries, triggers
from realtime.layer import Envelope
from realtime.protocol.app import App


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be sent, and what is to be told of its channels."""

    envelopes: list[Envelope]
    wanted: dict[str, set[str]]
    """Attributes by channel; empty where nothing is to be told."""
    items: list[tuple[str, set[str]]]
    """Channel and attributes of each event of a batch."""


def read_event(app: App, body: Mapping[str, Any]) -> Asked:
    """One event for up to a hundred channels.

    Raises:
        ParseError, RealtimeError: it cannot be sent; the text says why.
    """
    channels = _channels(body)
    attributes = attributes_in(optional_text(body, "info"))
    envelopes = triggers.encode(
        app,
        channels,
        text_parameter(body, "name"),
        text_parameter(body, "data"),
        optional_text(body, "socket_id"),
    )
    queries.check_attributes(attributes)
    return Asked(envelopes, dict.fromkeys(channels, attributes) if attributes else {}, [])


def read_batch(app: App, body: Mapping[str, Any]) -> Asked:
    """Up to ten events, in order; all are checked before the first is sent.

    Raises:
        ParseError, RealtimeError: one cannot be sent; the text says why.
    """
    given = body.get("batch")
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise ParseError("Expected batch parameter to be an array of objects")
    batch = [
        {
            "channel": text_parameter(item, "channel"),
            "name": text_parameter(item, "name"),
            "data": text_parameter(item, "data"),
            "socket_id": optional_text(item, "socket_id"),
        }
        for item in given
    ]
    attributes = [attributes_in(optional_text(item, "info")) for item in given]
    envelopes = triggers.encode_batch(app, batch)
    wanted: dict[str, set[str]] = {}
    items = []
    for item, names in zip(batch, attributes, strict=True):
        queries.check_attributes(names)
        items.append((str(item["channel"]), names))
        wanted.setdefault(str(item["channel"]), set()).update(names)
    return Asked(envelopes, wanted if any(attributes) else {}, items)


def text_parameter(body: Mapping[str, Any], name: str) -> str:
    """A parameter that must be there.

    Raises:
        ParseError: it is missing or no text.
    """
    value = body.get(name)
    if value is None:
        raise ParseError(f"Missing required parameter: {name}")
    if not isinstance(value, str):
        raise ParseError(f"Expected {name} parameter to be a string")
    return value


def optional_text(body: Mapping[str, Any], name: str) -> str | None:
    """A parameter that may be there.

    Raises:
        ParseError: it is no text.
    """
    return None if body.get(name) is None else text_parameter(body, name)


def attributes_in(info: str | None) -> set[str]:
    """The names in the parameter ``info``."""
    return {name.strip() for name in (info or "").split(",") if name.strip()}


def _channels(body: Mapping[str, Any]) -> list[str]:
    """``channels`` or, where it is missing, ``channel``."""
    channels = body.get("channels")
    if channels is None:
        if "channel" not in body:
            raise ParseError("Missing required parameter: channels")
        return [text_parameter(body, "channel")]
    if not isinstance(channels, list) or not all(isinstance(name, str) for name in channels):
        raise ParseError("Expected channels parameter to be an array of strings")
    return channels
