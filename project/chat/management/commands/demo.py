"""``manage.py demo``: the accounts and messages of the demo."""

import argparse
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import AbstractUser, Permission
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone
from rest_framework.authtoken.models import Token

from project.chat.demo_accounts import ACCOUNTS, PASSWORD, DemoAccount
from project.chat.models import Message

SAMPLE_MESSAGES = {
    "gaming": (
        (
            "carol",
            1510,
            "Finished the co-op campaign last night. That last bridge took us an hour.",
        ),
        ("alice", 1506, "An hour? We gave up after two and let the dragon have it."),
        ("bob", 52, "Anyone up for a round at eight? I will bring a second controller."),
        ("bob", 51, "And crisps."),
        ("alice", 47, "Count me in. Carol promised to teach me the grappling hook."),
        ("carol", 44, "Promised is a strong word, but yes."),
    ),
    "hobbies": (
        ("bob", 190, "The sourdough finally rose. Third starter, second flat, first success."),
        ("carol", 182, "Pictures or it stayed flat!"),
        ("alice", 95, "Sketching in the park on Sunday if the weather holds. Everybody welcome."),
    ),
    "business": (
        ("mo", 260, "Reminder: the quarterly numbers go out on Thursday."),
        ("carol", 251, "The draft is in the shared folder. Page four still needs a chart."),
        ("bob", 33, "Chart added. Could somebody check the axis labels?"),
    ),
}
"""Per room: author, minutes ago, text."""


class Command(BaseCommand):
    help = "Migrates, and creates the accounts and messages of the demo. Needs DEBUG."
    requires_system_checks = ()  # runs at every start of the demo and has to be quick

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "--banner",
            metavar="PORT",
            type=int,
            help="also print the addresses of a server on this port, and the accounts",
        )

    def handle(self, *, banner: int | None, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError(
                "The demo accounts have a public password, so they are created with DEBUG=1 only."
            )
        # One start of Python for both: `make run` is to listen within seconds.
        call_command("migrate", verbosity=0, skip_checks=True)
        with transaction.atomic():
            users = _create_users()
            _create_sample_messages(users)
        if banner is not None:
            self.stdout.write(_banner(banner))


def _create_users() -> dict[str, AbstractUser]:
    """The users by name; those that exist keep what has been changed since."""
    model = get_user_model()
    users = model.objects.in_bulk([account.username for account in ACCOUNTS], field_name="username")
    missing = [account for account in ACCOUNTS if account.username not in users]
    if missing:
        # Slow on purpose of the hasher; once is enough for accounts with a public password.
        password = make_password(PASSWORD)
        for account in missing:
            users[account.username] = _create_user(account, password)
    return users


def _create_user(account: DemoAccount, password: str) -> AbstractUser:
    user = get_user_model().objects.create(
        username=account.username,
        first_name=account.name,
        password=password,
        is_staff=account.is_staff,
        is_superuser=account.is_superuser,
    )
    user.user_permissions.set(
        Permission.objects.filter(
            content_type__app_label="realtime", codename__in=account.permissions
        )
    )
    Token.objects.create(user=user)
    return user


def _create_sample_messages(users: dict[str, AbstractUser]) -> None:
    """Something to read in a chat where nothing has been written yet."""
    if Message.objects.exists():
        return
    now = timezone.now()
    Message.objects.bulk_create(
        Message(
            room=room,
            author=users[username],
            text=text,
            created_at=now - timedelta(minutes=minutes_ago),
        )
        for room, messages in SAMPLE_MESSAGES.items()
        for username, minutes_ago, text in messages
    )


def _banner(port: int) -> str:
    site = f"http://127.0.0.1:{port}/"
    accounts = "\n".join(f"    {account.username:<8} {account.summary}" for account in ACCOUNTS)
    return f"""
  Chat    {site}
  Admin   {site}admin/

  Accounts, all with the password "{PASSWORD}":
{accounts}

  Open the chat in two browser windows (one of them private) and sign in as two people.
  Stop with Ctrl-C.
"""
