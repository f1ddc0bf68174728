"""Named places where a fault test may break a running server; dead in production.

A site that sets ``REALTIME_ALLOW_FAULTS = True``, which only the site of the fault tests does,
reads the environment variable ``REALTIME_FAULTS``: names of points and what happens there,
such as ``outbox.after_commit=exit,bus.receive=raise``.
"""

import functools
import logging
import os
from typing import Final

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

logger = logging.getLogger(__name__)

VARIABLE: Final = "REALTIME_FAULTS"
EXIT_STATUS: Final = 70
"""sysexits.h, "internal software error": nobody takes it for an orderly end."""


class InjectedFault(Exception):
    """What a point raises that was told to."""


def point(name: str) -> None:
    """Break here, once, if the test asked for it.

    Raises:
        InjectedFault: the action is ``raise``.  With ``exit`` the process ends at once.
    """
    action = _armed().pop(name, None)
    if action is None:
        return
    logger.warning("fault injected: %s at %s", action, name)
    if action == "exit":
        os._exit(EXIT_STATUS)
    raise InjectedFault(name)


@functools.cache
def _armed() -> dict[str, str]:
    if not getattr(settings, "REALTIME_ALLOW_FAULTS", False):
        return {}
    return dict(item.split("=", 1) for item in os.environ.get(VARIABLE, "").split(",") if item)


@receiver(setting_changed)
def _forget(*, setting: str, **_: object) -> None:
    if setting == "REALTIME_ALLOW_FAULTS":
        _armed.cache_clear()
