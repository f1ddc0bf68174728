"""A Pusher Channels server as a drop-in Django app.

Browsers connect with pusher-js, back ends call the HTTP API with the official Pusher
libraries, and Django code calls the functions below.  They are imported on first use, so
that ``realtime.protocol`` can be used without Django.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realtime.authorization import (
        aauthenticate_user,
        aauthorize_channel,
        authenticate_user,
        authorize_channel,
    )
    from realtime.erasure import aerase_user, erase_user
    from realtime.layer import PublishFailed
    from realtime.moderation import aterminate_user_connections, terminate_user_connections
    from realtime.profiles import (
        UnknownUser,
        adelete_user_data,
        aupdate_user_data,
        auser_data,
        delete_user_data,
        update_user_data,
        user_data,
    )
    from realtime.protocol.errors import DataTooLarge, InvalidTrigger, RealtimeError
    from realtime.queries import (
        InvalidQuery,
        achannel_info,
        achannels_info,
        ausers_info,
        channel_info,
        channels_info,
        users_info,
    )
    from realtime.rules import channel_rule
    from realtime.triggers import (
        asend_to_user,
        atrigger,
        atrigger_batch,
        send_to_user,
        trigger,
        trigger_batch,
    )

__version__ = "0.1.0"

_HOMES = {
    "authorization": (
        "aauthenticate_user",
        "aauthorize_channel",
        "authenticate_user",
        "authorize_channel",
    ),
    "erasure": ("aerase_user", "erase_user"),
    "layer": ("PublishFailed",),
    "moderation": ("aterminate_user_connections", "terminate_user_connections"),
    "profiles": (
        "UnknownUser",
        "adelete_user_data",
        "aupdate_user_data",
        "auser_data",
        "delete_user_data",
        "update_user_data",
        "user_data",
    ),
    "protocol.errors": ("DataTooLarge", "InvalidTrigger", "RealtimeError"),
    "queries": (
        "InvalidQuery",
        "achannel_info",
        "achannels_info",
        "ausers_info",
        "channel_info",
        "channels_info",
        "users_info",
    ),
    "rules": ("channel_rule",),
    "triggers": (
        "asend_to_user",
        "atrigger",
        "atrigger_batch",
        "send_to_user",
        "trigger",
        "trigger_batch",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "DataTooLarge",
    "InvalidQuery",
    "InvalidTrigger",
    "PublishFailed",
    "RealtimeError",
    "UnknownUser",
    "aauthenticate_user",
    "aauthorize_channel",
    "achannel_info",
    "achannels_info",
    "adelete_user_data",
    "aerase_user",
    "asend_to_user",
    "aterminate_user_connections",
    "atrigger",
    "atrigger_batch",
    "aupdate_user_data",
    "auser_data",
    "ausers_info",
    "authenticate_user",
    "authorize_channel",
    "channel_info",
    "channel_rule",
    "channels_info",
    "delete_user_data",
    "erase_user",
    "send_to_user",
    "terminate_user_connections",
    "trigger",
    "trigger_batch",
    "update_user_data",
    "user_data",
    "users_info",
]


def __getattr__(name: str) -> Any:  # Any: functions, classes and a decorator
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
