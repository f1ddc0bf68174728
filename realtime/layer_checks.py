"""System checks of the channel layer: ``E005``, ``E006``, ``W002`` and ``W008``, see ``checks``."""

import fnmatch
from collections.abc import Sequence
from importlib import metadata
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from realtime.checks import DOCS, IN_MEMORY_LAYER, settings_or_error

CHANNELS_REDIS: Final = "channels_redis."
QUEUE_LAYER: Final = "channels_redis.core.RedisChannelLayer"
ENOUGH_CAPACITY: Final = 1_000
"""Ours: one process takes its events through one channel of the layer."""

SENDS_ON_CLOSED_CONNECTIONS: Final = "8.1.0"
"""Version of redis-py (https://github.com/redis/redis-py/issues/4252), with version 3 of the
protocol over TCP, which is its default."""


@register(Tags.compatibility)
def check_layer(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """The channel layer keeps idle connections and does not drop what they are sent."""
    found = settings_or_error()
    if isinstance(found, CheckMessage):
        return []
    layers = getattr(settings, "CHANNEL_LAYERS", {})
    layer = layers.get(found[0].layer)
    if layer is None:
        return _check_alias(found[0].layer)
    backend, config = layer.get("BACKEND"), layer.get("CONFIG") or {}
    messages: list[CheckMessage] = []
    if backend == QUEUE_LAYER:
        hosts = config.get("hosts") or [{}]
        if not all(isinstance(host, dict) and _has_no_timeout(host) for host in hosts):
            messages.append(
                Error(
                    'The Redis queue layer is configured without "socket_timeout": None.',
                    hint=(
                        "redis-py 8 gives sockets a timeout of 5 seconds, which is how long this"
                        " layer waits for a message: idle consumers die. Write every host as"
                        ' {"address": "redis://…", "socket_timeout": None}, or use'
                        f" channels_redis.pubsub.RedisPubSubChannelLayer. {DOCS}"
                    ),
                    id="realtime.E005",
                )
            )
    if backend == IN_MEMORY_LAYER:
        messages.append(
            Warning(
                "The channel layer drops messages without a word.",
                hint=(
                    f"Take {found[0].layer!r} out of CHANNEL_LAYERS: the app then uses a layer in"
                    f" memory that refuses what it cannot keep. {DOCS}"
                ),
                id="realtime.W002",
            )
        )
    elif backend == QUEUE_LAYER and _capacity(config) < ENOUGH_CAPACITY:
        messages.append(
            Warning(
                f"The channel layer drops messages beyond {_capacity(config)} unread ones.",
                hint=(
                    'A server process reads through one channel. Set "capacity" to'
                    f" {ENOUGH_CAPACITY} or more in CHANNEL_LAYERS, or use"
                    f" channels_redis.pubsub.RedisPubSubChannelLayer. {DOCS}"
                ),
                id="realtime.W002",
            )
        )
    return messages


def _check_alias(alias: str) -> list[CheckMessage]:
    if alias == "default":
        return []
    return [
        Error(
            f"REALTIME['LAYER'] names {alias!r}, which is not in CHANNEL_LAYERS.",
            hint=f"Add it there, or leave LAYER out. {DOCS}",
            id="realtime.E006",
        )
    ]


def _has_no_timeout(host: dict[str, Any]) -> bool:
    return "socket_timeout" in host and host["socket_timeout"] is None


def _capacity(config: dict[str, Any]) -> int:
    """What the layer keeps for the one channel of a process, by the layer's own rules."""
    for pattern, capacity in config.get("channel_capacity", {}).items():
        if isinstance(pattern, str) and fnmatch.fnmatchcase("specific.process!1", pattern):
            return int(capacity)
    return int(config.get("capacity", 100))


@register(Tags.compatibility)
def check_redis(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """The client of Redis makes connections anew that were closed while they were idle."""
    found = settings_or_error()
    if isinstance(found, CheckMessage):
        return []
    layer = getattr(settings, "CHANNEL_LAYERS", {}).get(found[0].layer, {})
    if not str(layer.get("BACKEND")).startswith(CHANNELS_REDIS):
        return []
    hosts = (layer.get("CONFIG") or {}).get("hosts") or [{}]
    if _redis_version() != SENDS_ON_CLOSED_CONNECTIONS or not any(map(_is_new_on_tcp, hosts)):
        return []
    return [
        Warning(
            "redis-py 8.1.0 sends on connections that Redis has closed, and fails.",
            hint=(
                "After a restart of Redis, or behind a proxy that ends idle connections, the first"
                " event that a synchronous program triggers would be lost. Install another version"
                f" of redis, or add protocol=2 to each host in CHANNEL_LAYERS. {DOCS}"
            ),
            id="realtime.W008",
        )
    ]


def _redis_version() -> str:
    try:
        return metadata.version("redis")
    except metadata.PackageNotFoundError:
        return ""


def _is_new_on_tcp(host: object) -> bool:
    """Whether a host is spoken to over TCP, and in version 3 of the protocol."""
    if not isinstance(host, dict):
        host = {"address": host}
    address = urlsplit(str(host.get("address", "")))
    versions = [str(host.get("protocol")), *parse_qs(address.query).get("protocol", ())]
    return "2" not in versions and "path" not in host and address.scheme != "unix"
