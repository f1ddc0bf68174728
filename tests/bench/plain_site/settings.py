"""Settings of the plain site: no middleware, no database, a Redis layer of either kind."""

import os

SECRET_KEY = "only-for-the-benchmark-" + "0" * 40
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["channels"]
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "tests.bench.plain_site.urls"
USE_TZ = True

_KINDS = {
    "queue": "channels_redis.core.RedisChannelLayer",
    "pubsub": "channels_redis.pubsub.RedisPubSubChannelLayer",
}
# As the reference site has it: redis-py 8 would end idle reads, and bound the connections.
_host = {"address": os.environ.get("REDIS_URL", ""), "socket_timeout": None}
_queue = {"hosts": [{**_host, "max_connections": 1_000}], "capacity": 10_000}
_kind = os.environ.get("PLAIN_LAYER", "queue")

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": _KINDS[_kind],
        "CONFIG": _queue if _kind == "queue" else {"hosts": [_host]},
    }
}
