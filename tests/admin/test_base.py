"""What the pages of the admin have in common."""

import pytest

from realtime.models import Membership, Server
from realtime.presence import store
from realtime.presence.transitions import Join
from realtime.protocol import messages
from tests.admin.conftest import USERS

pytestmark = pytest.mark.django_db(transaction=True)


def test_lists_cost_a_fixed_number_of_queries(as_staff, server, django_assert_max_num_queries):
    transitions = [
        Join("3", "presence-big", f"3.{number}", messages.Member(f"u{number}"))
        for number in range(50)
    ]
    store.apply(server, transitions, 60)
    client = as_staff()

    for model in ("realtimeuser", "occupancy", "membership", "server"):
        with django_assert_max_num_queries(12):
            assert client.get(f"/admin/realtime/{model}/").status_code == 200


@pytest.mark.parametrize("model", ["occupancy", "membership", "server"])
def test_what_the_server_writes_is_only_read(as_root, server, model):
    row = {"membership": Membership, "server": Server}.get(model)
    path = f"/admin/realtime/{model}/"

    assert as_root.get(path).status_code == 200
    assert as_root.get(f"{path}add/").status_code == 403
    if row is not None:
        pk = row.objects.first().pk
        assert as_root.post(f"{path}{pk}/change/", {}).status_code == 403
        assert as_root.post(f"{path}{pk}/delete/", {"post": "yes"}).status_code == 403


def test_without_the_permission_there_is_no_list(as_staff, server):
    assert as_staff(view=False).get(USERS).status_code == 403
