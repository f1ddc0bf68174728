"""What is said to a server: to one that speaks the Pusher protocol, or to a plain one."""

import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

EVENT: Final = "event"


@dataclass(frozen=True)
class Target:
    """A server, and how it is spoken to."""

    ports: tuple[int, ...]
    pusher: bool
    """Whether it speaks the Pusher protocol; else a path names the channel, for both ways."""
    app_id: str
    key: str
    secret: str

    def socket_path(self, channel: str) -> str:
        """Where a WebSocket is opened."""
        if self.pusher:
            return f"/app/{self.key}?protocol=7&client=bench&version=1.0&flash=false"
        return f"/events/{channel}/"

    def publication(self, channel: str, data: str) -> tuple[str, bytes]:
        """Path and body of the request that publishes *data*."""
        content = {"name": EVENT, "channel": channel, "data": data}
        if self.pusher:
            body = json.dumps(content).encode()
            return self._signed(f"/apps/{self.app_id}/events", body), body
        # As long as the frames of the others: what subscribers get is what they would get there.
        text = json.dumps({"event": EVENT, "channel": channel, "data": data}, separators=(",", ":"))
        return f"/publish/{channel}/", text.encode()

    def _signed(self, path: str, body: bytes) -> str:
        """Source: Pusher docs, "HTTP API reference", authentication."""
        query = {
            "auth_key": self.key,
            "auth_timestamp": str(int(time.time())),
            "auth_version": "1.0",
            "body_md5": hashlib.md5(body, usedforsecurity=False).hexdigest(),
        }
        text = f"POST\n{path}\n{urlencode(query)}"
        signature = hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        return f"{path}?{urlencode(query)}&auth_signature={signature}"

    def subscription(self, channel: str, socket_id: str = "", user_id: str = "") -> str:
        """The message that subscribes, signed where *channel* is a presence channel."""
        data = {"channel": channel}
        if user_id:
            shown = json.dumps({"user_id": user_id, "user_info": {"name": f"User {user_id}"}})
            text = f"{socket_id}:{channel}:{shown}".encode()
            signature = hmac.new(self.secret.encode(), text, hashlib.sha256).hexdigest()
            data |= {"auth": f"{self.key}:{signature}", "channel_data": shown}
        return json.dumps({"event": "pusher:subscribe", "data": data})


def stamped(size: int) -> str:
    """Data of *size* bytes that says when it was published."""
    return f"t={time.monotonic_ns():019};".ljust(size, "x")
