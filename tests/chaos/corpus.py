"""What no client sends: malformed messages, frames and handshakes, made from a seed."""

import json
import random
import struct
from dataclasses import dataclass

from tests.chaos.client import path_of
from tests.chaos.websocket import PING, TEXT, frame, upgrade


def malformed_texts(chance: random.Random, count: int) -> list[bytes]:
    """Messages that are well-formed for WebSocket and nonsense for Pusher."""
    valid = [
        {"event": "pusher:subscribe", "data": {"channel": "room"}},
        {"event": "pusher:subscribe", "data": {"channel": "presence-x", "auth": "a:b"}},
        {"event": "pusher:unsubscribe", "data": {"channel": "room"}},
        {"event": "client-x", "channel": "private-x", "data": {"a": 1}},
        {"event": "pusher:signin", "data": {"auth": "a:b", "user_data": '{"id":"1"}'}},
        {"event": "pusher:ping", "data": {}},
    ]
    odd_values = [
        *(None, True, 0, -1, 1e308, "", "\0", "x" * 5_000, "é" * 300, [], {}, [[]]),
        *("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), "../..", "#", "%s%n"),
    ]
    raw = [
        *(b"", b"{", b"[", b"null", b"1", b'"x"', b"NaN", b"{}", b"[]", b'{"event"', b"\\u0000"),
        *(b'{"event":"\\ud800"}', b'{"event":1e999}', b"[" * 2_000, b'{"a":' * 1_000),
        b'{"event":"pusher:subscribe","data":"' + b"[" * 500 + b'"}',
        b'{"event":"pusher:ping","event":"pusher:subscribe","data":{"channel":7}}',
    ]
    made = []
    for _ in range(count):
        match chance.randrange(5):
            case 0:
                made.append(chance.choice(raw))
            case 1:  # another value somewhere
                message = json.loads(json.dumps(chance.choice(valid)))
                place = message["data"] if chance.random() < 0.6 and message["data"] else message
                place[chance.choice(list(place))] = chance.choice(odd_values)
                made.append(json.dumps(message).encode())
            case 2:  # a part is missing
                message = dict(chance.choice(valid))
                message.pop(chance.choice(list(message)))
                made.append(json.dumps(message).encode())
            case 3:  # broken text
                text = bytearray(json.dumps(chance.choice(valid)).encode())
                for _ in range(chance.randint(1, 4)):
                    text[chance.randrange(len(text))] = chance.randrange(32, 127)
                made.append(bytes(text))
            case _:  # noise
                size = chance.randint(0, 200)
                made.append(bytes(chance.randrange(32, 127) for _ in range(size)))
    return made


@dataclass(frozen=True)
class Broken:
    """Bytes after a handshake that break RFC 6455."""

    data: bytes
    is_whole: bool = True
    """Whether they are a fault as they stand; else the server may wait for more of them."""
    is_fatal: bool = True
    """Whether they must end the connection; the engine is lenient with a long form of a length."""


def malformed_frames(chance: random.Random, count: int) -> list[Broken]:
    """What breaks RFC 6455."""
    made = []
    for _ in range(count):
        noise = bytes(chance.randrange(256) for _ in range(chance.randint(0, 120)))
        faults = [
            frame(chance.choice([3, 4, 5, 6, 7, 11, 12, 15]), noise),  # unknown opcode
            frame(TEXT, b"{}", rsv=chance.randint(1, 7)),  # reserved bits
            b"\x81\x02{}",  # no mask
            frame(PING, b"x" * chance.randint(126, 200)),  # control frame too long
            frame(PING, b"x", fin=False),  # fragmented control frame
            frame(0, b"x"),  # continuation of nothing
            frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"),  # text inside a message
            frame(TEXT, b"\xff\xfe" + noise),  # no UTF-8
            frame(2, noise),  # binary
            frame(8, b"\x03"),  # a close code of one byte
            frame(8, struct.pack("!H", chance.choice([0, 999, 1004, 1005, 1006, 2999]))),
            frame(8, b"\x03\xe8\xff\xff"),  # a reason that is no UTF-8
            b"\x81\xff" + struct.pack("!Q", 1 << 63) + b"\0\0\0\0",  # absurd length
            b"\x81\xff" + struct.pack("!Q", 1 << 40) + b"\0\0\0\0" + noise,
        ]
        made.append(
            chance.choice(
                [
                    *map(Broken, faults),
                    # A length that is not in the shortest form.
                    Broken(b"\x81\xfe\x00\x01\0\0\0\0x", is_fatal=False),
                    Broken(noise, is_whole=False),
                ]
            )
        )
    return made


def malformed_handshakes(chance: random.Random, count: int) -> list[bytes]:
    """Requests that are no good upgrades."""
    good = upgrade(path_of())
    paths = ["/", "/app", "/app/", "/app/" + "k" * 5_000, "/app/%00", "/app/é", "/%ff", "*", "//"]
    queries = ["", "?protocol=", "?protocol=99", "?protocol=x&version=", "?protocol=7&protocol=8"]
    lines = [
        *("Sec-WebSocket-Version: 12", "Sec-WebSocket-Key: short", "Upgrade: h2c"),
        *("Sec-WebSocket-Protocol: é", "Sec-WebSocket-Protocol: " + "x," * 500, "Origin: null"),
        *("Origin: http://[", "Origin: http://localhost:99999", "Content-Length: 5"),
        *("Transfer-Encoding: chunked", "Sec-WebSocket-Extensions: permessage-deflate; x=\x0b"),
        *("Cookie: " + "a" * 4_000, "X: \x01", "Host: evil", "Connection: close"),
    ]
    made = []
    for _ in range(count):
        match chance.randrange(5):
            case 0:
                path = chance.choice(paths) + chance.choice(queries)
                made.append(good.replace(path_of().encode(), path.encode("latin-1", "replace")))
            case 1:
                line = chance.choice(lines).encode("utf-8")
                made.append(good.removesuffix(b"\r\n") + line + b"\r\n\r\n")
            case 2:  # a line is missing
                kept = good.split(b"\r\n")
                kept.pop(chance.randrange(len(kept) - 2))
                made.append(b"\r\n".join(kept))
            case 3:  # broken bytes
                text = bytearray(good)
                for _ in range(chance.randint(1, 6)):
                    text[chance.randrange(len(text) - 4)] = chance.randrange(256)
                made.append(bytes(text))
            case _:
                size = chance.randint(1, 300)
                made.append(bytes(chance.randrange(256) for _ in range(size)) + b"\r\n\r\n")
    return made
