"""Shapes of a message as JSON."""

import re
from typing import Any

from django.contrib.auth.models import AbstractUser
from rest_framework import serializers

from project.chat.models import Message
from project.chat.people import described

CONTROL_CHARACTERS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class AuthorField(serializers.Field):
    """A user as everybody in the room may see them."""

    def to_representation(self, value: AbstractUser) -> dict[str, str]:
        return described(value)


class MessageSerializer(serializers.ModelSerializer):
    """A stored message, as the transcript and the ``message`` event carry it."""

    author = AuthorField(read_only=True)

    class Meta:
        model = Message
        fields = ("id", "client_id", "room", "author", "text", "created_at")


class NewMessageSerializer(serializers.Serializer):
    """What a browser sends to post a message."""

    text = serializers.CharField(max_length=2000)
    client_id = serializers.UUIDField()
    socket_id = serializers.RegexField(
        r"\A[0-9]{1,20}\.[0-9]{1,20}\Z", required=False, allow_null=True
    )

    def validate_text(self, text: str) -> str:
        text = CONTROL_CHARACTERS.sub("", text.replace("\r\n", "\n")).strip()
        if not text:
            raise serializers.ValidationError("Write something first.")
        return text


class CatchUpSerializer(serializers.Serializer):
    """Query of the transcript."""

    after = serializers.IntegerField(required=False, min_value=0, max_value=2**63 - 1)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {"after": None, **attrs}
