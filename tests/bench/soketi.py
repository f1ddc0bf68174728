"""soketi 1.6.1, for comparison: installed from npm into ``build/`` and started on loopback.

It is no dependency of anything here.  Its own WebSocket engine is named by a URL that npm cannot
reach, in a version without a binary for Node 20; ``uwebsockets`` is the same engine, packaged by
others with such a binary, whose checksum is checked before it is run.
"""

import hashlib
import http.client
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests import services
from tests.bench import machine
from tests.bench.left_out import LeftOut
from tests.e2e import sites

HOME: Final = sites.ROOT / "build" / "soketi"
PACKAGE: Final = {
    "name": "soketi-run",
    "private": True,
    "version": "0.0.0",
    "dependencies": {"@soketi/soketi": "1.6.1"},
    "overrides": {"uWebSockets.js": "npm:uwebsockets@3.0.6"},
}
SERVER: Final = HOME / "node_modules" / "@soketi" / "soketi" / "bin" / "server.js"
ENGINE: Final = HOME / "node_modules" / "uWebSockets.js" / "uws_linux_x64_115.node"
ENGINE_SHA256: Final = "f4fa5d7b697529b45ac8aa3d57385d9af51bc1d2b26aa9f5b68ca4361542e665"
INSTALL_SECONDS: Final = 300


def install() -> None:
    """Install it where it is missing.

    Raises:
        LeftOut: there is no Node, it is not Node 20, or npm fails.
    """
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        raise LeftOut("soketi needs Node 20 and npm")
    version = machine.said(node, "--version", found=r"v(\d+)")
    if version != "20":
        raise LeftOut(f"soketi needs Node 20, and this is Node {version}")
    if not SERVER.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        (HOME / "package.json").write_text(json.dumps(PACKAGE, indent=2))
        print("Installing soketi into build/soketi", flush=True)
        try:
            subprocess.run(
                [npm, "install", "--ignore-scripts", "--omit=optional", "--silent"],
                cwd=HOME,
                check=True,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise LeftOut("npm did not install soketi in time") from None
        except subprocess.CalledProcessError as error:
            raise LeftOut(f"npm does not install soketi: {error.stderr.strip()[:500]}") from None
    if not ENGINE.exists() or hashlib.sha256(ENGINE.read_bytes()).hexdigest() != ENGINE_SHA256:
        raise LeftOut(f"the WebSocket engine of soketi is not the one that is known: {ENGINE}")


@contextmanager
def serving(app: sites.App, log: Path, redis_port: int | None) -> Iterator[tuple[int, int]]:
    """A running soketi; its process id and its port.

    Args:
        redis_port: of the Redis that joins several of them; None for one alone.
    """
    install()
    port, cluster = services.free_ports(2)
    given = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        # It would announce itself to the network every half second.
        "CLUSTER_HOST": "127.0.0.1",
        "CLUSTER_UNICAST_ADDRESSES": "127.0.0.1",
        "CLUSTER_PORT": str(cluster),
        "DEFAULT_APP_ID": app.id,
        "DEFAULT_APP_KEY": app.key,
        "DEFAULT_APP_SECRET": app.secret,
        "DEFAULT_APP_MAX_BACKEND_EVENTS_PER_SEC": "-1",
        "PRESENCE_MAX_MEMBERS": "10000",
        "SHUTDOWN_GRACE_PERIOD": "500",
    }
    if redis_port is not None:
        given |= {
            "ADAPTER_DRIVER": "redis",
            "DB_REDIS_HOST": "127.0.0.1",
            "DB_REDIS_PORT": str(redis_port),
        }
    environment = sites.environment(**{f"SOKETI_{name}": value for name, value in given.items()})
    with machine.on(machine.cores().server):
        process: subprocess.Popen[Any] = services.spawn(
            ["node", SERVER, "start"], log=log, orphaned=signal.SIGKILL, env=environment, cwd=HOME
        )
    try:
        try:
            services.until_ready(process, lambda: _answers(port), log)
        except RuntimeError as error:
            raise LeftOut(f"soketi does not start: {str(error)[-500:]}") from None
        yield process.pid, port
    finally:
        # Told to end in an orderly way, it may go on for ever, and take gigabytes.
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
