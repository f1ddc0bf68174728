"""The claim of a server process to be alive.

A row with a time until which it holds, on the clock of the database, which all processes
share.  Whoever finds a row past its time may reap it; its owner notices before it writes
the next thing.
"""

import os
import socket
from datetime import timedelta
from uuid import UUID

from django.db.models.functions import Now

from realtime.models import Server
from realtime.protocol.errors import RealtimeError


class LeaseLost(RealtimeError):
    """This process was taken for dead, and its rows are gone."""


def take(server_id: UUID, seconds: float) -> None:
    """Register this process under *server_id*."""
    Server.objects.create(
        pk=server_id,
        name=f"{socket.gethostname()[:80]}:{os.getpid()}",
        expires_at=Now() + timedelta(seconds=seconds),
    )


def renew(server_id: UUID, seconds: float) -> None:
    """Hold on for another *seconds*.

    Raises:
        LeaseLost: the row is gone.
    """
    expires_at = Now() + timedelta(seconds=seconds)
    if not Server.objects.filter(pk=server_id).update(expires_at=expires_at):
        raise LeaseLost("this server process lost its lease")


def give_back(server_id: UUID, seconds: float) -> None:
    """Let the lease run out in *seconds*; whoever reaps then announces what is left."""
    expires_at = Now() + timedelta(seconds=seconds)
    Server.objects.filter(pk=server_id).update(expires_at=expires_at)
