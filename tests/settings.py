"""Settings of the fast tests: the reference site with an app and a database of its own."""

import os
import tempfile

from project.settings import *  # noqa: F403
from project.settings import DATABASES, MIDDLEWARE

DEBUG = False
ROOT_URLCONF = "tests.urls"

# The credentials of the test vectors that Pusher publishes.
REALTIME = {
    "APP_ID": "3",
    "APP_KEY": "278d425bdf160c739803",
    "APP_SECRET": "7ad3773142a6692b25b8",
    "ENCRYPTION_MASTER_KEY": "zyrm8pvV2C9fJcBfhyXzvxbJVN/H7QLmbe0xJi1GhPU=",
}

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file and not memory: the thread of the ledger has a connection of its own.
    _name = f"realtime-test-{os.getpid()}.sqlite3"
    DATABASES["default"]["OPTIONS"]["init_command"] += "PRAGMA synchronous=OFF;"
    DATABASES["default"]["TEST"] = {"NAME": os.path.join(tempfile.gettempdir(), _name)}

# The layer in memory that the app brings along.
CHANNEL_LAYERS: dict[str, object] = {}

# No static files, so no search for them at every start.
MIDDLEWARE = [name for name in MIDDLEWARE if "StaticFiles" not in name]

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
