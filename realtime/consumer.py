"""One WebSocket: ASGI on one side, ``Connection``, hub and ledger on the other.

A loop: receive, decide, apply the effects in order.  While a subscription or a sign-in is
being decided nothing more is read, so the messages of a client keep their order.
"""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from channels.consumer import AsyncConsumer
from django.db import DatabaseError, InterfaceError

from realtime import (
    addresses,
    app_changes,
    conf,
    counts,
    handshake,
    hub,
    last_events,
    layer,
    lifespan,
    metrics,
    peer,
    watchlists,
)
from realtime.layer import Envelope, PublishFailed
from realtime.logs import OncePerSecond
from realtime.models import Member
from realtime.presence import ledger
from realtime.presence.ledger import PresenceUnavailable
from realtime.presence.transitions import Join as JoinTransition
from realtime.presence.transitions import Leave as LeaveTransition
from realtime.protocol import messages
from realtime.protocol.app import App
from realtime.protocol.bucket import Pace
from realtime.protocol.connection import Connection, close_reason
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
    AppDisabled,
    BadMessage,
    Fatal,
    OverCapacity,
    SubscriptionRefused,
    UnknownApp,
)
from realtime.protocol.facts import Fact, of_client_event
from realtime.protocol.frames import Frame, frame_of
from realtime.protocol.messages import User, encode_error, encode_event
from realtime.protocol.names import Kind, is_cache_channel, kind_of
from realtime.sockets import LAST_WORD_SECONDS, Socket, abort_of, frame_writer_of
from realtime.webhooks import facts

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())

_SOCKET_ID_PART = 10**10
_CHARS_OF_A_MESSAGE = 10_240
"""Ours: a message counts once more against ``messages_per_second`` for so many characters."""


class PusherConsumer(AsyncConsumer):
    """A client of a Pusher app.

    Overrides ``__call__``: Channels would give every connection a layer channel, a second
    task and a thread hop per message.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # Any: ASGI
        """Serve one WebSocket from its handshake to its end."""
        self._scope, self._receive, self._send = scope, receive, send
        if (await receive())["type"] != "websocket.connect":
            return
        await send({"type": "websocket.accept", "subprotocol": handshake.subprotocol(scope)})
        lifespan.prepare()
        self._hub, self._ledger = hub.current(), ledger.current()
        self._apps = app_changes.current()
        self._loop = asyncio.get_running_loop()
        door, address = addresses.current(), peer.address(scope)
        try:
            door.enter(address, self._loop.time())
            try:
                await self._serve(*await handshake.admit(scope))
            finally:
                door.leave(address)
        except Fatal as error:
            metrics.count("connections_refused", code=str(error.code))
            await self._turn_away(error)

    # ---- handshake ------------------------------------------------------------------

    async def _turn_away(self, error: Fatal) -> None:
        # The peer may be gone before it hears of it, or (RuntimeError) the server closed by itself.
        with suppress(OSError, RuntimeError):
            await self._send({"type": "websocket.send", "text": encode_error(error)})
            await self._send(
                {"type": "websocket.close", "code": error.code, "reason": close_reason(error)}
            )

    # ---- conversation ---------------------------------------------------------------

    async def _serve(self, app: App, client: str) -> None:
        config, now = conf.get(), self._loop.time()
        socket_id = f"{secrets.randbelow(_SOCKET_ID_PART)}.{secrets.randbelow(_SOCKET_ID_PART)}"
        self._timer: asyncio.TimerHandle | None = None
        self._connection = Connection(
            app,
            socket_id,
            now=now,
            activity_timeout=config.activity_timeout_seconds,
            answers_ping=client == "js",
            ping_seconds=config.ping_seconds,
            pong_seconds=config.pong_seconds,
        )
        limits = app.limits
        self._pace = Pace(
            limits.messages_per_second,
            # A page that comes back asks for all its channels at once.
            max(limits.messages_per_second, limits.subscriptions_per_connection),
            patience=limits.flood_seconds,
            now=now,
        )
        task = asyncio.current_task()
        self._socket = Socket(
            app.id,
            socket_id,
            self._send,
            backlog_chars=app.limits.backlog_chars,
            drop=task.cancel if task is not None else lambda: None,
            abort=abort_of(self._scope),
            write_frame=frame_writer_of(self._scope),
        )
        self._user_id: str | None = None
        self._shown: dict[str, str] = {}
        """The user shown in each presence channel, for staff who kick that user."""
        self._hub.admit(self._socket, authorized=not app.authorized_connections)
        self._apps.follow(self)
        try:
            await self._hub.start()
            await self._apply(self._connection.open())
            self._arm()
            await self._converse()
        except PublishFailed as error:
            logger.error("a connection was turned away: %s", error)
            metrics.count("over_capacity", reason="layer")
            raise OverCapacity from None
        except asyncio.CancelledError:
            if not self._socket.dropped:
                raise
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORD_SECONDS):
                    await self._turn_away(OverCapacity())
        except Exception:
            logger.exception("connection %s of app %s failed", socket_id, app.id)
            self._socket.close(1011, "Internal error")
        finally:
            self._clean_up()

    async def _converse(self) -> None:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._socket.abandon()
                return
            if self._socket.over:
                continue  # closing: only the disconnect is of interest
            text = message.get("text")
            if text is None:
                effects = self._connection.receive_bytes()
            else:
                effects = self._connection.receive(text, self._loop.time())
            await self._apply(effects)
            await self._hold_back(1 + len(text or "") // _CHARS_OF_A_MESSAGE)

    async def _hold_back(self, cost: int) -> None:
        """Read a fast peer no faster than its rate, and give up one that goes on for long.

        Waiting is enough where the server stops reading when we do.  Daphne reads on and
        keeps what it read, so there is an end to it.
        """
        now, flood = self._loop.time(), self._pace.held_since
        seconds = self._pace.pause(now, cost)
        if not seconds or self._socket.over:
            return
        if self._pace.held_since != flood:
            metrics.count("connections_throttled")
        if self._pace.is_flooding(now):
            metrics.count("over_capacity", reason="flood")
            await self._apply(self._connection.end(OverCapacity()))
            return
        await asyncio.sleep(seconds)

    async def _apply(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(text, refused):
                    self._socket.push(frame_of(text))
                    if refused:
                        metrics.count("messages_refused", reason=refused)
                case Join():
                    await self._join(effect)
                case Leave(channel, member):
                    self._leave(channel, member)
                case Publish():
                    await self._publish(effect)
                case Identify(user):
                    await self._identify(user)
                case Watch(user_ids):
                    await self._watch(user_ids)
                case Authorized():
                    self._hub.authorize(self._socket)
                case Close(code, reason):
                    self._socket.close(code, reason)

    async def _join(self, wish: Join) -> None:
        app_id, channel, member = self.app.id, wish.channel, wish.member
        try:
            await self._hub.join(app_id, channel, self._socket)
            # Only now: what is published from here on is held, so none falls between.
            kept = await last_events.aread(app_id, channel) if is_cache_channel(channel) else None
            roster = None
            if member is not None:
                self._shown[channel] = member.user_id
                self._hub.show(member.user_id, self._socket)
                roster = await self._ledger.join(
                    JoinTransition(
                        app_id,
                        channel,
                        self._socket.socket_id,
                        member,
                        self.app.limits.presence_members,
                        wish.from_sign_in,
                    )
                )
        except (PublishFailed, PresenceUnavailable) as error:
            await self._send_away(error)
        except SubscriptionRefused as error:
            await self._refuse(channel, error)
        else:
            await self._apply(self._connection.joined(channel, roster.text if roster else None))
            listed = roster.view if roster else None
            self._hub.release(app_id, channel, self._socket, listed, kept)
            if kept is not None and not kept.at:
                self._tell(Fact(app_id=app_id, kind="cache_miss", channel=channel))
            self._count(channel)

    async def _send_away(self, error: PublishFailed | PresenceUnavailable) -> None:
        """Close: a client repeats what was refused after a new connection only."""
        logger.error("a connection was sent away: %s", error)
        reason = "layer" if isinstance(error, PublishFailed) else "presence"
        metrics.count("over_capacity", reason=reason)
        await self._apply(self._connection.end(OverCapacity()))

    async def _refuse(self, channel: str, error: SubscriptionRefused) -> None:
        self._hub.leave(self.app.id, channel, self._socket)
        self._hide(channel)
        self._count(channel)
        await self._apply(self._connection.refused(channel, error))

    def _leave(self, channel: str, member: messages.Member | None) -> None:
        self._hub.leave(self.app.id, channel, self._socket)
        self._hide(channel)
        if member is not None:
            self._record_leave(channel, member.user_id)
        self._count(channel)

    def _hide(self, channel: str) -> None:
        user_id = self._shown.pop(channel, None)
        if user_id is not None and user_id not in self._shown.values():
            self._hub.hide(user_id, self._socket)

    def _count(self, channel: str) -> None:
        kind = kind_of(channel)
        if kind is Kind.SERVER_TO_USER:
            return
        total = self._hub.subscriptions(self.app.id, channel)
        self._ledger.occupy(self.app.id, channel, total)
        if self.app.subscription_counts and kind is not Kind.PRESENCE:
            counts.current().changed(self.app, channel)

    def _record_leave(self, channel: str, user_id: str) -> None:
        self._ledger.leave(LeaveTransition(self.app.id, channel, self._socket.socket_id, user_id))

    async def _publish(self, event: Publish) -> None:
        text = encode_event(event.event, event.channel, event.data, user_id=event.user_id)
        envelope = Envelope(self.app.id, event.channel, text, self._socket.socket_id)
        try:
            await layer.publish([envelope], source="client")
        except PublishFailed as error:
            logger.error("a client event was lost: %s", error)
            metrics.count("messages_refused", reason="client_event_lost")
            refusal = BadMessage("Client event could not be delivered, try again later")
            self._socket.push(Frame(encode_error(refusal)))
        else:
            self._tell(of_client_event(self.app.id, self._socket.socket_id, event))

    def _tell(self, fact: Fact) -> None:
        if facts.wanted(self.app, fact.kind, fact.channel):
            self._ledger.tell(fact)

    async def _identify(self, user: User) -> None:
        user_id = user.member.user_id
        # Found by a termination from now on: a ban that the ledger does not see yet is
        # followed by a termination that sees this connection.
        self._user_id = user_id
        self._hub.identify(user_id, self._socket)
        joining = JoinTransition(
            self.app.id, Member.ONLINE, self._socket.socket_id, user.member, None, True
        )
        try:
            await self._ledger.join(joining)
        except PresenceUnavailable as error:
            await self._send_away(error)
        except SubscriptionRefused as error:
            if self._connection.user is None:
                self._hub.forget(user_id, self._socket)
                self._user_id = None
            await self._apply(self._connection.sign_in_refused(BadMessage(str(error))))
        else:
            await self._apply(self._connection.identified(user))

    async def _watch(self, user_ids: tuple[str, ...]) -> None:
        try:
            await watchlists.current().watch(self.app.id, user_ids, self._socket)
        except PublishFailed as error:
            await self._send_away(error)
        except (DatabaseError, InterfaceError, TimeoutError) as error:
            await self._send_away(PresenceUnavailable(f"a watchlist could not be read: {error}"))

    # ---- a changed app --------------------------------------------------------------

    @property
    def app(self) -> App:
        """The app of this connection."""
        return self._connection.app

    def adopt(self, app: App | None) -> None:
        """Go on with the app as it is now; end where it is disabled or gone.

        Switches and secrets count from now on.  What was counted or checked when the
        connection began stays as it was until the next one.
        """
        if self._socket.over:
            return
        if app is None:
            self._say(self._connection.end(UnknownApp(self.app.key)))
        elif not app.enabled:
            self._say(self._connection.end(AppDisabled()))
        else:
            self._connection.app = app

    # ---- time and end ---------------------------------------------------------------

    def _say(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self._socket.push(Frame(effect.text))
            elif isinstance(effect, Close):
                self._socket.close(effect.code, effect.reason)

    def _arm(self) -> None:
        seconds = self._connection.seconds_to_tick(self._loop.time())
        if seconds is not None:
            self._timer = self._loop.call_later(max(seconds, 0.05), self._tick)

    def _tick(self) -> None:
        self._say(self._connection.tick(self._loop.time()))
        if not self._socket.over:
            self._arm()

    def _clean_up(self) -> None:
        """Leave everything; no await, so nothing can come between."""
        if self._timer is not None:
            self._timer.cancel()
        for effect in self._connection.close():
            if isinstance(effect, Leave):
                self._leave(effect.channel, effect.member)
        if self._user_id is not None:
            self._hub.forget(self._user_id, self._socket)
            self._record_leave(Member.ONLINE, self._user_id)
            watchlists.current().unwatch(self._socket)
        self._apps.unfollow(self)
        self._hub.dismiss(self._socket)
