"""The clients of a simulated run: people and devices who talk, read slowly, vanish, and come back anywhere.

Each keeps, over many connections, what a good client keeps: cursors, the newest resume token, sends not yet answered. What a
connection is told is written down by `proof.sim.told`; nothing here decides about right and wrong: `proof.guarantees`
does, afterwards.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any

import trio

from proof.sim import talk
from proof.sim.net import Host
from proof.sim.told import Frame, Gone, Told
from proof.sim.visit import Visit

if TYPE_CHECKING:
    from proof.sim.world import World


class Client:
    """One device of a principal."""

    def __init__(self, world: World, name: str, tenant: str, principal: str, rng: random.Random) -> None:
        self.world = world
        self.name = name
        self.tenant = tenant
        self.who = principal
        self.rng = rng
        swarm = world.swarm
        self.newer = rng.random() < swarm.newer_clients
        """Speaks a later version of the wire: fields and ops that nobody here knows."""
        self.slow = rng.random() < swarm.slow_readers
        self.short_lived = rng.random() < swarm.short_tokens
        self.cursors: dict[str, int] = {}
        self.epoch: str | None = None
        self.resume: str | None = None
        self.resume_until_s = 0.0
        self.spent = False
        """The resume token was presented and no answer came: it may have been used."""
        self.used: str | None = None
        """A token that was used up long ago."""
        self.auth_until_s = 0.0
        self.pending: dict[str, tuple[str, bytes, int | None]] = {}
        """Sends not yet answered: stream, body and ``expect`` by key. Repeated until they are."""
        self.commands: dict[str, tuple[str, dict[str, Any]]] = {}
        """Commands not yet answered: stream and fields by key. Repeated as sends are."""
        self.told: dict[str, tuple[str, dict[str, Any]]] = {}
        """The last ones that were obeyed or refused."""
        self.failed: set[str] = set()
        """Of these, answered ``unavailable`` or waited for in vain: to be sent again, with the same key."""
        self.repeated: set[str] = set()
        self.sent = 0
        self.connections = 0
        self.visit: Visit | None = None
        self.life: trio.CancelScope | None = None
        self.pause_s = 0.0

    # -- over many connections --------------------------------------------------------------------------------------------

    async def live(self) -> None:
        rng, world = self.rng, self.world
        while True:
            await trio.sleep(
                min(self.pause_s + 0.02, 0.4) if world.calm else self.pause_s + rng.choice((0.0, 0.02, 0.2, 0.6))
            )
            self.pause_s = 0.0
            host = world.somewhere(rng)
            if host is None:
                self.pause_s = 0.1
                continue
            life_s = math.inf if world.calm else rng.choice(world.swarm.lives_s)
            with trio.CancelScope(deadline=trio.current_time() + life_s) as self.life:
                await self._one(host)

    async def _one(self, host: Host) -> None:
        self.connections += 1
        link = self.world.connect(f"{self.name}.{self.connections}", host, self.rng)
        self.visit = visit = Visit(self, link, host)
        try:
            await visit.run()
        except Gone:
            pass
        except trio.BrokenResourceError:
            visit.ended("network")
        finally:
            visit.leave()
            self.visit = None

    async def look_in(self, host: Host) -> None:
        """One connection that follows everything from its head and asks who is there."""
        link = self.world.connect(self.name, host, self.rng)
        self.visit = visit = Visit(self, link, host)
        try:
            await visit.look_in()
        except (Gone, trio.BrokenResourceError):
            visit.ended("network")
        finally:
            visit.ended("client")
            link.cut()

    def judged(self, visit: Told, frame: Frame) -> None:
        """The answer to fixes of its own."""

    async def talk(self, visit: Visit) -> None:
        """What it does while it is connected."""
        await talk.talk(visit)

    def token(self, ttl_s: float) -> str:
        return self.world.token(self.tenant, self.who, ttl_s)

    def wanted(self) -> list[str]:
        rooms = self.world.rooms[self.tenant]
        if self.world.calm:
            return list(rooms)
        return [name for name in rooms if self.rng.random() < self.world.swarm.follows]
