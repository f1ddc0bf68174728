"""The claim of a server process to be alive.

A row with a time until which it holds, on the clock of the database, which all processes
share.  Whoever finds a row past its time may reap it; its owner notices before it writes
the next thing.
"""

import os
import socket
import time
from datetime import timedelta
from uuid import UUID

from django.db.models.functions import Now

from realtime import conf
from realtime.database import lock
from realtime.models import Server
from realtime.protocol.errors import RealtimeError


class LeaseLost(RealtimeError):
    """This process was taken for dead, and its rows are gone."""


def server_name() -> str:
    """This process, for people: the host and the process id."""
    return f"{socket.gethostname()[:80]}:{os.getpid()}"


def take(server_id: UUID, seconds: float) -> None:
    """Register this process under *server_id*."""
    Server.objects.create(
        pk=server_id,
        name=server_name(),
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


def shorten() -> None:
    """Let leases begin anew that end further ahead than any was ever made.

    The clock of the database was put back.  The living renew theirs, the dead run out.
    """
    seconds = conf.get().lease_seconds
    from_another_time = Server.objects.filter(expires_at__gt=Now() + timedelta(seconds=3 * seconds))
    # In the order of their keys, and without those that somebody writes now: no deadlocks.  One
    # statement, so that on SQLite the transaction begins with a write.
    free = lock(from_another_time.order_by("pk"), skip_locked=True).values("pk")
    Server.objects.filter(pk__in=free).update(expires_at=Now() + timedelta(seconds=seconds))


class Clock:
    """The clock of the database, watched for being put back or forward."""

    def __init__(self) -> None:
        self._ahead: tuple[float, float] | None = None
        """The least and the most that it can be ahead of the monotonic clock, in seconds."""

    def jump_seconds(self, server_id: UUID) -> float:
        """How far it certainly jumped since the last look, beyond the time that has passed.

        The database names its time somewhere between question and answer.  An answer that
        is late says less about it, and is no jump.
        """
        asked = time.monotonic()
        rows = Server.objects.filter(pk=server_id).annotate(clock=Now())
        now = rows.values_list("clock", flat=True).first()
        if now is None:
            return 0.0
        least, most = now.timestamp() - time.monotonic(), now.timestamp() - asked
        before = self._ahead or (least, most)
        within = max(least, before[0]), min(most, before[1])
        if within[0] <= within[1]:
            self._ahead = within
            return 0.0
        self._ahead = least, most
        return least - before[1] if least > before[1] else most - before[0]
