"""The signature of the HTTP API."""

import hashlib
import time
from urllib.parse import unquote

import pytest
from asgiref.testing import ApplicationCommunicator
from django.db import connection

from realtime.models import Application
from tests.conftest import KEY, PATIENCE, hmac_hex

EVENTS = "/apps/3/events"
EVENT = {"name": "foo", "channels": ["project-3"], "data": '{"some":"data"}'}


BODY = b'{"name":"foo","channel":"a","data":"x"}'


def answer(response):
    return response.status_code, response.content.decode()


@pytest.fixture(autouse=True)
def _layer(layer):
    """Events go nowhere else."""


async def call(application, method, path, body=b"", *, signed_path=None):
    """Call over ASGI, with the body in chunks and no word about its length."""
    query = f"auth_key={KEY}&auth_timestamp={int(time.time())}&auth_version=1.0"
    if body:
        query += f"&body_md5={hashlib.md5(body).hexdigest()}"
    signature = hmac_hex(f"{method}\n{signed_path or path}\n{query}")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": (signed_path or path).encode(),
        "query_string": f"{query}&auth_signature={signature}".encode(),
        "headers": [(b"host", b"localhost"), (b"transfer-encoding", b"chunked")],
    }
    request = ApplicationCommunicator(application, scope)
    half = len(body) // 2
    for part, more in ((body[:half], True), (body[half:], False)):
        await request.send_input({"type": "http.request", "body": part, "more_body": more})
    start, end = await request.receive_output(PATIENCE), await request.receive_output(PATIENCE)
    await request.wait(PATIENCE)
    return start["status"], end["body"]


@pytest.fixture
def clock(monkeypatch):
    """Sets the time of the server."""

    def set_clock(seconds):
        monkeypatch.setattr("realtime.api.authentication.time.time", lambda: seconds)

    return set_clock


@pytest.mark.spec(154)
def test_the_published_example_authenticates(api, clock, client):
    clock(1353088179)
    body = b'{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}'
    query = (
        "auth_key=278d425bdf160c739803&auth_timestamp=1353088179&auth_version=1.0"
        "&body_md5=ec365a775a4cd0599faeb73354201b6f"
        "&auth_signature=da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
    )

    def post(path=EVENTS, body=body):
        return client.post(f"{path}?{query}", body, content_type="application/json").status_code

    assert post() == 200
    assert post(body=body.replace(b"foo", b"bar")) == 401
    assert post("/apps/3/batch_events") == 401
    assert client.get(f"{EVENTS}?{query}").status_code == 401


@pytest.mark.spec(155)
@pytest.mark.parametrize(
    ("method", "path", "query", "signature"),
    [
        (
            *("GET", "/apps/3/channels", ""),
            "1cafa6382331c976588eb6bd3925a988e4158402be06c4626d0e97d2981f5382",
        ),
        (
            *("GET", "/apps/3/channels", "&body_md5=d41d8cd98f00b204e9800998ecf8427e"),
            "5c3cd75022c4f62c35ad22f6a9cce366c860477a3b7092ca790ecfc17e6af302",
        ),
        (
            *("GET", "/apps/3/channels", "&filter_by_prefix=presence-&info=user_count"),
            "16819168891cb5dfd72b5c7a5d3d602605b26c6ba1930033b5e2eeeb65010291",
        ),
        (
            *("GET", "/apps/3/channels/presence-lobby/users", ""),
            "49db6f3187af5b4d942ee8d1b1751faff5615ae3a6e4fb4cb0d3e575ee82df99",
        ),
        (
            *("POST", "/apps/3/users/u-42/terminate_connections", ""),
            "a0a9d6eddd5112b970a3012751da8721e1297662900d3f7fc11a9a717adcc51b",
        ),
        (
            *("GET", "/apps/3/channels", "&filter_by_prefix=a=b,c;d@e"),
            "d1bf6cf243761bcf198f8c89c789fbe46e134c0c32389a7aa036af90588a4ddc",
        ),
        (
            *("POST", "/apps/3/events", "&channels[]=a&channels[]=b&data=x&name=foo"),
            "04e666ab371eb9c7ca39d9ed1bc77d310d69a88358b790e1255609e4e51d9876",
        ),
    ],
    ids=["H2", "H3", "H4", "H6", "H8", "H13", "H14"],
)
def test_the_vectors_authenticate(db, client, clock, method, path, query, signature):
    clock(1353088179)
    auth = f"auth_key={KEY}&auth_timestamp=1353088179&auth_version=1.0&auth_signature={signature}"

    response = client.generic(method, f"{path}?{auth}{query}")

    assert response.status_code == 200, response.content


@pytest.mark.spec(154, 157, 160, 161)
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"sign_with": {"auth_key": None}}, "Missing parameter: auth_key"),
        ({"key": "unknown"}, "Unknown auth_key"),
        ({"sign_with": {"auth_version": None}}, "Version required"),
        ({"sign_with": {"auth_version": "2.0"}}, "Version not supported"),
        ({"sign_with": {"auth_timestamp": None}}, "Timestamp required"),
        ({"sign_with": {"auth_timestamp": "1353088179"}}, "Timestamp expired: Given timestamp"),
        ({"sign_with": {"body_md5": None}}, "Missing parameter: body_md5"),
        ({"sign_with": {"body_md5": "0" * 32}}, "Invalid body_md5"),
        ({"secret": "other"}, "Invalid signature: you should have sent HmacSHA256Hex"),
        ({"signed_path": "/apps/4/events"}, "Invalid signature"),
        ({"spoilt": {"auth_signature": None}}, "Invalid signature"),
        ({"spoilt": {"auth_signature": "é"}}, "Invalid signature"),
        ({"spoilt": {"AUTH_KEY": KEY}}, "Repeated parameter: auth_key"),
    ],
)
def test_a_wrong_signature_is_refused_with_a_reason(api, layer, options, complaint):
    status, text = answer(api.post(EVENTS, EVENT, **options))

    assert status == 401
    assert text.startswith(complaint)
    assert text.endswith("\n")
    assert layer.sent == []


def test_a_refusal_asks_for_no_password_and_is_text(api):
    response = api.post(EVENTS, EVENT, secret="other")

    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["WWW-Authenticate"] == "Pusher"


def test_a_clock_that_is_wrong_is_told_in_the_log_once(api, caplog, layer):
    for _ in range(3):
        api.post(EVENTS, EVENT, sign_with={"auth_timestamp": "1353088179"})

    [line] = [item for item in caplog.messages if "Timestamp expired" in item]
    assert "not within 600s of server time" in line


@pytest.mark.spec(156)
@pytest.mark.parametrize(("off", "status"), [(599, 200), (-599, 200), (600, 401), (-600, 401)])
def test_a_signature_holds_ten_minutes(api, clock, off, status):
    now = int(time.time())
    clock(now)

    response = api.post(EVENTS, EVENT, sign_with={"auth_timestamp": str(now + off)})

    assert response.status_code == status


@pytest.mark.spec(157, 158)
@pytest.mark.parametrize("digest", [None, hashlib.md5(b"").hexdigest()])
def test_an_empty_body_may_have_a_digest(api, digest):
    response = api.get("/apps/3/channels", sign_with={"body_md5": digest})

    assert response.status_code == 200


@pytest.mark.spec(159)
def test_names_may_be_upper_case(api):
    assert api.get("/apps/3/channels", upper_case=True).status_code == 200


@pytest.mark.spec(162)
@pytest.mark.parametrize("path", ["/apps/4/channels", "/apps/x/channels"])
def test_the_key_of_one_app_opens_no_other(api, configure, path):
    configure(APPS=[{"ID": "4", "KEY": "k4", "SECRET": "s4"}])

    assert answer(api.get(path)) == (401, "Unknown auth_key\n")


def test_each_app_has_its_own_secret(api, configure):
    configure(APPS=[{"ID": "4", "KEY": "k4", "SECRET": "s4"}])

    assert api.get("/apps/4/channels", key="k4", secret="s4").status_code == 200


def test_the_apps_of_the_database_can_call(api):
    Application.objects.create(app_id="9", name="Row", key="row", secret="s9")

    assert api.get("/apps/9/channels", key="row", secret="s9").status_code == 200


@pytest.mark.spec(192)
def test_a_disabled_app_is_told_so_only_if_it_signs(api):
    Application.objects.create(app_id="9", name="Off", key="off", secret="s9", enabled=False)

    signed = api.get("/apps/9/channels", key="off", secret="s9")
    unsigned = api.get("/apps/9/channels", key="off", secret="wrong")

    assert answer(signed) == (403, "Application disabled\n")
    assert unsigned.status_code == 401


@pytest.mark.spec(193)
@pytest.mark.parametrize("path", ["/apps/3/channels", "/apps/404/channels"])
def test_unsigned_requests_learn_nothing_about_apps(db, client, path):
    assert answer(client.get(path)) == (401, "Missing parameter: auth_key\n")


@pytest.mark.spec(164)
@pytest.mark.parametrize(
    "channel", ["presence-a=@,;.b", "presence-a%3D%40%2C%3B.b", "presence-a%3Db"]
)
@pytest.mark.parametrize("sign_decoded", [True, False])
def test_encoded_channel_names_verify_and_resolve(api, channel, sign_decoded):
    sent = f"/apps/3/channels/{channel}"
    signed_path = unquote(sent) if sign_decoded else sent

    response = api.get(sent, query="info=user_count", signed_path=signed_path, RAW_URI=sent)

    assert response.json() == {"occupied": False, "user_count": 0}


@pytest.mark.spec(164)
async def test_the_path_is_verified_as_it_was_sent(application, process):
    path = "/apps/3/channels/presence-a=b"
    signed_path = path.replace("=", "%3D")

    status, body = await call(application, "GET", path, signed_path=signed_path)

    assert (status, body) == (200, b'{"occupied":false}')


@pytest.mark.spec(165)
@pytest.mark.parametrize("signed_path", ["/apps/3/events", "/mounted/apps/3/events"])
def test_a_prefix_may_be_signed_or_not(api, signed_path):
    assert api.post("/mounted/apps/3/events", EVENT, signed_path=signed_path).status_code == 200


@pytest.mark.spec(165, 190)
@pytest.mark.parametrize("prefix", ["", "/mounted"])
def test_the_path_of_the_python_library_is_served(api, layer, prefix):
    path = "/users/u-42/terminate_connections"

    response = api.post(prefix + path, {}, signed_path=path)

    assert (response.status_code, response.json()) == (200, {})
    assert [message["user"] for _, message in layer.sent] == ["u-42"]


@pytest.mark.parametrize(("size", "status"), [(1_000, 200), (1_001, 413)])
def test_a_body_is_read_up_to_a_limit(api, configure, size, status):
    configure(API_BODY_BYTES=1_000)

    response = api.post(EVENTS, BODY.ljust(size))

    assert response.status_code == status
    if status == 413:
        assert answer(response)[1] == (
            "The request body exceeds the allowed maximum (1000 bytes)\n"
        )


@pytest.mark.parametrize(("size", "status"), [(1_000, 200), (1_001, 413), (1_000_000, 413)])
async def test_a_body_in_chunks_is_read_up_to_a_limit(
    application, process, configure, size, status
):
    configure(API_BODY_BYTES=1_000)

    assert (await call(application, "POST", EVENTS, BODY.ljust(size)))[0] == status


def test_a_body_above_the_limit_of_django_is_no_matter(api, settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10

    assert api.post(EVENTS, EVENT).status_code == 200


def test_a_session_is_no_signature(as_ann):
    assert as_ann.get("/apps/3/channels").status_code == 401


def test_a_refused_request_costs_no_query(api, django_assert_num_queries):
    with django_assert_num_queries(0):
        api.post(EVENTS, EVENT, secret="other")
    assert connection.connection is not None
