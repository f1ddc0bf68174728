"""Which app a key or an id belongs to: the settings first, then the rows.

All rows are read at once and kept for a few seconds, so a flood of unknown keys costs the
database nothing.
"""

import functools
import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from channels.db import database_sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver

from realtime import conf
from realtime.models import Application, WebhookEndpoint
from realtime.protocol.app import App, Limits, Webhook

logger = logging.getLogger(__name__)

FRESH_SECONDS: Final = 5
"""Ours: how long another process may not know of a changed row."""

UNKNOWN_SECONDS: Final = 0.2
"""Ours: how old the rows may be by which a key or an id is said to be unknown."""


@dataclass(frozen=True, slots=True)
class _Rows:
    by_key: dict[str, App]
    by_id: dict[str, App]
    read_at: float
    webhooks: dict[str, tuple[Webhook, ...]] = field(default_factory=dict)
    """The endpoints that are rows, by app id."""


_rows: _Rows | None = None


def by_key(key: str) -> App | None:
    """The app whose public key is *key*."""
    found = _configured().by_key.get(key) or _current_rows().by_key.get(key)
    return found or _current_rows(UNKNOWN_SECONDS).by_key.get(key)


def by_id(app_id: str) -> App | None:
    """The app whose id is *app_id*."""
    found = _configured().by_id.get(app_id) or _current_rows().by_id.get(app_id)
    return found or _current_rows(UNKNOWN_SECONDS).by_id.get(app_id)


async def aby_key(key: str) -> App | None:
    """``by_key`` for coroutines; enters a thread only when rows have to be read."""
    found = _configured().by_key.get(key)
    if found is not None:
        return found
    fresh = _fresh_rows()
    if fresh is not None and key in fresh.by_key:
        return fresh.by_key[key]
    return await database_sync_to_async(by_key)(key)


def is_configured(app_id: str) -> bool:
    """Whether the app is one of the settings."""
    return app_id in _configured().by_id


def read_apps() -> dict[str, App]:
    """The apps of the rows, by id, as they are now."""
    return _read_rows().by_id


def default(app_id: str | None = None) -> App:
    """The app that ``trigger()`` means: *app_id*, else the first of the settings, else the
    only row.

    Raises:
        ImproperlyConfigured: there is no such app, or no single one to choose.
    """
    if app_id is not None:
        app = by_id(app_id)
        if app is None:
            raise ImproperlyConfigured(f"There is no realtime app with the id {app_id}")
        return app
    configured = conf.apps()
    if configured:
        return configured[0]
    rows = list(_current_rows().by_id.values())
    if len(rows) != 1:
        raise ImproperlyConfigured(
            "No realtime app is configured: set APP_ID, APP_KEY and APP_SECRET in REALTIME,"
            " or name one by app_id"
        )
    return rows[0]


def webhooks(app_id: str) -> tuple[Webhook, ...]:
    """The endpoints of an app, those of the settings and those that are rows."""
    rows, app = _current_rows(), by_id(app_id)
    return (app.webhooks if app is not None else ()) + rows.webhooks.get(app_id, ())


def refresh() -> None:
    """Read the rows now, whatever was read a moment ago."""
    _read_rows()


def known_webhooks(app: App) -> tuple[Webhook, ...]:
    """``webhooks`` without a look at the database: the rows as of the last look."""
    return app.webhooks + (_rows.webhooks.get(app.id, ()) if _rows is not None else ())


def has_webhooks() -> bool:
    """Whether any app has an endpoint."""
    return bool(_current_rows().webhooks) or any(app.webhooks for app in conf.apps())


@functools.cache
def _configured() -> _Rows:
    return _index(conf.apps())


def _fresh_rows(seconds: float = FRESH_SECONDS) -> _Rows | None:
    if _rows is not None and time.monotonic() - _rows.read_at < seconds:
        return _rows
    return None


def _current_rows(seconds: float = FRESH_SECONDS) -> _Rows:
    return _fresh_rows(seconds) or _read_rows()


def _read_rows() -> _Rows:
    global _rows
    index = _index([_app_of(row) for row in Application.objects.all()])
    _rows = replace(index, webhooks=_read_endpoints())
    return _rows


def _read_endpoints() -> dict[str, tuple[Webhook, ...]]:
    found = defaultdict[str, tuple[Webhook, ...]](tuple)
    for row in WebhookEndpoint.objects.filter(enabled=True):
        entry = {"url": row.url, "kinds": row.kinds, "channel_prefixes": row.channel_prefixes}
        try:
            found[row.app_id] += (conf.read_webhook(entry),)
        except ImproperlyConfigured as error:  # written past the admin: everybody else goes on
            logger.error("webhook endpoint %s cannot be read: %s", row.pk, error)
    return dict(found)


def _app_of(row: Application) -> App:
    try:
        limits, master_key = (
            conf.read_limits(row.limits),
            conf.read_master_key(row.encryption_master_key),
        )
    except ImproperlyConfigured as error:  # written past the admin: everybody else goes on
        logger.error("app %s has a row that cannot be read: %s", row.app_id, error)
        limits, master_key = Limits(), b""
    return App(
        id=row.app_id,
        key=row.key,
        secret=row.secret,
        old_key=row.old_key,
        old_secret=row.old_secret,
        enabled=row.enabled,
        client_events=row.client_events,
        subscription_counts=row.subscription_counts,
        watchlists=row.watchlists,
        authorized_connections=row.authorized_connections,
        tls_only=row.tls_only,
        allowed_origins=tuple(row.allowed_origins),
        max_connections=row.max_connections,
        encryption_master_key=master_key,
        webhook_batching=row.webhook_batching,
        limits=limits,
    )


def _index(apps: Iterable[App]) -> _Rows:
    listed = list(apps)
    by_key = {app.key: app for app in listed}
    for app in listed:
        for token in app.tokens:  # a key about to be retired never hides one in use
            by_key.setdefault(token.key, app)
    return _Rows(
        by_key,
        {app.id: app for app in listed},
        time.monotonic(),
    )


@receiver([post_save, post_delete], sender=Application)
@receiver([post_save, post_delete], sender=WebhookEndpoint)
@receiver(setting_changed)
def _forget(**_: object) -> None:
    global _rows
    _configured.cache_clear()
    if _rows is not None:
        _rows = replace(_rows, read_at=-math.inf)
