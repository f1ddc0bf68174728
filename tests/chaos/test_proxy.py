"""The fault proxy does to connections what it is told to, and nothing else."""

import asyncio
import socket
import threading
from contextlib import contextmanager

import pytest

from tests.chaos.proxy import Proxy

PATIENCE = 5


@contextmanager
def echoing():
    """A server that sends everything back; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def echo(connection):
            with connection:
                try:
                    while data := connection.recv(65_536):
                        connection.sendall(data)
                except OSError:
                    pass

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=echo, args=[connection], daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def proxy():
    with echoing() as port:
        made = Proxy([("127.0.0.1", port)])
        yield made
        made.close()


@pytest.fixture
def client(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        yield connection


def silent(client):
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(100)
    client.settimeout(PATIENCE)


def test_bytes_pass_both_ways(client):
    client.sendall(b"x" * 200_000)

    received = 0
    while received < 200_000:
        received += len(client.recv(65_536))


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_black_hole_swallows_one_direction_and_keeps_the_connection(proxy, client, direction):
    proxy.black_hole(up=direction == "up", down=direction == "down")
    client.sendall(b"lost")
    silent(client)
    while proxy.swallowed < len(b"lost"):  # its thread may be late
        silent(client)

    proxy.heal()
    client.sendall(b"heard")

    assert client.recv(100) == b"heard"


def test_a_reset_is_a_reset(proxy, client):
    assert proxy.reset_all() == 1

    with pytest.raises(ConnectionResetError):
        client.recv(100)


def test_half_a_close_leaves_the_other_half(proxy, client):
    proxy.half_close_all()

    assert client.recv(100) == b""
    client.sendall(b"still taken")


def test_a_connection_is_cut_after_so_many_bytes(proxy, client):
    proxy.faults.cut_after = 10

    with pytest.raises(ConnectionResetError):  # noqa: PT012 - either call may notice
        while True:
            client.sendall(b"x" * 8)
            client.recv(100)


def test_new_connections_are_refused(proxy):
    proxy.faults.refuse = True

    with (
        pytest.raises(ConnectionResetError),
        socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as connection,
    ):
        connection.recv(100)


def test_latency_holds_bytes_up(proxy, client):
    loop = asyncio.new_event_loop()
    proxy.faults.latency = 0.05
    started = loop.time()

    client.sendall(b"slow")
    client.recv(100)

    assert loop.time() - started >= 0.1  # there and back
    loop.close()


def test_a_rate_slows_large_sends(proxy, client):
    loop = asyncio.new_event_loop()
    proxy.faults.rate = 100_000
    started = loop.time()

    client.sendall(b"x" * 10_000)
    received = 0
    while received < 10_000:
        received += len(client.recv(65_536))

    assert loop.time() - started >= 0.15
    loop.close()


def test_bytes_may_come_in_slices(proxy, client):
    proxy.faults.slice_bytes = 1

    client.sendall(b"sliced")
    received = b""
    while len(received) < 6:
        received += client.recv(100)

    assert received == b"sliced"


def test_the_next_server_is_tried_when_one_is_gone():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = listener.getsockname()[1]
    with echoing() as port:
        proxy = Proxy([("127.0.0.1", gone), ("127.0.0.1", port)])
        for _ in range(4):
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE) as client:
                client.sendall(b"hello")
                assert client.recv(100) == b"hello"
        assert len(proxy.accepted) == 4
        proxy.close()
