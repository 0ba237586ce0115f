"""What the harness may ask of a crowd while its chat goes on, one word at a time, and the account at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from bench.gen.audit import wrong_presence
from bench.gen.link import counted_from, monotonic_ns
from bench.gen.raw import OPEN
from bench.gen.recorded import Recorded, Tape
from proof.history import Record, There, View

if TYPE_CHECKING:
    from bench.gen.crowd import Client, Crowd

TICK_S = 0.002
WHOLE_LIMIT_S = 40.0
PRESENCE_LIMIT_S = 5.0
PRESENT_LIMIT_S = 12.0
"""A lease and time to spare: the longest that presence may be wrong after the last trouble."""


class Words:
    """What the harness may ask for while the chat goes on; each answers with a result."""

    def __init__(self, crowd: Crowd) -> None:
        self.crowd = crowd
        self.sending: asyncio.Task[None] | None = None
        self.phase_began_ns = monotonic_ns()

    async def answer(self, word: dict[str, Any]) -> dict[str, Any]:
        known: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]] = {
            "chat": self.chat,
            "phase": self.phase,
            "away": self.away,
            "back": self.back,
            "presence": self.presence,
            "standing": self.standing,
            "stop": self.stop,
        }
        return await known[word["do"]](word)

    async def chat(self, word: dict[str, Any]) -> dict[str, Any]:
        """Begin to send, ``rate`` a second over the whole crowd."""
        self.sending = asyncio.create_task(paced(self.crowd, word["rate"]))
        return {}

    async def phase(self, word: dict[str, Any]) -> dict[str, Any]:
        """Latencies go under this name from now on."""
        self.crowd.phases.enter(word["name"])
        return {}

    async def away(self, word: dict[str, Any]) -> dict[str, Any]:
        """Every ``every``-th client of a port will not come back once it has lost its connection."""
        here = [client for client in self.crowd.clients if client.port == word["port"]]
        for client in here[:: word["every"]]:
            client.away = True
        return {"clients": len(here), "away": len(here[:: word["every"]])}

    async def back(self, word: dict[str, Any]) -> dict[str, Any]:
        """Those that stayed away return, spread like others."""
        for client in self.crowd.clients:
            if client.away:
                client.away = False
                client.gone_ns = monotonic_ns()
                self.crowd.later(self.crowd.random.uniform(0.0, self.crowd.return_s), client.come_back)
        return {}

    async def standing(self, word: dict[str, Any]) -> dict[str, Any]:
        """Who is connected, and who is still on the way back."""
        clients = self.crowd.clients
        by_port = {
            str(port): sum(one.state == OPEN and one.port == port for one in clients) for port in self.crowd.ports
        }
        missing = sum(one.gone_ns != 0 and not one.away for one in clients)
        return {"open": by_port, "missing": missing}

    async def presence(self, word: dict[str, Any], write: Callable[[Record], None] | None = None) -> dict[str, Any]:
        """Ask one member of every room on every node who is there, and compare with who is. Both are written down where
        ``write`` is given."""
        rooms: dict[bytes, dict[int, Client]] = {}
        there: dict[bytes, set[str]] = {}
        for client in self.crowd.clients:
            if client.state != OPEN:
                continue
            for room in client.rooms:
                rooms.setdefault(room, {})[client.port] = client
                there.setdefault(room, set()).add(client.who)
        wrong = asked = answered = 0

        def judged(room: bytes, client: Client, message: dict[str, Any]) -> None:
            nonlocal wrong, answered
            answered += 1
            if message["op"] != "ok":
                wrong += 1
                return
            online = {one["by"]: one["value"] for one in message["online"]}
            wrong += wrong_presence(online, there[room])
            if write is not None and isinstance(client, Recorded) and client.watched is not None:
                now, conn, stream = client.tape.now(), client.watched.conn, room.decode()
                write(View(now, conn, stream, client.cursors[room], present=online))

        for room, observers in rooms.items():
            if write is not None:
                one = next(iter(observers.values()))
                assert isinstance(one, Recorded)
                write(There(one.tape.now(), one.tenant, room.decode(), dict.fromkeys(there[room], "online")))
            for client in observers.values():
                asked += 1
                client.ask(room, partial(judged, room, client))
            if asked % 64 < len(observers):
                await asyncio.sleep(0)
        deadline = monotonic_ns() + int(PRESENCE_LIMIT_S * 1e9)
        while answered < asked and monotonic_ns() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return {"wrong": wrong, "asked": asked, "unanswered": asked - answered}

    async def stop(self, word: dict[str, Any]) -> dict[str, Any]:
        """End the chat, wait until everybody is whole, and give the account."""
        crowd = self.crowd
        if self.sending is not None:
            self.sending.cancel()
        audit = crowd.audit
        deadline = monotonic_ns() + int(WHOLE_LIMIT_S * 1e9)
        while monotonic_ns() < deadline:
            if all(one.whole() for one in crowd.clients) and not audit.behind(one.cursors for one in crowd.clients):
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(word["linger_s"])  # would anything come twice?
        if crowd.tape is not None:
            await self.write_end(crowd.tape)
        return account(crowd)

    async def write_end(self, tape: Tape) -> None:
        """Who holds whom to be there, once that is right or should be; and where everybody stands."""
        deadline = monotonic_ns() + int(PRESENT_LIMIT_S * 1e9)
        while (told := await self.presence({}))["wrong"] + told["unanswered"] and monotonic_ns() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
        await self.presence({}, write=tape.write)
        for client in self.crowd.clients:
            assert isinstance(client, Recorded)
            client.stand({room.decode(): cursor for room, cursor in client.cursors.items()})
        tape.close()


def account(crowd: Crowd) -> dict[str, Any]:
    """Everything counted, and every latency."""
    audit, clients = crowd.audit, crowd.clients
    behind = audit.behind(one.cursors for one in clients)
    return {
        "sends": crowd.sends,
        "answered": crowd.answered,
        "unanswered": sum(len(one.pending) for one in clients),
        "late": crowd.late,
        "repeats": crowd.repeats,
        "delivered": audit.delivered,
        "lost": audit.skipped + behind,
        "gaps": audit.skipped,
        "duplicates": audit.duplicates,
        "conflicts": audit.conflicts + audit.doubled(),
        "not_whole": sum(not one.whole() for one in clients),
        "resets": crowd.resets,
        "resumes": crowd.resumes,
        "rejected": crowd.rejected,
        "refused": crowd.refused,
        "ended": dict(sorted(crowd.lost.items(), key=lambda item: -item[1])[:8]),
        "slots": {str(port): moments for port, moments in crowd.slots.items()},
        "begun": {str(port): moments for port, moments in crowd.begun.items()},
        "returns": crowd.returns,
        "phases": crowd.phases.told(),
        "began_ns": crowd.phases.began_ns,
        "series": sorted(crowd.phases.series.items()),
    }


async def paced(crowd: Crowd, rate: float) -> None:
    """Everything that is due at every tick, until cancelled."""
    gap_ns = 1e9 / rate
    began, number = monotonic_ns(), 0
    while True:
        now = monotonic_ns()
        while (due := began + int(number * gap_ns)) <= now:
            number += 1
            crowd.late += now - due > 10 * TICK_S * 1e9
            crowd.send_next(counted_from(due))
        await asyncio.sleep(TICK_S)
