"""``manage.py make_users COUNT``: users u1, u2, … and one of the staff, printed as JSON."""

import json

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand
from rest_framework.authtoken.models import Token


class Command(BaseCommand):
    help = "Create the users of the end-to-end tests; print their ids and API tokens."

    def add_arguments(self, parser):
        parser.add_argument("count", type=int)

    def handle(self, *, count, **options):
        User = get_user_model()
        names = [f"u{number}" for number in range(1, count + 1)]
        users = User.objects.bulk_create(
            [User(username=name, first_name=name.upper()) for name in names]
            + [User(username="staff", is_staff=True, is_superuser=True)]
        )
        tokens = Token.objects.bulk_create(
            [Token(user=user, key=Token.generate_key()) for user in users]
        )
        self.stdout.write(
            json.dumps(
                [
                    {"id": str(token.user.pk), "name": token.user.username, "token": token.key}
                    for token in tokens
                ]
            )
        )
