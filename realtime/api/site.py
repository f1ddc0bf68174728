"""What the endpoints for people of the site, users and staff, have in common."""

from collections.abc import Sequence

from django.apps import apps
from django.http import HttpRequest
from rest_framework.authentication import (
    BaseAuthentication,
    SessionAuthentication,
    TokenAuthentication,
)
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from realtime import conf


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

    renderer_classes = (JSONRenderer,)
    session_class: type[SessionAuthentication] = SessionAuthentication

    def get_authenticators(self) -> Sequence[BaseAuthentication]:  # type: ignore[override]
        """Session first, so that DRF answers 403 and not 401."""
        if apps.is_installed("rest_framework.authtoken"):
            return [self.session_class(), TokenAuthentication()]
        return [self.session_class()]
