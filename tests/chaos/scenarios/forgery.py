"""Row B14: signatures that nobody made."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field

from realtime.protocol import signing
from realtime.protocol.app import App
from realtime.protocol.errors import BadMessage, SignatureError, SubscriptionRefused
from tests.chaos.client import APP, sign
from tests.chaos.rows import Run, row


@row(
    "B14",
    inject="1,000,000 mutated signatures over the three schemes",
    hold="0 accepted",
    limit=180,
)
async def forged_signatures_are_refused(run: Run) -> None:
    count = run.n(1_000_000, least=3_000)
    found = await asyncio.to_thread(forge, run.seed, count)
    run.check("accepted", found.accepted, equals=0)
    run.check("refused", sum(found.refused.values()), equals=count)
    run.check("of the scheme with the fewest", min(found.refused.values()), at_least=count // 3)
    run.note(f"the forgeries of seed {run.seed} end in {found.digest:08x}")


@dataclass
class Forgeries:
    """What became of forged signatures."""

    accepted: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    """By the number of the scheme."""
    digest: int = 0
    """Of all that were tried."""


def forge(seed: int, count: int) -> Forgeries:
    """Try *count* forgeries."""
    chance = random.Random(f"forge {seed}")
    app = App(id=APP.id, key=APP.key, secret=APP.secret)
    found = Forgeries()
    socket_id, channel, data = "123.456", "presence-room", '{"user_id":"1"}'
    user_data = '{"id":"1"}'
    channel_auth = sign(f"{socket_id}:{channel}:{data}")
    user_auth = sign(f"{socket_id}::user::{user_data}")
    # Each scheme accepts its own proof, so a refusal below is about the change.
    signing.verify_channel_auth(
        app, channel_auth, socket_id=socket_id, channel=channel, channel_data=data
    )
    signing.verify_user_auth(app, user_auth, socket_id=socket_id, user_data=user_data)
    query = [
        ("auth_key", APP.key),
        ("auth_timestamp", "1000"),
        ("auth_version", "1.0"),
    ]
    path = f"/apps/{APP.id}/channels"
    request_auth = sign(
        f"GET\n{path}\n" + "&".join(f"{name}={value}" for name, value in query)
    ).partition(":")[2]
    signing.verify_request(
        app,
        method="GET",
        paths=[path],
        query=[*query, ("auth_signature", request_auth)],
        body=b"",
        now=1000,
    )
    for number in range(count):
        scheme = number % 3
        proof = _mutated((channel_auth, user_auth, request_auth)[scheme], chance)
        found.digest = (found.digest * 31 + hash_text(proof)) & 0xFFFFFFFF
        try:
            if scheme == 0:
                signing.verify_channel_auth(
                    app, proof, socket_id=socket_id, channel=channel, channel_data=data
                )
            elif scheme == 1:
                signing.verify_user_auth(app, proof, socket_id=socket_id, user_data=user_data)
            else:
                signing.verify_request(
                    app,
                    method="GET",
                    paths=[path],
                    query=[*query, ("auth_signature", proof)],
                    body=b"",
                    now=1000,
                )
        except (BadMessage, SubscriptionRefused, SignatureError):
            found.refused[scheme] += 1
        else:
            found.accepted += 1
    return found


def hash_text(text: str) -> int:
    """The same for the same text in every process, as ``hash`` is not."""
    value = 5381
    for sign_ in text[-24:]:
        value = (value * 33 + ord(sign_)) & 0xFFFFFFFF
    return value


_HEX = "0123456789abcdef"
_ODD = "0Oé٣\u0000 \n:g"


def _mutated(proof: str, chance: random.Random) -> str:
    """Another text than *proof*, mostly close to it."""
    while True:
        match chance.randrange(8):
            case 0:
                at = chance.randrange(len(proof))
                changed = proof[:at] + chance.choice(_HEX + _ODD) + proof[at + 1 :]
            case 1:
                at = chance.randrange(len(proof) + 1)
                changed = proof[:at] + chance.choice(_HEX + _ODD) + proof[at:]
            case 2:
                at = chance.randrange(len(proof))
                changed = proof[:at] + proof[at + 1 :]
            case 3:
                changed = proof[: chance.randrange(len(proof))]
            case 4:
                changed = proof.swapcase() if chance.random() < 0.5 else proof.title()
            case 5:
                changed = proof + chance.choice(["\n", " ", "0", "\0", ":", proof[-4:]])
            case 6:
                changed = "".join(chance.choices(_HEX, k=chance.choice([0, 1, 63, 64, 65])))
            case _:
                key, _, digest = proof.rpartition(":")
                swapped = list(digest)
                first, second = chance.sample(range(len(swapped)), 2)
                swapped[first], swapped[second] = swapped[second], swapped[first]
                changed = f"{key}:{''.join(swapped)}" if key else "".join(swapped)
        if changed != proof:
            return changed
