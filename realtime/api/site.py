"""What the endpoints for people of the site, users and staff, have in common."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.apps import apps
from django.http import HttpRequest
from rest_framework.authentication import (
    BaseAuthentication,
    SessionAuthentication,
    TokenAuthentication,
)
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.views import APIView

from realtime import conf
from realtime.api.renderers import EscapingJSONRenderer
from realtime.protocol.errors import BadMessage
from realtime.protocol.messages import load_json


def is_staff(user: object) -> bool:
    """Whether *user* may enter the admin; nobody may on a site without users."""
    return bool(getattr(user, "is_active", False) and getattr(user, "is_staff", False))


class StrictJSONParser(JSONParser):
    """JSON as browsers write it; DRF's own parser fails on deep nesting with a 500."""

    def parse(
        self,
        stream: Any,  # Any: a file-like object of the server
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Parse the body.

        Raises:
            ParseError: not JSON.
        """
        try:
            return load_json(stream.read().decode())
        except (BadMessage, UnicodeDecodeError):
            raise ParseError("The request body is not valid JSON") from None


class OptionalCsrfSession(SessionAuthentication):
    """Session users, with Django's CSRF token unless ``AUTH_CSRF`` is off.

    pusher-js sends no token by itself; ``{% realtime_config %}`` gives it one.
    """

    def enforce_csrf(self, request: HttpRequest | Request) -> None:
        """Ask for the token, or not."""
        if conf.get().auth_csrf:
            super().enforce_csrf(request)  # type: ignore[arg-type]


class SiteView(APIView):
    """JSON for users known by session or, where DRF's tokens are installed, by token.

    Whoever is neither gets 403 and never a redirect: a browser library would follow it to
    the login page and take that for the answer.
    """

    renderer_classes = (EscapingJSONRenderer,)
    metadata_class = None
    session_class: type[SessionAuthentication] = SessionAuthentication

    def get_authenticators(self) -> Sequence[BaseAuthentication]:  # type: ignore[override]
        """Session first, so that DRF answers 403 and not 401."""
        if apps.is_installed("rest_framework.authtoken"):
            return [self.session_class(), TokenAuthentication()]
        return [self.session_class()]
