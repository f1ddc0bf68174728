"""End-to-end encrypted channels: events that only those who may subscribe can read.

The key of a channel is made of its name and the master key of the app.  It goes to browsers with
the authorization of a subscription and never through the server that passes the events on.

Source: Pusher docs, "Encrypted channels"; the official server libraries.
"""

import base64
import hashlib
import json

from django.core.exceptions import ImproperlyConfigured

from realtime.protocol.app import App


def shared_secret(app: App, channel: str) -> str:
    """The key of *channel* as the auth endpoint answers it, in base64.

    Raises:
        ImproperlyConfigured: the app has no master key.
    """
    return base64.b64encode(_key(app, channel)).decode()


def encrypt(app: App, channel: str, text: str) -> str:
    """*text* as the data of an event that pusher-js can read with the key of *channel*.

    Raises:
        ImproperlyConfigured: the app has no master key, or PyNaCl is not installed.
    """
    try:
        from nacl.secret import SecretBox
    except ImportError:
        raise ImproperlyConfigured(
            "Encrypted channels need PyNaCl: install the extra 'encryption'"
        ) from None
    sealed = SecretBox(_key(app, channel)).encrypt(text.encode())
    return json.dumps(
        {
            "nonce": base64.b64encode(sealed.nonce).decode(),
            "ciphertext": base64.b64encode(sealed.ciphertext).decode(),
        },
        separators=(",", ":"),
    )


def _key(app: App, channel: str) -> bytes:
    if not app.encryption_master_key:
        raise ImproperlyConfigured(
            f"The realtime app {app.id} has no ENCRYPTION_MASTER_KEY, which encrypted channels need"
        )
    return hashlib.sha256(channel.encode() + app.encryption_master_key).digest()
