"""A history in the shape in which guarantees look at it: built once, in one pass, and then only read.

What several guarantees need to know is found out here and nowhere else: which opening a welcome answers, where a
connection's cursor stands at each event, which question an answer belongs to, who was first to see an event at a place.
Nothing is judged here. An event that comes where it must is only counted; all others go into lists (`Scene.skips`,
`late`, `strays`, `differing`), so that the guarantees about events look at none of those that are right.

The speed matters, since seeds are checked by the thousand: that is why the branch for `Took` is written out in the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from proof.guarantees.log import Log, Place, Restores
from proof.guarantees.parts import Conn, Differing, Given, Late, Opening, Question, Restart, Skip, Span, Stray
from proof.guarantees.shown import Shown
from proof.history import (
    Answered,
    Asked,
    Committed,
    DrainTold,
    End,
    Ended,
    Fault,
    Follow,
    Open,
    Record,
    Rejected,
    Reset,
    Restored,
    Run,
    Told,
    Took,
    Trimmed,
    Unfollow,
    Welcome,
)

R = TypeVar("R")

PAUSE: Final = "pause"
CLOCKS: Final = frozenset(("wall", "clock"))
HARMLESS: Final = frozenset((PAUSE, "drain", "trim", *CLOCKS))
"""Troubles that end no connection by themselves."""
RESET_S: Final = 5.0
"""A reset is written with the answer before it; only the network can come between them, or a client that reads slowly."""


class Scene:
    """Everything below is filled by `__init__` and read afterwards. Indices are those of ``records``."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.run = Run(0.0, "")
        self.whole = bool(records) and isinstance(records[-1], End)
        self.end_t = records[-1].t if records else 0.0
        self.conns: dict[str, Conn] = {}
        self.openings: list[Opening] = []
        self.spans: list[Span] = []
        self.tooks = 0
        self.seen: dict[tuple[str, str, str], dict[int, tuple[int, Took]]] = {}
        """By (tenant, stream, epoch): who was first to see an event at each seq."""
        self.skips: list[Skip] = []
        self.late: list[Late] = []
        self.strays: list[Stray] = []
        self.differing: list[Differing] = []
        self.restarts: list[Restart] = []
        self.marked: list[tuple[int, Took, Conn]] = []
        """Events that bear another tenant's mark."""
        self.overdue: list[tuple[int, Took | Told, Conn]] = []
        """What was given after an identity was over, if its node never stood still."""
        self.cut: list[tuple[int, Unfollow, Span]] = []
        """Let go of because of a removal before all up to it had come."""
        self.given: list[Given] = []
        self.questions: list[Question] = []
        self.answers: list[tuple[int, Answered, Conn, Question | None]] = []
        self.trims: dict[Place, int] = {}
        """The lowest seq that is kept in the end."""
        self.restores = Restores()
        self._commits: dict[Place, list[tuple[int, Committed]]] = {}
        self._pauses: dict[str, list[tuple[float, float]]] = {}
        self._kinds: dict[type, list[Any]] = {}
        self._look()
        live = self.run.live_commits
        self.logs = {place: Log(place, commits, self.restores, live=live) for place, commits in self._commits.items()}
        """By (tenant, stream)."""
        self.knows_log = bool(self.logs) and (live or self.whole)
        """Whether what the history does not say of the log is not in the log."""
        for conn in self.conns.values():
            if conn.welcome is not None:
                conn.life = self.restores.life(conn.welcome.epoch)
        self.shown = Shown(self)

    def all(self, kind: type[R]) -> list[tuple[int, R]]:
        """Every record of a kind that has no list of its own above, with its index."""
        return self._kinds.get(kind, [])

    def paused_s(self, node: str, since: float, until: float) -> float:
        """For how long of that time the node stood still."""
        pauses = self._pauses.get(node)
        if pauses is None:
            return 0.0
        return sum(max(0.0, min(until, ended) - max(since, began)) for began, ended in pauses)

    def troubled(self, since: float, until: float) -> bool:
        """Whether anything was done on purpose in that time that may end a connection. Whom it met, nobody says."""
        return any(since <= fault.t <= until and fault.what not in HARMLESS for _, fault in self.all(Fault))

    def unannounced(self, span: Span) -> int | None:
        """Where it shows that a span has begun without the reset that it owed; ``None`` where that may be on its way.

        Nothing is said between an opening's answer and its resets, so whatever came shows it; a cut shows nothing."""
        if span.reset is not None:
            return None
        if span.took_any:
            return next(at for at, _ in self.events_of(span))
        if span.closed_at >= 0:
            return None if span.closed_at == span.conn.ended_at else span.closed_at
        waited_s = self.end_t - span.follow.t - self.paused_s(span.conn.node, span.follow.t, self.end_t)
        return span.at if self.whole and waited_s > RESET_S else None

    def forgotten(self, seq: int, place: Place) -> bool:
        """Whether a log that was read afterwards does not tell of a place any more, because of a trim."""
        return not self.run.live_commits and seq < self.trims.get(place, 0)

    def clock_moved(self, until: int) -> bool:
        """Whether somebody moved the clock of a node before that record: then times in tokens are not what they were."""
        return any(at < until and fault.what in CLOCKS for at, fault in self.all(Fault))

    def disbelieved(self, span: Span) -> str | None:
        """Why the cursor that an opening brought for a stream is not to be believed; ``None`` where it is."""
        opening, conn = span.opening, span.conn
        asked = None if opening is None else opening.open.asked[span.stream]
        if opening is None or asked is None:
            return None
        epoch = opening.open.epoch
        if epoch is not None and epoch != conn.epoch:
            return f"of epoch {epoch}"
        if not self.knows_log or not conn.tenant or asked <= span.follow.head:
            return None
        log = self.log_of(conn, span.stream)
        head = 0 if log is None else log.head_before(span.at, conn.life)
        return f"past the head, which was {head}" if asked > head else None

    def log_of(self, conn: Conn, stream: str) -> Log | None:
        return self.logs.get((conn.tenant, stream))

    def events_of(self, span: Span) -> Iterator[tuple[int, Took]]:
        """All that came in a span. Slow: for what is found already."""
        name, stream = span.conn.name, span.stream
        until = span.closed_at if span.closed_at >= 0 else len(self.records)
        for at in range(span.at, until):
            record = self.records[at]
            if isinstance(record, Took) and record.conn == name and record.stream == stream:
                yield at, record

    # -- the pass -----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        conns, kinds, marked, overdue = self.conns, self._kinds, self.marked, self.overdue
        handlers: dict[type, Callable[[int, Any], None]] = {
            Run: self._on_run,
            Open: self._on_open,
            Welcome: self._on_welcome,
            Rejected: self._on_rejected,
            Follow: self._on_follow,
            Unfollow: self._on_unfollow,
            Reset: self._on_reset,
            Asked: self._on_asked,
            Answered: self._on_answered,
            Told: self._on_told,
            DrainTold: self._on_drain_told,
            Ended: self._on_ended,
            Committed: self._on_committed,
            Restored: self._on_restored,
            Trimmed: self._on_trimmed,
            Fault: self._on_fault,
        }
        tooks = 0
        for at, record in enumerate(self.records):
            if not isinstance(record, Took):
                kind = type(record)
                if kind in handlers:
                    handlers[kind](at, record)
                else:
                    kinds.setdefault(kind, []).append((at, record))
                continue
            tooks += 1
            conn = conns.get(record.conn)
            if conn is None:
                self.strays.append(Stray(at, record, None, False, None))
                continue
            if record.mark and record.mark != conn.tenant:
                marked.append((at, record, conn))
            if record.t > conn.late_t:
                overdue.append((at, record, conn))
            span = conn.spans.get(record.stream)
            if span is None:
                self.strays.append(Stray(at, record, conn, conn.ended is not None, conn.removed.get(record.stream)))
                continue
            seq = record.seq
            if seq == span.next:
                span.next = seq + 1
            else:
                self._out_of_place(at, record, span)
            first = span.seen.get(seq)
            if first is None:
                span.seen[seq] = (at, record)
                continue
            other = first[1]
            if other.key != record.key or other.what != record.what or other.by != record.by:
                self.differing.append(Differing(at, record, span, other))
        self.tooks = tooks

    def _out_of_place(self, at: int, took: Took, span: Span) -> None:
        span.touched = True
        seq = took.seq
        if seq > span.next:
            self.skips.append(Skip(at, took, span, span.next))
            span.holes.append((span.next, seq - 1))
            span.next = seq + 1
            return
        for number, (first, last) in enumerate(span.holes):
            if first <= seq <= last:
                span.holes[number : number + 1] = [
                    part for part in ((first, seq - 1), (seq + 1, last)) if part[0] <= part[1]
                ]
                self.late.append(Late(at, took, span, again=False))
                return
        self.late.append(Late(at, took, span, again=True))

    def _conn(self, name: str) -> Conn:
        conn = self.conns.get(name)
        if conn is None:
            conn = self.conns[name] = Conn(name)
        return conn

    def _on_run(self, at: int, run: Run) -> None:
        self.run = run

    def _on_open(self, at: int, opened: Open) -> None:
        conn = self._conn(opened.conn)
        opening = Opening(at, opened, conn)
        self.openings.append(opening)
        conn.openings.append(opening)
        if conn.at < 0:
            conn.at = at
        conn.hostile = conn.hostile or opened.hostile
        conn.node = opened.node
        if conn.welcome is None:
            conn.tenant, conn.who = opened.tenant, opened.who

    def _on_welcome(self, at: int, welcome: Welcome) -> None:
        conn = self._conn(welcome.conn)
        conn.welcome = welcome
        if not conn.openings:
            return
        opening = conn.opening = conn.openings.pop(0)
        opening.answer, opening.answered_at = welcome, at
        opened = opening.open
        opening.left = {stream: after for stream, after in opened.asked.items() if stream not in welcome.refused}
        conn.tenant, conn.who = opened.tenant, opened.who
        if opened.expires_t is not None:
            # One whose token has just ended may be let in still, by the leeway for clocks, until it is looked after.
            conn.late_t = max(opened.expires_t, welcome.t) + 2 * self.run.heartbeat_s

    def _on_rejected(self, at: int, rejected: Rejected) -> None:
        conn = self._conn(rejected.conn)
        if conn.openings:
            opening = conn.openings.pop(0)
            opening.answer, opening.answered_at = rejected, at

    def _on_follow(self, at: int, follow: Follow) -> None:
        conn, stream = self._conn(follow.conn), follow.stream
        old = conn.spans.get(stream)
        if old is not None:
            old.closed_at = at
        conn.removed.pop(stream, None)
        seen: dict[int, tuple[int, Took]] = {}  # its own, where nobody knows whose stream it is
        if conn.tenant:
            seen = self.seen.setdefault((conn.tenant, stream, conn.epoch), seen)
        span = conn.spans[stream] = Span(at, follow, conn, seen)
        self.spans.append(span)
        if conn.opening is not None and stream in conn.opening.left:
            span.opening = conn.opening
            del conn.opening.left[stream]

    def _on_unfollow(self, at: int, unfollow: Unfollow) -> None:
        conn = self._conn(unfollow.conn)
        span = conn.spans.pop(unfollow.stream, None)
        if unfollow.reason == "removed":
            conn.removed[unfollow.stream] = unfollow.seq
        if span is None:
            return
        span.closed_at = at
        if unfollow.reason == "removed" and span.next <= unfollow.seq:
            self.cut.append((at, unfollow, span))

    def _on_reset(self, at: int, reset: Reset) -> None:
        span = self._conn(reset.conn).spans.get(reset.stream)
        if span is None:
            return
        self.restarts.append(Restart(at, reset, span, span.next - 1))
        if span.took_any:
            span.touched = True
        elif span.reset is None:
            span.reset = reset
        span.start = reset.first - 1
        span.next = reset.first
        span.holes.clear()

    def _on_asked(self, at: int, asked: Asked) -> None:
        conn = self._conn(asked.conn)
        question = Question(at, asked, conn)
        self.questions.append(question)
        conn.waiting.setdefault(asked.id, []).append(question)

    def _on_answered(self, at: int, answered: Answered) -> None:
        conn = self._conn(answered.conn)
        waiting = conn.waiting.get(answered.id)
        question = None
        if waiting:
            question = waiting.pop(0)
            question.answer, question.answered_at = answered, at
        self.answers.append((at, answered, conn, question))

    def _on_told(self, at: int, told: Told) -> None:
        conn = self.conns.get(told.conn)
        span = None if conn is None else conn.spans.get(told.stream)
        removed = None if conn is None or span is not None else conn.removed.get(told.stream)
        cursor, since = (None, 0) if span is None else (span.next - 1, span.at)
        self.given.append(Given(at, told, conn, cursor, removed, since))
        if conn is not None and told.t > conn.late_t:
            self.overdue.append((at, told, conn))

    def _on_drain_told(self, at: int, told: DrainTold) -> None:
        self._conn(told.conn).drain_told.append(at)
        self._kinds.setdefault(DrainTold, []).append((at, told))

    def _on_ended(self, at: int, ended: Ended) -> None:
        conn = self._conn(ended.conn)
        conn.ended, conn.ended_at = ended, at
        for span in conn.spans.values():
            span.closed_at = at
        conn.spans = {}

    def _on_committed(self, at: int, committed: Committed) -> None:
        self._commits.setdefault((committed.tenant, committed.stream), []).append((at, committed))

    def _on_restored(self, at: int, restored: Restored) -> None:
        self.restores.add(at, restored)

    def _on_trimmed(self, at: int, trimmed: Trimmed) -> None:
        place = (trimmed.tenant, trimmed.stream)
        self.trims[place] = max(trimmed.first, self.trims.get(place, 0))

    def _on_fault(self, at: int, fault: Fault) -> None:
        self._kinds.setdefault(Fault, []).append((at, fault))
        if fault.what == PAUSE:
            self._pauses.setdefault(fault.node, []).append((fault.t, fault.t + fault.for_s))
