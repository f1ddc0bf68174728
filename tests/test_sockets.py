"""The outgoing half of a connection."""

import asyncio
import logging

import pytest

from realtime import sockets
from realtime.protocol.frames import Frame
from realtime.sockets import ABORT, TURN_SOCKETS, Socket, abort_of
from tests.conftest import Peer, until


async def turns():
    """Let the loop turn a few times."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_frames_leave_in_the_order_they_were_pushed():
    peer = Peer("1.1")

    for text in ("a", "b", "c"):
        peer.socket.push(Frame(text))

    await peer.has("a", "b", "c")


async def test_pushing_works_again_after_the_queue_was_empty():
    peer = Peer("1.1")
    peer.socket.push(Frame("a"))
    await peer.has("a")

    peer.socket.push(Frame("b"))

    await peer.has("a", "b")


async def test_a_close_lets_everything_pushed_before_it_out_first():
    peer = Peer("1.1", reads=False)
    peer.socket.push(Frame("a"))
    peer.socket.push(Frame("b"))

    peer.socket.close(4009, "bye")
    peer.read()

    await until(lambda: peer.close_code)
    assert peer.messages == [
        {"type": "websocket.send", "text": "a"},
        {"type": "websocket.send", "text": "b"},
        {"type": "websocket.close", "code": 4009, "reason": "bye"},
    ]


async def test_a_close_needs_no_frame_before_it():
    peer = Peer("1.1")

    peer.socket.close(4200, "")

    await until(lambda: peer.close_code == 4200)


async def test_what_is_pushed_after_the_close_is_ignored():
    peer = Peer("1.1")
    peer.socket.close(4009, "bye")

    peer.socket.push(Frame("late"))

    await until(lambda: peer.close_code)
    assert peer.texts == []


async def test_the_first_close_wins():
    peer = Peer("1.1", reads=False)
    peer.socket.close(4009, "bye")

    peer.socket.close(4200, "again")
    peer.read()

    await until(lambda: peer.close_code)
    assert [item["code"] for item in peer.messages] == [4009]


@pytest.mark.parametrize(("chars", "drops"), [(100, 0), (101, 1)])
async def test_a_peer_that_does_not_read_is_dropped_beyond_its_backlog(chars, drops):
    peer = Peer("1.1", reads=False, backlog_chars=100)

    peer.socket.push(Frame("x" * 60))
    peer.socket.push(Frame("x" * (chars - 60)))
    await turns()

    assert peer.drops == drops
    assert peer.socket.dropped == peer.socket.over == bool(drops)


async def test_a_dropped_peer_is_dropped_once_and_gets_nothing_more():
    peer = Peer("1.1", reads=False, backlog_chars=10)
    peer.socket.push(Frame("x" * 11))
    await turns()

    peer.socket.push(Frame("x" * 11))
    peer.socket.push(Frame("y"))
    peer.read()
    await turns()

    assert peer.drops == 1
    assert peer.messages == []


async def test_what_has_left_no_longer_counts_as_backlog():
    peer = Peer("1.1", backlog_chars=10)
    for number in range(1, 6):
        peer.socket.push(Frame("x" * 10))
        await until(lambda number=number: len(peer.texts) == number)

    assert peer.drops == 0


async def test_closes_and_drops_are_counted(counted):
    Peer("1.1").socket.close(4200, "")
    slow = Peer("1.2", reads=False, backlog_chars=5)
    slow.socket.push(Frame("x" * 6))
    await turns()
    slow.socket.close(4009, "too late")

    assert counted("connections_closed", "4200") == 1
    assert counted("connections_closed", "4100") == 1
    assert counted("connections_closed", "4009") == 0
    assert counted("over_capacity", "slow_reader") == 1


async def test_a_drop_is_logged_with_ids_and_without_the_text(caplog):
    peer = Peer("7.9", reads=False, backlog_chars=5)

    peer.socket.push(Frame("secret"))
    await turns()

    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "dropped slow socket 7.9 of app 3: 6 characters unsent"


async def test_an_abandoned_socket_forgets_what_is_queued():
    peer = Peer("1.1", reads=False)
    peer.socket.push(Frame("a"))
    peer.socket.push(Frame("b"))

    peer.socket.abandon()
    peer.read()
    await turns()

    assert peer.socket.over
    assert not peer.socket.dropped
    assert peer.messages == []


@pytest.mark.parametrize("error", [ConnectionResetError, RuntimeError])
async def test_a_peer_that_went_away_ends_the_socket_quietly(caplog, error):
    async def gone(message: dict[str, object]) -> None:
        raise error

    socket = Socket("3", "1.1", gone, backlog_chars=100, drop=lambda: None)

    socket.push(Frame("a"))
    await until(lambda: socket.over)
    socket.push(Frame("b"))

    assert caplog.records == []


@pytest.mark.parametrize(("code", "sent"), [(1003, 1000), (1000, 1000), (4009, 4009)])
async def test_a_server_that_refuses_a_code_of_the_protocol_is_given_an_ordinary_one(code, sent):
    """Daphne takes 1000 and codes from 3000 on."""
    closes = []

    async def like_daphne(message):
        if message["code"] not in (1000, *range(3000, 5000)):
            raise ValueError("invalid close code")
        closes.append(message)

    socket = Socket("3", "1.1", like_daphne, backlog_chars=100, drop=lambda: None)

    socket.close(code, "why")

    await until(lambda: closes)
    assert closes == [{"type": "websocket.close", "code": sent, "reason": "why"}]


async def test_a_peer_that_goes_away_during_the_close_is_no_error(caplog):
    attempts = []

    async def gone(message):
        attempts.append(message["code"])
        raise ConnectionResetError

    Socket("3", "1.1", gone, backlog_chars=100, drop=lambda: None).close(1003, "why")
    await until(lambda: attempts)
    await asyncio.sleep(0)

    assert attempts == [1003]
    assert caplog.records == []


async def test_a_server_that_cannot_close_at_all_is_reported(caplog):
    async def broken(message):
        raise LookupError("a broken server")

    Socket("3", "1.1", broken, backlog_chars=100, drop=lambda: None).close(4009, "why")

    await until(lambda: caplog.records)
    assert "a broken server" in caplog.text


async def test_a_message_that_a_server_does_not_take_is_no_gap_in_what_follows(caplog):
    sent, drops = [], []

    async def picky(message):
        if message["text"] == "b":
            raise LookupError("a broken server")
        sent.append(message["text"])

    socket = Socket("3", "1.1", picky, backlog_chars=100, drop=lambda: drops.append(1))
    for text in "abc":
        socket.push(Frame(text))
    await until(lambda: drops)
    socket.push(Frame("d"))
    await turns()

    assert sent == ["a"]
    assert socket.over
    assert "a broken server" in caplog.text


async def test_who_reads_is_never_slow_however_much_comes_at_once():
    """On a server without frames the queue is emptied by a task, which needs a turn, too."""
    peers = [Peer(f"1.{number}", backlog_chars=100) for number in range(3 * TURN_SOCKETS)]

    for _ in range(10):
        for peer in peers:
            peer.socket.push(Frame("x" * 60))

    await until(lambda: all(len(peer.texts) == 10 for peer in peers))
    assert sum(peer.drops for peer in peers) == 0


async def test_a_dropped_peer_loses_its_connection_once_it_had_time_to_read_why(monkeypatch):
    monkeypatch.setattr(sockets, "LAST_WORD_SECONDS", 0.05)
    order, loop = [], asyncio.get_running_loop()

    async def never(message):
        await asyncio.Event().wait()

    socket = Socket(
        *("3", "1.1", never),
        backlog_chars=1,
        drop=lambda: order.append(("drop", loop.time())),
        abort=lambda: order.append(("abort", loop.time())),
    )

    socket.push(Frame("too much"))

    await until(lambda: len(order) == 2)
    (first, dropped_at), (second, aborted_at) = order
    assert (first, second) == ("drop", "abort")
    assert aborted_at - dropped_at >= sockets.LAST_WORD_SECONDS / 2


async def test_a_close_that_nobody_reads_ends_in_a_drop(monkeypatch, counted):
    monkeypatch.setattr(sockets, "CLOSING_SECONDS", 0.01)
    stuck, quick = Peer("1.1", reads=False), Peer("1.2")

    for peer in (stuck, quick):
        peer.socket.push(Frame("a"))
        peer.socket.close(4009, "bye")
    await until(lambda: stuck.drops)

    assert stuck.socket.dropped
    assert stuck.messages == []
    assert quick.close_code == 4009
    assert not quick.drops
    assert counted("connections_closed", "4009") == 2
    assert counted("connections_closed", "4100") == 0


@pytest.mark.parametrize(
    "scope", [{}, {"extensions": None}, {"extensions": {"websocket.http.response": {}}}]
)
def test_most_servers_offer_no_way_to_abort(scope):
    assert abort_of(scope)() is None


def test_what_a_server_offers_is_taken():
    assert abort_of({"extensions": {ABORT: {"abort": print}}}) is print


async def test_a_peer_that_leaves_during_the_close_is_not_slow(monkeypatch, counted):
    monkeypatch.setattr(sockets, "CLOSING_SECONDS", 0.001)
    gone = Peer("1.1")
    gone.socket.close(4009, "bye")
    gone.socket.abandon()  # before the close has begun to leave

    stuck = Peer("1.2", reads=False)
    stuck.socket.close(4009, "bye")
    await until(lambda: stuck.drops)

    assert not gone.drops
    assert counted("over_capacity", "slow_reader") == 1


# ---- a server that takes frames -------------------------------------------------------------


class Wire:
    """A connection that takes frames while it has room, and the messages behind them."""

    def __init__(self, *, has_room=True):
        self.has_room = has_room
        self.rooms = float("inf")
        """How many more frames it has room for."""
        self.out = []
        self._reads = asyncio.Event()
        self.socket = Socket(
            *("3", "1.1", self._send),
            backlog_chars=100,
            drop=lambda: None,
            write_frame=self._write,
        )

    def _write(self, frame):
        taken = self.has_room and self.rooms > 0
        if taken:
            self.rooms -= 1
            self.out.append(frame)
        return taken

    async def _send(self, message):
        await self._reads.wait()
        self.out.append(message.get("text") or message["code"])

    def read(self):
        self.has_room = True
        self._reads.set()


async def test_messages_that_come_together_leave_in_one_write_and_without_a_task():
    wire, before = Wire(), len(asyncio.all_tasks())

    wire.socket.push(Frame("a"))
    wire.socket.push(Frame("b"))
    await asyncio.sleep(0)
    assert wire.out == [b"\x81\x01a\x81\x01b"]

    wire.socket.push(Frame("c"))
    await asyncio.sleep(0)
    assert wire.out == [b"\x81\x01a\x81\x01b", b"\x81\x01c"]
    assert len(asyncio.all_tasks()) == before


async def test_who_waits_for_a_turn_gets_what_comes_meanwhile_in_the_same_write():
    wires = [Wire() for _ in range(2 * TURN_SOCKETS)]
    for wire in wires:
        wire.socket.push(Frame("a"))
    await asyncio.sleep(0)

    for wire in wires:
        wire.socket.push(Frame("b"))
    await until(lambda: all(b"b" in b"".join(wire.out) for wire in wires))

    assert [len(wire.out) for wire in wires] == [2] * TURN_SOCKETS + [1] * TURN_SOCKETS
    assert {b"".join(wire.out) for wire in wires} == {b"\x81\x01a\x81\x01b"}


async def test_the_loop_does_other_things_between_two_turns():
    wires = [Wire() for _ in range(3 * TURN_SOCKETS)]
    for wire in wires:
        wire.socket.push(Frame("a"))
    written = []

    while not written or written[-1] < len(wires):
        await asyncio.sleep(0)
        written.append(sum(len(wire.out) for wire in wires))

    assert written == [TURN_SOCKETS, 2 * TURN_SOCKETS, 3 * TURN_SOCKETS]


async def test_a_connection_that_fails_ends_and_does_not_take_its_turn_from_the_others(
    caplog, counted
):
    drops = []

    def fails(wire):
        raise LookupError("a broken server")

    broken = Socket(
        *("3", "1.1", asyncio.Queue().put),
        backlog_chars=100,
        drop=lambda: drops.append(1),
        write_frame=fails,
    )
    wire = Wire()

    broken.push(Frame("a"))
    wire.socket.push(Frame("a"))

    await until(lambda: wire.out)
    assert drops == [1]
    assert broken.over
    assert "a broken server" in caplog.text
    assert counted("sockets_failed") == 1


async def test_an_abandoned_socket_writes_no_frame():
    wire = Wire()
    wire.socket.push(Frame("a"))

    wire.socket.abandon()
    await turns()

    assert wire.out == []


async def test_many_messages_are_handed_over_only_as_far_as_there_is_room(monkeypatch):
    monkeypatch.setattr(sockets, "TOGETHER_BYTES", 10)
    wire = Wire()
    wire.rooms = 2

    for text in ("x" * 6, "é" * 3, "z" * 6):
        wire.socket.push(Frame(text))
    await asyncio.sleep(0)
    assert [piece[2:] for piece in wire.out] == [b"x" * 6, "é".encode() * 3]

    wire.read()
    await until(lambda: len(wire.out) == 3)
    assert wire.out[2] == "z" * 6


async def test_many_messages_leave_in_as_few_writes_as_may_be(monkeypatch):
    """A list of members, and behind it whoever came meanwhile."""
    monkeypatch.setattr(sockets, "TOGETHER_BYTES", 10)
    wire = Wire()

    for text in ("x" * 20, *"abcdef"):
        wire.socket.push(Frame(text))
    await asyncio.sleep(0)

    assert [len(piece) for piece in wire.out] == [22, 9, 9]
    assert b"".join(wire.out)[22:] == b"".join(Frame(text).wire for text in "abcdef")
    assert wire.socket._unsent == 0


async def test_who_only_waits_for_a_turn_is_not_slow():
    wire = Wire()

    for _ in range(20):
        wire.socket.push(Frame("x" * 60))

    assert not wire.socket.dropped
    await until(lambda: len(b"".join(wire.out)) == 20 * 62)


async def test_no_frame_overtakes_what_had_to_wait():
    wire = Wire(has_room=False)
    wire.socket.push(Frame("a"))
    await asyncio.sleep(0)
    wire.has_room = True
    wire.socket.push(Frame("b"))
    await asyncio.sleep(0)
    assert wire.out == []

    wire.read()
    await until(lambda: len(wire.out) == 2)
    await until(lambda: wire.socket._writer is None)
    wire.socket.push(Frame("c"))
    await asyncio.sleep(0)

    assert wire.out == ["a", "b", b"\x81\x01c"]


async def test_a_close_comes_behind_the_frames():
    wire = Wire()
    wire.read()

    wire.socket.push(Frame("a"))
    wire.socket.close(4009, "why")
    wire.socket.push(Frame("b"))
    await until(lambda: len(wire.out) == 2)

    assert wire.out == [b"\x81\x01a", 4009]


async def test_a_peer_that_has_no_room_for_frames_is_dropped_like_any_other():
    wire = Wire(has_room=False)

    wire.socket.push(Frame("x" * 101))
    await turns()

    assert wire.socket.dropped
