"""What the pages have in common: rows that are only read, and actions that ask first."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.auth.models import AbstractBaseUser
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from realtime.layer import PublishFailed

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    ModelForm = forms.ModelForm[Any]
else:  # generic for the type checker only
    ModelAdmin = admin.ModelAdmin
    ModelForm = forms.ModelForm


class ReadOnlyAdmin(ModelAdmin):
    """Rows that the server writes and people only read."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class AskingAdmin(ModelAdmin):
    """Actions that name the rows and do nothing before that is confirmed."""

    def confirm(
        self,
        request: HttpRequest,
        queryset: QuerySet[Any],
        form_class: type[forms.Form],
        verb: Any,
        act: Callable[[Any], str | None],
        warning: Any = "",
    ) -> HttpResponse | None:
        """Name the rows and show the form; act once that is confirmed.

        Args:
            verb: what the button says.
            act: is given the form, and returns what to tell staff.
            warning: what staff should know before.
        """
        form = form_class(request.POST if "confirmed" in request.POST else None)
        if form.is_bound and form.is_valid():
            try:
                if text := act(form):
                    self.message_user(request, text, messages.SUCCESS)
            except PublishFailed:
                warning = _("The channel layer does not answer: connections may still be open.")
                self.message_user(request, warning, messages.ERROR)
            return None
        context = {
            **self.admin_site.each_context(request),
            "title": verb,
            "verb": verb,
            "warning": warning,
            "opts": self.opts,
            "form": form,
            "media": self.media + form.media,
            "rows": queryset,
            "action": request.POST["action"],
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "admin/realtime/confirm.html", context)


def staff(request: HttpRequest) -> AbstractBaseUser:
    """Who is logged in; the admin lets nobody else come this far."""
    assert isinstance(request.user, AbstractBaseUser)  # noqa: S101 - narrows a union
    return request.user
