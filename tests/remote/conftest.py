"""Servers that say what a test tells them to, on ports of the system's choice."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

GREETING = {
    "event": "pusher:connection_established",
    "data": json.dumps({"socket_id": "12.34", "activity_timeout": 120}),
}


class Scripted:
    """What an HTTP server was asked, and what it answers to everything."""

    def __init__(self):
        self.status, self.body, self.headers = 200, b"{}", {}
        self.requests = []
        self.url = ""


@pytest.fixture
def http_server():
    """A web server that answers every request with the same."""
    script = Scripted()

    class Answering(BaseHTTPRequestHandler):
        def answer(self):
            length = int(self.headers.get("Content-Length") or 0)
            raw = self.rfile.read(length)
            script.requests.append((self.command, self.path, raw, dict(self.headers)))
            self.send_response(script.status)
            for name, value in script.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(script.body)))
            self.end_headers()
            self.wfile.write(script.body)

        do_GET = do_POST = do_OPTIONS = answer

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        script.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield script
        server.shutdown()
        thread.join()


@pytest.fixture
def websocket_server():
    """Starts a WebSocket server: ``with websocket_server(conversation) as (url, heard)``."""

    @contextmanager
    def start(converse=None, *, greeting=GREETING):
        heard = []

        def answer(socket):
            heard.append(socket.request.path)
            try:
                if greeting is not None:
                    socket.send(json.dumps(greeting))
                if converse is not None:
                    converse(socket)
                for text in socket:
                    heard.append(json.loads(text))
            except ConnectionClosed:
                pass

        with serve(answer, "127.0.0.1", 0) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.socket.getsockname()[1]}", heard
            server.shutdown()
            thread.join()

    return start
