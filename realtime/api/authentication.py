"""The signature of the Pusher HTTP API as a DRF authentication class.

Nothing is told about apps before the signature is right: an unknown app, a foreign key and
a wrong signature all answer 401.
"""

import functools
import logging
import time
from typing import Any
from urllib.parse import quote, unquote

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from realtime import applications, conf
from realtime.logs import OncePerSecond
from realtime.protocol.app import App
from realtime.protocol.errors import SignatureError, StaleTimestamp
from realtime.protocol.signing import read_query, single_parameters, verify_request

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())


class PayloadTooLarge(APIException):
    """The body, or the data of an event, is larger than allowed."""

    status_code = 413


class AppCaller:
    """A back end that signed its request: DRF's ``request.user`` on the HTTP API."""

    is_authenticated = True

    def __init__(self, app: App, body: bytes, query: list[tuple[str, str]]) -> None:
        self.app = app
        self.body = body
        """As received: what was signed, whatever a parser would make of it."""
        self.query = query


class PusherSignature(BaseAuthentication):
    """Accepts requests signed with the secret of the app they are about."""

    def authenticate(self, request: Request) -> tuple[AppCaller, None]:
        """Check the signature and return who signed.

        Raises:
            AuthenticationFailed: 401; the text says what was wrong with the signature.
            PayloadTooLarge: the body was not read to its end.
            PermissionDenied: the app is disabled.
        """
        body = _read_body(request)
        query = read_query(request.META.get("QUERY_STRING", ""))
        try:
            key = single_parameters(query).get("auth_key")
            if not key:
                raise SignatureError("Missing parameter: auth_key")
            app = applications.by_key(key)
            if app is None:
                raise SignatureError("Unknown auth_key")
            verify_request(
                app,
                method=str(request.method),
                paths=_spellings_of(request),
                query=query,
                body=body,
                now=time.time(),
            )
        except SignatureError as error:
            if isinstance(error, StaleTimestamp):
                # If it is the clock of this server that is wrong, somebody has to be told.
                logger.warning("refused a call of the HTTP API: %s", error)
            raise AuthenticationFailed(str(error)) from None
        if self._app_id(request) not in (None, app.id):
            raise AuthenticationFailed("Unknown auth_key")
        if not app.enabled:
            raise PermissionDenied("Application disabled")
        return AppCaller(app, body, query), None

    def authenticate_header(self, request: Request) -> str:
        """Makes DRF answer 401 where it would otherwise answer 403."""
        return "Pusher"

    @staticmethod
    def _app_id(request: Request) -> Any:  # Any: a captured part of the URL
        context = request.parser_context or {}
        return context.get("kwargs", {}).get("app_id")


def _read_body(request: Request) -> bytes:
    limit = conf.get().api_body_bytes
    # Read from the stream: parsers and Django's own limit look at a header that may lie.
    body = request._request.read(limit + 1)
    if len(body) > limit:
        raise PayloadTooLarge(f"The request body exceeds the allowed maximum ({limit} bytes)")
    return bytes(body)


def _uri_of_wsgi(request: Request) -> str:
    """The path as sent, under the name that gunicorn, or else uWSGI and Apache, give it."""
    return str(request.META.get("RAW_URI") or request.META.get("REQUEST_URI") or "")


def _spellings_of(request: Request) -> tuple[str, ...]:
    scope = getattr(request._request, "scope", {})
    return spellings(request._request.path, scope.get("raw_path") or _uri_of_wsgi(request))


@functools.lru_cache(maxsize=1_000)  # a back end asks for the same few paths all the time
def spellings(decoded: str, sent: bytes | str) -> tuple[str, ...]:
    """The paths a library may have signed: as sent or decoded, with or without our prefix.

    Args:
        sent: as it came over the wire, if that is known.
    """
    raw = (sent.decode("latin-1") if isinstance(sent, bytes) else sent).partition("?")[0]
    paths = [raw, decoded, unquote(raw), quote(decoded, safe="/=@,;"), quote(decoded, safe="/")]
    paths = [path for path in paths if path]
    for path in tuple(paths):
        for start in ("/apps/", "/users/"):
            at = path.find(start)
            if at > 0:
                paths.append(path[at:])
                break
    return tuple(dict.fromkeys(paths))
