"""Messages and bytes put together at random, by seed: whatever they come to, it is an answer or an end with a reason.

The tables of this folder hold what people thought of; this looks for what they did not. A failure names its seed.
"""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest
import trio

from core.frames import masked_frame
from tests.hostile.peer import MASK, Frame, request, text
from tests.hostile.scene import ROOM, VAULT, Scene, scene
from tests.hostile.test_http_port import HEAD, http_scene, said
from tests.nodes import token

KEY = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"
OPS = [
    "hello",
    "resume",
    "ping",
    "send",
    "sub",
    "unsub",
    "history",
    "mark",
    "signal",
    "presence",
    "position",
    "command",
]
FIELDS = [
    "stream",
    "key",
    "type",
    "body",
    "expect",
    "after",
    "last",
    "before",
    "limit",
    "delivered",
    "read",
    "kind",
    "value",
    "token",
    "resume",
    "log",
    "streams",
    "fixes",
    "sig",
]
NUMBERS = (None, True, False, 0, 1, -1, 2, 17, 2**31, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 1.5, -0.0, 1e300)
NAMES = (
    "",
    "a",
    ROOM,
    VAULT,
    "chat:none",
    "user:mallory",
    "user:amy",
    "trip:1",
    "chat:",
    ":",
    "chat:a b",
    "\0",
    "\x1b[2J",
)
WORDS = f"{KEY} {KEY.upper()} message edit delete react member.left typing presence away online {'x' * 2000}".split()
WHOLES: tuple[Any, ...] = ([], {}, [[]], [ROOM], {"ref": 1}, {"ref": 99}, {"ref": "1"}, {"after": 0}, {"last": 3})
NESTED: tuple[Any, ...] = ({ROOM: {}}, {ROOM: 0}, {ROOM: {"after": 5}}, {"": {}}, {"ref": 1, "emoji": "x", "on": True})
VALUES: tuple[Any, ...] = (*NUMBERS, *NAMES, *WORDS, *WHOLES, *NESTED)
ANSWERS = frozenset(("ok", "error", "welcome", "pong", "bye", "event", "reset", "signal", "mark", "marks", "drain"))


def message(rng: random.Random, id: int) -> Frame:
    """Mostly a known op with the fields it takes, each good, odd or missing."""
    said: Frame = {"op": rng.choice(OPS) if rng.random() < 0.97 else rng.choice(VALUES), "id": id}
    for name in rng.sample(FIELDS, rng.randrange(1, 8)):
        said[name] = rng.choice(VALUES)
    if rng.random() < 0.6:
        said["stream"] = ROOM
    if rng.random() < 0.5:
        said["key"] = f"{rng.getrandbits(32):08x}-0000-4000-8000-000000000000"
    return said


@pytest.mark.parametrize("seed", range(12))
async def test_random_messages_are_answered(seed: int) -> None:
    """2,000 messages of one connection, pipelined: each is answered, once, and never with a mistake of ours."""
    rng = random.Random(seed)
    async with scene() as stage:
        peer = await stage.welcomed(roles=("admin",) if seed % 3 == 0 else ())
        count = 2_000
        answered: dict[int, Frame] = {}

        def heard(frame: Frame) -> None:
            assert frame["op"] in ANSWERS, frame
            assert frame.get("code") != "internal", frame
            if "id" in frame:
                assert answered.setdefault(frame["id"], frame) is frame, frame

        peer.on_message = heard
        stage.nursery.start_soon(peer.put, b"".join(text(message(rng, id)) for id in range(count)))
        await peer.until(lambda: len(answered) == count)
        assert {frame["op"] for frame in answered.values()} == {"ok", "error", "pong"}


async def _one_shot(stage: Scene, data: bytes) -> None:
    peer = await stage.connect()
    await peer.put(data)
    try:
        await peer.stream.send_eof()
    except trio.BrokenResourceError:
        pass
    await peer.ended()


@pytest.mark.parametrize("seed", range(6))
async def test_damaged_sessions_end_by_themselves(seed: int) -> None:
    """A good session's bytes with some flipped, cut, doubled or moved: 100 of them, each ended, none missed by others."""
    rng = random.Random(seed)
    async with scene() as stage:
        for n in range(100):
            hello = {"op": "hello", "id": 1, "token": token(f"user:f{n}"), "streams": {ROOM: {"after": 0}}}
            parts = [request(), text(hello), *(text(message(rng, id)) for id in range(2, 7))]
            parts.append(masked_frame(rng.choice((0, 1, 2, 8, 9, 10, 11)), rng.randbytes(rng.randrange(130)), MASK))
            data = bytearray(b"".join(parts))
            for _ in range(rng.randrange(4)):
                at = rng.randrange(len(data))
                kind = rng.randrange(4)
                if kind == 0:
                    data[at] ^= 1 << rng.randrange(8)
                elif kind == 1:
                    del data[at : at + rng.randrange(40)]
                elif kind == 2:
                    data[at:at] = data[at : at + rng.randrange(400)]
                else:
                    data[at:at] = rng.randbytes(rng.randrange(40))
            await _one_shot(stage, bytes(data))
        await stage.until(lambda: len(stage.node.node.shard.connections) == 20)


@pytest.mark.parametrize("seed", range(3))
async def test_damaged_http_requests_end_by_themselves(seed: int) -> None:
    """The same on the HTTP port, HTTP/2 included."""
    rng = random.Random(seed)
    body = orjson.dumps({"body": {"text": "hi"}})
    post = b"POST /v1/streams/chat:ops/events HTTP/1.1\r\n" + HEAD + b"Content-Type: application/json\r\n"
    post += b"Idempotency-Key: %b\r\nContent-Length: %d\r\n\r\n" % (KEY.encode(), len(body)) + body
    upgrade = request("GET /v1/me/streams HTTP/1.1")
    h2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    async with http_scene() as (stage, port):
        for _ in range(40):
            data = bytearray(rng.choice((post, post + post, upgrade + b"x" * 9, h2 + rng.randbytes(60))))
            for _ in range(rng.randrange(4)):
                at = rng.randrange(len(data))
                if rng.random() < 0.5:
                    data[at] ^= 1 << rng.randrange(8)
                else:
                    del data[at : at + rng.randrange(20)]
            await said(port, bytes(data))
        stage.pardon_all("Error in ASGI Framework")
