"""The subscribers of one channel in one process, and what each of them gets."""

import asyncio
from dataclasses import replace

from realtime.holding import Held, Holding
from realtime.last_events import Kept
from realtime.layer import Envelope
from realtime.protocol.attendance import Announcement, Attendance, Heard, View
from realtime.protocol.frames import Frame
from realtime.protocol.messages import encode_member_removed
from realtime.sockets import Socket


class LocalChannel:
    """Sockets, those that wait for their success frame, and what they have heard."""

    __slots__ = (
        "_crowd",
        "_given",
        "attendance",
        "failures",
        "group",
        "held",
        "joined",
        "lock",
        "sockets",
    )

    def __init__(self, group: str) -> None:
        self.group = group
        self.lock = asyncio.Lock()
        self.failures = 0
        """How often the layer group could not be joined."""
        self.joined = False
        """Whether all that is sent to the layer group from now on arrives."""
        self.sockets: dict[str, Socket] = {}
        self.held = Holding()
        """Sockets whose success frame is not out yet, and what they are to get after it."""
        self.attendance: Attendance | None = None
        """What the sockets of a presence channel know of its members."""
        self._crowd: tuple[list[Held], list[Announcement], list[Held]] | None = None
        """What all of a crowd missed, and of that the news of members, and the rest."""
        self._given: dict[str, int] = {}
        """Sockets that got an event from the cache which may still come by here."""

    @property
    def empty(self) -> bool:
        return not self.sockets and not self.held

    def release(self, socket: Socket, listed: View | None, kept: Kept | None) -> int:
        """Deliver to *socket* what was held, and everything from now on; see ``Hub.release``.

        Returns:
            how many events it got.
        """
        held = self.held.take(socket.socket_id)
        if listed is not None:
            held = self._unheard(socket, listed, held)
        self.sockets[socket.socket_id] = socket
        frames = [frame for _, frame in held]
        if kept is not None:
            came = [envelope for envelope, _ in held]
            texts = kept.before(came)
            frames[:0] = map(Frame, texts[: len(texts) - len(frames)])
            if kept.may_come_again(came):
                self._given[socket.socket_id] = kept.at
        for frame in frames:
            socket.push(frame)
        return len(frames)

    def remove(self, socket: Socket) -> None:
        """Deliver nothing more to *socket*."""
        self.sockets.pop(socket.socket_id, None)
        self.held.drop(socket.socket_id)
        self._crowd = None
        self._given.pop(socket.socket_id, None)
        if self.attendance is not None:
            self.attendance.dismiss(socket.socket_id)

    def misses(self, news: Announcement) -> bool:
        """Whether a subscriber has not heard *news* about a member."""
        return self.attendance is not None and self.attendance.misses(news)

    def deliver(self, envelope: Envelope) -> int:
        """Hand one event to every subscriber; return how many got it."""
        frame = Frame(envelope.text)
        if envelope.announcement is not None:
            told = self._announce(envelope, envelope.announcement, frame)
        elif self._given and envelope.kept_at is not None:
            told = self._deliver_kept(envelope, envelope.kept_at, frame)
        else:
            except_socket_id = envelope.except_socket_id
            for socket_id, socket in self.sockets.items():
                if socket_id != except_socket_id:
                    socket.push(frame)
            # All at once: what is done for each subscriber is paid a thousand times.
            excepted = except_socket_id is not None and except_socket_id in self.sockets
            told = len(self.sockets) - excepted
        self.held.note(envelope, frame)
        return told

    def _announce(self, envelope: Envelope, news: Announcement, frame: Frame) -> int:
        """Tell of a member; the news may be late, or known to some."""
        if self.attendance is None:
            return 0
        wanted, own = self.attendance.hear(news)
        if envelope.except_socket_id is not None:
            own[envelope.except_socket_id] = Heard.NOTHING
        told = 0
        if wanted:
            others = [*self.sockets.values()]
            if own:
                others = [item for key, item in self.sockets.items() if key not in own]
            for _, part in _told(envelope, frame, wanted):
                for socket in others:
                    socket.push(part)
                told += len(others)
        for socket_id, heard in own.items():
            for _, part in _told(envelope, frame, heard) if heard else ():
                self.sockets[socket_id].push(part)
                told += 1
        return told

    def _deliver_kept(self, envelope: Envelope, kept_at: int, frame: Frame) -> int:
        """Deliver an event that some sockets have from the cache already, or a later one."""
        told = 0
        for socket_id, socket in self.sockets.items():
            if socket_id != envelope.except_socket_id and self._given.get(socket_id, -1) < kept_at:
                socket.push(frame)
                told += 1
        self._given = {key: at for key, at in self._given.items() if at > kept_at}
        return told

    def _unheard(self, socket: Socket, listed: View, held: list[Held]) -> list[Held]:
        """What of *held* tells a socket with that list of members something new."""
        if self.attendance is None:
            self.attendance = Attendance()
        if self._crowd is None or self._crowd[0] is not held:
            news = [event.announcement for event, _ in held if event.announcement is not None]
            self._crowd = held, news, [item for item in held if item[0].announcement is None]
        _, news, others = self._crowd
        if not self.held:
            self._crowd = None
        heard = self.attendance.admit(socket.socket_id, listed, news, first=not self.sockets)
        if not any(heard):  # as for all of a crowd that came at once
            return others
        wanted = iter(heard)
        return [
            part
            for event, frame in held
            for part in _told(event, frame, next(wanted) if event.announcement else Heard.CHANGE)
        ]


def _told(envelope: Envelope, frame: Frame, heard: Heard) -> tuple[Held, ...]:
    """What a socket is sent of news about a member.

    The protocol has no news that a member shows something else.  Clients take a departure
    and an arrival, in this order, for it.
    """
    if heard is Heard.RENEWAL and envelope.announcement is not None:
        text = encode_member_removed(envelope.channel, envelope.announcement.user_id)
        return (replace(envelope, text=text), Frame(text)), (envelope, frame)
    return ((envelope, frame),) if heard else ()
