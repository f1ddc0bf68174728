"""What staff do to a running site from a terminal, and what Prometheus reads of it."""

import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from tests import services
from tests.e2e.sites import ROOT, manage
from tests.e2e.wire import wire


def run(site, *arguments, **changes):
    """A command that may fail: its exit code, what it printed, and its complaints."""
    done = subprocess.run(
        [sys.executable, ROOT / "manage.py", *arguments],
        env={**site.environment, **changes},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_site_in_order_passes_every_trial(site):
    for server in site.servers:
        code, output, _ = run(site, "realtime_check", "--url", server.url)

        assert (code, re.findall(r"^FAIL.*", output, re.MULTILINE)) == (0, []), output
        assert re.search(r"^\d\d passed, 0 failed$", output, re.MULTILINE)


def test_the_wrong_secret_fails_what_is_signed_and_nothing_else(site):
    changes = {"REALTIME_APP_SECRET": "another"}
    code, output, _ = run(site, "realtime_check", "--url", site.first.url, **changes)

    results = dict(reversed(line.split(maxsplit=1)) for line in output.splitlines()[:-1])
    assert code == 1
    assert results["ping"] == "ok"
    assert results["the auth endpoints answer 403 to strangers"] == "ok"
    assert "FAIL  POST events: answered 401 instead of 200: Invalid signature" in output


def test_an_event_is_triggered_through_the_server(site, open_wire, channel):
    client = open_wire(site.first)
    client.subscribe(channel)

    manage(
        site.environment,
        *("realtime_trigger", channel, "greet", '{"n": 1}', "--url", site.last.url),
    )

    assert client.wait_for("greet")["data"] == '{"n": 1}'


def test_an_event_is_triggered_over_the_layer_where_it_leads_to_the_server(
    site, open_wire, channel
):
    client = open_wire(site.first)
    client.subscribe(channel)

    code, _, complaint = run(site, "realtime_trigger", channel, "greet")

    if site.kind == "daphne-memory":
        assert code == 1
        assert "--url" in complaint
    else:
        assert client.wait_for("greet")["data"] == "{}"


def test_a_durable_event_is_triggered_whatever_the_layer(site, open_wire, channel):
    client = open_wire(site.first)
    client.subscribe(channel)

    manage(site.environment, "realtime_trigger", channel, "greet", "{}", "--durable")

    assert "event_id" in client.wait_for("greet")["data"]


@pytest.fixture
def tail(site, tmp_path):
    """Starts ``realtime_tail``; its output is a file."""
    started = []

    def start(*arguments):
        command = [sys.executable, ROOT / "manage.py", "realtime_tail", "--url", site.first.url]
        log = tmp_path / "tail.log"
        environment = {**site.environment, "PYTHONUNBUFFERED": "1"}
        process = services.spawn([*command, *arguments], log=log, env=environment, cwd=ROOT)
        started.append(process)
        return process, log

    yield start
    for process in started:
        services.stop(process)


def test_events_are_watched_until_the_keyboard_ends_it(site, pusher, tail, channel):
    process, log = tail("--prefix", channel, "--channel", f"private-{channel}", "--data")

    def triggered_and_seen():
        pusher.trigger([channel, f"private-{channel}"], "greet", "hello")
        return f"private-{channel}  greet  5 bytes  hello" in log.read_text()

    with wire(site.last, site.app.key) as subscriber:
        subscriber.subscribe(channel)
        services.until_ready(process, triggered_and_seen, log)
        services.until_ready(
            process,
            lambda: triggered_and_seen() and f"  {channel}  greet" in log.read_text(),
            log,
        )

    process.send_signal(signal.SIGINT)
    assert process.wait(services.STOP_SECONDS) == 0


def metrics_of(server):
    """Every sample that ``/realtime/metrics`` shows, by what stands before its value."""
    headers = {"Authorization": "Bearer e2e-metrics-token"}
    request = urllib.request.Request(f"{server.url}/realtime/metrics", headers=headers)
    with urllib.request.urlopen(request) as answer:
        lines = answer.read().decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def names(samples):
    return {re.search(r'server="([^"]+)"', sample)[1] for sample in samples}


def test_every_process_shows_its_own_numbers(site, open_wire, pusher, channel):
    for server in site.servers:
        open_wire(server).subscribe(channel)
    before = [metrics_of(server) for server in site.servers]

    pusher.trigger(channel, "greet", "hello")

    seen = set()
    for server, earlier in zip(site.servers, before, strict=True):
        [name] = names(earlier)
        seen.add(name)
        delivered = f'realtime_events_delivered_total{{app_id="1001",server="{name}"}}'
        timed = f'realtime_fan_out_seconds_count{{server="{name}"}}'
        services.until_ready(
            server.process,
            lambda server=server, delivered=delivered, timed=timed, earlier=earlier: all(
                float(metrics_of(server)[key]) > float(earlier[key]) for key in (delivered, timed)
            ),
            server.log,
        )
        assert float(earlier[f'realtime_connections{{app_id="1001",server="{name}"}}']) >= 1
        assert earlier[f'realtime_layer_listening{{server="{name}"}}'] == "1.0"
    assert len(seen) == len(site.servers)


def test_the_numbers_are_not_for_everybody(site):
    status, _ = site.first.request("GET", "/realtime/metrics")

    assert status == 401
