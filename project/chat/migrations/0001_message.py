import uuid

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = (migrations.swappable_dependency(settings.AUTH_USER_MODEL),)

    operations = (
        migrations.CreateModel(
            name="Message",
            fields=(
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("room", models.CharField(max_length=32)),
                (
                    "author",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, to=settings.AUTH_USER_MODEL
                    ),
                ),
                ("text", models.CharField(max_length=2000)),
                (
                    "client_id",
                    models.UUIDField(
                        default=uuid.uuid4,
                        help_text="Chosen by the browser: a repeated attempt is stored once.",
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
            ),
            options={
                "ordering": ("id",),
                "indexes": [models.Index(fields=("room", "id"), name="chat_message_room_id")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("author", "client_id"), name="chat_message_once"
                    )
                ],
            },
        ),
    )
