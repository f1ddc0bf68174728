"""System checks: what is wrong with a deployment, before traffic finds out.

    realtime.E001  REALTIME cannot be read
    realtime.E002  no app is configured
    realtime.E003  an app id is not numeric
    realtime.E004  ASGI_APPLICATION does not lead to this server
    realtime.E005  the queue layer kills idle consumers
    realtime.E006  LAYER names no channel layer
    realtime.E007  USER_DATA names no function
    realtime.E008  the models are read from one database and written to another
    realtime.E009  CACHE names no cache
    realtime.E010  metrics are asked for, and the package that writes them is missing
    realtime.E011  webhooks cannot be sent
    realtime.W001  the in-memory layer serves one process only
    realtime.W002  a layer drops messages beyond a small capacity
    realtime.W003  any origin may connect
    realtime.W004  the development app is in use
    realtime.W005  the URLs are not included
    realtime.W006  connections through a proxy are not limited by address
    realtime.W007  each process has last events of its own for cache channels
    realtime.W008  redis-py sends on connections that Redis has closed

Each has a section in ``docs/reference/checks.md``.  ``E005``, ``E006``, ``W002`` and ``W008``
are in ``layer_checks``.
"""

import importlib.util
import os
from collections.abc import Sequence
from typing import Any, Final

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, DatabaseError, router
from django.urls import NoReverseMatch, Resolver404, resolve
from django.utils.module_loading import import_string

from realtime import conf
from realtime.protocol.app import App
from realtime.protocol.names import is_app_id

IN_MEMORY_LAYER: Final = "channels.layers.InMemoryChannelLayer"
CACHES_OF_ONE_PROCESS: Final = (
    "django.core.cache.backends.locmem.LocMemCache",
    "django.core.cache.backends.dummy.DummyCache",
)

DOCS: Final = "See docs/reference/checks.md."


def settings_or_error() -> tuple[conf.Settings, tuple[App, ...]] | CheckMessage:
    """The settings and the apps that they name, or what is wrong with them."""
    try:
        site = conf.read(getattr(settings, "REALTIME", {}))
        return site, site.configured_apps()
    except (ImproperlyConfigured, TypeError) as error:
        return Error(str(error), hint=f"Correct the REALTIME setting. {DOCS}", id="realtime.E001")


@register(Tags.compatibility)
def check_settings(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """The REALTIME setting can be read and names apps that clients can use."""
    found = settings_or_error()
    if isinstance(found, CheckMessage):
        return [found]
    given, apps = found
    missing: list[CheckMessage] = [
        Error(
            f"CACHE is {given.cache!r}, which CACHES does not have.",
            hint=f"Name a cache that the site has. {DOCS}",
            id="realtime.E009",
        )
    ] * (given.cache not in settings.CACHES)
    return missing + [
        Error(
            f"The app id {app.id!r} is not numeric.",
            hint=f"Use digits: official server libraries refuse anything else. {DOCS}",
            id="realtime.E003",
        )
        for app in apps
        if not is_app_id(app.id)
    ]


@register(Tags.security)
def check_app(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """There is an app, in the settings or in a row; the rows are asked only if need be."""
    found = settings_or_error()
    if isinstance(found, CheckMessage) or found[1] or _has_rows():
        return []
    return [
        Error(
            "No realtime app is configured.",
            hint=(
                "Set APP_ID (digits), APP_KEY and APP_SECRET in REALTIME, or add an app in the"
                f" admin. Defaults exist only with DEBUG. {DOCS}"
            ),
            id="realtime.E002",
        )
    ]


def _has_rows() -> bool:
    from realtime.models import Application

    try:
        return Application.objects.exists()
    except DatabaseError:
        return False


@register(Tags.compatibility)
def check_user_data(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """The function that presents users can be imported."""
    found = settings_or_error()
    if isinstance(found, CheckMessage):
        return []
    try:
        import_string(found[0].user_data)
    except ImportError as error:
        return [
            Error(
                f"REALTIME['USER_DATA']: {error}",
                hint=f"Name a function that takes a Django user. {DOCS}",
                id="realtime.E007",
            )
        ]
    return []


@register(Tags.compatibility)
def check_metrics(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Where somebody may read metrics, the package that writes them is installed."""
    found = settings_or_error()
    if isinstance(found, CheckMessage) or not (found[0].metrics_token or found[0].metrics_staff):
        return []
    if importlib.util.find_spec("prometheus_client") is not None:
        return []
    return [
        Error(
            "METRICS_TOKEN or METRICS_STAFF is set, and prometheus-client is not installed.",
            hint=f"Install the extra 'prometheus' of this package. {DOCS}",
            id="realtime.E010",
        )
    ]


@register(Tags.compatibility)
def check_webhooks(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """What sends webhooks is there, if there is anybody to send them to."""
    found = settings_or_error()
    if isinstance(found, CheckMessage) or importlib.util.find_spec("httpx2") is not None:
        return []
    if not any(app.webhooks for app in found[1]) and not _has_endpoints():
        return []
    return [
        Error(
            "There are webhook endpoints, but httpx2 is not installed.",
            hint=f"Install the extra 'webhooks' of this package; until then they wait. {DOCS}",
            id="realtime.E011",
        )
    ]


def _has_endpoints() -> bool:
    from realtime.models import WebhookEndpoint

    try:
        return WebhookEndpoint.objects.filter(enabled=True).exists()
    except DatabaseError:
        return False


@register(Tags.compatibility)
def check_databases(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Presence and durable events are read back within the transaction that wrote them."""
    astray = {
        database
        for model in apps.get_app_config("realtime").get_models()
        for database in (router.db_for_read(model), router.db_for_write(model))
    } - {DEFAULT_DB_ALIAS}
    if not astray:
        return []
    return [
        Error(
            f"The models of realtime are routed to {', '.join(map(repr, sorted(astray)))}.",
            hint=(
                "Let DATABASE_ROUTERS send the app 'realtime' to the database"
                f" {DEFAULT_DB_ALIAS!r}, for reading and for writing. {DOCS}"
            ),
            id="realtime.E008",
        )
    ]


@register(Tags.compatibility)
def check_asgi(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """WebSockets reach this server."""
    path = getattr(settings, "ASGI_APPLICATION", None)
    hint = (
        "In the module that ASGI_APPLICATION names, import get_asgi_application from"
        f" realtime.asgi instead of django.core.asgi. {DOCS}"
    )
    if path is None:
        return [Error("ASGI_APPLICATION is not set.", hint=hint, id="realtime.E004")]
    try:
        application = import_string(path)
    except ImportError as error:
        return [Error(f"ASGI_APPLICATION: {error}", hint=hint, id="realtime.E004")]
    if _serves_websockets(application):
        return []
    return [
        Error(f"{path} does not serve WebSockets.", hint=hint, id="realtime.E004"),
    ]


def _serves_websockets(application: object) -> bool:
    from realtime.asgi import Application

    inner = getattr(application, "application", application)  # Daphne's static files wrapper
    routes = getattr(inner, "application_mapping", {})
    return isinstance(inner, Application) or "websocket" in routes


@register(Tags.urls)
def check_urls(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """The HTTP API can be reached."""
    from django.urls import reverse

    try:
        resolve(reverse("realtime:events", kwargs={"app_id": "1"}))
    except (NoReverseMatch, Resolver404):
        return [
            Warning(
                "The URLs of realtime are not included.",
                hint=f'Add path("", include("realtime.urls")) to the URLs of the site. {DOCS}',
                id="realtime.W005",
            )
        ]
    return []


def _check_in_memory(layers: dict[str, Any], alias: str) -> list[CheckMessage]:
    backend = layers.get(alias, {}).get("BACKEND", IN_MEMORY_LAYER)
    if backend != IN_MEMORY_LAYER:
        return []
    return [
        Warning(
            "The in-memory channel layer serves one process only.",
            hint=(
                "With several server processes, or when management commands trigger events,"
                " set CHANNEL_LAYERS to channels_redis.pubsub.RedisPubSubChannelLayer."
                f" {DOCS}"
            ),
            id="realtime.W001",
        )
    ]


@register(Tags.compatibility)
def check_processes(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Several worker processes, as many servers take them from WEB_CONCURRENCY, have a bus."""
    found = settings_or_error()
    several = os.environ.get("WEB_CONCURRENCY", "1") not in ("", "0", "1")
    if isinstance(found, CheckMessage) or not several:
        return []
    return _check_in_memory(getattr(settings, "CHANNEL_LAYERS", {}), found[0].layer)


@register(Tags.security, deploy=True)
def check_deployment(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """What is right on a laptop and wrong on the internet."""
    found = settings_or_error()
    if isinstance(found, CheckMessage):
        return []
    given, apps = found
    layers = getattr(settings, "CHANNEL_LAYERS", {})
    messages = _check_in_memory(layers, given.layer)
    cache = settings.CACHES.get(given.cache, {}).get("BACKEND")
    if not messages and cache in CACHES_OF_ONE_PROCESS:
        messages.append(
            Warning(
                "Each process has last events of its own for cache channels.",
                hint=f"Set CACHES to Redis, or CACHE to a cache that all share. {DOCS}",
                id="realtime.W007",
            )
        )
    if getattr(settings, "SECURE_PROXY_SSL_HEADER", None) and not given.client_ip_header:
        messages.append(
            Warning(
                "There is a proxy, but connections are not limited by address.",
                hint=(
                    'Set CLIENT_IP_HEADER in REALTIME, mostly to "X-Forwarded-For", to the header'
                    f" in which the proxy passes the address of the browser on. {DOCS}"
                ),
                id="realtime.W006",
            )
        )
    for app in apps:
        if "*" in app.allowed_origins:
            messages.append(
                Warning(
                    f"Pages of any origin may connect to the app {app.id}.",
                    hint=f"List the origins of your pages in ALLOWED_ORIGINS. {DOCS}",
                    id="realtime.W003",
                )
            )
        if app.secret == conf.DEVELOPMENT_APP["SECRET"]:
            messages.append(
                Warning(
                    f"The app {app.id} uses the secret of the development app.",
                    hint=f"Set APP_SECRET to a random value of your own. {DOCS}",
                    id="realtime.W004",
                )
            )
    return messages
