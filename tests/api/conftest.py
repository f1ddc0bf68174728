"""Requests of back ends, users and staff."""

import hashlib
import json
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, unquote

import pytest
from django.contrib.auth.models import Permission, User
from django.http import HttpResponse
from django.test import Client

from realtime.presence import lease, store
from realtime.presence.store import Join, Occupy
from realtime.protocol.messages import Member
from tests.conftest import KEY, SECRET, hmac_hex


def encode(body: Any) -> bytes:
    """A JSON body, or none."""
    return b"" if body is None else json.dumps(body).encode()


class SignedClient:
    """Calls the HTTP API as the official libraries do; every part can be spoilt."""

    def __init__(self) -> None:
        self._client = Client()

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: str = "",
        key: str = KEY,
        secret: str = SECRET,
        signed_path: str | None = None,
        spoilt: dict[str, str | None] | None = None,
        sign_with: dict[str, str | None] | None = None,
        upper_case: bool = False,
        **extra: Any,
    ) -> HttpResponse:
        """One call.

        Args:
            query: as it stands in the URL; signed in its decoded form.
            sign_with: parameters that differ from the usual, ``None`` to leave one out.
            spoilt: parameters changed after signing.
        """
        raw = (
            body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        )
        pairs = {
            "auth_key": key,
            "auth_timestamp": str(int(time.time())),
            "auth_version": "1.0",
            **({"body_md5": hashlib.md5(raw).hexdigest()} if raw else {}),
            **(sign_with or {}),
        }
        signed = {name: value for name, value in pairs.items() if value is not None}
        given = [tuple(part.split("=", 1)) for part in query.split("&") if part]
        decoded = [(unquote(name), unquote(value)) for name, value in given]
        parameters = sorted([*signed.items(), *decoded], key=lambda pair: pair[0].lower())
        text = "&".join(f"{name.lower()}={value}" for name, value in parameters)
        signed["auth_signature"] = hmac_hex(f"{method}\n{signed_path or path}\n{text}", secret)
        signed.update(spoilt or {})
        own = "&".join(
            f"{name.upper() if upper_case else name}={quote(value)}"
            for name, value in signed.items()
            if value is not None
        )
        return self._client.generic(
            method,
            path,
            raw,
            content_type="application/json",
            QUERY_STRING="&".join(filter(None, [query, own])),
            **extra,
        )

    def get(self, path: str, **options: Any) -> HttpResponse:
        return self("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> HttpResponse:
        return self("POST", path, body, **options)


@pytest.fixture
def api(db: None) -> SignedClient:
    """A back end that knows the secret."""
    return SignedClient()


@pytest.fixture
def occupied(db: None) -> None:
    """A public channel with three subscriptions and a presence channel of two users."""
    server = uuid.uuid4()
    lease.take(server, 60)
    joins = [
        Join("3", "presence-room", f"1.{number}", Member(user))
        for number, user in enumerate(["ann", "ann", "bob"])
    ]
    counts = [Occupy("3", "room", 3), Occupy("3", "presence-room", 3), Occupy("4", "foreign", 1)]
    store.apply(server, [*joins, *counts], 60)


@pytest.fixture
def ann(db: None) -> User:
    """A user of the site."""
    return User.objects.create_user("ann", first_name="Ann", last_name="Lee")


@pytest.fixture
def as_ann(ann: User) -> Client:
    """Ann's browser."""
    client = Client()
    client.force_login(ann)
    return client


@pytest.fixture
def as_staff(db: None) -> Callable[..., Client]:
    """Browsers of staff with some permissions."""

    def log_in(*codenames: str, is_staff: bool = True) -> Client:
        user = User.objects.create_user(f"staff-{'-'.join(codenames)}", is_staff=is_staff)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client = Client()
        client.force_login(user)
        return client

    return log_in
