"""Everything the protocol refuses, with the code that tells the client what to do next.

    RealtimeError
    ├── InvalidTrigger          a call of the site's own code breaks a limit
    ├── SignatureError          an HTTP request is not signed by the app
    │   └── StaleTimestamp      or not lately, by our clock
    └── ProtocolError           a client message we refuse
        ├── BadMessage          unreadable, or not allowed now; the connection stays
        │   ├── RateLimited     4301, does not close
        │   └── WatchlistTooLong 4302, does not close
        ├── SubscriptionRefused one channel is refused; the connection stays
        └── Fatal               the connection is closed with the code of the class

Close codes tell pusher-js what to do: 4000-4099 stop for good, 4100-4199 come back in a
second, 4200-4299 come back at once.  An error that leaves the connection open has no code
or 43xx, because some clients act on the code of the frame alone.

Source: Pusher docs, "Channels protocol", Error Codes and Connection closure.
"""

from typing import ClassVar


class RealtimeError(Exception):
    """Base of every error this package raises on purpose."""


class InvalidTrigger(RealtimeError, ValueError):
    """A name or the data of an event breaks a limit."""


class DataTooLarge(InvalidTrigger):
    """The data of an event is larger than the app allows."""


class SignatureError(RealtimeError):
    """An HTTP request is not signed by the app it names.  The text is safe to show."""


class StaleTimestamp(SignatureError):
    """An HTTP request was signed too long ago, or one of the two clocks is wrong."""


class ProtocolError(RealtimeError):
    """A client message we refuse.  ``str(error)`` is sent to that client: no secrets, no paths."""

    code: ClassVar[int | None] = None
    """``data.code`` of ``pusher:error``."""
    closes: ClassVar[bool] = False
    """Whether the connection is closed with the same code."""


class BadMessage(ProtocolError):
    """A message that cannot be read, or is not allowed in this state."""


class RateLimited(BadMessage):
    """More client events per second than the app allows; the event is dropped."""

    code = 4301

    def __init__(self) -> None:
        super().__init__("Client event rejected due to rate limit")


class WatchlistTooLong(BadMessage):
    """More users on a watchlist than one connection may watch; the first ones are watched."""

    code = 4302

    def __init__(self, most: int) -> None:
        super().__init__(f"Watchlist limit exceeded. Only the first {most} user IDs are accepted.")


class SubscriptionRefused(ProtocolError):
    """One subscription is refused.

    Args:
        message: sent in ``pusher:error``; may quote what the client signed.
        summary: sent to the channel in ``pusher:subscription_error``.
    """

    type: ClassVar[str] = "AuthError"
    status: ClassVar[int] = 401

    def __init__(self, message: str, summary: str | None = None) -> None:
        super().__init__(message)
        self.summary = summary or message


class InvalidChannel(SubscriptionRefused):
    """The channel name breaks the grammar."""

    type = "InvalidChannel"
    status = 400


class LimitReached(SubscriptionRefused):
    """The channel, or the connection, has no room for another."""

    type = "LimitReached"
    status = 4100


class Fatal(ProtocolError):
    """The connection is closed."""

    code: ClassVar[int]
    closes = True
    text: ClassVar[str] = ""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.text)


class TLSRequired(Fatal):
    """The app accepts encrypted connections only."""

    code, text = 4000, "Application only accepts SSL connections, reconnect using wss://"


class UnknownApp(Fatal):
    """The key in the URL belongs to no app."""

    code = 4001

    def __init__(self, key: str) -> None:
        super().__init__(
            f"App key {key[:40]} not in this cluster. Did you forget to specify the cluster?"
        )


class AppDisabled(Fatal):
    """The app is switched off."""

    code, text = 4003, "Application disabled"


class OverQuota(Fatal):
    """The app has as many connections as it may have."""

    code, text = 4004, "Account over quota"


class PathNotFound(Fatal):
    """The URL is not ``/app/KEY``."""

    code, text = 4005, "Path not found"


class BadVersion(Fatal):
    """The ``version`` parameter cannot be read."""

    code, text = 4006, "Invalid version string format"


class UnsupportedProtocol(Fatal):
    """The ``protocol`` parameter is not 5, 6 or 7."""

    code, text = 4007, "Unsupported protocol version"


class NoProtocol(Fatal):
    """Neither ``protocol`` nor a ``version`` to infer it from."""

    code, text = 4008, "No protocol version supplied"


class Unauthorized(Fatal):
    """The connection may not go on.

    Its user was disconnected, its origin is foreign, or it did not sign in in time.
    """

    code, text = 4009, "You got disconnected by the app."


class OverCapacity(Fatal):
    """This process has no room, or the peer reads too slowly; try again in a second."""

    code, text = 4100, "Over capacity"


class PleaseReconnect(Fatal):
    """This process is about to stop; another one is there."""

    code, text = 4200, "Please reconnect immediately"


class PongTimeout(Fatal):
    """The peer did not answer a ping."""

    code, text = 4201, "Pong reply not received"
