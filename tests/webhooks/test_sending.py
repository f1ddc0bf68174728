"""One request, as the endpoint sees it, and everywhere it does not go."""

import asyncio
import datetime
import socket
import ssl
import threading

import pusher
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from realtime.protocol.app import Token
from realtime.protocol.facts import Fact, encode_body
from realtime.webhooks import sending
from tests.conftest import KEY, PATIENCE, SECRET, until

TOKEN = Token(KEY, SECRET)
BODY = b'{"time_ms":1,"events":[]}'


@pytest.fixture
def anywhere(configure):
    configure(WEBHOOK_PRIVATE_TARGETS=True)


@pytest.fixture
def resolve(monkeypatch):
    """Lets a name lead to addresses of the test's choice, one list after the other."""
    real = socket.getaddrinfo

    def set_answers(host, *answers):
        left = list(answers)

        def look_up(name, port, *arguments, **options):
            if name != host:
                return real(name, port, *arguments, **options)
            found = left.pop(0) if len(left) > 1 else left[0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (item, port)) for item in found]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    return set_answers


async def post(url, body=BODY):
    async with sending.sender() as sender:
        return await sender.post(url, body, TOKEN)


# ---- what is sent -----------------------------------------------------------------------


@pytest.mark.spec(194, 195)
async def test_the_headers_are_those_of_the_protocol(receiver, anywhere, monkeypatch):
    fact = Fact(app_id="3", kind="channel_occupied", channel="room")
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    body = encode_body(1_000_000_000, [fact]).encode()

    answer = await post(receiver.url("/a%20b?c=d"), body)

    assert (answer.status, answer.excerpt, answer.ok) == (200, "ok", True)
    [request] = receiver.requests
    assert request.path == "/a%20b?c=d"
    assert request.body == body
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-Pusher-Key"] == KEY
    assert request.headers["Host"] == f"127.0.0.1:{receiver.port}"
    library = pusher.Pusher(app_id="3", key=KEY, secret=SECRET)
    signature = request.headers["X-Pusher-Signature"]
    validated = library.validate_webhook(KEY, signature, request.body.decode())
    assert validated["events"] == [{"name": "channel_occupied", "channel": "room"}]


async def test_one_connection_serves_several_requests(receiver, anywhere):
    async with sending.sender() as sender:
        for _ in range(3):
            await sender.post(receiver.url(), BODY, TOKEN)

    assert receiver.connections == 1
    assert len(receiver.requests) == 3


# ---- what comes back --------------------------------------------------------------------


async def test_a_redirect_is_not_followed(receiver, anywhere):
    receiver.status("/hook", 302, f"Location: {receiver.url('/elsewhere')}")

    answer = await post(receiver.url())

    assert (answer.status, answer.ok) == (302, False)
    assert [request.path for request in receiver.requests] == ["/hook"]


async def test_the_proxies_of_the_environment_are_not_used(receiver, anywhere, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert (await post(receiver.url())).ok


async def test_the_start_of_the_answer_is_kept(receiver, anywhere):
    receiver.status("/hook", 500, body="x" * 5_000)

    answer = await post(receiver.url())

    assert (answer.status, answer.ok, answer.error) == (500, False, "HTTP status 500")
    assert not answer.unreachable
    assert answer.excerpt == "x" * sending.EXCERPT_CHARS


async def test_an_endless_answer_is_not_read(receiver, anywhere):
    receiver.answers["/hook"] = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 5_000_000

    assert (await post(receiver.url())).ok


async def test_who_does_not_answer_is_given_up(receiver, anywhere, monkeypatch):
    monkeypatch.setattr(sending, "ANSWER_SECONDS", 0.05)
    receiver.answers["/hook"] = b""

    answer = await post(receiver.url())

    assert (answer.status, answer.error) == (None, "no answer in 0.05 seconds")
    assert answer.unreachable


async def test_who_drips_is_given_up(receiver, anywhere, monkeypatch):
    monkeypatch.setattr(sending, "TOTAL_SECONDS", 0.1)
    receiver.answers["/hook"] = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx"

    answer = await post(receiver.url())

    assert (answer.status, answer.error) == (None, "no answer in 0.1 seconds")
    assert answer.unreachable


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",  # refused
        "http://nobody.invalid/",
        "http://" + "x" * 300 + ".example/",
        "http://[::1/",
        "http:///path",
        "http://exa mple/",
    ],
)
async def test_whatever_goes_wrong_is_in_the_answer(anywhere, url):
    answer = await post(url)

    assert not answer.ok
    assert answer.error


def test_an_address_that_is_found_after_the_end_of_the_loop_is_dropped(anywhere, monkeypatch):
    """A process that stops does not wait for a resolver, and its thread says nothing."""
    asked, go_on, threads = threading.Event(), threading.Event(), []

    def look_up(*_, **__):
        threads.append(threading.current_thread())
        asked.set()
        go_on.wait(PATIENCE)
        return []

    async def main():
        waiting = asyncio.ensure_future(post("http://nobody.invalid/"))
        await until(asked.is_set)
        waiting.cancel()

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    asyncio.run(main())
    raised = []
    monkeypatch.setattr(threading, "excepthook", raised.append)

    go_on.set()
    threads[0].join(PATIENCE)

    assert not threads[0].is_alive()
    assert raised == []


async def test_an_answer_that_is_no_http_is_a_failure(receiver, anywhere):
    receiver.answers["/hook"] = b"SSH-2.0-OpenSSH\r\n\r\n"

    answer = await post(receiver.url())

    assert answer.error
    assert not answer.unreachable


async def test_who_is_gone_as_soon_as_connected_to_is_not_there(anywhere, monkeypatch):
    """As anyio says it on uvloop, whose transport has lost its socket by then."""

    async def gone(*_):
        raise AttributeError("'NoneType' object has no attribute 'getpeername'")

    monkeypatch.setattr("httpcore2.AnyIOBackend.connect_tcp", gone)

    answer = await post("http://127.0.0.1:1/")

    assert answer.unreachable
    assert "getpeername" in answer.error


async def test_who_cannot_be_connected_to_is_not_there(anywhere):
    for url in ("http://127.0.0.1:1/", "http://nobody.invalid/"):
        assert (await post(url)).unreachable


# ---- where it does not go ---------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0.0.0.0"],
)
async def test_this_machine_is_refused_whatever_its_name(receiver, monkeypatch, host):
    monkeypatch.setattr(sending, "PORTS", (receiver.port,))

    answer = await post(receiver.url(host=host))

    assert "has no address on the internet" in answer.error or "not known" in answer.error
    assert receiver.connections == 0


async def test_a_name_that_leads_inside_is_refused(receiver, monkeypatch, resolve):
    monkeypatch.setattr(sending, "PORTS", (receiver.port,))
    resolve("hooks.example", ["127.0.0.1", "10.0.0.1"])

    assert "hooks.example has no address" in (await post(receiver.url(host="hooks.example"))).error
    assert receiver.connections == 0


async def test_a_name_is_looked_up_once_so_it_cannot_lead_elsewhere_meanwhile(
    receiver, monkeypatch, resolve
):
    """The second answer is that of an attacker whose first one passed the check."""
    monkeypatch.setattr(sending, "PORTS", (receiver.port,))
    monkeypatch.setattr(sending, "ANSWER_SECONDS", 0.3)
    resolve("hooks.example", ["198.18.0.1"], ["127.0.0.1"])
    monkeypatch.setattr(sending, "is_public", lambda address: address == "198.18.0.1")

    assert not (await post(receiver.url(host="hooks.example"))).ok
    assert receiver.connections == 0


async def test_addresses_inside_are_left_out_and_the_next_one_is_tried(
    receiver, monkeypatch, resolve
):
    monkeypatch.setattr(sending, "PORTS", (receiver.port,))
    monkeypatch.setattr(sending, "is_public", lambda address: address.startswith("127."))
    resolve("hooks.example", ["10.0.0.1", "127.0.0.2", "127.0.0.1"])

    answer = await post(receiver.url(host="hooks.example"))

    assert answer.ok  # nobody listens on 127.0.0.2
    assert receiver.requests[0].headers["Host"] == f"hooks.example:{receiver.port}"


@pytest.mark.parametrize("port", [22, 8080, 6379])
async def test_other_ports_than_those_of_http_are_refused(port):
    assert f"port {port}" in (await post(f"http://example.com:{port}/")).error


async def test_lookups_that_hang_do_not_gather(monkeypatch, anywhere):
    monkeypatch.setattr(sending._lookups, "_value", 0)

    assert "too many" in (await post("http://example.com/")).error


# ---- TLS --------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path, monkeypatch):
    """A certificate for ``hooks.example`` that the system trusts, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    sending._tls.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    yield path
    sending._tls.cache_clear()


@pytest.fixture
async def tls_port(receiver, certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_tls_is_by_name_though_the_address_was_chosen_before(
    tls_port, receiver, anywhere, resolve
):
    resolve("hooks.example", ["127.0.0.1"])

    assert (await post(f"https://hooks.example:{tls_port}/hook")).ok
    assert len(receiver.requests) == 1


async def test_a_certificate_of_another_name_is_refused(tls_port, receiver, anywhere, resolve):
    resolve("other.example", ["127.0.0.1"])

    answer = await post(f"https://other.example:{tls_port}/hook")

    assert "certificate" in answer.error.lower()
    assert receiver.requests == []
