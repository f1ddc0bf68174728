"""Where webhooks may go: to the internet, not to what stands around this server.

Whoever may enter a URL could else make this server ask its own network: a cloud's metadata, a
database, a router.  The list is our own: on Python 3.11 ``is_private`` misses the addresses of
carriers' NAT, and ``is_global`` is true for IPv6 addresses that contain 127.0.0.1.

Source: the IANA registries of special-purpose addresses, RFC 6890 and its updates.
"""

import ipaddress
from typing import Final

PORTS: Final = (80, 443)
"""Ours: those of HTTP; on others mostly something else listens."""

_REFUSED_IPV4: Final = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # NAT of carriers
        "127.0.0.0/8",  # this machine
        "169.254.0.0/16",  # link-local; metadata of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
]

_UNICAST_IPV6: Final = ipaddress.IPv6Network("2000::/3")
"""All that is routed; loopback, private, link-local, mapped and translated IPv4 are outside."""

_REFUSED_IPV6: Final = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, with Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: contains any IPv4 address
        "3fff::/20",  # documentation
    )
]


def is_public(address: str) -> bool:
    """Whether *address*, in numbers, is one of the internet."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in network for network in _REFUSED_IPV4)
    inside = found.scope_id is None and found in _UNICAST_IPV6
    return inside and not any(found in network for network in _REFUSED_IPV6)
