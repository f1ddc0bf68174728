"""Answers with text that UTF-8 cannot carry."""

import json

import pytest
from rest_framework.response import Response

from realtime.api.renderers import EscapingJSONRenderer
from realtime.api.site import SiteView
from realtime.models import RealtimeUser

HALF = "B\ud83d"
"""Half of a surrogate pair, as ``json.loads`` makes it."""


class AnyView(SiteView):
    permission_classes = ()

    def get(self, request):
        return Response({"name": HALF})


def test_what_is_not_ascii_is_escaped():
    assert EscapingJSONRenderer().render({"name": HALF + "é"}) == rb'{"name":"B\ud83d\u00e9"}'


def test_a_view_of_the_site_answers(rf):
    response = AnyView.as_view()(rf.get("/")).render()

    assert (response.status_code, json.loads(response.content)) == (200, {"name": HALF})


def test_the_last_event_of_a_cache_channel_is_told(api, layer):
    event = {"name": "e", "channel": "cache-s", "data": HALF}
    assert api.post("/apps/3/events", event).status_code == 200

    response = api.get("/apps/3/channels/cache-s", query="info=cache")

    assert (response.status_code, response.json()["cache"]["data"]) == (200, HALF)


@pytest.mark.django_db(transaction=True)
def test_a_user_who_shows_it_is_told(api, layer):
    shown = json.dumps({"name": HALF})
    RealtimeUser.objects.create(app_id="3", user_id="ann", user_info=shown)

    response = api.get("/apps/3/users/ann")

    assert (response.status_code, response.json()["user_info"]) == (200, {"name": HALF})


@pytest.mark.django_db(transaction=True)
def test_a_user_may_be_made_to_show_it(api, layer):
    RealtimeUser.objects.create(app_id="3", user_id="ann")

    response = api("PATCH", "/apps/3/users/ann", {"user_info": {"name": HALF}})

    assert (response.status_code, response.json()["user_info"]) == (200, {"name": HALF})
