"""The state of one client: messages in, effects out.

``Connection`` decides and never does.  Its caller applies the effects in order, and reports
back what only the outside knows: who is in a channel, whether a user may come in.

    receive(subscribe)  → Join      → joined(channel, …) or refused(channel, error)
    receive(signin)     → Identify  → identified(user)   or sign_in_refused(error)

While such a question is open the caller reads no further message, so a client's own
messages keep their order.
"""

from typing import Final

from realtime.protocol import messages, signing
from realtime.protocol.app import App
from realtime.protocol.bucket import Bucket
from realtime.protocol.effects import (
    Authorized,
    Close,
    Effect,
    Identify,
    Join,
    Leave,
    Publish,
    Send,
    Watch,
)
from realtime.protocol.errors import (
    BadMessage,
    Fatal,
    LimitReached,
    PongTimeout,
    RateLimited,
    SubscriptionRefused,
    Unauthorized,
    WatchlistTooLong,
)
from realtime.protocol.messages import (
    ClientEvent,
    Member,
    Ping,
    Pong,
    SignIn,
    Subscribe,
    Unsubscribe,
    User,
)
from realtime.protocol.names import (
    Kind,
    check_subscribable,
    is_encodable,
    is_signin_user_id,
    kind_of,
    user_channel,
)

_REASON_BYTES: Final = 123


class Connection:
    """One client's WebSocket as the protocol sees it.

    Args:
        answers_ping: whether the client is known to answer ``pusher:ping`` messages.  The
            Java, .NET and Swift clients do not; the control pings of the server look after
            those, and must not be second-guessed here.
        ping_seconds: silence after which such a client is pinged.
        pong_seconds: how long the answer may take.
    """

    __slots__ = (
        "_activity_timeout",
        "_allowance",
        "_answers_ping",
        "_authorize_by",
        "_last_heard",
        "_malformed",
        "_ping_seconds",
        "_pinged_at",
        "_pong_seconds",
        "_subscriptions",
        "app",
        "socket_id",
        "user",
    )

    def __init__(
        self,
        app: App,
        socket_id: str,
        *,
        now: float,
        activity_timeout: int = 120,
        answers_ping: bool = False,
        ping_seconds: float = 60,
        pong_seconds: float = 15,
    ) -> None:
        self.app = app
        self.socket_id = socket_id
        self.user: User | None = None
        self._subscriptions: dict[str, Member | None] = {}
        self._activity_timeout = activity_timeout
        self._answers_ping = answers_ping
        self._ping_seconds = ping_seconds
        self._pong_seconds = pong_seconds
        self._last_heard = now
        self._pinged_at: float | None = None
        rate = app.limits.client_events_per_second
        self._allowance = Bucket(rate, rate, now)
        self._malformed = 0
        self._authorize_by = (
            now + app.limits.authorization_seconds if app.authorized_connections else None
        )

    # ---- what the client does -------------------------------------------------------

    def open(self) -> list[Effect]:
        """Greet the client; nothing may be sent before this."""
        text = messages.encode_connection_established(self.socket_id, self._activity_timeout)
        return [Send(text)]

    def receive(self, text: str, now: float) -> list[Effect]:
        """React to one message from the client.

        Args:
            now: seconds on any clock that only moves forward.
        """
        self._last_heard = now
        self._pinged_at = None
        if _utf8_length(text) > self.app.limits.message_bytes:
            return [Close(1009, "Message too large")]
        try:
            message = messages.decode(text)
        except BadMessage as error:
            return self._refuse_unreadable(error)
        self._malformed = 0
        try:
            match message:
                case Ping():
                    return [Send(messages.PONG)]
                case Pong():
                    return []
                case Subscribe() as wish:
                    return self._subscribe(wish)
                case Unsubscribe(channel):
                    return self._unsubscribe(channel)
                case ClientEvent() as event:
                    return self._client_event(event, now)
                case proof:
                    return self._sign_in(proof)
        except RateLimited as error:
            return [Send(messages.encode_error(error), "client_event_rate")]
        except BadMessage as error:
            return [Send(messages.encode_error(error), "not_allowed")]

    def receive_bytes(self) -> list[Effect]:
        """React to a binary frame, which no version of the protocol has."""
        return [Close(1003, "Binary messages are not supported")]

    def close(self) -> list[Effect]:
        """End all subscriptions; the client is gone."""
        left: list[Effect] = [Leave(*item) for item in self._subscriptions.items()]
        self._subscriptions.clear()
        return left

    # ---- what the outside answers ---------------------------------------------------

    def joined(self, channel: str, confirmation: str | None = None) -> list[Effect]:
        """Confirm a subscription.

        Args:
            confirmation: on presence channels, ``encode_subscription_succeeded`` of the members;
                whoever comes at the same time gets the same.
        """
        if confirmation is None:
            confirmation = messages.encode_subscription_succeeded(channel)
        return [Send(confirmation), *(self._authorized() if kind_of(channel).needs_auth else [])]

    def refused(self, channel: str, error: SubscriptionRefused) -> list[Effect]:
        """Refuse a subscription in both ways clients listen for."""
        self._subscriptions.pop(channel, None)
        return [
            Send(messages.encode_error(error), "subscription"),
            Send(messages.encode_subscription_error(channel, error)),
        ]

    def identified(self, user: User) -> list[Effect]:
        """Confirm a sign-in."""
        known, self.user = self.user, user
        effects: list[Effect] = [Send(messages.encode_signin_success(user.user_data))]
        watched, most = user.watchlist, self.app.limits.watchlist_user_ids
        if self.app.watchlists and (watched or (known and known.watchlist)):
            if len(watched) > most:
                effects.append(Send(messages.encode_error(WatchlistTooLong(most)), "watchlist"))
            effects.append(Watch(watched[:most]))
        return effects + self._authorized()

    def sign_in_refused(self, error: BadMessage) -> list[Effect]:
        """Refuse a sign-in.  The connection stays: closing would stop pusher-js for good."""
        return [Send(messages.encode_error(error), "not_allowed")]

    def end(self, error: Fatal) -> list[Effect]:
        """Close from our side, with the frame that says why."""
        return self._fail(error)

    # ---- time -----------------------------------------------------------------------

    def tick(self, now: float) -> list[Effect]:
        """Look after a silent client; call again after ``seconds_to_tick``."""
        if self._authorize_by is not None and now >= self._authorize_by:
            return self._fail(Unauthorized("Connection not authorized within timeout"))
        if not self._answers_ping:
            return []
        if self._pinged_at is None:
            if now - self._last_heard < self._ping_seconds:
                return []
            self._pinged_at = now
            return [Send(messages.PING)]
        if now - self._pinged_at < self._pong_seconds:
            return []
        return self._fail(PongTimeout())

    def seconds_to_tick(self, now: float) -> float | None:
        """When ``tick`` has something to do; ``None`` for never."""
        due = [] if self._authorize_by is None else [self._authorize_by]
        if self._answers_ping and self._pinged_at is None:
            due.append(self._last_heard + self._ping_seconds)
        elif self._answers_ping and self._pinged_at is not None:
            due.append(self._pinged_at + self._pong_seconds)
        return max(0.0, min(due) - now) if due else None

    # ---- decisions ------------------------------------------------------------------

    def _subscribe(self, wish: Subscribe) -> list[Effect]:
        channel = wish.channel
        try:
            check_subscribable(channel, self.app.limits)
            kind = kind_of(channel)
            if channel in self._subscriptions:
                if kind is Kind.SERVER_TO_USER:  # pusher-js repeats it after a second sign-in
                    return self.joined(channel)
                raise BadMessage(f"Existing subscription to channel {channel}")
            if len(self._subscriptions) >= self.app.limits.subscriptions_per_connection:
                raise LimitReached("Too many subscriptions on this connection")
            member = self._admit(wish, kind)
        except SubscriptionRefused as error:
            return self.refused(channel, error)
        self._subscriptions[channel] = member
        return [Join(channel, member, member is not None and wish.channel_data is None)]

    def _admit(self, wish: Subscribe, kind: Kind) -> Member | None:
        """Check that the client may join; return who it is there."""
        if kind is Kind.SERVER_TO_USER:
            user_id = self.user.member.user_id if self.user else ""
            if wish.channel != user_channel(user_id):
                raise SubscriptionRefused("Not signed in as the user of this channel")
            return None
        if not kind.needs_auth:
            return None
        signing.verify_channel_auth(
            self.app,
            wish.auth,
            socket_id=self.socket_id,
            channel=wish.channel,
            channel_data=wish.channel_data,
        )
        if kind is not Kind.PRESENCE:
            return None
        if wish.channel_data is not None:
            return self._member_of(wish.channel_data)
        if self.user is None:
            raise SubscriptionRefused(
                f"{wish.channel} is a presence channel and subscription must include"
                " channel_data, or the connection be signed in"
            )
        self._check_member(self.user.member)
        return self.user.member

    def _member_of(self, channel_data: str) -> Member:
        try:
            user_id, user_info = messages.read_member(channel_data)
        except BadMessage as error:
            raise SubscriptionRefused(str(error)) from None
        if isinstance(user_id, int) and not isinstance(user_id, bool):
            user_id = str(user_id)  # the documentation itself signs {"user_id":10}
        if not isinstance(user_id, str):
            raise SubscriptionRefused("channel_data must contain a user_id that is a string")
        member = Member(user_id, user_info)
        self._check_member(member)
        return member

    def _check_member(self, member: Member) -> None:
        limits = self.app.limits
        if not member.user_id or "\0" in member.user_id or not is_encodable(member.user_id):
            raise SubscriptionRefused("channel_data must contain a user_id that is a string")
        if len(member.user_id) > limits.presence_user_id_chars:
            raise LimitReached(f"user_id is longer than {limits.presence_user_id_chars} characters")
        if member.user_info and len(member.user_info.encode()) > limits.presence_user_info_bytes:
            raise LimitReached(f"user_info is larger than {limits.presence_user_info_bytes} bytes")

    def _unsubscribe(self, channel: str) -> list[Effect]:
        if channel not in self._subscriptions:
            raise _not_subscribed(channel)
        return [Leave(channel, self._subscriptions.pop(channel))]

    def _client_event(self, event: ClientEvent, now: float) -> list[Effect]:
        limits = self.app.limits
        if len(event.event) > limits.event_name_chars:
            raise BadMessage("Client event name is too long")
        if not self.app.client_events:
            raise BadMessage(
                "To send client events, you must enable this feature"
                " in the Settings page of your dashboard."
            )
        if not kind_of(event.channel).takes_client_events:
            raise BadMessage(
                "Client event rejected - only supported on private and presence channels"
            )
        if event.channel not in self._subscriptions:
            raise _not_subscribed(event.channel)
        if not self._allowance.take(now):
            raise RateLimited
        if _utf8_length(event.data) > limits.event_data_bytes:
            raise BadMessage(
                "The data content of this event exceeds the allowed maximum"
                f" ({limits.event_data_bytes} bytes)"
            )
        member = self._subscriptions[event.channel]
        user_id = member.user_id if member else None
        return [Publish(event.channel, event.event, event.data, user_id)]

    def _sign_in(self, proof: SignIn) -> list[Effect]:
        signing.verify_user_auth(
            self.app, proof.auth, socket_id=self.socket_id, user_data=proof.user_data
        )
        user_id, user_info = messages.read_member(proof.user_data, id_key="id")
        if not isinstance(user_id, str) or not is_signin_user_id(user_id, self.app.limits):
            raise BadMessage("user_data must contain an id that is a valid string")
        if self.user is not None and self.user.member.user_id != user_id:
            raise BadMessage("Connection is already signed in as a different user")
        watchlist = messages.read_watchlist(proof.user_data)
        return [Identify(User(Member(user_id, user_info), proof.user_data, watchlist))]

    def _authorized(self) -> list[Effect]:
        if self._authorize_by is None:
            return []
        self._authorize_by = None
        return [Authorized()]

    def _refuse_unreadable(self, error: BadMessage) -> list[Effect]:
        self._malformed += 1
        if self._malformed > self.app.limits.malformed_messages:
            return [Close(1008, "Too many invalid messages")]
        return [Send(messages.encode_error(error), "malformed")]

    def _fail(self, error: Fatal) -> list[Effect]:
        return [Send(messages.encode_error(error)), Close(error.code, close_reason(error))]


def _utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def close_reason(error: Fatal) -> str:
    """The text of *error*, cut to what a close frame can carry."""
    return str(error).encode()[:_REASON_BYTES].decode(errors="ignore")


def _not_subscribed(channel: str) -> BadMessage:
    shown = ascii(channel[:200])[1:-1]
    return BadMessage(f"No current subscription to channel {shown}, or subscription in progress")
