"""What the package offers."""

import subprocess
import sys

import pytest

import realtime


@pytest.mark.parametrize("name", realtime.__all__)
def test_every_public_name_is_there_with_a_docstring(name):
    offered = getattr(realtime, name)

    assert offered.__doc__
    assert offered.__module__.startswith("realtime.")
    assert name in dir(realtime)


def test_the_list_of_public_names_is_complete():
    assert sorted(realtime._HOME_OF) == sorted(realtime.__all__)


def test_every_function_that_waits_has_a_twin():
    waiting = {
        "trigger",
        "trigger_batch",
        "send_to_user",
        "terminate_user_connections",
        "authorize_channel",
        "authenticate_user",
        "channels_info",
        "channel_info",
        "users_info",
    }

    assert {f"a{name}" for name in waiting} | waiting <= set(realtime.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'realtime' has no attribute 'triger'"):
        realtime.triger  # noqa: B018 - the attempt is the test


def test_importing_the_package_needs_no_settings():
    script = "import sys, realtime; print(realtime.__version__, 'django' in sys.modules)"

    answer = subprocess.check_output([sys.executable, "-c", script], text=True, timeout=60)

    assert answer.split() == [realtime.__version__, "False"]
