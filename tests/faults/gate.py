"""A stream with a door, and who is put out of it and let in again while everything fails.

Removals and admissions go over HTTP to whichever node answers, and are repeated until one says that it is so. In the end
somebody stays outside.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import httpx
import orjson
import trio

from proof import history as proof
from tests.faults.histories import Seen
from tests.faults.person import Frame
from tests.faults.processes import NodeProcess
from tests.nodes import token

GATE = "chat:gate"
AGAIN_S = 0.2
ANSWER_S = 5.0
PAUSE_S = (0.3, 2.0)


class Gatekeeper:
    def __init__(
        self, tenant: str, people: Sequence[str], nodes: Mapping[str, NodeProcess], rng: random.Random
    ) -> None:
        self.tenant = tenant
        self.members = set(people)
        self.changes = 0
        self._people = list(people)
        self._nodes = list(nodes.values())
        self._rng = rng
        self._closing = False
        self._closed = trio.Event()

    async def run(self) -> None:
        """Somebody goes or comes, again and again."""
        rng = self._rng
        while not self._closing:
            who = rng.choice(self._people)
            await (self._put_out(who) if who in self.members else self._let_in(who))
            await trio.sleep(rng.uniform(*PAUSE_S))
        outside = rng.choice(self._people)
        for who in self._people:
            if who == outside and who in self.members:
                await self._put_out(who)
            elif who != outside and who not in self.members:
                await self._let_in(who)
        self._closed.set()

    async def close(self) -> None:
        """One stays outside, everybody else is in, and nobody comes or goes any more."""
        self._closing = True
        await self._closed.wait()

    async def _put_out(self, who: str) -> None:
        self.members.discard(who)
        await self._ask("DELETE", who, done=(200, 404))  # an earlier one whose answer was lost may have done it

    async def _let_in(self, who: str) -> None:
        await self._ask("PUT", who, done=(200,))
        self.members.add(who)

    async def _ask(self, method: str, who: str, *, done: Sequence[int]) -> None:
        credential = token("service:gate", tenant=self.tenant, roles=["service"])
        headers = {"Authorization": f"Bearer {credential}"}
        self.changes += 1
        while True:
            node = self._rng.choice(self._nodes)
            url = f"http://127.0.0.1:{node.http_port}/v1/streams/{GATE}/members/{who}"
            try:
                async with httpx.AsyncClient(timeout=ANSWER_S) as client:
                    response = await client.request(method, url, headers=headers)
            except httpx.HTTPError:
                pass
            else:
                if response.status_code in done:
                    return
                assert response.status_code >= 500, response.text
            await trio.sleep(AGAIN_S)


def member_records(t: float, tenant: str, events: Sequence[Seen]) -> list[proof.Record]:
    """What the gate's log says of who came and went."""
    records: list[proof.Record] = []
    for event in events:
        _, type, _, body = event.what.split(" ", 3)
        if type.startswith("member."):
            told: Frame = orjson.loads(body)
            records.append(proof.Member(t, tenant, GATE, told["principal"], told.get("role"), event.seq))
    return records
