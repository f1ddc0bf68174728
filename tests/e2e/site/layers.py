"""The site of the end-to-end tests on the channel layer that a test asks for."""

import json
import os

from tests.e2e.site.settings import *  # noqa: F403
from tests.e2e.site.settings import DATABASES, INSTALLED_APPS

_layer = json.loads(os.environ["E2E_LAYER"])

if _layer["BACKEND"].startswith("channels_postgres."):
    # As its documentation asks: an app of its own, and the database a second time.
    INSTALLED_APPS = [*INSTALLED_APPS, "channels_postgres"]
    DATABASES["channels_postgres"] = DATABASES["default"].copy()
    # It reads the settings before Django has filled in what is left out.
    _layer["CONFIG"] = {**DATABASES["default"], "TIME_ZONE": None, **_layer["CONFIG"]}

CHANNEL_LAYERS = {"default": _layer}
