"""What staff do to users, as JSON; each view is one call of ``moderation``."""

from datetime import datetime
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser
from django.utils import timezone
from rest_framework import serializers
from rest_framework.exceptions import ParseError
from rest_framework.parsers import FormParser
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from realtime import applications, moderation
from realtime.api.site import SiteView, StrictJSONParser
from realtime.api.views import Unavailable
from realtime.layer import PublishFailed
from realtime.models import RealtimeUser
from realtime.protocol.errors import InvalidTrigger


class HasStaffPermission(BasePermission):
    """Staff with the permission that the view names."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Ask Django's permissions."""
        user = request.user
        permission = getattr(view, "permission", None)
        return bool(
            user and user.is_active and user.is_staff and permission and user.has_perm(permission)
        )


class ReasonSerializer(serializers.Serializer[Any]):
    """Why; shown in the log."""

    reason = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")


class BanSerializer(ReasonSerializer):
    """Why, and until when."""

    until = serializers.DateTimeField(required=False, allow_null=True, default=None)

    def validate_until(self, until: datetime | None) -> datetime | None:
        """A ban ends in the future, or never."""
        if until is not None and until <= timezone.now():
            raise serializers.ValidationError("A ban must end in the future.")
        return until


class StaffView(SiteView):
    """An action of staff on one user."""

    parser_classes = (StrictJSONParser, FormParser)
    permission_classes = (HasStaffPermission,)
    permission: ClassVar[str]
    serializer: ClassVar[type[serializers.Serializer[Any]]] = ReasonSerializer

    def given(self) -> dict[str, Any]:
        """The checked body of the request."""
        body = self.serializer(data=self.request.data)
        body.is_valid(raise_exception=True)
        return dict(body.validated_data)

    def staff(self) -> AbstractBaseUser:
        """Who acts; the permission lets nobody through who is not logged in."""
        assert isinstance(self.request.user, AbstractBaseUser)  # noqa: S101 - narrows a union
        return self.request.user

    def user(self, user_id: str) -> RealtimeUser:
        """The user the URL names; staff may act on one who was never seen."""
        try:
            return moderation.known_user(user_id)
        except InvalidTrigger as error:
            raise ParseError(str(error)) from None

    def handle_exception(self, exc: Exception) -> Response:
        """Say plainly that the connections could not be reached."""
        return super().handle_exception(Unavailable() if isinstance(exc, PublishFailed) else exc)


class KickView(StaffView):
    """``POST /realtime/users/UID/kick``"""

    permission = "realtime.kick_realtimeuser"

    def post(self, request: Request, user_id: str) -> Response:
        """Close the user's connections."""
        closed = moderation.kick([self.user(user_id)], by=self.staff(), **self.given())
        return Response({"closed": closed})


class BanView(StaffView):
    """``POST /realtime/users/UID/ban``"""

    permission = "realtime.ban_realtimeuser"
    serializer = BanSerializer

    def post(self, request: Request, user_id: str) -> Response:
        """Close the user's connections and keep the user out."""
        closed = moderation.ban([self.user(user_id)], by=self.staff(), **self.given())
        return Response({"closed": closed})


class LiftView(StaffView):
    """``POST /realtime/users/UID/lift``"""

    permission = "realtime.lift_realtimeuser"

    def post(self, request: Request, user_id: str) -> Response:
        """End the user's ban."""
        lifted = moderation.lift([self.user(user_id)], by=self.staff(), **self.given())
        return Response({"lifted": lifted})


class UsersView(StaffView):
    """``GET /realtime/users``"""

    permission = "realtime.view_realtimeuser"

    def get(self, request: Request) -> Response:
        """The users who are online."""
        app_id = request.query_params.get("app_id")
        app = applications.default() if app_id is None else applications.by_id(app_id)
        if app is None:
            raise ParseError("Unknown app_id")
        rows = RealtimeUser.objects.online().filter(app_id=app.id).order_by("user_id")
        users = [
            {"id": user.user_id, "banned": user.banned, "last_seen_at": user.last_seen_at}
            for user in rows
        ]
        return Response({"users": users})
