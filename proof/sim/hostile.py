"""Who breaks the rules in a simulated run, again and again, and may harm nobody by it."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import orjson
import trio

from core.frames import TEXT, masked_frame
from proof import history
from proof.sim.told import MASK, UPGRADE

if TYPE_CHECKING:
    from proof.sim.world import World

HOSTILITIES: Final[list[Callable[[random.Random], bytes]]] = [
    lambda rng: rng.randbytes(rng.randrange(1, 200)),
    lambda rng: masked_frame(TEXT, b'{"op":', MASK),
    lambda rng: masked_frame(TEXT, b"[1,2,3]", MASK),
    lambda rng: masked_frame(TEXT, b"\xff\xfe", MASK),
    lambda rng: masked_frame(2, b"binary", MASK),
    lambda rng: masked_frame(TEXT, b"[" * 200 + b"]" * 200, MASK),
    lambda rng: bytes((0x81, 0xFF)) + b"\x7f" * 8,
    lambda rng: bytes((0x81, 0x05)) + b"hello",
    lambda rng: masked_frame(0, b"nothing to go on from", MASK),
    lambda rng: masked_frame(TEXT, b'{"op":"send","id":1,"stream":[],"key":{},"body":1}', MASK),
    lambda rng: masked_frame(TEXT, b'{"op":"hello","id":1,"token":{"a":1},"streams":[]}', MASK),
    lambda rng: masked_frame(TEXT, b'{"op":"sub","id":1e400,"stream":"chat:a"}', MASK),
]


async def harass(world: World, rng: random.Random) -> None:
    """Somebody who breaks rules, again and again, to the end of the troubles."""
    for number in itertools.count():
        await trio.sleep(rng.choice((0.1, 0.5, 1.5)))
        if world.calm:
            return
        host = world.somewhere(rng)
        if host is None:
            continue
        name = f"hostile.{number}"
        link = world.connect(name, host, rng)
        add, now = world.recorder.add, world.recorder.now
        add(history.Open(now(), name, "hostile", "nobody", "user:nobody", host.name, "none", hostile=True))
        with contextlib.suppress(trio.BrokenResourceError), trio.move_on_after(2.0):
            if rng.random() < 0.9:
                await link.send(UPGRADE % b"")
            if rng.random() < 0.5:
                token = world.token(next(iter(world.rooms)), "user:mallory", 3600.0)
                await link.send(masked_frame(TEXT, orjson.dumps({"op": "hello", "id": 0, "token": token}), MASK))
            for _ in range(rng.randrange(1, 4)):
                await link.send(rng.choice(HOSTILITIES)(rng))
            while await link.receive():
                pass
            world.meters.seen("hostile connection ended")
        add(history.Ended(now(), name, "server"))
        link.cut()
