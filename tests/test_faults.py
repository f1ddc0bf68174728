"""Injection points: dead unless a site allows them, and then broken once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from realtime import faults

ROOT = Path(__file__).parent.parent


@pytest.fixture
def armed(settings, monkeypatch):
    def arm(text, *, allowed=True):
        monkeypatch.setenv(faults.VARIABLE, text)
        # Set again: what is armed is read when the setting changes.
        settings.REALTIME_ALLOW_FAULTS = not allowed
        settings.REALTIME_ALLOW_FAULTS = allowed

    return arm


def test_a_point_does_nothing_where_nobody_asked(armed):
    armed("")

    faults.point("outbox.after_commit")


def test_a_site_that_does_not_allow_faults_has_none(armed):
    armed("here=raise", allowed=False)

    faults.point("here")


def test_a_point_raises_once(armed):
    armed("here=raise,there=raise")

    with pytest.raises(faults.InjectedFault, match="here"):
        faults.point("here")
    faults.point("here")

    with pytest.raises(faults.InjectedFault, match="there"):
        faults.point("there")


def test_a_point_ends_the_process():
    script = "from realtime import faults; faults.point('here'); print('still alive')"
    setup = "from django.conf import settings; settings.configure(REALTIME_ALLOW_FAULTS=True); "
    ended = subprocess.run(
        [sys.executable, "-c", setup + script],
        env={**os.environ, faults.VARIABLE: "here=exit"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (ended.returncode, ended.stdout) == (faults.EXIT_STATUS, "")
