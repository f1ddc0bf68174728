"""Through which processes."""

from typing import Any

from django.contrib import admin
from django.db.models import Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from realtime.admin.base import ReadOnlyAdmin
from realtime.models import Server


@admin.register(Server)
class ServerAdmin(ReadOnlyAdmin):
    """Server processes and their leases."""

    list_display = ("name", "alive", "started_at", "expires_at", "subscribed")

    def get_queryset(self, request: HttpRequest) -> Any:
        total = Coalesce(Sum("occupancies__subscriptions"), 0)
        return super().get_queryset(request).annotate(total=total)

    @admin.display(description=_("alive"), boolean=True)
    def alive(self, server: Server) -> bool:
        return server.expires_at > timezone.now()

    @admin.display(description=_("subscriptions"), ordering="total")
    def subscribed(self, server: Any) -> int:
        return int(server.total)
