"""``manage.py realtime_erase_user``: export and erase everything kept about a user."""

import json
import stat
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from realtime.management.commands import realtime_erase_user
from realtime.models import RealtimeUser

pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments):
    output = StringIO()
    call_command("realtime_erase_user", *arguments, stdout=output)
    return output.getvalue().splitlines()


@pytest.fixture(autouse=True)
def ann(layer):
    return RealtimeUser.objects.create(
        app_id="3", user_id="ann", user_info="{}", banned_at=timezone.now()
    )


def test_a_user_is_erased(layer):
    assert run("ann") == ["Erased: 1 RealtimeUser."]

    assert not RealtimeUser.objects.exists()
    assert {message["user"] for _, message in layer.sent} == {"ann"}


def test_a_dry_run_changes_nothing(layer):
    assert run("3", "ann", "--dry-run") == ["Would erase: 1 RealtimeUser."]

    assert RealtimeUser.objects.exists()
    assert layer.sent == []


def test_somebody_nobody_knows_is_said():
    assert run("bob") == ["Erased: nothing, nobody knows this user."]


def test_a_ban_may_be_kept():
    assert run("ann", "--keep-ban") == ["Erased what the user showed; kept the id and the ban."]
    assert RealtimeUser.objects.banned().exists()


def test_an_export_is_for_nobody_else_to_read(tmp_path):
    path = tmp_path / "ann.json"

    assert run("ann", "--export", str(path))[0] == f"Exported to {path}."

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["rows"]["RealtimeUser"][0]["user_id"] == "ann"


def test_an_export_overwrites_nothing_and_then_nothing_is_erased(tmp_path):
    path = tmp_path / "ann.json"
    path.write_text("mine")

    with pytest.raises(CommandError, match="cannot be written"):
        run("ann", "--export", str(path))

    assert path.read_text() == "mine"
    assert RealtimeUser.objects.exists()


def test_connections_that_cannot_be_reached_are_told(monkeypatch):
    monkeypatch.setattr(realtime_erase_user.census, "connection_count", lambda *_: 1)

    with pytest.raises(CommandError, match="ends at this process"):
        run("ann")

    assert RealtimeUser.objects.exists()


def test_an_unknown_app_is_refused():
    with pytest.raises(CommandError, match="no realtime app with the id 77"):
        run("77", "ann")


def test_a_layer_that_is_away_is_told(layer):
    layer.broken = True

    with pytest.raises(CommandError, match="Connections may still be open"):
        run("ann")


def test_connections_have_time_to_go_but_not_for_ever(monkeypatch, configure, layer):
    monkeypatch.setattr(realtime_erase_user.layer, "is_in_memory", lambda: False)
    configure(LEASE_SECONDS=0.01)
    looks = iter([3, 2, 1, 0])
    monkeypatch.setattr(realtime_erase_user.census, "connection_count", lambda *_: next(looks))
    monkeypatch.setattr(realtime_erase_user, "_LOOK_SECONDS", 0)
    run("ann")
    assert next(looks, None) is None

    monkeypatch.setattr(realtime_erase_user.census, "connection_count", lambda *_: 1)
    monkeypatch.setattr(realtime_erase_user, "LEAVE_SECONDS", 0)
    run("ann")
