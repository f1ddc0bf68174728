"""The command line of production."""

import signal

import pytest

from tests import services
from tests.e2e.sites import ROOT, UVICORN, UVICORN_FLAGS, environment, serving

ECHO = [part.replace("project.asgi:", "tests.e2e.echo:") for part in UVICORN[:-1]]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_orderly_stop_is_no_failure(tmp_path, how, workers):
    log = tmp_path / "log"
    with serving((*ECHO, "--workers", workers, "--fd"), environment(), log) as server:
        status = services.stop(server.process, how)

    assert status == 0
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("page", ["scripts/serve", "docs/howto/deploy-uvicorn.md"])
def test_production_is_started_like_the_sites_of_the_tests(page):
    words = (ROOT / page).read_text().replace("\\\n", " ").split()

    assert "-m realtime.servers" in " ".join(words)
    assert set(UVICORN_FLAGS) <= set(words)
