"""The site of the end-to-end tests with the settings and the faults that a row asks for.

The harness passes both in environment variables, as JSON.
"""

import json
import os

from tests.e2e.site.settings import *  # noqa: F403
from tests.e2e.site.settings import CHANNEL_LAYERS, INSTALLED_APPS, REALTIME
from tests.e2e.site.settings import DATABASES as _DATABASES

INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos.site"]

REALTIME = {**REALTIME, **json.loads(os.environ.get("CHAOS_REALTIME", "{}"))}

# Allows the injection points of the app, which production refuses.
REALTIME_ALLOW_FAULTS = True

for _layer in CHANNEL_LAYERS.values():
    _layer["CONFIG"].update(json.loads(os.environ.get("CHAOS_LAYER", "{}")))

_DATABASES["default"].setdefault("OPTIONS", {}).update(
    json.loads(os.environ.get("CHAOS_DATABASE_OPTIONS", "{}"))
)

# Half the CPU time of a thousand logins; nobody's password is checked here.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
