"""Servers that commands talk to."""

from tests.remote.conftest import http_server, websocket_server

__all__ = ["http_server", "websocket_server"]
