"""Kinds and grammar of channel names, event names, socket ids and user ids.

Every pattern is used with ``fullmatch``: ``$`` would accept a trailing newline.  ``[0-9]``
rather than ``\\d``, which takes the digits of every script.

Source: Pusher docs, "Channels", Channel naming conventions; official server libraries.
"""

import re
from enum import Enum
from typing import Final

from realtime.protocol.app import Limits
from realtime.protocol.errors import InvalidChannel, InvalidTrigger

_CHANNEL: Final = re.compile(r"[A-Za-z0-9_\-=@,.;]+")
_SOCKET_ID: Final = re.compile(r"[0-9]{1,20}\.[0-9]{1,20}")
_APP_ID: Final = re.compile(r"[0-9]{1,20}")

USER_CHANNEL_PREFIX: Final = "#server-to-user-"
"""The one use of ``#``: the channel on which a signed-in user gets its own events."""


_CACHE_PREFIXES: Final = (
    "cache-",
    "private-cache-",
    "private-encrypted-cache-",
    "presence-cache-",
)


class Kind(Enum):
    """What the prefix of a channel name says about it."""

    PUBLIC = "public"
    PRIVATE = "private"
    ENCRYPTED = "private-encrypted"
    PRESENCE = "presence"
    SERVER_TO_USER = "server-to-user"

    @property
    def needs_auth(self) -> bool:
        """Whether a subscription must carry a signature of the site."""
        return self in (Kind.PRIVATE, Kind.ENCRYPTED, Kind.PRESENCE)

    @property
    def takes_client_events(self) -> bool:
        """Whether subscribers may send ``client-…`` events to each other."""
        return self.needs_auth


def kind_of(channel: str) -> Kind:
    """The kind of *channel*, longest prefix first; the dash belongs to the prefix.

    >>> kind_of("private-encrypted-x"), kind_of("privatex")
    (<Kind.ENCRYPTED: 'private-encrypted'>, <Kind.PUBLIC: 'public'>)
    """
    if channel.startswith("private-"):
        return Kind.ENCRYPTED if channel.startswith("private-encrypted-") else Kind.PRIVATE
    if channel.startswith("presence-"):
        return Kind.PRESENCE
    if channel.startswith(USER_CHANNEL_PREFIX):
        return Kind.SERVER_TO_USER
    return Kind.PUBLIC


def is_cache_channel(channel: str) -> bool:
    """Whether the last event of *channel* is kept for those who come later.

    >>> is_cache_channel("private-encrypted-cache-x"), is_cache_channel("cachex")
    (True, False)
    """
    return channel.startswith(_CACHE_PREFIXES)


def user_channel(user_id: str) -> str:
    """The channel of the events sent to one signed-in user."""
    return USER_CHANNEL_PREFIX + user_id


def is_channel_name(name: str, limits: Limits) -> bool:
    """Whether *name* may be subscribed to or authorised; never true of a ``#`` name."""
    return len(name) <= limits.channel_name_chars and _CHANNEL.fullmatch(name) is not None


def is_socket_id(text: str) -> bool:
    """Whether *text* has the form of a socket id, ``"123.456"``."""
    return _SOCKET_ID.fullmatch(text) is not None


def is_app_id(text: str) -> bool:
    """Whether *text* can be an app id: decimal digits, as some official libraries insist."""
    return _APP_ID.fullmatch(text) is not None


def is_signin_user_id(text: str, limits: Limits) -> bool:
    """Whether *text* can sign in: it becomes part of a channel name."""
    return len(text) <= limits.signin_user_id_chars and _CHANNEL.fullmatch(text) is not None


def check_subscribable(channel: str, limits: Limits) -> None:
    """Raise unless a client may ask for *channel* by name.

    Raises:
        InvalidChannel: a foreign character, too long, or an unknown ``#`` name.
    """
    if channel.startswith(USER_CHANNEL_PREFIX):
        valid = is_signin_user_id(channel.removeprefix(USER_CHANNEL_PREFIX), limits)
    else:
        valid = is_channel_name(channel, limits)
    if not valid:
        shown = ascii(channel[:60])[1:-1]
        raise InvalidChannel(f"Invalid channel name: {shown}", "Invalid channel name")


def check_triggerable(channel: str, limits: Limits) -> None:
    """Raise unless an event may be triggered on *channel*.

    Raises:
        InvalidTrigger: as for subscriptions; ``#server-to-user-…`` is allowed.
    """
    try:
        check_subscribable(channel, limits)
    except InvalidChannel as error:
        raise InvalidTrigger(str(error)) from None


def check_event_name(event: str, limits: Limits) -> None:
    """Raise unless a server may trigger *event*.

    Raises:
        InvalidTrigger: empty, too long, not text, or a name only this server may send.
    """
    if not event:
        raise InvalidTrigger("Event name must not be empty")
    if len(event) > limits.event_name_chars:
        raise InvalidTrigger(
            f"Event name must be at most {limits.event_name_chars} characters long"
        )
    if event.startswith(("pusher:", "pusher_internal:")):
        raise InvalidTrigger(f"Event name is reserved: {ascii(event[:60])[1:-1]}")
    if not is_encodable(event):
        raise InvalidTrigger("Event name is not valid text")


def is_encodable(text: str) -> bool:
    """Whether *text* can be written as UTF-8: it has no lone surrogate.

    ``json.loads`` makes such text from ``"\\ud800"``, which every encoder later refuses.
    """
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
