"""``/pusher/auth`` and ``/pusher/user-auth``: signatures for the site's logged-in users.

Source: Pusher docs, "Authorizing users", "Authenticating users"; the batch form is that of
the plugin pusher-js-auth.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from django.contrib.auth.models import AbstractBaseUser
from django.utils.module_loading import import_string
from rest_framework.exceptions import ParseError, PermissionDenied
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from realtime import applications, authorization, conf, rules
from realtime.api.site import OptionalCsrfSession, SiteView, StrictJSONParser
from realtime.protocol.names import Kind, is_channel_name, is_encodable, is_socket_id, kind_of

logger = logging.getLogger(__name__)

BATCH_CHANNELS: Final = 100
"""Ours: channels one batch may ask for."""

_BATCH_KEY: Final = re.compile(r"channel_name\[[0-9]{0,4}\]")


def default_user_data(user: AbstractBaseUser) -> dict[str, Any]:
    """What a site shows of its users unless ``USER_DATA`` names a function of its own."""
    full_name = getattr(user, "get_full_name", lambda: "")()
    return {"id": str(user.pk), "user_info": {"name": full_name or user.get_username()}}


class AuthView(SiteView):
    """Answers logged-in users who are not banned."""

    session_class = OptionalCsrfSession
    parser_classes = (FormParser, MultiPartParser, StrictJSONParser)
    permission_classes = (IsAuthenticated,)

    def user_data(self) -> dict[str, Any]:
        """The user as the site presents it.

        Raises:
            PermissionDenied: the user is banned.
        """
        data = dict(import_string(conf.get().user_data)(self.request.user))
        data["id"] = str(data["id"])
        if authorization.is_banned(applications.default(), data["id"]):
            raise PermissionDenied("You are banned")
        return data

    def parameters(self) -> Mapping[str, Any]:
        """The body, as a form or as a JSON object.

        Raises:
            ParseError: it is neither.
        """
        if not isinstance(self.request.data, Mapping):
            raise ParseError("Expected an object")
        return self.request.data

    def socket_id(self) -> str:
        """The connection that asks.

        Raises:
            ParseError: missing or malformed.
        """
        socket_id = self.parameters().get("socket_id")
        if not isinstance(socket_id, str) or not is_socket_id(socket_id):
            raise ParseError("Invalid socket_id")
        return socket_id


class ChannelAuthView(AuthView):
    """``/pusher/auth``: may this user subscribe to this channel?"""

    def post(self, request: Request) -> Response:
        """Answer for one channel, or for a batch of them."""
        socket_id, user_data = self.socket_id(), self.user_data()
        batch = _batch(self.parameters())
        if batch is not None:
            return Response(
                {name: self._batch_answer(socket_id, name, user_data) for name in batch}
            )
        channel = self.parameters().get("channel_name")
        if not isinstance(channel, str) or not _is_authorizable(channel):
            raise ParseError("Invalid channel_name")
        answer = self._answer(socket_id, channel, user_data)
        if answer is None:
            raise PermissionDenied("Forbidden")
        return Response(answer)

    def _batch_answer(
        self, socket_id: str, channel: str, user_data: Mapping[str, Any]
    ) -> dict[str, Any]:
        if not _is_authorizable(channel):
            return {"status": 400}
        answer = self._answer(socket_id, channel, user_data)
        return {"status": 403} if answer is None else {"status": 200, "data": answer}

    def _answer(
        self, socket_id: str, channel: str, user_data: Mapping[str, Any]
    ) -> dict[str, str] | None:
        try:
            verdict = rules.decide(self.request.user, channel)
            if verdict is None or verdict is False:
                return None
            data = None
            if isinstance(verdict, Mapping):
                data = dict(verdict)
                if kind_of(channel) is Kind.PRESENCE:
                    data.setdefault("user_id", user_data["id"])
            return authorization.authorize_channel(socket_id, channel, data)
        except Exception:  # a site's rule may raise anything; nobody gets in by it
            logger.exception("the rule of channel %s failed", channel)
            return None


class UserAuthView(AuthView):
    """``/pusher/user-auth``: who is this?"""

    def post(self, request: Request) -> Response:
        """Answer with the user's data, signed."""
        return Response(authorization.authenticate_user(self.socket_id(), self.user_data()))


def _batch(data: Mapping[str, Any]) -> list[str] | None:
    """The channels of the batch form, ``channel_name[0]=…``, or ``None`` if it is none."""
    names = [str(data[key]) for key in data if _BATCH_KEY.fullmatch(str(key))]
    several = data.get("channel_name")
    if isinstance(several, list):
        names = [str(name) for name in several]
    if not all(is_encodable(name) for name in names):
        raise ParseError("Invalid channel_name")
    if len(names) > BATCH_CHANNELS:
        raise ParseError(f"Too many channels: {BATCH_CHANNELS} at most")
    return list(dict.fromkeys(names)) or None


def _is_authorizable(channel: str) -> bool:
    limits = applications.default().limits
    return is_channel_name(channel, limits) and kind_of(channel).needs_auth
