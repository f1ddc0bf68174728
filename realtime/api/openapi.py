"""The HTTP endpoints as an OpenAPI document, made by drf-spectacular.

The views take no serializers, because the protocol is Pusher's and errors are plain text; so
what they take and answer is written down here, once per endpoint.

Needs the extra ``openapi``: nothing imports this module where nobody may read the document.
"""

import functools
from collections.abc import Callable
from typing import Any, Final

from django.urls import URLPattern
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.settings import patched_settings

import realtime
from realtime.api.openapi_route import (
    CHANNEL,
    TEXT,
    Schema,
    as_json,
    in_several_types,
    object_of,
    route,
)

FLAG: Final[Schema] = {"type": "boolean"}
COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
PRESENCE: Final[Schema] = {"type": "string", "pattern": r"^presence-[A-Za-z0-9_\-=@,.;]{1,191}$"}
AUTHORIZED: Final[Schema] = {
    "type": "string",
    "pattern": r"^(private|presence)-[A-Za-z0-9_\-=@,.;]{1,191}$",
}
SOCKET_ID: Final[Schema] = {"type": "string", "pattern": r"^[0-9]{1,20}\.[0-9]{1,20}$"}
INFO: Final[Schema] = {
    "type": "string",
    "description": "Attributes, with commas between.",
    "example": "user_count,subscription_count",
}

MEMBER: Final = object_of("id", id=TEXT)
COUNTS: Final = object_of(user_count=COUNT, subscription_count=COUNT)
CACHED: Final = {**object_of("data ttl", data=TEXT, ttl=COUNT), "nullable": True}
"""The last event of a cache channel, or ``null``."""

AUTH: Final = object_of("auth", auth=TEXT, channel_data=TEXT, shared_secret=TEXT)
HEALTH: Final = object_of(
    "accepting database layer lease", accepting=FLAG, database=FLAG, layer=FLAG, lease=FLAG
)
EVENT_NAME: Final[Schema] = {"type": "string", "minLength": 1}
EVENT: Final = {"name": EVENT_NAME, "data": TEXT, "socket_id": SOCKET_ID, "info": INFO}
CHANNELS: Final[Schema] = {"type": "array", "items": CHANNEL, "minItems": 1}
EVENTS_BODY: Final = object_of("name data", channels=CHANNELS, channel=CHANNEL, **EVENT)
BATCH_BODY: Final = object_of(
    "batch",
    batch={
        "type": "array",
        "maxItems": 10,
        "items": object_of("name data channel", **EVENT, channel=CHANNEL),
    },
)
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
TIME_OR_NONE: Final[Schema] = {**TIME, "nullable": True}
USER: Final = object_of(
    "id user_info online first_seen_at last_seen_at banned channels",
    id=TEXT,
    user_info={"type": "object", "nullable": True},
    online=FLAG,
    first_seen_at=TIME,
    last_seen_at=TIME,
    banned=FLAG,
    channels={"type": "array", "items": CHANNEL},
)
REASON: Final[Schema] = {"type": "string", "maxLength": 200}

SIGNED_ERRORS: Final = {
    400: "A parameter is missing or breaks a limit, or the body is no JSON object.",
    401: "The signature is wrong or too old, or the key is unknown or that of another app.",
    403: "The app is disabled.",
    404: "There is no such path, or nobody knows the user.",
    405: "The path is for another method.",
    413: "The data of an event or of a user, or the body, is too large.",
    429: "The app has sent what it may; `Retry-After` says in how many seconds to repeat it.",
    503: "The channel layer or the database does not answer. Repeat the call.",
}
SITE_ERRORS: Final = {
    400: "A parameter is missing or malformed.",
    403: "Not logged in, no CSRF token, or not allowed.",
    404: "There is no such path.",
    405: "The path is for another method.",
    415: "The body is of a type that is not understood.",
}
AUTH_ERRORS: Final = {
    **SITE_ERRORS,
    413: "The body is too large.",
    503: "Too many requests wait; `Retry-After` says in how many seconds to ask again.",
}
STAFF_ERRORS: Final = {
    **SITE_ERRORS,
    503: "The channel layer does not answer: the change is made, the connections are open.",
}

SECURITY_SCHEMES: Final[dict[str, Schema]] = {
    "signature": {
        "type": "apiKey",
        "in": "query",
        "name": "auth_signature",
        "description": (
            "HMAC-SHA256 in lower-case hex, with the secret of the app, over method, path and"
            " sorted query, one per line. Besides `auth_signature` the query has `auth_key`,"
            " `auth_timestamp` (Unix seconds, at most 600 off), `auth_version=1.0` and, with a"
            " body, `body_md5`. Official Pusher libraries do all that."
        ),
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": "sessionid",
        "description": "A session of the site, with the header `X-CSRFToken`.",
    },
    "token": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`Token …`, where `rest_framework.authtoken` is installed.",
    },
}


_signed: Final[Callable[..., URLPattern]] = functools.partial(
    route, auth=("signature",), errors=SIGNED_ERRORS
)
_of_one_user: Final[Callable[..., URLPattern]] = functools.partial(
    _signed, "apps/<str:app_id>/users/<path:user_id>"
)
_of_users: Final[Callable[..., URLPattern]] = functools.partial(
    route, auth=("session", "token"), errors=AUTH_ERRORS
)
_of_staff: Final[Callable[..., URLPattern]] = functools.partial(
    route, auth=("session", "token"), errors=STAFF_ERRORS
)
_open: Final[Callable[..., URLPattern]] = functools.partial(
    route, method="get", auth=(), errors={405: "The path is for GET."}
)

PATTERNS: Final = (
    _signed(
        "apps/<str:app_id>/events",
        "post",
        "Send an event to channels",
        body={"application/json": EVENTS_BODY},
        answers=as_json(object_of(channels={"type": "object", "additionalProperties": COUNTS})),
    ),
    _signed(
        "apps/<str:app_id>/batch_events",
        "post",
        "Send several events, in order",
        body={"application/json": BATCH_BODY},
        answers=as_json(object_of(batch={"type": "array", "items": COUNTS})),
    ),
    _signed(
        "apps/<str:app_id>/channels",
        "get",
        "The occupied channels",
        query={"filter_by_prefix": TEXT, "info": INFO},
        answers=as_json(
            object_of(
                "channels",
                channels={"type": "object", "additionalProperties": object_of(user_count=COUNT)},
            )
        ),
    ),
    _signed(
        "apps/<str:app_id>/channels/<str:channel>",
        "get",
        "One channel",
        query={"info": INFO},
        answers=as_json(
            object_of(
                "occupied",
                occupied=FLAG,
                user_count=COUNT,
                subscription_count=COUNT,
                cache=CACHED,
            )
        ),
    ),
    _signed(
        "apps/<str:app_id>/channels/<str:channel>/users",
        "get",
        "The members of a presence channel",
        channel=PRESENCE,
        answers=as_json(object_of("users", users={"type": "array", "items": MEMBER})),
    ),
    _signed(
        "apps/<str:app_id>/channels/<str:channel>/events",
        "post",
        "Send an event to one channel; its data is the body",
        query={"name": TEXT, "socket_id": SOCKET_ID},
        required="name",
        body={"application/json": {}},
        answers={202: (TEXT, "text/plain")},
        deprecated=True,
    ),
    _signed(
        "apps/<str:app_id>/channels/<str:channel>/stats",
        "get",
        "The numbers of one channel",
        answers=as_json(
            object_of(
                "occupied connection_count", occupied=FLAG, user_count=COUNT, connection_count=COUNT
            )
        ),
        deprecated=True,
    ),
    _signed(
        "apps/<str:app_id>/users/<str:user_id>/terminate_connections",
        "post",
        "Close the connections of a user",
        body={"application/json": object_of()},
        answers=as_json(object_of()),
    ),
    _of_one_user("get", "What is kept about a user", answers=as_json(USER)),
    _of_one_user(
        "patch",
        "Set what a user shows",
        body={"application/json": object_of("user_info", user_info={"type": "object"})},
        answers=as_json(USER),
    ),
    _of_one_user("delete", "Keep nothing of what a user shows", answers=as_json(object_of())),
    _signed(
        "users/<str:user_id>/terminate_connections",
        "post",
        "The same, as the official Python library calls it",
        body={"application/json": object_of()},
        answers=as_json(object_of()),
    ),
    _of_users(
        "pusher/auth",
        "post",
        "May this user subscribe to a channel?",
        body=in_several_types(
            object_of("socket_id channel_name", socket_id=SOCKET_ID, channel_name=AUTHORIZED),
            "multipart/form-data",
        ),
        answers=as_json({"anyOf": [AUTH, {"type": "object"}]}),
    ),
    _of_users(
        "pusher/user-auth",
        "post",
        "Who is this user?",
        body=in_several_types(object_of("socket_id", socket_id=SOCKET_ID), "multipart/form-data"),
        answers=as_json(object_of("auth user_data", auth=TEXT, user_data=TEXT)),
    ),
    _open(
        "realtime/up", summary="Does the process answer?", answers=as_json(object_of("up", up=FLAG))
    ),
    _open(
        "realtime/ready",
        summary="May clients and calls be sent here?",
        answers={**as_json(HEALTH), **as_json(HEALTH, 503)},
    ),
    _of_staff(
        "realtime/users",
        "get",
        "The users who are online",
        query={"app_id": TEXT},
        answers=as_json(
            object_of(
                "users",
                users={
                    "type": "array",
                    "items": object_of(
                        "id banned last_seen_at", id=TEXT, banned=FLAG, last_seen_at=TIME_OR_NONE
                    ),
                },
            )
        ),
    ),
    _of_staff(
        "realtime/users/<path:user_id>/kick",
        "post",
        "Close the connections of a user",
        body=in_several_types(object_of(reason=REASON)),
        answers=as_json(object_of("closed", closed=COUNT)),
    ),
    _of_staff(
        "realtime/users/<path:user_id>/ban",
        "post",
        "Close the connections of a user and keep the user out",
        body=in_several_types(object_of(reason=REASON, until=TIME_OR_NONE)),
        answers=as_json(object_of("closed", closed=COUNT)),
    ),
    _of_staff(
        "realtime/users/<path:user_id>/lift",
        "post",
        "End the ban of a user",
        body=in_several_types(object_of(reason=REASON)),
        answers=as_json(object_of("lifted", lifted=COUNT)),
    ),
)
"""Every endpoint but this document and the metrics."""


@functools.cache
def document(prefix: str) -> dict[str, Any]:
    """The OpenAPI document of a site that includes the URLs below *prefix*."""
    settings = {
        "TITLE": "Realtime",
        "VERSION": realtime.__version__,
        "DESCRIPTION": "A Pusher Channels server: for back ends, pages, staff and probes.",
        "SERVERS": [{"url": prefix or "/"}],
        "APPEND_COMPONENTS": {"securitySchemes": SECURITY_SCHEMES},
        "PREPROCESSING_HOOKS": [],
        "POSTPROCESSING_HOOKS": [],
        "SCHEMA_PATH_PREFIX": "/",
        "SECURITY": [],
    }
    with patched_settings(settings):
        generator: Any = SchemaGenerator(patterns=PATTERNS)  # type: ignore[no-untyped-call]
        made: dict[str, Any] = generator.get_schema(public=True)
    return made
