"""Every way to start a site: the commands of the Makefile, and a project of somebody else."""

import os
import re
import signal
import subprocess
import sys
import sysconfig
import urllib.request
import venv
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from tests import services
from tests.e2e.conftest import http_library
from tests.e2e.sites import PRODUCTION, ROOT, UVICORN, App, Server, environment
from tests.e2e.wire import wire


def listening_port(process):
    """The port on which *process*, or a child of it, listens; ``None`` as long as none does."""
    try:
        family = [
            psutil.Process(process.pid),
            *psutil.Process(process.pid).children(recursive=True),
        ]
        sockets = [socket for each in family for socket in each.net_connections("tcp")]
    except psutil.NoSuchProcess:
        return None
    ports = [socket.laddr.port for socket in sockets if socket.status == psutil.CONN_LISTEN]
    return ports[0] if ports else None


@contextmanager
def started(command, log, **options):
    """Run *command*, which chooses a port itself; yield the server once it listens."""
    process = services.spawn(command, log=log, **options)
    try:
        services.until_ready(process, lambda: listening_port(process) is not None, log)
        yield Server(process, listening_port(process), log)
    finally:
        services.stop(process)


@pytest.mark.parametrize("missing", ["REALTIME_APP_ID", "REALTIME_APP_KEY", "REALTIME_APP_SECRET"])
def test_production_needs_the_app_in_the_environment(tmp_path, missing):
    given = {key: value for key, value in PRODUCTION.items() if key != missing}
    given["DJANGO_SETTINGS_MODULE"] = "project.settings"

    result = subprocess.run(
        [*UVICORN[:-1], "--port", "0"],
        env=environment(**given),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode != 0
    assert missing in result.stderr.splitlines()[-1]


@pytest.fixture
def make_environment(tmp_path):
    """The environment for ``make``, with the data of the site in *tmp_path*."""
    outside = {key: value for key, value in PRODUCTION.items() if key != "DJANGO_SETTINGS_MODULE"}
    given = environment(**outside, DATABASE_URL=f"sqlite:///{tmp_path / 'db.sqlite3'}", PORT="0")
    return {key: value for key, value in given.items() if "MAKE" not in key and key != "MFLAGS"}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_make_run_serves_the_demo_and_ends_with_it(tmp_path, make_environment, how):
    log = tmp_path / "log"
    given = {**make_environment, "DEBUG": "1"}
    # Interrupting from the keyboard reaches the whole process group.
    with started(["make", "run"], log, env=given, cwd=ROOT, start_new_session=True) as server:
        page = urllib.request.urlopen(f"{server.url}/login/").read().decode()
        os.killpg(server.process.pid, how)
        server.process.wait(services.STOP_SECONDS)

    output = log.read_text()
    assert "login-alice" in page
    assert "Accounts" in output
    assert "Installing" not in output, "the set-up of an earlier run was not enough"
    assert "Traceback" not in output


@pytest.mark.spec(46)
@pytest.mark.parametrize("workers", [1, 2])
def test_make_serve_serves_and_ends_when_make_is_terminated(tmp_path, make_environment, workers):
    log = tmp_path / "log"
    with services.valkey() as redis_url:
        given = {**make_environment, "REDIS_URL": redis_url, "WORKERS": str(workers)}
        with started(["make", "serve"], log, env=given, cwd=ROOT) as server:
            with wire(server, App.key) as client:
                server.process.terminate()
                assert client.closing_code() == 4200
            server.process.wait(services.STOP_SECONDS)

    with pytest.raises(ConnectionRefusedError):
        server.request("GET", "/")
    assert "Traceback" not in log.read_text()


def test_make_serve_refuses_several_workers_without_redis(make_environment):
    result = subprocess.run(
        ["make", "serve", "WORKERS=2"],
        env=make_environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode != 0
    assert "REDIS_URL" in result.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The Python of a virtual environment that has the built wheel, and our dependencies."""
    home = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", home, ROOT]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    venv.create(home / "venv", symlinks=True)
    packages = next((home / "venv").glob("lib/*/site-packages"))
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    python = home / "venv" / "bin" / "python"
    (wheel,) = home.glob("*.whl")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "--no-index", wheel], check=True)
    return python


def test_wheel_holds_what_a_site_needs(installed):
    package = next(installed.parents[1].glob("lib/*/site-packages/realtime"))

    assert (package / "py.typed").exists()
    assert list(package.glob("migrations/0001_*.py"))
    assert list(package.glob("templates/**/*.html"))


def readme_steps():
    """The code of the numbered steps in the README: apps, URLs, ASGI, settings."""
    section = (ROOT / "README.md").read_text().split("## Add it to your site")[1]
    section = section.split("## ")[0]
    return [dedent(code).strip() for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL)]


def change(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert before in text
    file.write_text(text.replace(before, after, 1))


@pytest.fixture(scope="module")
def dropped_in(installed, tmp_path_factory):
    """A fresh Django project after nothing but the steps of the README, being served."""
    home = tmp_path_factory.mktemp("site")
    given = environment()
    del given["PYTHONPATH"]
    startproject = [installed, "-m", "django", "startproject", "mysite", home]
    subprocess.run(startproject, check=True, cwd=home, env=given)
    apps, url, asgi_import, settings = readme_steps()
    change(home / "mysite/settings.py", "INSTALLED_APPS = [", apps.removesuffix("...]"))
    change(home / "mysite/urls.py", "urlpatterns = [", f"urlpatterns = [\n    {url}")
    change(home / "mysite/urls.py", "import path", "import include, path")
    change(
        home / "mysite/asgi.py", "from django.core.asgi import get_asgi_application", asgi_import
    )
    with (home / "mysite/settings.py").open("a") as end:
        end.write(f"\n{settings}\n")
    subprocess.run([installed, "manage.py", "migrate", "-v0"], check=True, cwd=home, env=given)
    command = [installed, "manage.py", "runserver", "--noreload", "127.0.0.1:0"]
    with started(command, home / "log", cwd=home, env=given) as server:
        yield server


@pytest.fixture(scope="module")
def dropped_in_app():
    """The Pusher app that the README names."""
    named = {}
    exec(readme_steps()[-1], named)
    app = named["REALTIME"]
    return App(app["APP_ID"], app["APP_KEY"], app["APP_SECRET"])


def test_drop_in_runs_from_the_wheel(installed, dropped_in):
    place = "import realtime; print(realtime.__file__)"
    where = subprocess.check_output([installed, "-c", place], cwd=dropped_in.log.parent, text=True)

    assert Path(where).is_relative_to(installed.parents[1])


def test_drop_in_talks_to_unmodified_clients_and_libraries(
    dropped_in, dropped_in_app, new_client, channel
):
    client = new_client(dropped_in, dropped_in_app.key)
    client.subscribe(channel)

    http_library(dropped_in_app, dropped_in).trigger(channel, "greet", {"text": "hello"})

    assert client.wait_for("greet", on=channel).data == {"text": "hello"}


def test_drop_in_passes_the_system_checks(installed, dropped_in):
    checked = subprocess.run(
        [installed, "manage.py", "check", "--fail-level", "WARNING"],
        cwd=dropped_in.log.parent,
        env=environment(PYTHONPATH=""),
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr
