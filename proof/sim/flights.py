"""What simulated people want of flights: commands of every kind, right and wrong, and their repetition until they are answered.

People race each other at different nodes, some with the head that they saw (`expect`), and give a command that was answered
once more under its key now and then. Timers are due at once, soon, or long after the run; none falls due while the last look
is taken.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from core.flight.times import write
from proof.sim.recorder import WALL_S

if TYPE_CHECKING:
    from proof.sim.told import Frame, Told

Said = tuple[str, dict[str, Any]]
"""Verb and body."""
HOUR_MS: Final = 3_600_000
TOLD_MAX: Final = 8
"""Answered commands that a client may repeat."""
CONNECTIONS: Final = ("depart", "takeoff", "land", "arrive")
REASONS: Final = ({"code": "93", "minutes": 20}, {"code": "41"}, {"code": "no code"})


def names(flights: int, crew: str = "") -> tuple[str, ...]:
    """The streams of so many flights, of one tenant, and of one of the crew."""
    ledgers = (f"flight:crew.{crew}",) if crew else ()
    return tuple(name for n in range(1, flights + 1) for name in (f"flight:RB{n}0", f"flight:RB{n}0.seats")) + ledgers


def _timer(rng: random.Random, now_ms: int) -> Said:
    name = rng.choice(("a", "b", "c"))
    if rng.random() < 0.25:
        return "timer.cancel", {"name": name}
    due_ms = now_ms + rng.choice((-1_000, 0, 60, 300, 900, 1_500, 24 * HOUR_MS))
    body: dict[str, Any] = {"name": name, "due": write(due_ms)}
    return "timer.set", body


def _leg(rng: random.Random, now_ms: int) -> Said:
    minutes = 60_000 * rng.randrange(1, 90)
    return rng.choice(_LEG)(rng, now_ms, minutes)


_LEG: Final[tuple[Callable[[random.Random, int, int], Said], ...]] = (
    lambda rng, now_ms, more: (
        "schedule",
        {"flight": "RB10", "from": "CNS", "to": "TSV", "out": write(now_ms + HOUR_MS), "in": write(now_ms + 2 * HOUR_MS),
         "registration": rng.choice(("VH-RB1", "VH-RB2"))},
    ),
    lambda rng, now_ms, more: ("estimate", {"milestone": rng.choice(("OUT", "IN")), "at": write(now_ms + HOUR_MS + more)}),
    lambda rng, now_ms, more: (rng.choice(CONNECTIONS), {"at": write(now_ms - more // 60)}),
    lambda rng, now_ms, more: (rng.choice(CONNECTIONS), {}),
    lambda rng, now_ms, more: ("delay", {"reasons": [rng.choice(REASONS)]}),
    lambda rng, now_ms, more: ("gate", {"departure": {"gate": str(rng.randrange(1, 9))}}),
    lambda rng, now_ms, more: ("movement", {"actual": {"OUT": write(now_ms - more // 60)}, "reasons": [REASONS[0]]}),
    lambda rng, now_ms, more: ("equip", {"registration": rng.choice(("VH-RB1", "VH-RB2", "VH-RB3"))}),
    lambda rng, now_ms, more: ("cancel", {"reason": "weather"}),
    lambda rng, now_ms, more: ("reinstate", {"reason": "the weather is better"}),
    lambda rng, now_ms, more: ("depart", {"at": write(now_ms + 30 * HOUR_MS)}),
    lambda rng, now_ms, more: ("fly", {}),
)  # fmt: skip


def _seats(rng: random.Random, now_ms: int) -> Said:
    who = f"p{rng.randrange(4)}"
    seat = rng.choice(("1A", "1B", "2A", "9Z"))
    verb = rng.choice(
        ("open", "open", "book", "book", "assign", "assign", "hold", "change", "release", "cancel", "board")
    )
    if verb == "open":
        return verb, {"flight": "RB10", "layout": "1-2:AB"}
    if verb == "hold":
        return verb, {"passenger": who, "seat": seat, "until": write(now_ms + rng.choice((200, 900, 24 * HOUR_MS)))}
    body: dict[str, Any] = {"passenger": who}
    if verb in ("assign", "change"):
        body["seat"] = seat
    return verb, body


def _crew(rng: random.Random, now_ms: int) -> Said:
    flight = rng.choice(("RB10", "RB20"))
    verb = rng.choice(("assign", "assign", "release", "acknowledge", "report"))
    if verb == "assign":
        report_ms = now_ms + HOUR_MS * rng.choice((1, 1, 20))
        times = {"report_at": write(report_ms), "release_at": write(report_ms + 3 * HOUR_MS), "block_minutes": 90}
        return verb, {"flight": flight, "role": "cabin", **times}
    return verb, {"flight": flight} | ({"why": "the roster changed"} if verb == "release" else {})


def _verb(stream: str) -> Callable[[random.Random, int], Said]:
    return _seats if stream.endswith(".seats") else _crew if ":crew." in stream else _leg


async def give_command(visit: Told) -> None:
    """One command to a flight that this client may follow or not."""
    client, rng, world = visit.client, visit.rng, visit.world
    stream = rng.choice(world.flights)
    now_ms = int((WALL_S + world.recorder.now()) * 1000)
    if rng.random() < 0.35:
        verb, body = _timer(rng, now_ms)
        if verb == "timer.set" and rng.random() < 0.4 and _verb(stream) is _leg:
            body["do"] = {"type": "gate", "body": {"arrival": {"stand": str(rng.randrange(1, 9))}}}
    else:
        verb, body = _verb(stream)(rng, now_ms)
    key = world.key(client.rng)
    expect = client.cursors.get(stream) if rng.random() < 0.15 else None
    fields: Frame = {"type": verb, "body": body} | ({} if expect is None else {"expect": expect})
    client.commands[key] = (stream, fields)
    await give(visit, stream, key, fields)


async def give(visit: Told, stream: str, key: str, fields: Frame) -> None:
    await visit.say("command", stream=stream, key=key, **fields)


async def give_again(visit: Told) -> None:
    """One that was answered long ago, under its key: the answer must be what it was."""
    client = visit.client
    if client.told:
        key = visit.rng.choice(list(client.told))
        stream, fields = client.told[key]
        await give(visit, stream, key, fields)


def answered(visit: Told, frame: Frame, key: str) -> None:
    """What the client makes of an answer to a command."""
    client = visit.client
    code = frame.get("code", "")
    if code in ("unavailable", "overloaded", "rate_limited"):
        if key in client.commands:
            client.failed.add(key)
        return
    given = client.commands.pop(key, None)
    client.failed.discard(key)
    if given is not None and (frame["op"] == "ok" or code == "rejected"):
        client.told[key] = given
        if len(client.told) > TOLD_MAX:
            del client.told[next(iter(client.told))]
    meters = visit.world.meters
    if code == "rejected":
        meters.seen("command refused by its machine")
    elif code == "conflict":
        meters.seen("command met another head")
    if frame.get("dup"):
        meters.seen("command answered again as before")
