"""Node processes that speak JSON lines, and the pusher-js clients in them."""

import itertools
import json
import subprocess
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import services
from tests.e2e.sites import ROOT, Server, User

SCRIPTS = Path(__file__).parent / "node"
PATIENCE = 15


class LibraryError(Exception):
    """A command failed inside Node; ``details`` is what the library threw."""

    def __init__(self, details: dict[str, Any]) -> None:
        super().__init__(details["message"])
        self.details = details


@dataclass(frozen=True)
class Event:
    """What a pusher-js client reported: on its connection, a channel, or its user."""

    client: str
    source: str
    event: str
    data: Any = None
    order: int = 0
    metadata: Any = None


class Node:
    """A Node process; commands are answered in any order, events are kept per client."""

    def __init__(self, script: str, log: Path) -> None:
        with log.open("ab") as errors:
            self._process = services.spawn(
                ["node", SCRIPTS / script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
            )
        self.changed = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._events: dict[str, list[Event]] = {}
        self._ids = itertools.count(1)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            message = json.loads(line)
            with self.changed:
                if "answer" in message:
                    self._answers[message["answer"]] = message
                else:
                    event = Event(**message)
                    self._events.setdefault(event.client, []).append(event)
                self.changed.notify_all()

    def call(self, command: str, *, patience: float = PATIENCE, **arguments: Any) -> Any:
        """The result of *command*.

        Raises:
            LibraryError: the library refused it.
        """
        number = next(self._ids)
        self._process.stdin.write(json.dumps({"id": number, "do": command, **arguments}) + "\n")
        self._process.stdin.flush()
        with self.changed:
            if not self.changed.wait_for(lambda: number in self._answers, patience):
                raise TimeoutError(f"Node did not answer {command}")
            answer = self._answers.pop(number)
        if "error" in answer:
            raise LibraryError(answer["error"])
        return answer["result"]

    def events(self, client: str) -> list[Event]:
        return self._events.setdefault(client, [])

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(services.STOP_SECONDS)
        self._process.stdout.close()


@dataclass
class Client:
    """One pusher-js client.

    Events arrive in a mailbox: ``wait_for`` takes the first one that matches out of it, so
    waiting twice for the same thing waits for two of them.
    """

    node: Node
    name: str
    mailbox: list[Event] = field(default_factory=list)
    _read: int = 0

    def call(self, command: str, **arguments: Any) -> Any:
        return self.node.call(command, client=self.name, **arguments)

    def connect(
        self, server: Server, key: str, user: User | None = None, **options: Any
    ) -> "Client":
        token = user.token if user else None
        self.call("connect", key=key, url=server.url, token=token, options=options)
        return self

    @property
    def socket_id(self) -> str:
        return str(self.call("socket_id"))

    def subscribe(self, channel: str) -> Any:
        """Subscribe, wait for success and return its data."""
        self.call("subscribe", channel=channel)
        return self.wait_for("pusher:subscription_succeeded", on=channel).data

    def sign_in(self) -> None:
        self.call("signin")
        self.wait_for_frame("pusher:signin_success")

    def trigger(self, channel: str, event: str, data: object) -> bool:
        return bool(self.call("trigger", channel=channel, event=event, data=data))

    def wait_for(
        self,
        event: str,
        *,
        on: str | None = None,
        where: Callable[[Event], bool] = lambda event: True,
        patience: float = PATIENCE,
    ) -> Event:
        """The first unread *event* (*on* a channel, "connection" or "user"), now or soon."""

        def matches(candidate: Event) -> bool:
            return (
                candidate.event == event
                and (on is None or candidate.source == on)
                and where(candidate)
            )

        with self.node.changed:
            if not self.node.changed.wait_for(lambda: any(map(matches, self._unread())), patience):
                raise TimeoutError(
                    f"{self.name} got no {event} on {on or 'anything'}, only {self.mailbox}"
                )
            found = next(filter(matches, self.mailbox))
            self.mailbox.remove(found)
            return found

    def wait_for_frame(self, event: str, **options: Any) -> Any:
        """The first unread frame *event* as it came over the wire."""
        return self.wait_for(
            "message", on="connection", where=lambda seen: seen.data["event"] == event, **options
        ).data

    def wait_for_state(self, state: str, **options: Any) -> None:
        self.wait_for(
            "state_change",
            on="connection",
            where=lambda seen: seen.data["current"] == state,
            **options,
        )

    def expect_nothing(self, event: str, *, on: str, until: Callable[[], object]) -> None:
        """Nothing of that name has come once *until* has returned."""
        until()
        assert event not in self.names(on), f"{self.name} got {event} on {on}"

    def names(self, on: str) -> list[str]:
        """The names of all unread events *on* a channel, in order."""
        with self.node.changed:
            return [event.event for event in self._unread() if event.source == on]

    def _unread(self) -> Iterable[Event]:
        events = self.node.events(self.name)
        self.mailbox += events[self._read :]
        self._read = len(events)
        return self.mailbox
