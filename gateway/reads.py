"""`gateway.reads_service.ReadsService` over a node: read models as they are now, and the past from the log.

What is asked without a moment comes from the read model, where there is one, with how far that is behind; a flight's and a crew
member's own state is folded from the log at once. What is asked as of a moment is always folded, in the shape that the read
model has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from core.flight import ledger
from core.flight.read_models import source_of
from core.flight.views import CONSUMER
from core.flight.views_board import BOARD, BOARD_VIEW, LINE, days, stations
from core.flight.views_cabin import CABIN_VIEW, MANIFEST, SEATS, as_at
from core.flight.views_crew import RELEASED, ROSTER, Crew, member_of
from core.policy import FOLLOWS, role_in
from core.ports import Unavailable
from core.stream import Stream
from core.tokens import Identity
from core.work import Row, Work
from gateway.board import STREAM as BOARD_STREAM
from gateway.desk import Desk
from gateway.facts import Facts
from gateway.node import Node
from gateway.ops import unavailable
from gateway.past import NOW, AsOf, cabin_of, flight_of, seq_of
from gateway.reads_service import Listing, Rows, State
from gateway.service import WireError

PAGE: Final = 1_000
SCANNED_MAX: Final = 5_000
"""Rows looked at for one page of the board; where few of them are asked for, the page is short and says where to go on."""


class Reads:
    def __init__(self, node: Node, work: Work, desk: Desk) -> None:
        self._node = node
        self._work = work
        self._desk = desk
        self._facts = Facts(node, desk)

    # -- a flight -------------------------------------------------------------------------------------------------------

    async def flight(self, who: Identity, flight: str, as_of: AsOf) -> State:
        name = f"flight:{flight}"
        source = source_of(name)
        if source is None or source.view is not BOARD_VIEW:
            raise WireError("not_found", f"{name} is no flight's own stream")
        stream = await self._stream(who, name)
        if as_of.is_now:
            return await self._facts.state(who, stream)
        facts = await self._facts.of(who, stream)
        return State(seq_of(facts, as_of), flight_of(facts, as_of))

    async def manifest(self, who: Identity, flight: str, as_of: AsOf) -> Rows:
        return await self._cabin(who, flight, as_of, MANIFEST)

    async def seats(self, who: Identity, flight: str, as_of: AsOf) -> Rows:
        return await self._cabin(who, flight, as_of, SEATS)

    async def _cabin(self, who: Identity, flight: str, as_of: AsOf, model: str) -> Rows:
        stream = await self._stream(who, f"flight:{flight}.seats")
        if as_of.is_now:
            known = stream.head
            rows = await self._rows(model, who.tenant, f"{flight}/")
            seq = max((row.seq for row in rows), default=0)
            await self._desk.still_readable(who, stream, known, seq)
            now_ms = int(1000 * self._node.wall())
            docs = [as_at(row.doc, now_ms) for row in rows if row.doc is not None]
            return Rows(seq, docs, await self._behind(stream.partition))
        facts = await self._facts.of(who, stream)
        cabin = cabin_of(facts, as_of)
        places = sorted(cabin.passengers if model == MANIFEST else cabin.layout.seats)
        found = (CABIN_VIEW.doc(flight, cabin, (model, f"{flight}/{place}")) for place in places)
        return Rows(seq_of(facts, as_of), [as_at(doc, cabin.at_ms) for doc in found if doc is not None], None)

    async def roster(self, who: Identity, flight: str, as_of: AsOf) -> Rows:
        await self._board_right(who)
        await self._desk.there(who, f"flight:{flight}")
        rows = [row for row in await self._rows(ROSTER, who.tenant, f"{flight}/") if row.doc is not None]
        rows = [row for row in rows if row.doc is not None and row.doc["flight"] == flight]
        if as_of.is_now:
            docs = [row.doc | {"seq": row.seq} for row in rows if row.doc is not None and row.doc["status"] != RELEASED]
            return Rows(max((row.seq for row in rows), default=0), docs, await self._behind(None))
        members = [row.key[len(flight) + 1 :] for row in rows]
        asked = [(who.tenant, f"flight:crew.{member}", who.principal) for member in members]
        docs = []
        for member, known in zip(members, await self._node.log.open_streams(asked), strict=True):
            if known is None:
                continue
            facts = await self._facts.read(who.tenant, known.sid)
            then = ledger.fold(facts, as_of.recorded_ms, as_of.valid_ms)
            doc = member_of(member, Crew(then, {}), flight)
            if doc is not None:
                docs.append(doc | {"seq": seq_of(facts, as_of)})
        return Rows(max((doc["seq"] for doc in docs), default=0), docs, None)

    async def crew(self, who: Identity, member: str, as_of: AsOf) -> State:
        stream = await self._stream(who, f"flight:crew.{member}")
        facts = await self._facts.of(who, stream)
        then = ledger.fold(facts, as_of.recorded_ms, as_of.valid_ms)
        if as_of == NOW:
            # Totals are of the windows that end now, not at the last fact.
            then.at_ms = int(1000 * self._node.wall())
        return State(seq_of(facts, as_of), then.show())

    # -- across flights -------------------------------------------------------------------------------------------------

    async def board(self, who: Identity, *, station: str, day: str, after: str, limit: int) -> Listing:
        await self._board_right(who)

        def wanted(doc: dict[str, Any]) -> bool:
            return (not station or station in stations(doc)) and (not day or day in days(doc, station))

        return await self._list(BOARD, who.tenant, "", after, limit, wanted)

    async def line(self, who: Identity, registration: str, *, after: str, limit: int) -> Listing:
        await self._board_right(who)
        prefix = f"{registration}/"

        def wanted(doc: dict[str, Any]) -> bool:
            # A registration with a slash in it might begin with another.
            return bool(doc["registration"] == registration)

        return await self._list(LINE, who.tenant, prefix, f"{prefix}{after}" if after else "", limit, wanted)

    async def _list(
        self, model: str, tenant: str, prefix: str, after: str, limit: int, wanted: Callable[[dict[str, Any]], bool]
    ) -> Listing:
        docs: list[dict[str, Any]] = []
        scanned, last = 0, after
        more = True
        while more and len(docs) < limit and scanned < SCANNED_MAX:
            rows = await self._read(model, tenant, prefix, last)
            more = len(rows) == PAGE
            for at, row in enumerate(rows, 1):
                last = row.key
                if row.doc is not None and wanted(row.doc):
                    docs.append({"key": row.key[len(prefix) :], "seq": row.seq, **row.doc})
                    if len(docs) == limit:
                        more = more or at < len(rows)
                        break
            scanned += len(rows)
        return Listing(docs, last[len(prefix) :] if more else None, await self._behind(None))

    # -- asking ---------------------------------------------------------------------------------------------------------

    async def _stream(self, who: Identity, name: str) -> Stream:
        """The stream, which one may follow. Every read counts as one of history. Raises `WireError`."""
        self._node.gatekeeper.history(self._node.gatekeeper.meter(who))
        return await self._desk.readable(who, name)

    async def _board_right(self, who: Identity) -> None:
        """For who acts as owner of every stream, whether the board's stream is there or not, and for who may follow it."""
        self._node.gatekeeper.history(self._node.gatekeeper.meter(who))
        if role_in(BOARD_STREAM, None, who.standing) in FOLLOWS:
            return
        await self._desk.readable(who, BOARD_STREAM)

    async def _rows(self, model: str, tenant: str, prefix: str) -> Sequence[Row]:
        """All with the prefix: a flight's, which are bounded by its cabin and crew."""
        found: list[Row] = []
        while True:
            rows = await self._read(model, tenant, prefix, found[-1].key if found else "")
            found += rows
            if len(rows) < PAGE:
                return found

    async def _read(self, model: str, tenant: str, prefix: str, after: str) -> Sequence[Row]:
        try:
            return await self._work.rows(model, tenant, prefix=prefix, after=after, limit=PAGE)
        except Unavailable as error:
            raise unavailable(error) from None

    async def _behind(self, partition: int | None) -> int:
        """Positions that workers have yet to take, in one partition or in all."""
        try:
            cursors = {cursor.partition: cursor for cursor in await self._work.cursors(CONSUMER)}
            heads = await self._node.log.heads() if not cursors else [cursors[each].head for each in sorted(cursors)]
        except Unavailable as error:
            raise unavailable(error) from None
        late = [
            head - (cursors[each].pos if each in cursors else 0)
            for each, head in enumerate(heads)
            if partition in (None, each)
        ]
        return sum(late)
