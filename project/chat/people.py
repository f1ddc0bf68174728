"""What the chat tells about its users."""

from typing import Any

from django.contrib.auth.models import AbstractUser

ICONS = ("leaf", "sun", "wave", "peak", "moon", "spark", "drop", "shell")
"""Symbols in ``static/chat/icons.svg``."""


def icon(user: AbstractUser) -> str:
    """The symbol shown beside a user's name."""
    return ICONS[user.pk % len(ICONS)]


def user_info(user: AbstractUser) -> dict[str, str]:
    """What everybody in a room may know about a user."""
    return {"name": user.get_full_name() or user.get_username(), "icon": icon(user)}


def described(user: AbstractUser) -> dict[str, str]:
    """A user as the page shows them."""
    return {"id": str(user.pk), **user_info(user)}


def user_data(user: AbstractUser) -> dict[str, Any]:
    """The data of a signed-in user, for ``REALTIME["USER_DATA"]``."""
    return {"id": str(user.pk), "user_info": user_info(user)}
