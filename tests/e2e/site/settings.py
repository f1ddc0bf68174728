"""The reference site with a few more channel rules and users, for the end-to-end tests."""

from project.settings import *  # noqa: F403
from project.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.e2e.site"]
