"""Chromium, and pages in it that run an unmodified pusher-js."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.e2e.sites import ROOT, User

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 15_000
BUILDS = ROOT / "node_modules/pusher-js/dist/web"

CONNECT = """([key, port, token, options]) => {
    window.events = [];
    const headers = token ? { Authorization: `Token ${token}` } : {};
    const asking = endpoint => ({ transport: "ajax", endpoint, headers });
    // Members of a presence channel are more than plain data.
    const plain = data => data?.each ? { count: data.count, members: data.members } : data;
    window.report = (source, dispatcher) => dispatcher.bind_global(
        (event, data) => events.push({ source, event, data: plain(data) })
    );
    window.pusher = new Pusher(key, {
        cluster: "", forceTLS: false,
        wsHost: "127.0.0.1", wsPort: port, httpHost: "127.0.0.1", httpPort: port,
        channelAuthorization: asking("/pusher/auth"),
        userAuthentication: asking("/pusher/user-auth"),
        ...options,
    });
    report("connection", pusher.connection);
    report("user", pusher.user);
}"""


class Tab:
    """A page with a pusher-js client, which remembers every event in order."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def connect(
        self, key: str, port: int, user: User | None, build: str, options: dict[str, Any]
    ) -> None:
        self.page.add_script_tag(path=BUILDS / build)
        self.page.evaluate(CONNECT, [key, port, user.token if user else None, options])
        self.page.wait_for_function("pusher.connection.state === 'connected'")

    @property
    def transport(self) -> str:
        """What carries the connection."""
        return str(self.page.evaluate("pusher.connection.connection.transport.name"))

    @property
    def state(self) -> str:
        return str(self.page.evaluate("pusher.connection.state"))

    def subscribe(self, channel: str) -> Any:
        """Subscribe, wait for success and return its data."""
        self.page.evaluate("channel => report(channel, pusher.subscribe(channel))", channel)
        return self.wait_for("pusher:subscription_succeeded", on=channel)

    def sign_in(self, user: User) -> None:
        """Sign in, and wait until notices to the user come, which pusher-js subscribes then."""
        self.page.evaluate("pusher.signin()")
        self.wait_for_frame("pusher:signin_success")
        self.wait_for_frame(
            "pusher_internal:subscription_succeeded", on=f"#server-to-user-{user.id}"
        )

    def trigger(self, channel: str, event: str, data: object) -> None:
        self.page.evaluate(
            "([channel, event, data]) => pusher.channel(channel).trigger(event, data)",
            [channel, event, data],
        )

    def wait_for(self, event: str, *, on: str) -> Any:
        """The data of the first *event* ever seen *on* a channel, "connection" or "user"."""
        return self._wait("seen => seen.event === name && seen.source === source", event, on)

    def wait_for_frame(self, event: str, *, on: str | None = None) -> Any:
        """The first frame *event* (*on* a channel) as it came over the wire."""
        of_it = "seen.event === 'message' && seen.data.event === name"
        return self._wait(
            f"seen => {of_it} && (source === null || seen.data.channel === source)", event, on
        )

    def _wait(self, condition: str, *arguments: str | None) -> Any:
        found = self.page.wait_for_function(
            f"([name, source]) => events.find({condition})", arg=list(arguments)
        )
        return found.json_value()["data"]

    def data_of(self, event: str, *, on: str, count: int) -> list[Any]:
        """The data of the events of that name, once there are *count*."""
        which = "events.filter(seen => seen.event === name && seen.source === source)"
        self.page.wait_for_function(
            f"([name, source, count]) => {which}.length >= count", arg=[event, on, count]
        )
        found = self.page.evaluate(f"([name, source]) => {which}", [event, on])
        return [seen["data"] for seen in found]


@contextmanager
def launched() -> Iterator[Browser]:
    """Chromium without a window."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
