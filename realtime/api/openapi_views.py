"""``/realtime/openapi.json`` and ``/realtime/docs``: what the HTTP endpoints take and answer."""

from collections.abc import Callable
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from realtime import conf
from realtime.api.site import is_staff
from realtime.api.views import text_response

METHODS = ("get", "post", "patch", "delete")


@login_not_required
@require_safe
def document(request: HttpRequest) -> HttpResponse:
    """``GET /realtime/openapi.json``"""
    return _answer(request, JsonResponse)


@login_not_required
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """``GET /realtime/docs``: the same as a page without scripts, for any content policy."""
    return _answer(
        request, lambda made: render(request, "realtime/openapi.html", {"document": _listed(made)})
    )


def _answer(request: HttpRequest, show: Callable[[dict[str, Any]], HttpResponse]) -> HttpResponse:
    """404 where nobody may read it or the extra is missing, 403 for other than staff."""
    readers = conf.get().api_docs
    if not readers or (readers == "debug" and not django_settings.DEBUG):
        return text_response("404 NOT FOUND", 404)
    if readers == "staff" and not is_staff(getattr(request, "user", None)):
        return text_response("Only staff may read this", 403)
    try:
        from realtime.api import openapi
    except ModuleNotFoundError:
        return text_response("404 NOT FOUND", 404)
    return show(openapi.document(request.path.rpartition("/realtime/")[0]))


def _listed(made: dict[str, Any]) -> dict[str, Any]:
    """The document, its operations in one list."""
    operations = [
        {"path": path, "method": method.upper(), **item[method]}
        for path, item in made["paths"].items()
        for method in METHODS
        if method in item
    ]
    schemes = {
        name: {**scheme, "description": _with_code(scheme["description"])}
        for name, scheme in made["components"]["securitySchemes"].items()
    }
    return {"info": made["info"], "operations": operations, "schemes": schemes}


def _with_code(text: str) -> SafeString:
    """What is between backticks, as code."""
    shown = [
        format_html("<code>{}</code>", word) if number % 2 else word
        for number, word in enumerate(text.split("`"))
    ]
    return format_html_join("", "{}", ((word,) for word in shown))
