"""Signatures for the site's own users: may this socket subscribe, and who is this.

The two functions of the official libraries that a site calls from an auth endpoint of its
own; the endpoints in ``api.auth_views`` call them too.
"""

import json
from collections.abc import Mapping
from typing import Any

from channels.db import database_sync_to_async
from django.core.serializers.json import DjangoJSONEncoder

from realtime import applications, encryption
from realtime.models import RealtimeUser
from realtime.protocol import signing
from realtime.protocol.app import App
from realtime.protocol.names import Kind, is_signin_user_id, kind_of


def authorize_channel(
    socket_id: str,
    channel: str,
    data: Mapping[str, Any] | None = None,
    *,
    app_id: str | None = None,
) -> dict[str, str]:
    """Allow the connection *socket_id* to subscribe to *channel*.

    Args:
        data: on presence channels ``{"user_id": …, "user_info": {…}}``.  Without it the
            channel shows the signed-in user of the connection, or refuses.

    Returns:
        What the auth endpoint answers: ``{"auth": …}``, with ``"channel_data"`` if given, and
        on encrypted channels with ``"shared_secret"``, the key by which events are read.

    Raises:
        ValueError: *socket_id* or *channel* is malformed, or *data* has no ``user_id``.
        ImproperlyConfigured: the channel is encrypted, and the app has no master key.
    """
    app = applications.default(app_id)
    text = None
    if data is not None:
        text = _json(_with_text_id(data, "user_id") if kind_of(channel) is Kind.PRESENCE else data)
    auth = signing.sign_channel(app, socket_id=socket_id, channel=channel, channel_data=text)
    answer = {"auth": auth} if text is None else {"auth": auth, "channel_data": text}
    if kind_of(channel) is Kind.ENCRYPTED:
        answer["shared_secret"] = encryption.shared_secret(app, channel)
    return answer


def authenticate_user(
    socket_id: str, user_data: Mapping[str, Any], *, app_id: str | None = None
) -> dict[str, str]:
    """Say who the connection *socket_id* belongs to.

    Args:
        user_data: ``{"id": …, "user_info": {…}}``; only the id is needed.

    Returns:
        What the auth endpoint answers: ``{"auth": …, "user_data": …}``.

    Raises:
        ValueError: *socket_id* is malformed, or *user_data* has no id that can sign in.
    """
    app = applications.default(app_id)
    user_data = _with_text_id(user_data, "id")
    if not is_signin_user_id(user_data["id"], app.limits):
        raise ValueError("user_data must contain an id of letters, digits and _-=@,.;")
    text = _json(user_data)
    return {
        "auth": signing.sign_user(app, socket_id=socket_id, user_data=text),
        "user_data": text,
    }


def is_banned(app: App, user_id: str) -> bool:
    """Whether a user may not sign in or subscribe now."""
    key = RealtimeUser.key_of(app.id, user_id)
    return RealtimeUser.objects.banned().filter(pk=key).exists()


async def aauthorize_channel(
    socket_id: str,
    channel: str,
    data: Mapping[str, Any] | None = None,
    *,
    app_id: str | None = None,
) -> dict[str, str]:
    """``authorize_channel`` for coroutines."""
    return await database_sync_to_async(authorize_channel)(socket_id, channel, data, app_id=app_id)


async def aauthenticate_user(
    socket_id: str, user_data: Mapping[str, Any], *, app_id: str | None = None
) -> dict[str, str]:
    """``authenticate_user`` for coroutines."""
    return await database_sync_to_async(authenticate_user)(socket_id, user_data, app_id=app_id)


def _with_text_id(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    """*data* with its id as text: a Django primary key is a number, a Pusher id is not."""
    value = data.get(name)
    if value is None or value == "" or isinstance(value, bool | Mapping | list):
        raise ValueError(f"data must contain a {name}")
    return {**data, name: str(value)}


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, cls=DjangoJSONEncoder, separators=(",", ":"), allow_nan=False)
