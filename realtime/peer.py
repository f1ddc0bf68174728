"""What the handshake of a WebSocket says of its peer.

A header of a proxy is believed only where a setting names it: whoever may connect may also
send headers.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import validate_host

from realtime import conf

IPV6_PREFIX_BITS: Final = 64
"""RFC 6177: what one customer has at least; each may use all the addresses in it."""


def header(scope: Any, name: bytes) -> str | None:  # Any: ASGI
    """The first header of that name, in lower case."""
    return next((_text(value) for key, value in scope["headers"] if key == name), None)


def is_secure(scope: Any) -> bool:
    """Whether the browser's side of the connection is encrypted."""
    if scope.get("scheme") in ("wss", "https"):
        return True
    trusted: tuple[str, str] | None = getattr(settings, "SECURE_PROXY_SSL_HEADER", None)
    if trusted is None:
        return False
    name, expected = trusted
    given = header(scope, name.removeprefix("HTTP_").replace("_", "-").lower().encode())
    return given is not None and given.split(",")[0].strip() == expected


def origin_is_allowed(scope: Any, allowed: Sequence[str]) -> bool:
    """Compare by scheme, host and port; native clients send no origin."""
    origin = header(scope, b"origin")
    if origin is None or "*" in allowed:
        return True
    try:
        given = urlsplit(origin)
        if allowed:
            return any(_same_origin(given, urlsplit(item)) for item in allowed)
        port = given.port
    except ValueError:
        return False
    hosts = settings.ALLOWED_HOSTS
    if settings.DEBUG and not hosts:
        hosts = [".localhost", "127.0.0.1", "[::1]"]
    host = given.netloc.rpartition("@")[2].removesuffix(f":{port}")
    return bool(host) and validate_host(host.lower(), hosts)


def address(scope: Any) -> str | None:
    """Whom connections are counted for: an IPv4 address, or an IPv6 network.

    ``None`` where there is nobody to count: on a unix socket, and for a direct peer in a
    private network, which is a proxy that ``CLIENT_IP_HEADER`` does not speak of.
    """
    site = conf.get()
    client = scope.get("client")
    direct = _address_of(str(client[0])) if client else None
    if site.client_ip_header:
        forwarded = _forwarded(scope, site.client_ip_header.lower().encode(), site.trusted_proxies)
        return _counted(forwarded or direct)
    return _counted(direct) if direct is not None and direct.is_global else None


def _forwarded(scope: Any, name: bytes, proxies: int) -> IPv4Address | IPv6Address | None:
    """What the outermost of our proxies appended; anything before it is the peer's own word."""
    given = ",".join(_text(value) for key, value in scope["headers"] if key == name).split(",")
    return _address_of(given[-proxies].strip()) if proxies <= len(given) else None


def _address_of(text: str) -> IPv4Address | IPv6Address | None:
    """The address in *text*, which may have a port."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _counted(found: IPv4Address | IPv6Address | None) -> str | None:
    if isinstance(found, IPv6Address):
        return str(IPv6Network((int(found), IPV6_PREFIX_BITS), strict=False))
    return None if found is None else str(found)


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _same_origin(given: Any, allowed: Any) -> bool:  # Any: urllib's result types
    return bool(given.hostname) and (
        (given.scheme, given.hostname, _port(given))
        == (allowed.scheme, allowed.hostname, _port(allowed))
    )


def _port(parts: Any) -> int | None:
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme)
