"""What goes wrong in a run, and when: drawn from its seed, so that a seed names a run.

Pure. Every kind of trouble comes up before any comes up again, so a run of usual length has each of them at least once, in
an order and with overlaps that no one would think of. What one trouble holds (a node, a server, somebody's way) no other takes
before it is over; beyond that they overlap as they fall.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple


class Kind(NamedTuple):
    on: str
    """Whose trouble: a node, its bus (the link to Redis), postgres, redis, or people (their ways)."""
    for_s: tuple[float, float]
    """Shortest and longest."""


KINDS: Final[dict[str, Kind]] = {
    "node killed": Kind("node", (0.1, 3.0)),
    "node stopped": Kind("node", (1.0, 15.0)),
    "node drained": Kind("node", (0.1, 2.0)),
    "postgres killed": Kind("postgres", (0.1, 3.0)),
    "postgres stopped": Kind("postgres", (0.5, 5.0)),
    "disk full": Kind("postgres", (1.0, 4.0)),
    "redis killed": Kind("redis", (0.1, 4.0)),
    "redis stopped": Kind("redis", (0.5, 6.0)),
    "bus cut": Kind("bus", (0.5, 5.0)),
    "bus stalled": Kind("bus", (0.5, 5.0)),
    "way cut": Kind("people", (0.0, 0.0)),
    "way slow": Kind("people", (1.0, 6.0)),
    "way stalled up": Kind("people", (1.0, 8.0)),
    "way stalled down": Kind("people", (1.0, 8.0)),
    "way dribbles": Kind("people", (1.0, 6.0)),
    "way vanishes": Kind("people", (0.0, 0.0)),
}
GAP_S: Final = (0.2, 2.6)
"""From the beginning of one trouble to the next: most of them overlap."""
LAST_S: Final = 0.85
"""The part of a run in which troubles begin; the rest is for those that last."""


@dataclass(frozen=True, slots=True)
class Trouble:
    at_s: float
    kind: str
    on: tuple[str, ...]
    """The node's name, the server's, or the people's."""
    for_s: float

    def __str__(self) -> str:
        lasting = f" for {self.for_s:.1f} s" if self.for_s else ""
        return f"{self.at_s:5.1f} s {self.kind}: {', '.join(self.on)}{lasting}"


def draw(
    seed: int, length_s: float, nodes: Sequence[str], people: Sequence[str], *, without: Collection[str] = ()
) -> list[Trouble]:
    """In order of time. ``without``: kinds that cannot be had here; the rest of the plan is then another."""
    rng = random.Random(f"readback {seed}")
    kinds = [kind for kind in KINDS if kind not in without]
    deck: list[str] = []
    busy: dict[str, float] = {}
    plan: list[Trouble] = []
    at_s = rng.uniform(0.5, 1.5)
    while at_s < length_s * LAST_S:
        if not deck:
            deck = rng.sample(kinds, len(kinds))
        for place, kind in enumerate(deck):
            targets = _targets(kind, nodes, people, rng)
            if all(busy.get(target, 0.0) <= at_s for target in targets):
                del deck[place]
                shortest, longest = KINDS[kind].for_s
                for_s = min(rng.uniform(shortest, longest), length_s - at_s)
                plan.append(Trouble(round(at_s, 3), kind, tuple(name for _, name in targets), round(for_s, 3)))
                # A server that was down needs a moment to be up again; then it may be met anew.
                busy.update(dict.fromkeys(targets, at_s + for_s + 0.5))
                break
        at_s += rng.uniform(*GAP_S)
    return plan


def _targets(kind: str, nodes: Sequence[str], people: Sequence[str], rng: random.Random) -> list[tuple[str, str]]:
    """As (whose trouble, name): a node and the same node's bus are two."""
    on = KINDS[kind].on
    match on:
        case "node" | "bus":
            return [(on, rng.choice(nodes))]
        case "people":
            return [(on, name) for name in sorted(rng.sample(people, rng.randint(1, max(1, len(people) // 3))))]
        case _:
            return [(on, on)]
