"""The live board: rows of the read model `flight_board` as signals to who follows `flight:board` and `flight:board.<STATION>`.

Theory of operation. While this node holds board streams, one task follows the read model as a cursor on each partition: what
the workers changed past it is read (`Work.rows_after`) and told. It is woken by a hint, from a worker in this very process or
through the bus, and looks by itself every `POLL_S` where the workers' cursors stand. Of a tenant whose board is followed here
all rows are kept, encoded once, so that whoever comes gets them at once without asking the store. Where the read model was
rebuilt, or something changed behind the cursor (a parked stream), its generation is another, and all is read anew: what is
other than before is told.

Promises: who follows sees, key by key, what the read model says, within a poll where no hint comes; a row of another tenant
never. At most `board_rows_max` rows a tenant are kept and shown: of flights that are over the oldest go first, and are told as
gone. Does not: follow anything while nobody here follows a board, nor write.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson
import trio

from core.flight.views import CONSUMER
from core.flight.views_board import BOARD, order, stations
from core.ports import StoreError
from core.stream import Stream
from core.work import Row, Work

if TYPE_CHECKING:
    from gateway.node import Node

log = logging.getLogger("readback.board")

STREAM: Final = "flight:board"
STATION_STREAM: Final = "flight:board."
POLL_S: Final = 0.25
PAGE: Final = 256
"""Rows read at once: some 3 ms of the node's loop."""
SLACK: Final = 16
"""A board that is full is cut by this part at once, so that not every new row costs a look at all."""


class _Shown(NamedTuple):
    """A row as it is kept. ``json`` is its document."""

    at_ms: int
    json: bytes
    stations: tuple[str, ...]
    order: tuple[bool, str]

    def is_of(self, station: str) -> bool:
        return not station or station in self.stations


class _Board:
    """A tenant's. ``streams`` are those held here, each with its station, or nothing for all. ``loaded``: it was read once;
    ``stale``: it is to be read (again)."""

    __slots__ = ("loaded", "rows", "stale", "streams")

    def __init__(self) -> None:
        self.streams: dict[Stream, str] = {}
        self.rows: dict[str, _Shown] = {}
        self.loaded = False
        self.stale = True


def station_of(stream: str) -> str | None:
    """The station of a board's stream, empty for the whole board; ``None`` for any other stream."""
    if stream == STREAM:
        return ""
    return stream[len(STATION_STREAM) :] if stream.startswith(STATION_STREAM) else None


class Boards:
    """Of one node."""

    def __init__(self, node: Node, work: Work) -> None:
        self._node = node
        self._work = work
        self._tenants: dict[str, _Board] = {}
        self._known: list[int] | None = None
        """By partition, up to where the read model's changes were taken; ``None``: not followed."""
        self._generation = 0
        self._look_s = 0.0
        """When to look without having heard anything."""
        self._heard: dict[int, None] = {}
        self._wake = trio.Event()
        self.trouble: str | None = None
        self.told = 0
        """Rows told, each once however many follow."""
        self.loads = 0
        """Times that a tenant's whole board was read."""

    def __len__(self) -> int:
        """Rows kept."""
        return sum(len(board.rows) for board in self._tenants.values())

    # -- who follows ----------------------------------------------------------------------------------------------------

    def hold(self, stream: Stream) -> None:
        """A stream came into memory here."""
        station = station_of(stream.name)
        if station is None:
            return
        board = self._tenants.setdefault(stream.tenant, _Board())
        board.streams[stream] = station
        if board.loaded:
            self._show(stream, {key: row for key, row in board.rows.items() if row.is_of(station)})
        else:
            self._wake.set()

    def let_go(self, stream: Stream) -> None:
        board = self._tenants.get(stream.tenant)
        if board is None or board.streams.pop(stream, None) is None:
            return
        if not board.streams:
            del self._tenants[stream.tenant]
        if not self._tenants:
            self._known = None

    def heard(self, partition: int) -> None:
        """Workers have committed something of this partition. A hint: it may be early, late, or wrong."""
        if self._known is not None and 0 <= partition < len(self._known):
            self._heard[partition] = None
            self._wake.set()

    # -- following ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        while True:
            if not self._tenants:
                await self._wake.wait()
            else:
                with trio.move_on_at(self._look_s):
                    await self._wake.wait()
            self._wake = trio.Event()
            heard, self._heard = self._heard, {}
            try:
                await self._read(list(heard))
                if trio.current_time() >= self._look_s or any(board.stale for board in self._tenants.values()):
                    self._look_s = trio.current_time() + POLL_S
                    await self._look()
            except StoreError as error:
                self._failed(error)
                await trio.sleep(POLL_S)
            else:
                self._answered()

    def _failed(self, error: StoreError) -> None:
        if self.trouble is None:
            log.warning("boards stand still: %s", error)
        self.trouble = str(error)

    def _answered(self) -> None:
        if self.trouble is not None:
            log.warning("boards are followed again")
            self.trouble = None

    async def _look(self) -> None:
        """Where the read model is, without a hint; and boards that are new here."""
        if not self._tenants:
            return
        generation = (await self._work.generations()).get(BOARD, 0)
        at = {cursor.partition: cursor.pos for cursor in await self._work.cursors(CONSUMER)}
        if self._known is None or generation != self._generation:
            # What is read from here on is of later than these positions: nothing between is missed.
            self._known = [at.get(partition, 0) for partition in range(self._node.epoch.partitions)]
            self._generation = generation
            for board in self._tenants.values():
                board.stale = True
        known = self._known
        for tenant, board in list(self._tenants.items()):
            if board.stale:
                await self._load(tenant, board)
        await self._read([each for each, pos in at.items() if each < len(known) and pos > known[each]], at)

    async def _load(self, tenant: str, board: _Board) -> None:
        """All rows of a tenant; what is other than what was shown is told."""
        self.loads += 1
        fresh: dict[str, _Shown] = {}
        after = ""
        while True:
            rows = await self._work.rows(BOARD, tenant, after=after, limit=PAGE)
            fresh.update((row.key, _shown(row.doc, row.at_ms)) for row in rows if row.doc is not None)
            _trim(fresh, self._node.limits.board_rows_max)
            if len(rows) < PAGE:
                break
            after = rows[-1].key
        if self._tenants.get(tenant) is not board:
            return
        changed: dict[str, _Shown | None] = {key: row for key, row in fresh.items() if board.rows.get(key) != row}
        changed.update((key, None) for key in board.rows if key not in fresh)
        board.loaded, board.stale = True, False
        self._tell(board, changed)
        self._node.settle()

    async def _read(self, partitions: Sequence[int], at: Mapping[int, int] | None = None) -> None:
        """What changed in these partitions. ``at`` is where the workers' cursors stood before this."""
        known = self._known
        for partition in partitions:
            while known is not None:
                rows = await self._work.rows_after(BOARD, partition, known[partition], PAGE)
                if self._known is not known:
                    return  # nobody follows anything, or did not for a moment
                reached = rows[-1].pos if rows else 0
                if at is not None and len(rows) < PAGE:
                    reached = max(reached, at.get(partition, 0))
                known[partition] = max(known[partition], reached)
                self._take(rows)
                if len(rows) < PAGE:
                    break

    def _take(self, rows: Sequence[Row]) -> None:
        changed: dict[str, dict[str, _Shown | None]] = {}
        for row in rows:
            board = self._tenants.get(row.tenant)
            if board is not None and board.loaded:
                shown = None if row.doc is None else _shown(row.doc, row.at_ms)
                changed.setdefault(row.tenant, {})[row.key] = shown
        for tenant, of_tenant in changed.items():
            board, rows_max = self._tenants[tenant], self._node.limits.board_rows_max
            if len(board.rows) + len(of_tenant) > rows_max:
                merged = {**board.rows, **of_tenant}
                for key in _trim({key: row for key, row in merged.items() if row is not None}, rows_max):
                    of_tenant[key] = None
            self._tell(board, of_tenant)
        if changed:
            self._node.settle()

    # -- telling --------------------------------------------------------------------------------------------------------

    def _tell(self, board: _Board, changed: Mapping[str, _Shown | None]) -> None:
        """Keep rows as they are now, and tell each stream of those that it shows, or showed."""
        self.told += len(changed)
        for stream, station in board.streams.items():
            self._show(
                stream, {key: row if row is not None and row.is_of(station) else None for key, row in changed.items()}
            )
        for key, row in changed.items():
            if row is None:
                board.rows.pop(key, None)
            else:
                board.rows[key] = row

    def _show(self, stream: Stream, rows: Mapping[str, _Shown | None]) -> None:
        now_s = trio.current_time()
        wall_ms = 1000 * self._node.wall()
        self._node.hub.signals.rows(
            stream,
            {
                key: (None, now_s)
                if row is None
                else (orjson.Fragment(row.json), now_s - max(wall_ms - row.at_ms, 0.0) / 1000)
                for key, row in rows.items()
            },
            now_s,
        )


def _shown(doc: dict[str, Any], at_ms: int) -> _Shown:
    return _Shown(at_ms, orjson.dumps(doc), stations(doc), order(doc))


def _trim(rows: dict[str, _Shown], rows_max: int) -> list[str]:
    """Let the rows go that are too many; their keys."""
    if len(rows) <= rows_max:
        return []
    goes = heapq.nsmallest(len(rows) - rows_max + rows_max // SLACK, rows, key=lambda key: (rows[key].order, key))
    for key in goes:
        del rows[key]
    return goes
