"""End-to-end encrypted channels, against the vectors of the official libraries."""

import base64
import json
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured
from nacl.secret import SecretBox

from realtime import encryption
from realtime.protocol.errors import InvalidTrigger
from realtime.triggers import atrigger, trigger, trigger_batch
from tests.protocol import site

MASTER_KEY = "zyrm8pvV2C9fJcBfhyXzvxbJVN/H7QLmbe0xJi1GhPU="
CHANNEL = "private-encrypted-bla"


def app(key=MASTER_KEY):
    return site.app(encryption_master_key=base64.b64decode(key))


@pytest.mark.spec(220)
@pytest.mark.parametrize(
    ("master_key", "channel", "secret"),
    [
        (MASTER_KEY, CHANNEL, "nlr49ISQHz91yS3cy/yWmW8wFMNeTnNL5tNHnbPJcLQ="),
        (
            base64.b64encode(b"a" * 32),
            "private-encrypted-channel-a",
            "Rp+wpkNpL89qhqco1JkIG31AVXyU8PUVJBr1B2MvdoA=",
        ),
        (
            base64.b64encode(b"This is a string that is 32 chars"[:32]),
            CHANNEL,
            None,
        ),
    ],
)
def test_the_key_of_a_channel_is_that_of_the_official_libraries(master_key, channel, secret):
    made = encryption.shared_secret(app(master_key), channel)

    assert len(base64.b64decode(made)) == 32
    assert secret in (None, made)


def test_what_is_encrypted_can_be_read_with_the_key_alone():
    data = json.loads(encryption.encrypt(app(), CHANNEL, '{"message":"hello world"}'))
    key = base64.b64decode("nlr49ISQHz91yS3cy/yWmW8wFMNeTnNL5tNHnbPJcLQ=")
    nonce, ciphertext = (base64.b64decode(data[name]) for name in ("nonce", "ciphertext"))

    assert SecretBox(key).decrypt(ciphertext, nonce) == b'{"message":"hello world"}'
    assert len(nonce) == 24
    assert encryption.encrypt(app(), CHANNEL, "x") != encryption.encrypt(app(), CHANNEL, "x")


def test_without_a_master_key_nothing_is_encrypted():
    with pytest.raises(ImproperlyConfigured, match="no ENCRYPTION_MASTER_KEY"):
        encryption.encrypt(site.app(), CHANNEL, "x")


def test_without_pynacl_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "nacl.secret", None)

    with pytest.raises(ImproperlyConfigured, match="the extra 'encryption'"):
        encryption.encrypt(app(), CHANNEL, "x")


@pytest.fixture
def sent(configure, layer, db):
    """The data of the events sent so far, readable again."""
    configure(ENCRYPTION_MASTER_KEY=MASTER_KEY)
    box = SecretBox(base64.b64decode("nlr49ISQHz91yS3cy/yWmW8wFMNeTnNL5tNHnbPJcLQ="))

    def read():
        for message in layer.events():
            data = json.loads(json.loads(message["text"])["data"])
            sealed = [base64.b64decode(data[name]) for name in ("ciphertext", "nonce")]
            yield json.loads(box.decrypt(*sealed))

    return lambda: list(read())


@pytest.mark.django_db(transaction=True)
def test_events_for_encrypted_channels_are_encrypted(sent):
    trigger(CHANNEL, "greet", {"n": 1})
    trigger_batch([{"channel": CHANNEL, "name": "greet", "data": {"n": 2}}])

    assert sent() == [{"n": 1}, {"n": 2}]


async def test_coroutines_encrypt_too(sent, process):
    await atrigger([CHANNEL], "greet", {"n": 1})

    assert sent() == [{"n": 1}]


def test_an_encrypted_event_goes_to_one_channel(sent):
    with pytest.raises(InvalidTrigger, match="that channel alone"):
        trigger([CHANNEL, "room"], "greet", {})
