"""One connection speaks for a session, on whichever node: the rule that `core.session` keeps within a node, among nodes.

Using a resume token is claimed on the bus, where raising a number is atomic: of two resumes with one token, anywhere,
one finds the number as its token says and the other finds it raised. What was claimed is then told on a channel, and a
node that holds an older connection of that session ends it.

With the bus away a node decides by its own memory and the signature, keeps the claim, and makes it when the bus is back.
A token used on two nodes meanwhile gives two connections; then the one with more resumes behind it stays, or, at as many,
the one on the node with the higher id: both nodes come to the same answer by themselves. Returning also asks, for every
session spoken for here, whether another took it over unheard.

Promises: a resume waits for the bus at most `CLAIM_WAIT_S`, and not at all while it has just failed to answer; what is
kept is bounded by ``claims_kept_max`` (past it the oldest claim is forgotten: its token may be used once more elsewhere
until it expires). Does not: decide whether a token may resume at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import trio

from core.bus import Bus
from core.ports import Unavailable
from core.wire import Close

if TYPE_CHECKING:
    from gateway.node import Node

CLAIM_WAIT_S: Final = 0.3
"""A Redis beside its nodes answers in 1 ms; who waits longer than this is better served without it."""
SILENT_S: Final = 1.0
"""After a claim that nobody answered in time the bus is not asked for so long, or a storm would queue behind each wait."""
ASKS_AT_ONCE: Final = 64
SUPERSEDED: Final = "a newer connection speaks for this session"


class Claims:
    """Exists only where a bus does."""

    def __init__(self, node: Node, bus: Bus, node_id: str) -> None:
        self._node = node
        self._bus = bus
        self._node_id = node_id
        self._ttl_s = 2 * node.limits.resume_ttl_s  # as long as a node remembers: a reuse is still recognised
        self._kept: dict[str, int] = {}
        self._look = False
        """Whether sessions here may have been taken over unheard."""
        self._again = trio.Event()
        self._silent_until_s = 0.0
        self.unheard = 0
        self.elsewhere = 0
        counter = node.measures.registry.counter_read
        counter("readback_claims_unheard_total", "Resumes decided without the bus.", lambda: self.unheard)
        counter("readback_taken_elsewhere_total", "Connections ended for one elsewhere.", lambda: self.elsewhere)
        node.measures.registry.gauge("readback_claims_kept", "Claims that wait for the bus.", lambda: len(self._kept))

    async def claim(self, session: str, generation: int) -> bool:
        """Whether nobody has made this generation of the session before; without the bus's answer, yes."""
        now_s = trio.current_time()
        if now_s >= self._silent_until_s:
            before = await self._raise(session, generation)
            if before is not None:
                return before < generation
        self.unheard += 1
        self._keep(session, generation)
        return True

    async def _raise(self, session: str, generation: int) -> int | None:
        """What the number was; ``None`` where the bus did not say in time."""
        before = None
        with trio.move_on_after(CLAIM_WAIT_S) as waiting:
            try:
                before = await self._bus.raise_number(f"s:{session}", generation, self._ttl_s)
            except Unavailable:
                pass
        if waiting.cancelled_caught:
            self._silent_until_s = trio.current_time() + SILENT_S
        return before

    def _keep(self, session: str, generation: int) -> None:
        if len(self._kept) >= self._node.limits.claims_kept_max:
            del self._kept[next(iter(self._kept))]
        self._kept[session] = generation
        self._again.set()

    def tell(self, session: str, generation: int) -> None:
        """A connection here speaks for the session by this generation of its tokens."""
        if self._node.cluster is not None:
            self._node.cluster.publish_session(session, generation)

    # -- being told ---------------------------------------------------------------------------------------------------

    def superseded(self, session: str, generation: int, node_id: str) -> None:
        """Another node says that it speaks for the session."""
        if self._node.sessions.spoken_for(session) == generation and node_id < self._node_id:
            self.tell(session, generation)  # as many resumes on both: they have to hear that it is ours
        else:
            self._give_up(session, generation)

    def _give_up(self, session: str, generation: int) -> None:
        node = self._node
        connection = node.sessions.taken(session, generation, node.wall())
        if connection is not None:
            self.elsewhere += 1
            node.shard.bye(connection, Close.SUPERSEDED, SUPERSEDED)

    # -- after an outage ----------------------------------------------------------------------------------------------

    def bus_changed(self) -> None:
        """It went away, or came back: then what it missed and what we missed is made good."""
        if self._bus.trouble is None:
            self._look = True
            self._silent_until_s = 0.0
            self._again.set()

    async def run(self) -> None:
        while True:
            await self._again.wait()
            self._again = trio.Event()
            while self._bus.trouble is None:
                if await self._make_good():
                    break
                await trio.sleep(SILENT_S)

    async def _make_good(self) -> bool:
        """Make the claims that were kept and look after the sessions here; False where the bus failed meanwhile."""
        look, self._look = self._look, False
        todo: list[tuple[str, int, bool]] = [(session, generation, True) for session, generation in self._kept.items()]
        if look:
            todo += [(*spoken, False) for spoken in self._node.sessions.speaking() if spoken[0] not in self._kept]
        asks = iter(todo)
        answered = [True]
        async with trio.open_nursery() as nursery:
            for _ in range(min(ASKS_AT_ONCE, len(todo))):
                nursery.start_soon(self._ask, asks, answered)
        if not answered[0]:
            self._look = self._look or look
        self._node.settle()
        return answered[0]

    async def _ask(self, asks: Iterator[tuple[str, int, bool]], answered: list[bool]) -> None:
        for session, generation, kept in asks:
            # A Redis that came back empty is told again what was used. Raising to 0 only asks: a first token used nothing.
            before = await self._raise(session, generation if generation > 1 else 0)
            if before is None:
                answered[0] = False
            if not answered[0]:
                return
            if kept and self._kept.get(session) == generation:
                del self._kept[session]
            if before is not None and before > generation:
                self._give_up(session, before)
            elif kept and self._node.sessions.spoken_for(session) == generation:
                self.tell(session, generation)
