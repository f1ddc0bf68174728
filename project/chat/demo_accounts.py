"""The accounts of the demo, as ``manage.py demo`` creates them."""

from dataclasses import dataclass

from django.contrib.auth import get_user_model

from project.chat.people import icon

PASSWORD = "demo"  # noqa: S105  the accounts exist with DEBUG only


@dataclass(frozen=True, slots=True)
class DemoAccount:
    username: str
    name: str
    summary: str
    is_staff: bool = False
    is_superuser: bool = False
    permissions: tuple[str, ...] = ()
    """Codenames of permissions of the ``realtime`` app."""


ACCOUNTS = (
    DemoAccount("alice", "Alice", "Ordinary member"),
    DemoAccount("bob", "Bob", "Ordinary member"),
    DemoAccount("carol", "Carol", "Ordinary member"),
    DemoAccount(
        "mo",
        "Mo",
        "Moderator: may remove and ban people",
        is_staff=True,
        permissions=(
            "view_realtimeuser",
            "kick_realtimeuser",
            "ban_realtimeuser",
            "lift_realtimeuser",
        ),
    ),
    DemoAccount("admin", "Admin", "Administrator: may do everything", True, True),
)


def present() -> list[tuple[DemoAccount, str]]:
    """The demo accounts that have been created, each with the icon of its user."""
    usernames = [account.username for account in ACCOUNTS]
    users = get_user_model().objects.in_bulk(usernames, field_name="username")
    return [
        (account, icon(users[account.username]))
        for account in ACCOUNTS
        if account.username in users
    ]
