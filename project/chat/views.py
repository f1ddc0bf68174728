"""Pages and JSON endpoints of the chat."""

import dataclasses
import secrets
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth import views as auth_views
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from rest_framework import status
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.permissions import IsAuthenticated
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

import realtime
from project.chat import demo_accounts, transcript
from project.chat.people import described
from project.chat.rooms import DEFAULT_ROOM, ROOMS, Room
from project.chat.serializers import CatchUpSerializer, NewMessageSerializer
from realtime.api.site import StrictJSONParser

User = get_user_model()


class LoginView(auth_views.LoginView):
    """The ordinary form; with ``DEBUG`` also one button per demo account."""

    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        if settings.DEBUG:
            context["debug"] = True
            context["demo_accounts"] = demo_accounts.present()
            context["demo_password"] = demo_accounts.PASSWORD
            # The buttons come first; a focused field would scroll a small screen past them.
            context["form"].fields["username"].widget.attrs.pop("autofocus", None)
        return context


@login_required
def chat(request: HttpRequest, room: Room = DEFAULT_ROOM) -> HttpResponse:
    """The chat page, opened in one room."""
    user = request.user
    config = {
        "me": described(user),
        "room": room.slug,
        "rooms": [
            {
                **dataclasses.asdict(each),
                "channel": each.channel,
                "url": reverse("room", args=[each]),
                "messagesUrl": reverse("room-messages", args=[each]),
            }
            for each in ROOMS
        ],
        "messages": transcript.latest(room).messages,
        "loginUrl": reverse("login"),
        "noticeUrl": reverse("order-notice", args=["UID"]),
        "kickUrl": reverse("realtime:moderation-kick", args=["UID"]),
        "mayKick": user.is_staff and user.has_perm("realtime.kick_realtimeuser"),
        "mayNotify": user.is_staff,
    }
    return render(request, "chat/room.html", {"room": room, "rooms": ROOMS, "config": config})


class ChatAPIView(APIView):
    """JSON for the page: session and CSRF token, nothing else."""

    authentication_classes = (SessionAuthentication,)
    permission_classes = (IsAuthenticated,)
    parser_classes = (StrictJSONParser,)
    renderer_classes = (JSONRenderer,)


class RoomMessages(ChatAPIView):
    """``/rooms/<room>/messages``"""

    def get(self, request: Request, room: Room) -> Response:
        """The latest messages, or with ``?after=ID`` those that follow one."""
        query = CatchUpSerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        message_id = query.validated_data["after"]
        page = transcript.latest(room) if message_id is None else transcript.after(room, message_id)
        return Response({"messages": page.messages, "more": page.more})

    def post(self, request: Request, room: Room) -> Response:
        """Post a message; everybody in the room but the sending connection hears of it."""
        wish = NewMessageSerializer(data=request.data)
        wish.is_valid(raise_exception=True)
        message, created = transcript.post(
            room,
            request.user,
            text=wish.validated_data["text"],
            client_id=wish.validated_data["client_id"],
            socket_id=wish.validated_data.get("socket_id"),
        )
        return Response(message, status.HTTP_201_CREATED if created else status.HTTP_200_OK)


class OrderNotice(ChatAPIView):
    """``/orders/<user_id>/notice``: a message that one user alone receives."""

    def post(self, request: Request, user_id: str) -> Response:
        """To oneself; staff may send one to anybody."""
        if user_id != str(request.user.pk) and not request.user.is_staff:
            raise PermissionDenied("Only staff may send notices to other people.")
        try:
            recipient = get_object_or_404(User, pk=user_id, is_active=True)
        except (ValueError, ValidationError):
            raise NotFound from None
        order = str(1000 + secrets.randbelow(9000))
        notice = {"order": order, "text": "Your order is on its way"}
        realtime.send_to_user(str(recipient.pk), "order-notice", notice)
        return Response({"order": order})
