"""What a site and its browsers do: sign with its secret, and write messages.

The signatures are computed here from the published formulas, never by ``realtime``, so that a
mistake there cannot cancel itself out.
"""

import hashlib
import hmac
import json
from typing import Any

from realtime.protocol.app import App

KEY = "278d425bdf160c739803"
SECRET = "7ad3773142a6692b25b8"
SOCKET_ID = "1234.1234"


def digest(text: str, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def channel_auth(
    channel: str, channel_data: str | None = None, *, socket_id: str = SOCKET_ID
) -> str:
    text = f"{socket_id}:{channel}"
    if channel_data is not None:
        text += f":{channel_data}"
    return f"{KEY}:{digest(text)}"


def user_auth(user_data: str, *, socket_id: str = SOCKET_ID) -> str:
    return f"{KEY}:{digest(f'{socket_id}::user::{user_data}')}"


def app(**changes: Any) -> App:
    """The app of Pusher's own examples."""
    return App(**{"id": "3", "key": KEY, "secret": SECRET} | changes)


def message(event: str, **members: Any) -> str:
    return json.dumps({"event": event, **members})


def subscribe(channel: str, **data: Any) -> str:
    return message("pusher:subscribe", data={"channel": channel, **data})


def subscribe_signed(channel: str, channel_data: str | None = None) -> str:
    """What pusher-js sends after the site has said yes."""
    data = {} if channel_data is None else {"channel_data": channel_data}
    return subscribe(channel, auth=channel_auth(channel, channel_data), **data)


def unsubscribe(channel: str) -> str:
    return message("pusher:unsubscribe", data={"channel": channel})


def sign_in(user_data: str, auth: str | None = None) -> str:
    auth = user_auth(user_data) if auth is None else auth
    return message("pusher:signin", data={"auth": auth, "user_data": user_data})
