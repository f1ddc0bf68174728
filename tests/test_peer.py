"""What the handshake of a WebSocket says of its peer."""

import pytest

from realtime import peer


def scope(client=None, *headers, scheme="ws"):
    return {
        "type": "websocket",
        "scheme": scheme,
        "client": client,
        "headers": [(name.encode(), value.encode()) for name, value in headers],
    }


def forwarded(*values, client=("127.0.0.1", 5000)):
    return scope(client, *(("x-forwarded-for", value) for value in values))


def test_a_header_is_found_by_its_name():
    given = scope(None, ("host", "a"), ("origin", "b"), ("origin", "c"))

    assert peer.header(given, b"origin") == "b"
    assert peer.header(given, b"cookie") is None


# ---- address ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("8.8.8.8", 5000), "8.8.8.8"),
        (("2a00:1450:4001:81b::200e", 5000), "2a00:1450:4001:81b::/64"),
        (("2a00:1450:4001:81b:ffff::1", 5000), "2a00:1450:4001:81b::/64"),
        (("::ffff:8.8.8.8", 5000), "8.8.8.8"),
        (None, None),
        (("", 0), None),
        (("testclient", 5000), None),
    ],
)
def test_a_direct_peer_has_its_own_address(client, address):
    assert peer.address(scope(client)) == address


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.9", "fe80::1%eth0"])
def test_a_peer_in_a_private_network_may_be_a_proxy_and_is_not_counted(host):
    assert peer.address(scope((host, 5000))) is None


def test_a_header_is_not_believed_without_a_setting():
    assert peer.address(forwarded("9.9.9.9", client=("8.8.8.8", 5000))) == "8.8.8.8"
    assert peer.address(forwarded("9.9.9.9")) is None


@pytest.mark.parametrize(
    ("proxies", "values", "address"),
    [
        (1, ["9.9.9.9"], "9.9.9.9"),
        (1, [" 9.9.9.9 "], "9.9.9.9"),
        (1, ["9.9.9.9:1234"], "9.9.9.9"),
        (1, ["10.0.0.7"], "10.0.0.7"),
        (1, ["2a00:1450:4001:81b::1"], "2a00:1450:4001:81b::/64"),
        (1, ["[2a00:1450:4001:81b::1]:443"], "2a00:1450:4001:81b::/64"),
        (1, ["6.6.6.6, 9.9.9.9"], "9.9.9.9"),
        (1, ["6.6.6.6", "9.9.9.9"], "9.9.9.9"),
        (2, ["6.6.6.6, 9.9.9.9, 10.0.0.2"], "9.9.9.9"),
        (3, ["9.9.9.9, 10.0.0.3, 10.0.0.2"], "9.9.9.9"),
    ],
)
def test_the_address_is_what_the_outermost_proxy_appended(configure, proxies, values, address):
    configure(CLIENT_IP_HEADER="X-Forwarded-For", TRUSTED_PROXIES=proxies)

    assert peer.address(forwarded(*values)) == address


@pytest.mark.parametrize(
    "values",
    [[], [""], ["unknown"], ["9.9.9.9, "], ["9.9.9.9, 999.1.1.1"], ["[9.9.9.9"], ["::1::"]],
)
def test_without_a_usable_header_the_direct_peer_is_counted(configure, values):
    configure(CLIENT_IP_HEADER="X-Forwarded-For", TRUSTED_PROXIES=1)

    assert peer.address(forwarded(*values)) in ("127.0.0.1", "9.9.9.9")


def test_fewer_addresses_than_proxies_are_not_believed(configure):
    configure(CLIENT_IP_HEADER="X-Forwarded-For", TRUSTED_PROXIES=2)

    assert peer.address(forwarded("9.9.9.9")) == "127.0.0.1"


def test_any_header_may_be_named_and_underscores_do_not_forge_it(configure):
    configure(CLIENT_IP_HEADER="X-Real-IP")

    assert peer.address(scope(None, ("x_real_ip", "6.6.6.6"), ("x-real-ip", "9.9.9.9"))) == (
        "9.9.9.9"
    )


# ---- scheme and origin ------------------------------------------------------------------


def test_a_proxy_that_ends_tls_is_believed_where_django_believes_it(settings):
    given = scope(None, ("x-forwarded-proto", "https"))
    assert not peer.is_secure(given)

    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

    assert peer.is_secure(given)
    assert peer.is_secure(scope(scheme="wss"))


def test_an_origin_is_compared_with_the_list_or_the_hosts(settings):
    settings.ALLOWED_HOSTS = ["example.com"]
    given = scope(None, ("origin", "https://example.com:8443"))

    assert peer.origin_is_allowed(given, ())
    assert not peer.origin_is_allowed(given, ("https://example.com",))
    assert peer.origin_is_allowed(given, ("*",))
    assert peer.origin_is_allowed(scope(), ("https://example.com",))
