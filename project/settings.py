"""Settings of the reference site.

What depends on the deployment comes from environment variables.  With ``DEBUG=1``, the
default, every one of them may be left out; with ``DEBUG=0`` those that hold a secret or name
the Pusher app must be given, and the start fails with a message that names the missing ones.
"""

import os
from pathlib import Path
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


def _switch(name: str, *, default: bool) -> bool:
    """An environment variable that is on or off."""
    return os.environ.get(name, str(int(default))).strip().lower() in {"1", "true", "yes", "on"}


def _listed(name: str, default: str = "") -> list[str]:
    """An environment variable that holds values separated by commas."""
    return [part.strip() for part in os.environ.get(name, default).split(",") if part.strip()]


def _required(**development_values: str) -> dict[str, str]:
    """Environment variables that have a default with ``DEBUG`` only.

    Raises:
        ImproperlyConfigured: some are missing; the message names all of them at once.
    """
    values = {name: os.environ.get(name, "") for name in development_values}
    missing = [name for name, value in values.items() if not value]
    if missing and not DEBUG:
        raise ImproperlyConfigured(
            f"Missing environment variables: {', '.join(missing)}. Without DEBUG they have no "
            "default. Set them where the server is started, for example "
            "REALTIME_APP_ID=1001 REALTIME_APP_KEY=<public key> REALTIME_APP_SECRET=<secret>; "
            "a random secret is printed by "
            'python -c "import secrets; print(secrets.token_urlsafe(50))". '
            "Set DEBUG=1 to try the site with the development defaults."
        )
    return {name: value or development_values[name] for name, value in values.items()}


DEBUG = _switch("DEBUG", default=True)

_environment = _required(
    DJANGO_SECRET_KEY="only-for-development-" + "0" * 40,
    REALTIME_APP_ID="1001",
    REALTIME_APP_KEY="demo-key",
    REALTIME_APP_SECRET="demo-secret",  # noqa: S106  refused without DEBUG
)

SECRET_KEY = _environment["DJANGO_SECRET_KEY"]
ALLOWED_HOSTS = _listed("DJANGO_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = _listed("DJANGO_CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "daphne",  # first, so that runserver speaks WebSocket
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "rest_framework.authtoken",
    "realtime",
    "project.chat",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "project.middleware.StaticFilesMiddleware",
    "project.middleware.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "project.urls"
ASGI_APPLICATION = "project.asgi.application"
WSGI_APPLICATION = "project.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

REALTIME = {
    "APP_ID": _environment["REALTIME_APP_ID"],
    "APP_KEY": _environment["REALTIME_APP_KEY"],
    "APP_SECRET": _environment["REALTIME_APP_SECRET"],
    "USER_DATA": "project.chat.people.user_data",
}


POOL = {
    "min_size": 0,
    # Twice AUTH_CONCURRENCY: a crowd that asks for authorization leaves half to other pages.
    "max_size": 8,
    # That crowd waits before it gets here, so who waits here mostly waits for a database that is
    # away, and is told so soon.
    "timeout": 5,
    # The first request after an outage finds the database back, not a pause between attempts.
    "reconnect_timeout": 1,
}
"""Connections to PostgreSQL for the requests of one process; times in seconds."""


def _database() -> dict[str, Any]:
    """``DATABASE_URL``, or a SQLite file in ``var/``.

    The demo has a file of its own: its accounts, whose passwords are known, do not exist
    where the site runs in production form.
    """
    url = os.environ.get("DATABASE_URL")
    if not url:
        (BASE_DIR / "var").mkdir(exist_ok=True)
        url = f"sqlite:///{BASE_DIR / 'var' / ('demo.sqlite3' if DEBUG else 'site.sqlite3')}"
    database: dict[str, Any] = dict(dj_database_url.parse(url))
    if database["ENGINE"] == "django.db.backends.sqlite3":
        # A write lock taken at BEGIN waits its turn; one taken in the middle of a transaction
        # fails at once when another process has written meanwhile.
        database["OPTIONS"] = {
            **database.get("OPTIONS", {}),
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
    if database["ENGINE"] == "django.db.backends.postgresql":
        # A link that is cut without a word would otherwise hang for as long as TCP likes.
        database["OPTIONS"] = {
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15_000,  # milliseconds
            **database.get("OPTIONS", {}),
        }
        if not DEBUG:
            # Each request has a thread of its own under ASGI.  Without a pool each would also
            # make a connection, and a thousand that come at once would make a thousand.
            database["CONN_HEALTH_CHECKS"] = True
            database["OPTIONS"].setdefault("pool", POOL)
    return database


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"


def _channel_layers() -> dict[str, Any]:
    """``REDIS_URL`` joins several server processes; without it there is one process, which
    ``realtime`` serves with an in-memory layer of its own.
    """
    address = os.environ.get("REDIS_URL")
    if not address:
        return {}
    # Without a socket_timeout of None, redis-py 8 ends every idle read after five seconds.
    hosts: list[dict[str, Any]] = [{"address": address, "socket_timeout": None}]
    if os.environ.get("REALTIME_LAYER") == "queue":
        queue = "channels_redis.core.RedisChannelLayer"
        hosts[0]["max_connections"] = 1_000  # one for each call under way; redis-py 8 stops at 100
        return {"default": {"BACKEND": queue, "CONFIG": {"hosts": hosts, "capacity": 10_000}}}
    pubsub = "channels_redis.pubsub.RedisPubSubChannelLayer"
    return {"default": {"BACKEND": pubsub, "CONFIG": {"hosts": hosts}}}


CHANNEL_LAYERS = _channel_layers()

if CHANNEL_LAYERS:
    # The last events of cache channels, where all processes find them.
    CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": os.environ["REDIS_URL"],
            "OPTIONS": {"socket_timeout": 1, "socket_connect_timeout": 1},
        }
    }

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "chat"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [
    BASE_DIR / "static",
    ("vendor/pusher-js", BASE_DIR / "node_modules" / "pusher-js" / "dist" / "web"),
]
# Static files are served from where they are, so nothing has to be collected first.
WHITENOISE_USE_FINDERS = True

# For a proxy that ends TLS, sets (or removes) X-Forwarded-Proto itself, and sets or appends to
# X-Forwarded-For.
if _switch("DJANGO_BEHIND_TLS_PROXY", default=False):
    REALTIME["CLIENT_IP_HEADER"] = "X-Forwarded-For"
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
X_FRAME_OPTIONS = "DENY"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
    },
    "handlers": {
        "terminal": {"class": "logging.StreamHandler", "formatter": "line"},
        "nowhere": {"class": "logging.NullHandler"},  # with none at all Python prints by itself
    },
    "root": {"handlers": ["terminal"], "level": "WARNING"},
    "loggers": {
        # Django's own handlers would print the same line a second time.
        "django": {"handlers": [], "level": "INFO"},
        # Anybody can send a malformed Host header; it is answered with 400, without a traceback.
        "django.security.DisallowedHost": {"handlers": ["nowhere"], "propagate": False},
        "realtime": {"level": "INFO"},
        "project": {"level": "INFO"},
    },
}
