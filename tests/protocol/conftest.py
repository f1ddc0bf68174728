"""The app of Pusher's own examples, and a connection to it."""

from collections.abc import Callable
from typing import Any

import pytest

from realtime.protocol.app import App, Limits
from realtime.protocol.connection import Connection
from tests.protocol import site


@pytest.fixture
def app() -> App:
    return site.app()


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def connect() -> Callable[..., Connection]:
    """Opens a connection at time 0, to an app with other switches or limits if need be."""

    def open_one(*, answers_ping: bool = False, now: float = 0, **app_changes: Any) -> Connection:
        return Connection(
            site.app(**app_changes), site.SOCKET_ID, now=now, answers_ping=answers_ping
        )

    return open_one


@pytest.fixture
def connection(connect: Callable[..., Connection]) -> Connection:
    return connect()
