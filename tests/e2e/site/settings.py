"""The reference site with more channel rules, users and features, for the end-to-end tests."""

from project.settings import *  # noqa: F403
from project.settings import INSTALLED_APPS, REALTIME

SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
INSTALLED_APPS = [*INSTALLED_APPS, "tests.e2e.site"]
REALTIME = {
    **REALTIME,
    "ENCRYPTION_MASTER_KEY": "zyrm8pvV2C9fJcBfhyXzvxbJVN/H7QLmbe0xJi1GhPU=",
    "USER_DATA": "tests.e2e.site.users.data_of",
    "WEBHOOK_PRIVATE_TARGETS": True,  # the tests receive webhooks on this machine
    "METRICS_TOKEN": "e2e-metrics-token",
    "APPS": [
        {"ID": "1002", "KEY": "counting", "SECRET": "counted", "SUBSCRIPTION_COUNTS": True},
        {
            "ID": "1003",
            "KEY": "authorized",
            "SECRET": "in-time",
            "AUTHORIZED_CONNECTIONS": True,
            "LIMITS": {"AUTHORIZATION_SECONDS": 1},
        },
        {
            "ID": "1004",
            "KEY": "narrow",
            "SECRET": "narrow-secret",
            "LIMITS": {
                "CHANNEL_NAME_CHARS": 40,
                "EVENT_NAME_CHARS": 20,
                "EVENT_DATA_BYTES": 300,
                "CHANNELS_PER_TRIGGER": 2,
                "EVENTS_PER_BATCH": 2,
                "CLIENT_EVENTS_PER_SECOND": 2,
                "PRESENCE_MEMBERS": 1,
                "PRESENCE_USER_ID_CHARS": 20,
                "PRESENCE_USER_INFO_BYTES": 50,
                "SIGNIN_USER_ID_CHARS": 20,
                "MESSAGE_BYTES": 2_000,
                "MALFORMED_MESSAGES": 2,
                "SUBSCRIPTIONS_PER_CONNECTION": 2,
                "WATCHLIST_USER_IDS": 1,
            },
        },
        {
            "ID": "1005",
            "KEY": "slow",
            "SECRET": "slow-secret",
            "LIMITS": {
                "SUBSCRIPTIONS_PER_CONNECTION": 1,
                "MESSAGES_PER_SECOND": 1,
                "FLOOD_SECONDS": 1,
                "API_EVENTS_PER_SECOND": 1,
            },
        },
        {"ID": "1006", "KEY": "small", "SECRET": "small-secret", "MAX_APP_CONNECTIONS": 1},
        {
            "ID": "1007",
            "KEY": "impatient",
            "SECRET": "impatient-secret",
            "LIMITS": {"BACKLOG_CHARS": 100_000},
        },
        {"ID": "1008", "KEY": "encrypted", "SECRET": "encrypted-secret", "TLS_ONLY": True},
        {
            "ID": "1009",
            "KEY": "local",
            "SECRET": "local-secret",
            "ALLOWED_ORIGINS": ["https://shop.example"],
        },
    ],
}
