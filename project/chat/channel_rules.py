"""Who may join which room, and what the others see of them there."""

from typing import Any

from django.contrib.auth.models import AbstractUser

from project.chat.people import user_info
from realtime import channel_rule


@channel_rule("presence-room-gaming")
@channel_rule("presence-room-hobbies")
def may_join_open_room(user: AbstractUser) -> bool:
    """Everybody who is logged in; the data of their sign-in is shown."""
    return True


@channel_rule("presence-room-business")
def business_member(user: AbstractUser) -> dict[str, Any]:
    """The member data of this room only: it marks who is admin."""
    role = "admin" if user.is_staff else "member"
    return {"user_id": str(user.pk), "user_info": {**user_info(user), "role": role}}
