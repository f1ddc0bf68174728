"""Reading and writing the messages of a room."""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AbstractUser
from django.db import transaction

import realtime
from project.chat.models import Message
from project.chat.rooms import Room
from project.chat.serializers import MessageSerializer

PAGE = 50
"""Messages shown when a room is opened, and given at once to somebody who catches up."""


@dataclass(frozen=True, slots=True)
class Page:
    messages: list[dict[str, Any]]
    """In the order of their ids."""
    more: bool
    """Whether there are newer ones after the last."""


def latest(room: Room) -> Page:
    """The newest messages of a room."""
    newest = Message.objects.filter(room=room.slug).select_related("author").order_by("-id")
    return Page(MessageSerializer(reversed(newest[:PAGE]), many=True).data, more=False)


def after(room: Room, message_id: int) -> Page:
    """The messages that follow *message_id*, oldest first."""
    following = Message.objects.filter(room=room.slug, id__gt=message_id).select_related("author")
    found = list(following.order_by("id")[: PAGE + 1])
    return Page(MessageSerializer(found[:PAGE], many=True).data, more=len(found) > PAGE)


def post(
    room: Room, author: AbstractUser, *, text: str, client_id: UUID, socket_id: str | None
) -> tuple[dict[str, Any], bool]:
    """Store a message and send it to the others in the room.

    Returns:
        The message, and whether it is new.  A *client_id* that the author has used before
        gives the stored message and sends nothing, so an attempt may be repeated.
    """
    with transaction.atomic():
        message, created = Message.objects.get_or_create(
            author=author, client_id=client_id, defaults={"room": room.slug, "text": text}
        )
        stored = dict(MessageSerializer(message).data)
        if created:
            # Text as it is: with every letter of some scripts escaped, a long message would
            # be larger than an event may be.
            data = json.dumps(stored, ensure_ascii=False)
            realtime.trigger(room.channel, "message", data, socket_id=socket_id)
    return stored, created
