import uuid

from django.conf import settings
from django.db import models
from django.utils import timezone


class Message(models.Model):
    """One message in a room.

    Events reach whoever is connected; the row is what a client reads to catch up.
    """

    room = models.CharField(max_length=32)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    text = models.CharField(max_length=2000)
    client_id = models.UUIDField(
        default=uuid.uuid4,
        help_text="Chosen by the browser: a repeated attempt is stored once.",
    )
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("id",)
        indexes = (models.Index(fields=("room", "id"), name="chat_message_room_id"),)
        constraints = (
            models.UniqueConstraint(fields=("author", "client_id"), name="chat_message_once"),
        )

    def __str__(self) -> str:
        return f"{self.author} in {self.room}: {self.text[:60]}"
