"""``manage.py realtime_presence``: do the rows say what the processes really hold?"""

import json
import uuid
from io import StringIO

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db.models.functions import Now
from django.utils import timezone

from realtime.management.commands import realtime_presence
from realtime.models import Member, Membership, Server
from realtime.presence import census, lease, store
from realtime.presence.store import Join
from realtime.protocol import messages
from tests.conftest import ID, soon

ROOM = "presence-room"
CLEAN, DIFFERENT, UNANSWERED = 0, 1, 2


def run(*arguments):
    """Exit code and output."""
    output, code = StringIO(), 0
    try:
        call_command("realtime_presence", *arguments, stdout=output)
    except SystemExit as exit:
        code = exit.code
    return code, output.getvalue()


def arun(*arguments):
    """``run`` beside the server process of the test, in its own thread."""
    return soon(sync_to_async(run)(*arguments))


@pytest.fixture
async def ann(connect, configure):
    """A client in a presence channel of a process that looks into its row often."""
    configure(LEASE_SECONDS=3)
    client = await connect()
    await client.subscribe(ROOM, {"user_id": "ann"})
    return client


async def add_ghost(name="ghost"):
    """A subscription in the rows that no socket has."""
    server = await Server.objects.alive().aget()
    joining = Join(ID, ROOM, "6.6", messages.Member(name))
    await sync_to_async(store.apply)(server.pk, [joining], 60)


async def test_no_difference(ann):
    code, output = await arun()

    assert code == CLEAN
    assert output.endswith("  no difference\n")
    assert (await Server.objects.aget()).name in output


async def test_a_difference_is_told_and_left(ann):
    await add_ghost()

    code, output = await arun("--verify")

    assert code == DIFFERENT
    assert f"    surplus: '{ID}' '{ROOM}' '6.6' 'ghost'\n" in output
    assert await Membership.objects.filter(socket_id="6.6").aexists()


async def test_a_difference_is_mended_and_looked_for_again(ann):
    await add_ghost()

    code, output = await arun("--repair")

    assert code == CLEAN
    found, left = output.split("Left after the repair:")
    assert "surplus: " in found
    assert "no difference" in left
    assert await sync_to_async(census.user_ids)(ID, ROOM) == ["ann"]


async def test_json(ann):
    await add_ghost()

    code, output = await arun("--repair", "--json")

    report = json.loads(output)
    [found] = report["found"]["processes"].values()
    [left] = report["left"]["processes"].values()
    assert code == CLEAN
    assert found["surplus"] == [[ID, ROOM, "6.6", "ghost"]]
    assert (found["mended"], left["totals"]["surplus"]) == (1, 0)
    assert report["left"]["strays"] == {"ghosts": [], "hidden": [], "unreaped": []}


async def test_names_cannot_speak_to_the_terminal(ann):
    await add_ghost("\x1b[2Jevil")

    assert "\x1b" not in (await arun())[1]


@pytest.fixture
def little_patience(configure, monkeypatch):
    """No process has the time to answer."""
    configure(LEASE_SECONDS=0.3)
    monkeypatch.setattr(realtime_presence, "ANSWER_SECONDS", 0)


@pytest.mark.django_db
def test_a_process_that_does_not_answer(little_patience):
    server_id = uuid.uuid4()
    lease.take(server_id, 60)

    code, output = run("--repair")

    assert code == UNANSWERED
    assert f"{server_id.hex[:8]} " in output
    assert "did not answer" in output
    assert "Left" not in output


@pytest.mark.django_db
def test_a_process_that_dies_meanwhile_need_not_answer(configure):
    configure(LEASE_SECONDS=0.3)
    lease.take(uuid.uuid4(), 0.2)

    assert run()[0] == CLEAN


@pytest.mark.django_db
def test_where_no_process_runs_the_command_mends_by_itself(configure):
    configure(LEASE_SECONDS=0.3)
    server_id = uuid.uuid4()
    lease.take(server_id, 60)
    store.apply(server_id, [Join(ID, ROOM, "1.1", messages.Member("ann"))], 60)
    Server.objects.update(expires_at=Now() - timezone.timedelta(seconds=60))
    assert run()[0] == DIFFERENT

    code, output = run("--repair")

    assert code == CLEAN
    assert "unreaped: " in output
    assert not Member.objects.present().exists()


def test_what_is_not_listed_is_counted():
    answer = {
        "totals": {"missing": 0, "surplus": 7, "counts": 0},
        "missing": [], "surplus": [["3", "room", "1.1", "ann"]], "counts": [], "mended": 0,
    }  # fmt: skip
    report = {"processes": {"web:1": answer}, "unanswered": [], "strays": {}}

    assert "    surplus: and 6 more" in realtime_presence.lines(report)
