"""Signatures: the published vectors, everything close to them, and what must never be signed."""

import ast
import hashlib
import inspect
import random
import re
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from realtime.protocol import signing
from realtime.protocol.app import App
from realtime.protocol.errors import BadMessage, SignatureError, SubscriptionRefused
from tests.protocol import site
from tests.protocol.site import KEY, SOCKET_ID, digest

NOW = 1_353_088_179
PHP_SECRET = "thisisasecret"
NODE_SECRET = "tofu"


def app_with(secret: str) -> App:
    return site.app(secret=secret)


# ---- channels ---------------------------------------------------------------------------


class ChannelVector(NamedTuple):
    secret: str
    socket_id: str
    channel: str
    channel_data: str | None
    digest: str

    def verify(self, auth: str, **changes: Any) -> None:
        signing.verify_channel_auth(
            app_with(self.secret),
            auth,
            **{
                "socket_id": self.socket_id,
                "channel": self.channel,
                "channel_data": self.channel_data,
            }
            | changes,
        )


CHANNEL_VECTORS = {
    "A1": ChannelVector(
        site.SECRET,
        SOCKET_ID,
        "private-foobar",
        None,
        "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4",
    ),
    "A2": ChannelVector(
        site.SECRET,
        SOCKET_ID,
        "presence-foobar",
        '{"user_id":10,"user_info":{"name":"Mr. Pusher"}}',
        "afaed3695da2ffd16931f457e338e6c9f2921fa133ce7dac49f529792be6304c",
    ),
    "A3": ChannelVector(
        site.SECRET,
        SOCKET_ID,
        "presence-foobar",
        '{"user_id":10,"user_info":{"name":"Mr. Channels"}}',
        "31935e7d86dba64c2a90aed31fdc61869f9b22ba9d8863bba239c03ca481bc80",
    ),
    "A4": ChannelVector(
        site.SECRET,
        SOCKET_ID,
        "presence-foobar",
        '{"user_id":"10","user_info":{"name":"Żółć"}}',
        "8c3465fd5cb0f78afe4e90f324fa2bd60ada520d66f8bb61960464814e2c9e85",
    ),
    "A5": ChannelVector(
        site.SECRET,
        SOCKET_ID,
        "presence-foobar",
        None,
        "71506e66e7fdca106571b8999a849ad34245bc653772e51e0026c1a2475b92ba",
    ),
    "A6": ChannelVector(
        site.SECRET,
        SOCKET_ID,
        "private-encrypted-foobar",
        None,
        "e6a18892d037c5d5e76a2265df4f086ffc38631605530dfd214aa5bff495f533",
    ),
    "A7": ChannelVector(
        site.SECRET,
        SOCKET_ID,
        "private-cache-foobar",
        None,
        "395f4a03f06e17b74af8d9c58386cf386e70176f58452420f042b6e1bddefa43",
    ),
    "A8": ChannelVector(
        site.SECRET,
        SOCKET_ID,
        "private-encrypted-cache-foobar",
        None,
        "b9b56ee68b2117189dbac324760a1f9958070108e3ef45232e5dcbba37dbb831",
    ),
    "A9": ChannelVector(
        site.SECRET,
        SOCKET_ID,
        "presence-cache-foobar",
        None,
        "53d9d994942c42bf4cd79fedf3ea4e3af189b43c1c572d26dcbfe158e9ba54ac",
    ),
    "P1": ChannelVector(
        PHP_SECRET,
        "1.1",
        "testing_pusher-php",
        None,
        "751ccc12aeaa79d46f7c199bced5fa47527d3480b51fe61a0bd10438241bd52d",
    ),
    "P2": ChannelVector(
        PHP_SECRET,
        "45055.28877557",
        "-azAZ9_=@,.;",
        None,
        "d1c20ad7684c172271f92c108e11b45aef07499b005796ae1ec5beb924f361c4",
    ),
    "P3": ChannelVector(
        PHP_SECRET,
        "45055.28877557",
        "-azAZ9_=@,.;",
        '{"user_id": "123"}',
        "3b3f1dcc4d7d2f95dd10ed05562397b3287b102d4cccfacbf30eed2f1ffa3d69",
    ),
    "N1": ChannelVector(
        NODE_SECRET,
        "123.456",
        "test",
        None,
        "efa6cf7644a0b35cba36aa0f776f3cbf7bb60e95ea2696bde1dbe8403b61bd7c",
    ),
    "N4": ChannelVector(
        NODE_SECRET,
        "123.456",
        "private-encrypted-bla",
        '"foo"',
        "962c48b78bf93d98ff4c92ee7dff04865821455b7b401e9d60a9e0a90af2c105",
    ),
}


def channel_vectors(*chosen: str):
    names = chosen or CHANNEL_VECTORS.keys()
    return pytest.mark.parametrize(
        "vector", [CHANNEL_VECTORS[name] for name in names], ids=list(names)
    )


@pytest.mark.spec(63, 67, 69, 80, 98)
@channel_vectors()
def test_a_published_channel_signature_is_accepted(vector):
    vector.verify(f"{KEY}:{vector.digest}")


@channel_vectors()
def test_a_channel_is_signed_as_published(vector):
    auth = signing.sign_channel(
        app_with(vector.secret),
        socket_id=vector.socket_id,
        channel=vector.channel,
        channel_data=vector.channel_data,
    )

    assert auth == f"{KEY}:{vector.digest}"


@pytest.mark.spec(80)
def test_the_documentation_prints_a_digest_that_belongs_to_another_payload():
    printed, shown = CHANNEL_VECTORS["A2"].digest, CHANNEL_VECTORS["A3"]

    with pytest.raises(SubscriptionRefused):
        shown.verify(f"{KEY}:{printed}")


@pytest.mark.spec(64, 67, 68)
@pytest.mark.parametrize(
    "change",
    [
        {"socket_id": "1234.1235"},
        {"channel": "presence-foobaz"},
        {"channel_data": '{"user_id": 10,"user_info":{"name":"Mr. Channels"}}'},
        {"channel_data": '{"user_info":{"name":"Mr. Channels"},"user_id":10}'},
        {"channel_data": ""},
        {"channel_data": None},
    ],
)
def test_a_channel_signature_holds_for_its_very_text_only(change):
    vector = CHANNEL_VECTORS["A3"]

    with pytest.raises(SubscriptionRefused):
        vector.verify(f"{KEY}:{vector.digest}", **change)


A1 = CHANNEL_VECTORS["A1"].digest
NO_AUTH = {
    "nothing": "",
    "the key alone": KEY,
    "no signature": f"{KEY}:",
    "no key": A1,
    "an empty key": f":{A1}",
    "the key of another app": f"a{KEY}:{A1}",
    "the key in capitals": f"{KEY.upper()}:{A1}",
    "capital hex digits": f"{KEY}:{A1.upper()}",
    "one digit short": f"{KEY}:{A1[:-1]}",
    "one digit more": f"{KEY}:{A1}0",
    "another digit": f"{KEY}:{A1[:-1]}5",
    "a trailing newline": f"{KEY}:{A1}\n",
    "a leading space": f"{KEY}: {A1}",
    "a second colon": f"{KEY}::{A1}",
    "the form of the protocol page": f"{KEY}::user::{A1}",
    "non-ASCII text": f"{KEY}:żółć",
    "a non-ASCII key": f"é:{A1}",
    "digits of another script": f"{KEY}:{A1.replace('5', '٥')}",
    "NUL": f"{KEY}:{A1}\0",
    "a lone surrogate": f"{KEY}:\ud800",
    "a lone surrogate as key": f"\udfff:{A1}",
}


@pytest.mark.spec(64, 65, 66, 163)
@pytest.mark.parametrize("auth", NO_AUTH.values(), ids=NO_AUTH.keys())
def test_a_channel_is_refused_with(auth):
    with pytest.raises(SubscriptionRefused) as refused:
        CHANNEL_VECTORS["A1"].verify(auth)

    assert refused.value.summary == "Invalid signature"


@pytest.mark.spec(163)
def test_signatures_meet_in_a_comparison_of_constant_time_only():
    """The code is read: a clock could not tell on a busy machine."""
    tree = ast.parse(inspect.getsource(signing))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}

    def calls(function, name):
        nodes = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        return [node for node in nodes if ast.unparse(node.func) == name]

    assert len(calls(functions["_same"], "hmac.compare_digest")) == 1
    for name in ("verify_channel_auth", "verify_user_auth", "verify_request"):
        verify = functions[name]
        compared = [argument for call in calls(verify, "_same") for argument in call.args]
        by_operator = [node for node in ast.walk(verify) if isinstance(node, ast.Compare)]

        assert calls(verify, "_hex")
        assert all(digest in compared for digest in calls(verify, "_hex"))
        assert not any("signature" in ast.unparse(node) for node in by_operator)


def test_a_refused_channel_signature_is_explained_without_the_right_one():
    with pytest.raises(SubscriptionRefused) as refused:
        CHANNEL_VECTORS["A1"].verify(f"{KEY}:deadbeef")

    assert str(refused.value) == (
        "Invalid signature: Expected HMAC SHA256 hex digest of 1234.1234:private-foobar,"
        " but got deadbeef"
    )


def test_a_foreign_key_is_named_in_the_refusal():
    with pytest.raises(SubscriptionRefused) as refused:
        CHANNEL_VECTORS["A1"].verify("other:deadbeef")

    assert str(refused.value) == "Invalid key in subscription auth data: 'other:deadbeef'"


def test_while_a_key_is_rotated_both_are_accepted_each_with_its_own_secret():
    app = site.app(old_key="old", old_secret="past")
    parts = {"socket_id": SOCKET_ID, "channel": "private-x", "channel_data": None}
    text = f"{SOCKET_ID}:private-x"
    for key, secret in ((KEY, site.SECRET), ("old", "past")):
        signing.verify_channel_auth(app, f"{key}:{digest(text, secret)}", **parts)
        signing.verify_user_auth(
            app,
            f"{key}:{digest(f'{SOCKET_ID}::user::x', secret)}",
            socket_id=SOCKET_ID,
            user_data="x",
        )
    for key, secret in ((KEY, "past"), ("old", site.SECRET)):
        with pytest.raises(SubscriptionRefused):
            signing.verify_channel_auth(app, f"{key}:{digest(text, secret)}", **parts)

    assert signing.sign_channel(app, socket_id=SOCKET_ID, channel="private-x").startswith(KEY)


def test_a_request_may_be_signed_with_the_old_key():
    app = site.app(old_key="old", old_secret="past")
    query = [("auth_key", "old"), ("auth_timestamp", str(NOW)), ("auth_version", "1.0")]
    text = signing.request_text("GET", "/apps/3/channels", query)

    def verify(secret: str, key: str = "old") -> None:
        signing.verify_request(
            app,
            method="GET",
            paths=["/apps/3/channels"],
            query=[("auth_key", key), *query[1:], ("auth_signature", digest(text, secret))],
            body=b"",
            now=NOW,
        )

    verify("past")
    with pytest.raises(SignatureError):
        verify(site.SECRET)
    with pytest.raises(SignatureError, match="Unknown auth_key"):
        verify("past", key="other")


def test_a_refusal_quotes_what_was_sent_cut_and_printable():
    with pytest.raises(SubscriptionRefused) as refused:
        CHANNEL_VECTORS["A1"].verify("\0\n\ud800" + "x" * 500, channel="x" * 500)

    assert str(refused.value) == f"Invalid key in subscription auth data: '???{'x' * 97}'"


@given(st.text("a=&%+;#4[]ä\0", max_size=12))
@example("auth_key=k&auth_timestamp=1&channels[]=a&channels[]=b")
@example("a=b=c&=d&&e&f=")
def test_a_query_string_is_read_as_the_standard_library_reads_it(text):
    assert signing.read_query(text) == parse_qsl(text, keep_blank_values=True)


@given(st.text(st.characters(exclude_categories=())))
def test_any_other_text_is_refused_as_a_channel_signature(auth):
    with pytest.raises(SubscriptionRefused):
        CHANNEL_VECTORS["A1"].verify(auth)


@given(st.integers(0, 63), st.sampled_from("0123456789abcdef"))
def test_no_digit_of_a_channel_signature_may_differ(place, digit):
    changed = A1[:place] + digit + A1[place + 1 :]
    assume(changed != A1)

    with pytest.raises(SubscriptionRefused):
        CHANNEL_VECTORS["A1"].verify(f"{KEY}:{changed}")


# ---- users ------------------------------------------------------------------------------


class UserVector(NamedTuple):
    secret: str
    socket_id: str
    user_data: str
    digest: str


USER_VECTORS = {
    "U1": UserVector(
        site.SECRET,
        SOCKET_ID,
        '{"id":"12345"}',
        "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba",
    ),
    "U2": UserVector(
        site.SECRET,
        SOCKET_ID,
        '{"id":"12345","user_info":{"name":"Ann"},"watchlist":["7","8"]}',
        "457903950ee8bf92facc2372905dd3625e3635904fdc107f0f6374b64ca49b4e",
    ),
    "P4": UserVector(
        PHP_SECRET,
        "12345.6789",
        '{"id":"123"}',
        "fc713f433deb729d0d96f9e26ef054285cbc3e833ebe840b93722a2fa16a6a18",
    ),
    "N2": UserVector(
        NODE_SECRET,
        "123.456",
        '{"id":"45678"}',
        "f4b1fdeea7c93e32648c7230e32b172057c5623cace6cfce791c6e7035e0babd",
    ),
    "N3": UserVector(
        NODE_SECRET,
        "1.1",
        '{"id":"ą§¶™€łü€ß£"}',
        "620494cee53d6c568b49598313194088afda37218f0d059af03c0c898ed61ff4",
    ),
}
user_vectors = pytest.mark.parametrize("vector", USER_VECTORS.values(), ids=USER_VECTORS.keys())


@pytest.mark.spec(137)
@user_vectors
def test_a_published_user_signature_is_accepted(vector):
    signing.verify_user_auth(
        app_with(vector.secret),
        f"{KEY}:{vector.digest}",
        socket_id=vector.socket_id,
        user_data=vector.user_data,
    )


@user_vectors
def test_a_user_is_signed_as_published(vector):
    auth = signing.sign_user(
        app_with(vector.secret), socket_id=vector.socket_id, user_data=vector.user_data
    )

    assert auth == f"{KEY}:{vector.digest}"


@pytest.mark.spec(139)
@pytest.mark.parametrize("change", [{"socket_id": "1.1"}, {"user_data": '{"id":"12346"}'}])
def test_a_user_signature_holds_for_its_very_text_only(app, change):
    text = {"socket_id": SOCKET_ID, "user_data": '{"id":"12345"}'}

    with pytest.raises(BadMessage):
        signing.verify_user_auth(app, f"{KEY}:{USER_VECTORS['U1'].digest}", **text | change)


U1 = USER_VECTORS["U1"].digest


@pytest.mark.spec(139)
@pytest.mark.parametrize(
    "auth",
    [text.replace(A1, U1) for text in NO_AUTH.values()] + [f"{KEY}:{U1.upper()}", f"{KEY}:{A1}"],
)
def test_a_user_is_refused_with(app, auth):
    with pytest.raises(BadMessage):
        signing.verify_user_auth(app, auth, socket_id=SOCKET_ID, user_data='{"id":"12345"}')


@pytest.mark.parametrize(
    ("auth", "text"),
    [
        ("other:beef", "Invalid key in signin auth data: 'other:beef'"),
        (
            f"{KEY}:beef",
            "Invalid signature: Expected HMAC SHA256 hex digest of"
            ' 1234.1234::user::{"id":"12345"}, but got beef',
        ),
    ],
)
def test_a_refused_user_signature_is_explained(app, auth, text):
    with pytest.raises(BadMessage) as refused:
        signing.verify_user_auth(app, auth, socket_id=SOCKET_ID, user_data='{"id":"12345"}')

    assert str(refused.value) == text


# ---- what is never signed ---------------------------------------------------------------

SOCKET_IDS_NOBODY_SIGNS = [
    "",
    "1234",
    "1.1:private-x",
    "1.1\n",
    "1.1::user::{}",
    "POST\n/apps/3/events\nauth_key=x",
    "١.١",
    "1.1\ud800",
]
CHANNELS_NOBODY_SIGNS = [
    "",
    "private-x:",
    ":user:",
    ":user::{}",
    ':user:{"id":"1"}',
    "private-x\n",
    "#server-to-user-42",
    "private-ü",
    "x" * 201,
    "private-\ud800",
]


@pytest.mark.parametrize("socket_id", SOCKET_IDS_NOBODY_SIGNS)
def test_nothing_is_signed_for_the_socket_id(app, socket_id):
    with pytest.raises(ValueError, match="socket_id"):
        signing.sign_channel(app, socket_id=socket_id, channel="private-x")
    with pytest.raises(ValueError, match="socket_id"):
        signing.sign_user(app, socket_id=socket_id, user_data="{}")


@pytest.mark.parametrize("channel", CHANNELS_NOBODY_SIGNS)
def test_nothing_is_signed_for_the_channel(app, channel):
    with pytest.raises(ValueError, match="channel"):
        signing.sign_channel(app, socket_id=SOCKET_ID, channel=channel, channel_data="{}")


def test_no_text_is_signed_that_cannot_be_encoded(app):
    with pytest.raises(ValueError, match="surrogates"):
        signing.sign_channel(app, socket_id=SOCKET_ID, channel="x", channel_data='"\ud800"')


USER_TEXT = re.compile(r"[0-9]+\.[0-9]+::user::.*", re.DOTALL)
REQUEST_TEXT = re.compile(r"[A-Z]+\n/.*", re.DOTALL)
HOSTILE = st.sampled_from(
    ["", ":", "::", ":user:", "::user::", "user::{}", "POST\n/apps/3/events\n", "1.1", "private-x"]
)
ANY_TEXT = HOSTILE | st.text(max_size=12) | st.lists(HOSTILE, max_size=3).map("".join)
ANY_SOCKET_ID = st.from_regex(r"[0-9]{1,6}\.[0-9]{1,6}", fullmatch=True) | ANY_TEXT
ANY_CHANNEL = st.from_regex(r"[A-Za-z0-9_=@,.;-]{1,12}", fullmatch=True) | ANY_TEXT


@pytest.mark.spec(140)
@given(ANY_SOCKET_ID, ANY_CHANNEL, st.none() | ANY_TEXT)
@example("1.1", ":user:", '{"id":"1"}')
@example("1.1", "", 'user::{"id":"1"}')
@example("1.1", ':user::{"id":"1"}', None)
@example("1.1::user", ':{"id":"1"}', None)
@example("POST\n/apps/3/events\nauth_key", "x", None)
def test_no_channel_signature_can_pass_for_a_sign_in_or_a_request(socket_id, channel, channel_data):
    app = site.app()
    try:
        auth = signing.sign_channel(
            app, socket_id=socket_id, channel=channel, channel_data=channel_data
        )
    except ValueError:
        return

    text = ":".join(part for part in (socket_id, channel, channel_data) if part is not None)
    assert auth == f"{KEY}:{digest(text)}"
    assert not USER_TEXT.fullmatch(text)
    assert not REQUEST_TEXT.fullmatch(text)


@given(ANY_SOCKET_ID, ANY_TEXT)
def test_no_user_signature_can_pass_for_a_channel_or_a_request(socket_id, user_data):
    app = site.app()
    try:
        auth = signing.sign_user(app, socket_id=socket_id, user_data=user_data)
    except ValueError:
        return

    text = f"{socket_id}::user::{user_data}"
    assert auth == f"{KEY}:{digest(text)}"
    assert not re.match(r"[0-9]+\.[0-9]+:[-A-Za-z0-9_=@,.;]", text)
    assert not REQUEST_TEXT.fullmatch(text)


@pytest.mark.spec(140)
def test_a_channel_signature_does_not_sign_in(app):
    auth = site.channel_auth("private-x", '{"id":"12345"}')

    with pytest.raises(BadMessage):
        signing.verify_user_auth(app, auth, socket_id=SOCKET_ID, user_data='{"id":"12345"}')


# ---- requests ---------------------------------------------------------------------------


class RequestVector(NamedTuple):
    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: str
    signature: str

    def parameters(self, **changes: str | None) -> list[tuple[str, str]]:
        """The query as sent, with parameters changed or, by ``None``, left out."""
        given = {
            "auth_key": KEY,
            "auth_timestamp": str(NOW),
            "auth_version": "1.0",
            "body_md5": hashlib.md5(self.body.encode()).hexdigest() if self.body else None,
        } | changes
        single = [(name, value) for name, value in given.items() if value is not None]
        return [*single, *self.query, ("auth_signature", self.signature)]

    def verify(self, **changes: Any) -> None:
        request = {
            "method": self.method,
            "paths": [self.path],
            "query": self.parameters(),
            "body": self.body.encode(),
            "now": NOW,
        }
        signing.verify_request(site.app(), **request | changes)


EVENT = r'{"name":"foo","channels":["project-3"],"data":"{\"some\":\"data\"}"}'
BATCH = '{"batch":[{"channel":"a","name":"e","data":"1"},{"channel":"b","name":"e","data":"2"}]}'
POLISH = r'{"name":"é","channels":["c"],"data":"{\"t\":\"zażółć\"}"}'
TO_USER = '{"name":"evt","channels":["#server-to-user-42"],"data":"{}"}'
TERMINATE = "/users/u-42/terminate_connections"

REQUEST_VECTORS = {
    "H1": RequestVector(
        "POST",
        "/apps/3/events",
        (),
        EVENT,
        "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c",
    ),
    "H2": RequestVector(
        "GET",
        "/apps/3/channels",
        (),
        "",
        "1cafa6382331c976588eb6bd3925a988e4158402be06c4626d0e97d2981f5382",
    ),
    "H3": RequestVector(
        "GET",
        "/apps/3/channels",
        (("body_md5", "d41d8cd98f00b204e9800998ecf8427e"),),
        "",
        "5c3cd75022c4f62c35ad22f6a9cce366c860477a3b7092ca790ecfc17e6af302",
    ),
    "H4": RequestVector(
        "GET",
        "/apps/3/channels",
        (("filter_by_prefix", "presence-"), ("info", "user_count")),
        "",
        "16819168891cb5dfd72b5c7a5d3d602605b26c6ba1930033b5e2eeeb65010291",
    ),
    "H5": RequestVector(
        "GET",
        "/apps/3/channels/presence-lobby",
        (("info", "user_count,subscription_count,cache"),),
        "",
        "ebc2b750f8e129809a71dd13f3fe6973008f18129f15455c6e0b58d62cc24811",
    ),
    "H6": RequestVector(
        "GET",
        "/apps/3/channels/presence-lobby/users",
        (),
        "",
        "49db6f3187af5b4d942ee8d1b1751faff5615ae3a6e4fb4cb0d3e575ee82df99",
    ),
    "H7": RequestVector(
        "POST",
        f"/apps/3{TERMINATE}",
        (),
        "{}",
        "da483652dc1680a43d03eb4788c17f443fc698dc38bf07dfe7da73d95485043a",
    ),
    "H8": RequestVector(
        "POST",
        f"/apps/3{TERMINATE}",
        (),
        "",
        "a0a9d6eddd5112b970a3012751da8721e1297662900d3f7fc11a9a717adcc51b",
    ),
    "H9": RequestVector(
        "POST",
        TERMINATE,
        (),
        "{}",
        "5fef25eb11b5e240af92a59668270cfc87ca1916f14d2f81eb05e7793682fd4c",
    ),
    "H10": RequestVector(
        "POST",
        "/apps/3/batch_events",
        (),
        BATCH,
        "0d56730a4475fa6ab2f5fb2b40fe4e5236c02da5b84629c90bd39a8d777c305b",
    ),
    "H11": RequestVector(
        "POST",
        "/apps/3/events",
        (),
        POLISH,
        "b442c34311abe6b75b824707bac06913b51433c7ee21201229cf727f131263ec",
    ),
    "H12": RequestVector(
        "POST",
        "/apps/3/events",
        (),
        TO_USER,
        "c16ced6fb0ee59e1e3c7984647e14f90ca38837089ebdd2b9eb293a6bab442c3",
    ),
    "H13": RequestVector(
        "GET",
        "/apps/3/channels",
        (("filter_by_prefix", "a=b,c;d@e"),),
        "",
        "d1bf6cf243761bcf198f8c89c789fbe46e134c0c32389a7aa036af90588a4ddc",
    ),
    "H14": RequestVector(
        "POST",
        "/apps/3/events",
        (("name", "foo"), ("channels[]", "a"), ("channels[]", "b"), ("data", "x")),
        "",
        "04e666ab371eb9c7ca39d9ed1bc77d310d69a88358b790e1255609e4e51d9876",
    ),
}
request_vectors = pytest.mark.parametrize(
    "vector", REQUEST_VECTORS.values(), ids=REQUEST_VECTORS.keys()
)
H1, H2, H4, H7 = (REQUEST_VECTORS[name] for name in ("H1", "H2", "H4", "H7"))
H15 = "3b237953a5ba6619875cbb2a2d43e8da9ef5824e8a2c689f6284ac85bc1ea0db"
H15_QUERY = [
    ("query", "params"),
    ("go", "here"),
    ("auth_key", "key"),
    ("auth_timestamp", "1234"),
    ("auth_version", "1.0"),
]


@pytest.mark.spec(154, 155, 158, 190)
@request_vectors
def test_a_published_request_signature_is_accepted(vector):
    vector.verify()


@request_vectors
def test_a_request_is_signed_as_published(app, vector):
    given = signing.sign_request(app, vector.method, vector.path, vector.parameters())

    assert given == vector.signature


@pytest.mark.spec(155, 159)
@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title])
def test_the_vector_of_the_published_verifier_holds_however_its_names_are_spelled(spell):
    app = site.app(key="key", secret="secret")
    query = [(spell(name), value) for name, value in H15_QUERY]

    assert signing.sign_request(app, "post", "/some/path", query) == H15
    signing.verify_request(
        app,
        method="POST",
        paths=["/some/path"],
        query=[*query, (spell("auth_signature"), H15)],
        body=b"",
        now=1234,
    )


def test_a_request_signs_its_method_path_and_sorted_parameters():
    query = [("name", "é&="), ("B[]", "2"), ("auth_signature", "x"), ("b[]", "1"), ("a", "")]

    text = signing.request_text("post", "/apps/3/events", query)

    assert text == "POST\n/apps/3/events\na=&b[]=2&b[]=1&name=é&="


@request_vectors
def test_the_order_of_distinct_parameters_does_not_matter(vector):
    query = vector.parameters()
    random.Random(4).shuffle(query)
    query.sort(key=lambda pair: pair[1] if pair[0] == "channels[]" else "")

    vector.verify(query=query)


@pytest.mark.spec(154)
@pytest.mark.parametrize(
    "change",
    [
        {"body": EVENT.replace("foo", "fop").encode()},
        {"body": EVENT.encode() + b"\n"},
        {"body": b""},
        {"paths": ["/apps/4/events"]},
        {"paths": ["/apps/3/events/"]},
        {"method": "PUT"},
        {"query": H1.parameters(auth_key="other")},
        {"query": [*H1.parameters(), ("info", "user_count")]},
        {"query": H1.parameters()[:-1]},
        {"query": [*H1.parameters()[:-1], ("auth_signature", "")]},
        {"query": [*H1.parameters()[:-1], ("auth_signature", H1.signature.upper())]},
        {"query": [*H1.parameters()[:-1], ("auth_signature", H1.signature[:-1])]},
        {"query": [*H1.parameters()[:-1], ("auth_signature", H1.signature + "0")]},
        {"query": [*H1.parameters()[:-1], ("auth_signature", H1.signature + "\n")]},
        {"query": [*H1.parameters()[:-1], ("auth_signature", "zażółć")]},
        {"query": [*H1.parameters()[:-1], ("auth_signature", "\ud800")]},
    ],
)
def test_a_request_signature_holds_for_its_very_request_only(change):
    with pytest.raises(SignatureError):
        H1.verify(**change)


@pytest.mark.spec(154)
def test_a_request_signed_with_another_secret_is_refused():
    query = [*H1.parameters()[:-1]]
    forged = digest(signing.request_text("POST", H1.path, query), secret="another")

    with pytest.raises(SignatureError, match="Invalid signature"):
        H1.verify(query=[*query, ("auth_signature", forged)])


@pytest.mark.spec(164, 165)
@pytest.mark.parametrize("signed", ["/apps/3/channels/a%40b", "/apps/3/channels/a@b"])
def test_any_one_spelling_of_the_path_may_have_been_signed(signed):
    query = H2.parameters()[:-1]
    parameters = "&".join(f"{name}={value}" for name, value in query)
    signature = digest(f"GET\n{signed}\n{parameters}")

    H2.verify(
        paths=["/ws/apps/3/channels/a%40b", "/apps/3/channels/a%40b", "/apps/3/channels/a@b"],
        query=[*query, ("auth_signature", signature)],
    )


def test_a_refused_request_is_explained_without_the_right_signature():
    query = [*H2.parameters()[:-1], ("auth_signature", "beef\0é")]

    with pytest.raises(SignatureError) as refused:
        H2.verify(query=query)

    assert str(refused.value) == (
        "Invalid signature: you should have sent HmacSHA256Hex("
        f'"GET\\n/apps/3/channels\\nauth_key={KEY}&auth_timestamp=1353088179&auth_version=1.0",'
        ' your_secret_key), but you sent "beef?é"'
    )


@pytest.mark.spec(156)
@pytest.mark.parametrize("seconds", [0, 1, -1, 599, -599, 599.9, -599.9])
def test_a_clock_may_be_off_by_almost_ten_minutes(seconds):
    H2.verify(now=NOW + seconds)


@pytest.mark.spec(156)
@pytest.mark.parametrize("seconds", [600, -600, 86_400, -86_400])
def test_a_clock_may_not_be_off_by_ten_minutes(seconds):
    with pytest.raises(SignatureError, match="Timestamp expired"):
        H2.verify(now=NOW + seconds)


def test_a_request_out_of_time_is_told_both_times():
    with pytest.raises(SignatureError) as refused:
        H2.verify(now=NOW + 821.5)

    assert str(refused.value) == (
        "Timestamp expired: Given timestamp (2012-11-16T17:49:39Z) not within 600s of server time"
        " (2012-11-16T18:03:20Z)"
    )


def test_a_timestamp_beyond_the_calendar_is_refused_like_any_other():
    with pytest.raises(SignatureError) as refused:
        H2.verify(query=H2.parameters(auth_timestamp="9" * 12))

    assert str(refused.value) == (
        "Timestamp expired: Given timestamp (out of range) not within 600s of server time"
        " (2012-11-16T17:49:39Z)"
    )


@pytest.mark.parametrize(
    "timestamp",
    [
        None,
        "",
        "soon",
        "-1",
        f"+{NOW}",
        f"{NOW}.0",
        f" {NOW}",
        f"{NOW}\n",
        f"{NOW}\0",
        "1_353_088_179",
        "1e9",
        "١٣٥٣٠٨٨١٧٩",
        "1" * 13,
        "0" * 5_000,
    ],
)
def test_a_timestamp_is_a_plain_number_or_missing(timestamp):
    with pytest.raises(SignatureError) as refused:
        H2.verify(query=H2.parameters(auth_timestamp=timestamp))

    assert str(refused.value) == "Timestamp required"


@pytest.mark.spec(160)
@pytest.mark.parametrize(
    ("version", "text"),
    [
        (None, "Version required"),
        ("", "Version not supported"),
        ("1.1", "Version not supported"),
        ("1.0\n", "Version not supported"),
    ],
)
def test_a_version_other_than_one_is_refused(version, text):
    with pytest.raises(SignatureError) as refused:
        H2.verify(query=H2.parameters(auth_version=version))

    assert str(refused.value) == text


@pytest.mark.spec(157)
def test_a_body_needs_its_digest():
    with pytest.raises(SignatureError) as refused:
        H7.verify(query=H7.parameters(body_md5=None))

    assert str(refused.value) == "Missing parameter: body_md5"


@pytest.mark.spec(157, 189)
def test_no_body_needs_no_digest():
    REQUEST_VECTORS["H8"].verify()


@pytest.mark.spec(157)
@pytest.mark.parametrize(
    "body_md5",
    [
        "",
        "d41d8cd98f00b204e9800998ecf8427e",
        "99914B932BD37A50B983C5E7C90AE93B",
        "99914b932bd37a50b983c5e7c90ae93",
        "99914b932bd37a50b983c5e7c90ae93b\n",
        "é",
    ],
)
def test_the_digest_of_another_body_is_refused(body_md5):
    with pytest.raises(SignatureError) as refused:
        H7.verify(query=H7.parameters(body_md5=body_md5))

    assert str(refused.value) == "Invalid body_md5: it is not the MD5 of the body received"


@pytest.mark.parametrize("name", ["auth_key", "Auth_Key", "auth_signature", "info", "INFO"])
def test_a_repeated_parameter_is_refused_even_with_the_same_value(name):
    query = H4.parameters()
    value = dict(query)[name.lower()]

    with pytest.raises(SignatureError) as refused:
        H4.verify(query=[*query, (name, value)])

    assert str(refused.value) == f"Repeated parameter: {name.lower()}"


def test_a_repeated_name_is_quoted_in_ascii_and_cut():
    with pytest.raises(SignatureError) as refused:
        signing.single_parameters([("é" * 80, "1"), ("É" * 80, "2")])

    assert str(refused.value) == "Repeated parameter: " + "\\xe9" * 60


def test_lists_may_repeat_and_are_no_single_parameters():
    query = [("channels[]", "a"), ("Name", "foo"), ("channels[]", "b")]

    assert signing.single_parameters(query) == {"name": "foo"}


NAMES = st.sampled_from(
    ["auth_key", "auth_timestamp", "auth_version", "auth_signature", "body_md5", "info", "Info"]
) | st.text(max_size=6)


@given(st.lists(st.tuples(NAMES, st.text(max_size=12)), max_size=8), st.binary(max_size=8))
def test_any_unsigned_query_is_refused_and_nothing_else(query, body):
    with pytest.raises(SignatureError):
        H2.verify(query=query, body=body)
