"""Where pusher-js with ``enableStats`` reports to."""

import pytest


def test_a_page_is_answered_with_a_script_for_its_receiver(client):
    answer = client.get("/timeline/v2/jsonp/3", {"key": "a2V5", "session": "MTIz"})

    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/javascript"
    assert answer.content == b"Pusher.ScriptReceivers[3](null,{});"


def test_a_worker_is_answered_with_json_from_anywhere(client):
    answer = client.get("/timeline/v2/xhr/2", headers={"origin": "https://other.example"})

    assert answer.json() == {}
    assert answer["Access-Control-Allow-Origin"] == "*"


@pytest.mark.parametrize("path", ["jsonp/x", "jsonp/1;alert(1)", "jsonp/-1", "jsonp/", "xhr/3"])
def test_nothing_else_is_there(client, path):
    assert client.get(f"/timeline/v2/{path}").status_code == 404
