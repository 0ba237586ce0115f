"""What a simulated client does while it is connected: sends, repeats what was not answered, marks, types, asks, goes away."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import orjson
import trio

from core.frames import TEXT, masked_frame
from proof.sim.flights import give, give_again, give_command

if TYPE_CHECKING:
    from proof.sim.told import Frame, Told


FLOOD: Final = 200
PING_FRAME: Final = masked_frame(TEXT, b'{"op":"ping"}', b"\x01\x02\x03\x04")


async def talk(visit: Told) -> None:
    """Until cancelled, or the link ends: who reads notices that."""
    with contextlib.suppress(trio.BrokenResourceError):
        await _say_things(visit)


async def _say_things(visit: Told) -> None:
    client, rng, world = visit.client, visit.rng, visit.world
    first = True
    while True:
        for key, (stream, body, expect) in list(client.pending.items()):
            if not first and key not in client.failed:
                continue  # it is on its way on this connection
            client.failed.discard(key)
            client.repeated.add(key)
            await _send(visit, stream, key, body, expect)
        for key, (stream, fields) in list(client.commands.items()):
            if first or key in client.failed:
                client.failed.discard(key)
                await give(visit, stream, key, fields)
        first = False
        if world.calm:
            await trio.sleep(0.3)
            for key in (*client.pending, *client.commands):
                if not any(asked[2] == key for asked in visit.answers.values()):
                    client.failed.add(key)
            continue
        await trio.sleep(rng.choice(world.swarm.pauses_s))
        await (rng.choices(_FLY, _FLY_WEIGHTS) if world.flights else rng.choices(_WHAT, _WEIGHTS))[0](visit)


def _room(visit: Told) -> str:
    rooms = visit.world.rooms[visit.client.tenant]
    mine = [name for name in rooms if name in visit.following]
    return visit.rng.choice(mine if mine and visit.rng.random() < 0.8 else rooms)


async def say_something(visit: Told) -> None:
    client = visit.client
    stream = _room(visit)
    key = visit.world.key(client.rng)
    client.sent += 1
    pad = "x" * visit.rng.choice(visit.world.swarm.pads)
    body = orjson.dumps({"n": client.sent, "w": client.tenant, "pad": pad})
    expect = client.cursors.get(stream) if visit.rng.random() < 0.08 else None
    client.pending[key] = (stream, body, expect)
    await _send(visit, stream, key, body, expect)


async def _send(visit: Told, stream: str, key: str, body: bytes, expect: int | None) -> None:
    fields: Frame = {} if expect is None else {"expect": expect}
    await visit.say("send", stream=stream, key=key, type="message", body=orjson.Fragment(body), **fields)


async def mark_read(visit: Told) -> None:
    if visit.following:
        stream = _room(visit)
        seq = visit.client.cursors.get(stream, 0)
        if visit.rng.random() < 0.3:
            seq = visit.rng.randrange(seq + 1)  # as a second device does that has not seen as much
        await visit.say("mark", stream=stream, delivered=seq, read=visit.rng.randrange(seq + 1))


async def type_something(visit: Told) -> None:
    await visit.say("signal", stream=_room(visit), kind="typing", value=visit.rng.random() < 0.7)


async def go_away(visit: Told) -> None:
    visit.away = not visit.away
    await visit.say("signal", stream=_room(visit), kind="presence", value="away" if visit.away else "online")


async def ask_who(visit: Told) -> None:
    await visit.say("presence", stream=_room(visit))


async def look_back(visit: Told) -> None:
    await visit.say("history", stream=_room(visit), limit=5)


async def ping(visit: Told) -> None:
    await visit.say("ping")


async def flood(visit: Told) -> None:
    """Small questions, more at once than answers may wait for somebody who does not read."""
    if visit.client.slow:
        await visit.link.send(PING_FRAME * FLOOD)


async def change_rooms(visit: Told) -> None:
    stream = _room(visit)
    if any(asked[0] in ("sub", "unsub") for asked in visit.answers.values()):
        return  # one after the other, so that what is followed when is beyond doubt
    if stream in visit.following:
        await visit.say("unsub", stream=stream)
    else:
        await visit.say("sub", stream=stream, after=visit.client.cursors.get(stream, 0))


async def ask_the_unknown(visit: Told) -> None:
    if visit.client.newer:
        await visit.say("react_v2", stream=_room(visit), emoji="+1")


async def forget_something(visit: Told) -> None:
    """One send is given up: what became of it nobody will ask."""
    if visit.client.pending and visit.rng.random() < 0.3:
        key = next(iter(visit.client.pending))
        del visit.client.pending[key]
        visit.client.failed.discard(key)


_TALK: Final[list[tuple[Callable[[Told], Awaitable[None]], int]]] = [
    (say_something, 60), (mark_read, 10), (type_something, 14), (go_away, 2), (ask_who, 3),
    (look_back, 3), (ping, 4), (change_rooms, 6), (ask_the_unknown, 2), (forget_something, 2), (flood, 3),
]  # fmt: skip
_WHAT: Final = [do for do, _ in _TALK]
_WEIGHTS: Final = [weight for _, weight in _TALK]
_FLY: Final = [*_WHAT, give_command, give_again]
_FLY_WEIGHTS: Final = [*_WEIGHTS, 70, 10]
"""Where there are flights."""
