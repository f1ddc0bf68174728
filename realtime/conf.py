"""The ``REALTIME`` setting of a site as a typed, frozen object.

The keys of the dictionary are the upper-case names of the fields below.  What depends on
the deployment is judged by ``checks.py``; here only what cannot be read at all is refused.
"""

import base64
import dataclasses
import difflib
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver

from realtime.protocol.app import WEBHOOK_KINDS, App, Limits, Webhook

DEVELOPMENT_APP: Final = {"ID": "1001", "KEY": "demo-key", "SECRET": "demo-secret"}
"""Used with ``DEBUG`` only, where nothing is configured."""

KEY: Final = re.compile(r"[A-Za-z0-9_\-]{1,64}")
"""Ours: what a key may hold without being escaped in a URL or cut at a colon."""

MINIMUM: Final = 0.001
MAXIMUM: Final = 10**9
"""Ours: what a number in the setting may be; NaN is neither."""

HEADER: Final = re.compile(r"[A-Za-z0-9\-]{0,64}")
"""A header name as HTTP has it; servers disagree about underscores."""

READERS: Final = ("", "debug", "staff", "public")
"""Ours: nobody, anybody while ``DEBUG`` is on, staff, anybody."""

MASTER_KEY_BYTES: Final = 32
"""NaCl: the key of a secret box, and so what official libraries take."""

_URL: Final = re.compile(r"https?://[^\s/?#]+([/?#]\S*)?")

STORED_NAME_CHARS: Final = 255
"""Ours: the width of the columns for channel names and user ids."""


_FLAGS: Final = (
    "client_events",
    "subscription_counts",
    "watchlists",
    "authorized_connections",
    "webhook_batching",
    "tls_only",
)
_OF_AN_APP: Final = (
    *_FLAGS,
    "allowed_origins",
    "encryption_master_key",
    "limits",
    "max_app_connections",
    "webhooks",
)
"""What the settings say of the first app under the same names as of those in ``APPS``."""

_LIMITLESS: Final = {item.name for item in fields(Limits) if item.default is None}
"""Limits that may be ``None``, for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every key of ``REALTIME`` with its default."""

    app_id: str = ""
    """Decimal digits.  With ``APP_KEY`` and ``APP_SECRET`` the one app of most sites."""
    app_key: str = ""
    app_secret: str = field(default="", repr=False)
    client_events: bool = True
    """Whether browsers may send ``client-…`` events on private and presence channels."""
    app_old_key: str = ""
    """A key about to be retired, still accepted with its own secret; see key rotation."""
    app_old_secret: str = field(default="", repr=False)
    subscription_counts: bool = False
    """Whether subscribers are told how many connections their channel has."""
    watchlists: bool = True
    """Whether signed-in users are told when those on their watchlist come and go."""
    authorized_connections: bool = False
    """Whether connections must sign in or join a private channel, or end with 4009."""
    encryption_master_key: str = field(default="", repr=False)
    """32 bytes in base64, for ``private-encrypted-…`` channels."""
    webhooks: tuple[Mapping[str, Any], ...] = ()
    """Endpoints: ``URL`` and, each optional, ``KINDS`` and ``CHANNEL_PREFIXES``."""
    webhook_batching: bool = True
    """Whether one webhook request may tell several things."""
    tls_only: bool = False
    """Refuse plain ``ws`` connections with 4000."""
    allowed_origins: tuple[str, ...] = ()
    """``scheme://host[:port]`` each, or ``*``; empty means the hosts in ``ALLOWED_HOSTS``."""
    max_app_connections: int | None = None
    """Connections of the app per server process; more are refused with 4004."""
    limits: Mapping[str, int | None] = field(default_factory=dict)
    """Overrides of ``protocol.app.Limits``, by upper-case name."""
    apps: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    """More apps: ``ID``, ``KEY``, ``SECRET`` and, each optional, the keys above."""

    user_data: str = "realtime.api.auth_views.default_user_data"
    """Dotted path of a function from a Django user to ``{"id", "user_info"}``."""
    auth_csrf: bool = True
    """Whether the two auth endpoints want Django's CSRF token from session users."""
    auth_concurrency: int = 4
    """Ours: requests to them that Django works on at once in one process; the others wait."""

    api_docs: str = "debug"
    """Who may read the description of the API: ``debug``, ``staff``, ``public``, or empty."""
    metrics_token: str = field(default="", repr=False)
    """What a Prometheus server sends as a bearer token to read ``/realtime/metrics``."""
    metrics_staff: bool = False
    """Whether staff may read the metrics in their browsers."""

    layer: str = "default"
    """Alias in ``CHANNEL_LAYERS``; where it is missing, an in-memory layer of our own."""
    cache: str = "default"
    """Alias in ``CACHES``: where the last events of cache channels are kept."""
    cache_seconds: int = 1_800
    """Pusher docs, "Cache channels": how long they are kept."""
    max_connections: int = 10_000
    """Ours: connections per server process; more are turned away with 4100."""
    max_connections_per_ip: int = 1_000
    """Ours: of one IPv4 address or IPv6 /64; an office behind one address fits."""
    connects_per_second_per_ip: int = 200
    """Ours: handshakes of one address; ten seconds' worth may come at once."""
    client_ip_header: str = ""
    """Header in which the proxy passes the address on; empty means that there is no proxy."""
    trusted_proxies: int = 1
    """How many proxies append to that header; the address is so many places from its end."""
    activity_timeout_seconds: int = 120
    """pusher.com: silence after which clients ping the server."""
    ping_seconds: float = 60
    """Pusher support: silence after which the server pings clients that answer."""
    pong_seconds: float = 15
    """Pusher support: how long the answer may take; then 4201."""
    join_seconds: float = 10
    """Ours: how long a presence subscription waits for the database; then 4100."""
    linger_seconds: float = 1
    """Ours: how long an empty channel stays joined on the layer, for page changes."""
    watchdog_seconds: float = 2
    """Ours: how long a process may hear nothing from the layer before it knows."""
    publish_timeout_seconds: float = 5
    """Ours: how long a publish may wait for the layer."""
    drain_seconds: float = 20
    """Ours: over how long a stop spreads the closing of many connections."""
    lease_seconds: float = 6
    """Ours: how long a silent server process counts as alive; renewed at a third of it."""
    webhook_private_targets: bool = False
    """Whether webhooks may go to private addresses and to other ports than 80 and 443."""
    webhook_retention_seconds: int = 86_400
    """Ours: how long a webhook is kept after it was sent."""
    outbox_sweep_seconds: float = 1
    """Ours: how often a process looks for durable events that others left unsent."""
    outbox_retention_seconds: int = 3_600
    """Ours: how long a durable event is kept after it was sent."""
    group_transitions: int = 500
    """Ours: presence changes written in one transaction at most."""
    api_body_bytes: int = 1_048_576
    """Ours: largest request body of the HTTP API; ten events of 10 kB, escaped, fit."""
    api_express: bool = True
    """Whether events of the HTTP API pass by the middleware of the site."""

    # Held by realtime.servers, for all apps.
    head_seconds: float = 5
    """uvicorn's own patience with idle connections: how long a request head may take."""
    head_bytes: int = 65_536
    """uvicorn's own bound where it parses with h11: a request head that is not complete."""
    body_seconds: float = 20
    """Apache's ``mod_reqtimeout``: how long a request body may take, whatever its size."""
    body_bytes_per_second: int = 500
    """Apache's ``mod_reqtimeout``: a body may take a second more for so many bytes that came."""
    message_fragments: int = 1_000
    """Ours: parts of one WebSocket message; more close the connection with 1009."""

    def configured_apps(self) -> tuple[App, ...]:
        """The apps of the setting: the first is the default of ``trigger()``."""
        first = {name: getattr(self, name) for name in _OF_AN_APP}
        for name in ("id", "key", "secret", "old_key", "old_secret"):
            first[name] = getattr(self, f"app_{name}")
        if not (self.app_id or self.app_key or self.app_secret):
            if self.apps or not django_settings.DEBUG:
                return _check_distinct(tuple(build_app(entry) for entry in self.apps))
            first |= {name.lower(): value for name, value in DEVELOPMENT_APP.items()}
        return _check_distinct(tuple(build_app(entry) for entry in (first, *self.apps)))


@functools.cache
def get() -> Settings:
    """The ``REALTIME`` setting of the site, with defaults filled in.

    Raises:
        ImproperlyConfigured: an unknown key, or a value of the wrong type.
    """
    return read(getattr(django_settings, "REALTIME", {}))


@functools.cache
def apps() -> tuple[App, ...]:
    """``get().configured_apps()``, made once: every connection and every publish asks for one.

    Raises:
        ImproperlyConfigured: a part of one is missing, unknown or malformed.
    """
    return get().configured_apps()


def read(site: object) -> Settings:
    """Make settings of the dictionary *site*; see ``get``."""
    if not isinstance(site, Mapping):
        raise ImproperlyConfigured("REALTIME must be a dictionary")
    given = _known(site, {item.name for item in fields(Settings)}, "REALTIME")
    for name in ("allowed_origins", "apps", "webhooks"):
        if name in given:
            given[name] = _sequence(given[name], name)
    _check_types(given)
    settings = Settings(**given)
    read_limits(settings.limits)
    _check_values(settings)
    return settings


def build_app(entry: Mapping[str, Any]) -> App:
    """Make an app of one entry of ``APPS``.

    Raises:
        ImproperlyConfigured: a part is missing, unknown or malformed.
    """
    names = {"id", "key", "secret", "old_key", "old_secret", *_OF_AN_APP}
    given = _known(entry, names, "An app in REALTIME")
    for name in ("id", "key", "secret"):
        if not given.get(name):
            raise ImproperlyConfigured(
                f"REALTIME has an app without {name.upper()};"
                " set APP_ID, APP_KEY and APP_SECRET together"
            )
    for name in _FLAGS:
        if not isinstance(given.get(name, True), bool):
            raise ImproperlyConfigured(f"{name.upper()} of an app must be True or False")
    given["limits"] = read_limits(given.get("limits", {}))
    given["encryption_master_key"] = read_master_key(given.get("encryption_master_key", ""))
    given["webhooks"] = tuple(
        read_webhook(item) for item in _sequence(given.get("webhooks", ()), "webhooks")
    )
    given["allowed_origins"] = _sequence(given.get("allowed_origins", ()), "allowed_origins")
    given["max_connections"] = given.pop("max_app_connections", None)
    for name in ("id", "key", "secret", "old_key", "old_secret"):
        given[name] = str(given.get(name, ""))
    return _check_app(App(**given))


def read_master_key(text: object) -> bytes:
    """The master key in *text*, as ``openssl rand -base64 32`` prints one; empty for none.

    Raises:
        ImproperlyConfigured: it is no base64, or not of 32 bytes.
    """
    try:
        key = base64.b64decode(str(text), validate=True)
    except ValueError:
        key = b"?"
    if len(key) not in (0, MASTER_KEY_BYTES):
        raise ImproperlyConfigured("ENCRYPTION_MASTER_KEY must be 32 bytes in base64")
    return key


def read_webhook(entry: object) -> Webhook:
    """Make an endpoint of one entry of ``WEBHOOKS``.

    Raises:
        ImproperlyConfigured: no URL of HTTP, or an unknown kind.
    """
    given = _known(entry, {"url", "kinds", "channel_prefixes"}, "An entry of WEBHOOKS")
    url = str(given.get("url", ""))
    if not _URL.fullmatch(url):
        raise ImproperlyConfigured(
            f"WEBHOOKS: {url!r} must be a URL that starts with https:// or http://"
        )
    kinds = _sequence(given.get("kinds", WEBHOOK_KINDS), "kinds")
    if unknown := [kind for kind in kinds if kind not in WEBHOOK_KINDS]:
        raise ImproperlyConfigured(
            f"WEBHOOKS: unknown kind {unknown[0]!r}; there are {', '.join(WEBHOOK_KINDS)}"
        )
    prefixes = _sequence(given.get("channel_prefixes", ()), "channel_prefixes")
    return Webhook(url=url, kinds=kinds, channel_prefixes=tuple(str(item) for item in prefixes))


def read_limits(overrides: object) -> Limits:
    """Make limits of the dictionary *overrides*, by upper-case name.

    Raises:
        ImproperlyConfigured: an unknown name, or no positive number.
    """
    given = _known(overrides, {item.name for item in fields(Limits)}, "LIMITS")
    for name, value in given.items():
        if value is None and name in _LIMITLESS:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ImproperlyConfigured(f"LIMITS[{name.upper()!r}] must be a positive number")
    for name in ("channel_name_chars", "presence_user_id_chars", "signin_user_id_chars"):
        if given.get(name, 0) > STORED_NAME_CHARS:
            raise ImproperlyConfigured(
                f"LIMITS[{name.upper()!r}] must be {STORED_NAME_CHARS} at most,"
                " which is what the database keeps"
            )
    return Limits(**given)


def _known(given: object, names: set[str], where: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"{where} must be a dictionary")
    lowered = {str(key).lower(): value for key, value in given.items()}
    for key in lowered:
        if key not in names:
            close = difflib.get_close_matches(key, names, n=1)
            hint = f"; did you mean {close[0].upper()}?" if close else ""
            raise ImproperlyConfigured(f"{where} has an unknown key {key.upper()}{hint}")
    return lowered


def _sequence(value: object, name: str) -> tuple[Any, ...]:
    if isinstance(value, list | tuple):
        return tuple(value)
    raise ImproperlyConfigured(f"REALTIME[{name.upper()!r}] must be a list")


def _check_types(given: Mapping[str, Any]) -> None:
    for item in fields(Settings):
        if item.name not in given or item.default is dataclasses.MISSING:
            continue
        value, default = given[item.name], item.default
        wanted: tuple[type, ...] = (type(default),)
        if item.name == "max_app_connections":
            wanted = (int, type(None))
        elif isinstance(default, float) or item.name.endswith("_seconds"):
            wanted = (int, float)
        elif item.name == "app_id":
            wanted = (str, int)
        is_flag = isinstance(value, bool) and bool not in wanted
        if is_flag or not isinstance(value, wanted):
            raise ImproperlyConfigured(
                f"REALTIME[{item.name.upper()!r}] must be of type {wanted[0].__name__},"
                f" not {type(value).__name__}"
            )


def _check_values(settings: Settings) -> None:
    """Refuse numbers that would stop the server, and texts that match nothing."""
    for item in fields(Settings):
        value = getattr(settings, item.name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            least = 0 if item.name == "linger_seconds" else MINIMUM
            if not least <= value < MAXIMUM:
                raise ImproperlyConfigured(
                    f"REALTIME[{item.name.upper()!r}] must be a positive number"
                )
    if settings.api_docs not in READERS:
        known = ", ".join(map(repr, READERS))
        raise ImproperlyConfigured(f"REALTIME['API_DOCS'] must be one of {known}")
    if not HEADER.fullmatch(settings.client_ip_header):
        raise ImproperlyConfigured(
            "REALTIME['CLIENT_IP_HEADER'] must be the name of a header, like 'X-Forwarded-For'"
        )


def _check_app(app: App) -> App:
    if app.max_connections is not None and not (
        isinstance(app.max_connections, int) and app.max_connections > 0
    ):
        raise ImproperlyConfigured("MAX_APP_CONNECTIONS must be a positive number or None")
    for key in (app.key, app.old_key or app.key):
        if not KEY.fullmatch(key):
            raise ImproperlyConfigured("An app key may hold letters, digits, '_' and '-' only")
    if bool(app.old_key) != bool(app.old_secret):
        raise ImproperlyConfigured("Set OLD_KEY and OLD_SECRET together, or neither")
    for origin in app.allowed_origins:
        if origin != "*" and (not isinstance(origin, str) or "://" not in origin):
            raise ImproperlyConfigured(
                f"ALLOWED_ORIGINS: {origin!r} must be '*' or like 'https://example.com'"
            )
    return app


def _check_distinct(apps: tuple[App, ...]) -> tuple[App, ...]:
    keys = [token.key for app in apps for token in app.tokens]
    if len({app.id for app in apps}) < len(apps) or len(set(keys)) < len(keys):
        raise ImproperlyConfigured("Two apps in REALTIME have the same ID or KEY")
    return apps


@receiver(setting_changed)
def _forget(*, setting: str, **_: object) -> None:
    if setting in ("REALTIME", "DEBUG"):
        get.cache_clear()
        apps.cache_clear()
