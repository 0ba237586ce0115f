"""Turns: who is brought forward next, and how much of that there is before everything else has its turn again.

A port that is behind takes pages, and a room of more than ``slice_deliveries`` live ports gets its events by tours, a slice
at a time. Both can be as many as there are connections, so they are bounded together and not one by one: a turn sends
slices for ``turn_replay_bytes`` and pages for as much again, a page for a port and a slice for a room at most; the rest
stays in line for the next turn. Between two turns the sockets are read, commits are shown and live ports get theirs.

The line is fair among tenants (`core.fair`): one with five thousand laggards gets its share of a turn, and the single
laggard of another is served in the first turn that comes, whatever was in line before it.

Promises: in every turn something of each kind moves while anything waits; nobody is in line twice. Does not: bound what
goes to live ports, which is what commits bring.
"""

from __future__ import annotations

from collections.abc import Callable

from core.fair import Fair, even
from core.limits import Limits
from core.replay import SEND_BYTES, TURN_BYTES, Replay
from core.stream import Chunk, Port, Stream


class Turns(Replay):
    """Pages and tours in turns. What a room and a removal are, `core.hub.Hub` knows."""

    def __init__(
        self, limits: Limits, fetch: Callable[[Stream, int], None], weight: Callable[[str], int] = even
    ) -> None:
        super().__init__(limits, fetch, weight)
        self.touring: dict[Stream, None] = {}
        self._tours: Fair[Stream] = Fair(TURN_BYTES, weight)
        """Big rooms that wait for a slice, by tenant."""
        self._in_line: dict[Port | Stream, None] = {}

    def _deliver(self, stream: Stream, first: int) -> None:
        """Everything past ``first - 1`` to all live ports."""
        raise NotImplementedError

    def _rouse(self, stream: Stream) -> None:
        """Whoever is behind may go on."""
        raise NotImplementedError

    def _end(self, port: Port, stream: Stream, until: int, now_s: float) -> None:
        """A removed principal's port has all that it may have."""
        raise NotImplementedError

    @property
    def more(self) -> bool:
        """Whether there is anything for a turn to do."""
        return bool(self.ready or self.touring or self._in_line)

    def turn(self, now_s: float) -> bool:
        """Give big rooms their next slices and ready ports their next pages, as far as a turn goes; True while there is
        more to do."""
        self._line_up()
        budget, line, tours = self.limits.turn_replay_bytes, self.line, self._tours
        self.allowance = budget
        while self.allowance > 0 and len(tours):
            room = tours.take()
            del self._in_line[room]
            self._slice(room)
        self.allowance = budget
        while self.allowance > 0 and len(line):
            port = line.take()
            del self._in_line[port]
            self._serve(port, now_s)
        self.flush()
        if not self.ready and not len(line):
            self._kept.clear()
        return self.more

    def _line_up(self) -> None:
        ready, self.ready = self.ready, {}
        for port in ready:
            if port.lag and port not in self._in_line:
                self._in_line[port] = None
                self.line.put(next(iter(port.lag)).tenant, 0, port)  # `_spend` puts what it is on the bill afterwards
        for room in self.touring:
            if room not in self._in_line:
                self._in_line[room] = None
                self._tours.put(room.tenant, 0, room)

    def _leave_line(self) -> None:
        """Nobody waits any more."""
        self.line.clear()
        self._tours.clear()
        self._in_line.clear()
        self._kept.clear()

    def _serve(self, port: Port, now_s: float) -> None:
        if port.blocked:
            return
        if port.until:
            for stream, until in list(port.until.items()):
                if port.subs[stream] >= until:
                    self._end(port, stream, until, now_s)
        self._touch(port)
        self.flush()

    def _slice(self, room: Stream) -> None:
        """The next ports of a tour. After the last, what came meanwhile is delivered like any other events."""
        tour = room.tour
        if tour is None:
            return
        todo = tour.todo
        part = todo[-self.limits.slice_deliveries :]
        del todo[-self.limits.slice_deliveries :]
        live = room.live
        self._blast([port for port in part if port in live], tour.chunk)
        used = len(part) * (SEND_BYTES + len(tour.chunk))
        self.allowance -= used
        self._tours.charge(room.tenant, used)
        if todo:
            return
        room.tour = None
        del self.touring[room]
        if room.head > tour.end:
            if tour.end + 1 >= room.base:
                self._deliver(room, tour.end + 1)
            else:
                for port in list(live):  # the ring moved on under a slow tour: the log has it all
                    self._behind(port, room, tour.end)
                self._rouse(room)

    def _blast(self, ports: list[Port], chunk: Chunk) -> None:
        """One direct ``send`` a port. The hot loop of big rooms: beside the kernel's work it costs about 0.1 us a port."""
        size = len(chunk)
        late: list[tuple[Port, int]] = []
        gone: list[Port] = []
        for port in ports:
            if port.blocked:
                late.append((port, -1))
                continue
            if port.out is not None:
                port.out.append(chunk)  # an answer gathered this turn comes first: it may be the one to the ``sub``
                continue
            try:
                sent = port.send(chunk)
            except BlockingIOError:
                late.append((port, 0))
            except OSError:
                gone.append(port)
            else:
                if sent != size:
                    late.append((port, sent))
        for port, sent in late:
            if sent < 0:
                self._behind(port, chunk.stream, chunk.first - 1)
            else:
                self._cut(port, [chunk], sent)
        for port in gone:
            self._broken(port)
