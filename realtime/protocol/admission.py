"""Who is let in: the checks of a new connection, in the order that picks its error.

The upgrade itself is always accepted, because a browser cannot see why an upgrade was
refused and would try for ever; only a close code can say "stop".

Source: Pusher docs, "Channels protocol", Connection; the order is ours where none is given.
"""

import re
from typing import Final

from realtime.protocol.app import App
from realtime.protocol.errors import (
    AppDisabled,
    BadVersion,
    NoProtocol,
    OverQuota,
    TLSRequired,
    UnsupportedProtocol,
)
from realtime.protocol.signing import read_query

_PROTOCOL: Final = re.compile(r"[0-9]{1,3}")
_VERSION: Final = re.compile(r"([0-9]{1,9})(?:[.+\-][0-9A-Za-z]{1,40}){0,8}")
_OLDEST, _NEWEST = 5, 7


def check_handshake(app: App, query_string: str, *, secure: bool, connections: int) -> str:
    """Return the ``client`` parameter, or raise what the connection is refused with.

    Args:
        secure: whether the browser's side of the connection is encrypted.
        connections: how many this app has in this process already.

    Raises:
        Fatal: one of its subclasses.
    """
    query = dict(read_query(query_string))
    if not app.enabled:
        raise AppDisabled
    if app.tls_only and not secure:
        raise TLSRequired
    _check_protocol(query.get("protocol"), query.get("version"))
    if app.max_connections is not None and connections >= app.max_connections:
        raise OverQuota
    return query.get("client", "")


def _check_protocol(protocol: str | None, version: str | None) -> None:
    parsed = _VERSION.fullmatch(version) if version else None
    if protocol is None:
        # The first pusher-js with a numbered protocol was 2.0.
        if parsed is None or int(parsed[1]) < 2:
            raise NoProtocol
    elif not _PROTOCOL.fullmatch(protocol) or not _OLDEST <= int(protocol) <= _NEWEST:
        raise UnsupportedProtocol
    if version and parsed is None:
        raise BadVersion
