"""What a page needs to connect, as JSON: no inline script, so a strict CSP holds."""

from typing import Any
from urllib.parse import urlsplit

from django import template
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.urls import reverse
from django.utils.html import json_script
from django.utils.safestring import SafeString

from realtime import applications, conf

register = template.Library()


@register.simple_tag(takes_context=True)
def realtime_config(context: dict[str, Any], element_id: str = "realtime-config") -> SafeString:
    """A ``<script type="application/json">`` with the key and the options of ``new Pusher``.

    const { key, options } = JSON.parse(
      document.getElementById("realtime-config").textContent);
    const pusher = new Pusher(key, options);
    """
    request = context.get("request")
    if request is None:
        raise ImproperlyConfigured(
            "{% realtime_config %} needs the request: render the template with it, and list"
            " django.template.context_processors.request in TEMPLATES"
        )
    return json_script(config_of(request), element_id)


def config_of(request: HttpRequest) -> dict[str, Any]:
    """The key, and options that lead pusher-js to the host the page came from."""
    parts = urlsplit(f"//{request.get_host()}")
    port = parts.port or (443 if request.is_secure() else 80)
    headers = {"X-CSRFToken": get_token(request)} if conf.get().auth_csrf else {}
    prefix = reverse("realtime:channel-auth").removesuffix("/pusher/auth")
    return {
        "key": applications.default().key,
        "options": {
            "cluster": "",
            "wsHost": parts.netloc.removesuffix(f":{parts.port}"),
            "wsPort": port,
            "wssPort": port,
            "wsPath": prefix,
            "forceTLS": request.is_secure(),
            "enabledTransports": ["ws", "wss"],
            "channelAuthorization": {
                "endpoint": reverse("realtime:channel-auth"),
                "transport": "ajax",
                "headers": headers,
            },
            "userAuthentication": {
                "endpoint": reverse("realtime:user-auth"),
                "transport": "ajax",
                "headers": headers,
            },
        },
    }
