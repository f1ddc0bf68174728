"""The reference site with more channel rules, users and features, for the end-to-end tests."""

from project.settings import *  # noqa: F403
from project.settings import INSTALLED_APPS, REALTIME

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
    ],
}
