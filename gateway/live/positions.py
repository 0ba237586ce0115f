"""Positions of one node: each subject's fixes judged in order of their time, kept, and shown to who follows.

For: `gateway.pings` (the socket's op, `POST /v1/positions`) and the other ways in, after they know who sends, that its
signature holds, and that its numbers are new. Promises: every fix has a verdict, and where that is not plainly "accepted" a
reason; what is answered as accepted, degraded or quarantined is kept; what is quarantined is shown to nobody. Where samples
cannot be kept now, what comes is answered ``unavailable`` before it is judged. Does not: know signatures, or the numbers of
enrolled devices, or arrivals (`on_sample` and `wants` are where those hang).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from core.directory import Ping
from core.geo.cadence import MIN_S, next_in_s
from core.live import Place
from core.pings import Fix
from core.ports import Unavailable
from core.stream import Stream
from core.tracks import Last, Sample, Tracks
from core.window import Window
from gateway.live.books import Book, Books
from gateway.live.keeper import Keeper
from gateway.live.showing import Showing
from gateway.service import WireError
from gateway.waiting import Waiting

if TYPE_CHECKING:
    from gateway.node import Node

log = logging.getLogger("readback.positions")

TIDY_S: Final = 10.0
OVERLOADED_S: Final = 0.5
NUMBERED: Final = {Ping.DUPLICATE: ("duplicate", "replayed"), Ping.TOO_OLD: ("rejected", "too_old")}
"""What is said of a number that was not taken."""

Verdict = dict[str, Any]


class Taken(NamedTuple):
    """Verdicts in the order of the fixes, as the protocol says them."""

    verdicts: list[Verdict]
    accepted: int
    next_in_s: float


class Judged(NamedTuple):
    """What became of a message's fixes, of which ``samples`` and ``last`` are to be kept."""

    taken: Taken
    samples: list[Sample]
    last: Last | None

    @property
    def waits(self) -> bool:
        """Whether its answer says that something is kept: what a duplicate is one of may be on its way still."""
        return bool(self.samples) or any(said["verdict"] == "duplicate" for said in self.taken.verdicts)


class Positions:
    def __init__(self, node: Node, tracks: Tracks) -> None:
        self._node = node
        self.books = Books(tracks, node.limits)
        self.keeper = Keeper(node, tracks)
        self.showing = Showing(node, tracks)
        self.showing.on_elsewhere = self.books.forget
        self.on_sample: list[Callable[[Stream, Sample], None]] = []
        """Told each accepted or degraded fix, in order of their times; one that came late (``reason`` "late") too. May be told
        before it is kept."""
        self.wants: Callable[[Stream, str], float | None] = lambda stream, subject: None
        """Asked how soon the subject's next fix is worth something, in seconds; ``None``: not for this."""
        self.mode_of: Callable[[Stream, str], str] = lambda stream, subject: "any"
        """Asked what moves: "car", "aircraft", …"""
        self.counts: dict[tuple[str, str], int] = {}
        """Verdicts given, by verdict and reason."""
        _add_metrics(self, node)

    # -- in -------------------------------------------------------------------------------------------------------------

    async def take(self, tenant: str, subject: str, stream: Stream, fixes: Sequence[Fix]) -> Taken:
        """Fixes of one message, after authentication, signature and sequence window; answered when they are kept. Raises
        `WireError`, `Unavailable`: nothing was taken, or (after a failed commit) it is kept later, and a duplicate when it is
        said again."""
        self.check_room(len(fixes))
        books = await self.books.load([(tenant, subject)])
        judged = self.judge(books[tenant, subject], tenant, subject, stream, fixes)
        waiting = Waiting[None]()
        self.keep([judged], waiting.answered)
        await waiting.answer()
        self.count(judged.taken.verdicts)
        return judged.taken

    def check_room(self, count: int) -> None:
        """Raises `Unavailable` while samples cannot be kept, and `WireError` where too many wait to be."""
        if self.keeper.trouble is not None:
            raise Unavailable(self.keeper.trouble)
        if self.keeper.waiting + count > self._node.limits.samples_waiting_max:
            wait_s = OVERLOADED_S * (1.0 + self._node.uniform())
            raise WireError("overloaded", "too many positions wait to be kept", round(wait_s, 3))

    def keep(self, judged: Sequence[Judged], told: Callable[[Exception | None], None]) -> None:
        """``told`` is called when all of it is kept, and what came before it (at once where nothing waits for that), or with
        why it is not."""
        samples = [sample for each in judged for sample in each.samples]
        if any(each.waits for each in judged):
            self.keeper.put(samples, [each.last for each in judged if each.last is not None], told)
        else:
            told(None)

    def judge(
        self,
        book: Book,
        tenant: str,
        subject: str,
        stream: Stream,
        fixes: Sequence[Fix],
        *,
        numbered: bool = False,
    ) -> Judged:
        """A verdict for each fix. ``numbered``: its numbers are to be looked at here."""
        now_ms = int(1000 * self._node.wall())
        used = self.books.use(book, self.mode_of(stream, subject))
        judge = used.judge
        said: list[Verdict | None] = [None] * len(fixes)
        samples: list[Sample] = []
        places: list[Place] = []
        newest: Sample | None = None
        accepted = 0
        order = range(len(fixes)) if len(fixes) == 1 else sorted(range(len(fixes)), key=lambda at: fixes[at].at_ms)
        for at in order:
            fix = fixes[at]
            if not fix.good:
                said[at] = verdict_of(fix, "rejected", "malformed")
                continue
            if numbered and fix.seq and (ping := book.window.take(fix.seq)) is not Ping.ACCEPTED:
                if ping is Ping.DUPLICATE or not _is_newest(book, fix):
                    said[at] = verdict_of(fix, *NUMBERED[ping])
                    continue
                book.window = Window(fix.seq)  # an app that was installed anew counts from 1
            if fix.mock:
                used.mock_allowed = self._node.gatekeeper.tenants.arrivals_of(tenant).mock_allowed
            verdict, reason, at_ms, live = judge(fix, now_ms)
            said[at] = verdict_of(fix, verdict, reason)
            if verdict != "accepted" and verdict != "degraded" and verdict != "quarantined":
                continue
            seq, _, _, _, lat, lon, acc, speed, heading, alt, _ = fix
            sample = Sample(
                tenant,
                subject,
                stream.name,
                at_ms,
                seq,
                lat,
                lon,
                acc,
                speed,
                heading,
                alt,
                verdict,
                reason,
                now_ms,
            )
            samples.append(sample)
            if live:
                newest = sample
                places.append(Place(at_ms, lat, lon, acc, speed, heading, alt))
            if verdict != "quarantined":
                accepted += verdict == "accepted"
                for told in self.on_sample:
                    told(stream, sample)
        if places:
            self.showing.moved(stream, subject, places)
        verdicts = [each for each in said if each is not None]
        assert len(verdicts) == len(fixes)
        # The store takes a last position that is newer than its own, memory and all, and no other.
        last = None if newest is None else _last(newest, book.memory(now_ms))
        return Judged(Taken(verdicts, accepted, self._next_in_s(stream, subject, book, fixes[-1].speed)), samples, last)

    def count(self, verdicts: Sequence[Verdict]) -> None:
        """As they are answered."""
        counts = self.counts
        for said in verdicts:
            key = said["verdict"], said.get("reason", "")
            counts[key] = counts.get(key, 0) + 1

    # -- out ------------------------------------------------------------------------------------------------------------

    def _next_in_s(self, stream: Stream, subject: str, book: Book, speed_mps: float | None) -> float:
        """By need: somebody watches, or what hangs on positions wants the next one soon."""
        factor = self._node.pulse.position_factor
        wait_s = next_in_s(book.judge.mode, watched=self.watched(stream, subject), speed_mps=speed_mps, factor=factor)
        wanted_s = self.wants(stream, subject)
        return wait_s if wanted_s is None else min(wait_s, max(wanted_s * factor, MIN_S))

    @staticmethod
    def watched(stream: Stream, subject: str) -> bool:
        """Whether anybody but the subject follows the stream, here or on another node."""
        return len(stream.present) > (subject in stream.present)

    def show(self, stream: Stream, kind: str, by: str, value: object, at_s: float, *, here: bool = False) -> None:
        """The latest value of a signal, to who follows the stream here and (unless ``here``) on other nodes. ``at_s`` is Unix
        time, since when it is true: what is older than what is shown is not shown."""
        self.showing.show(stream, kind, by, int(1000 * at_s), value, here=here)

    # -- tasks ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.keeper.run)
            nursery.start_soon(self.showing.run)
            while True:
                await trio.sleep(TIDY_S)
                self.books.tidy()

    async def kept_all(self) -> None:
        """Until everything that was judged is in the store."""
        await self.keeper.kept_all()


def _is_newest(book: Book, fix: Fix) -> bool:
    anchor = book.judge.anchor
    return anchor is None or fix.at_ms + book.judge.clock.offset_ms > anchor.at_ms


def verdict_of(fix: Fix, verdict: str, reason: str = "") -> Verdict:
    said: Verdict = {"seq": fix.seq, "verdict": verdict}
    if reason:
        said["reason"] = reason
    return said


def _last(sample: Sample, memory: dict[str, Any]) -> Last:
    return Last(
        sample.tenant,
        sample.subject,
        sample.stream,
        sample.at_ms,
        sample.lat,
        sample.lon,
        sample.acc,
        sample.speed,
        sample.heading,
        sample.alt,
        sample.verdict,
        sample.taken_ms,
        memory,
    )


def _add_metrics(positions: Positions, node: Node) -> None:
    registry, keeper, showing = node.measures.registry, positions.keeper, positions.showing

    def by(at: int) -> dict[str, int]:
        table: dict[str, int] = {}
        for key, count in positions.counts.items():
            table[key[at]] = table.get(key[at], 0) + count
        return table

    registry.table("counter", "readback_fixes_total", "Fixes judged.", "verdict", lambda: by(0))
    registry.table("counter", "readback_fixes_reasons_total", "Fixes judged, by the reason.", "reason", lambda: by(1))
    gauge, counter = registry.gauge, registry.counter_read
    gauge("readback_fixes_waiting", "Samples not kept yet.", lambda: keeper.waiting)
    gauge("readback_tracks_up", "1 while samples can be kept.", lambda: int(keeper.trouble is None))
    gauge("readback_position_books", "Subjects whose past is remembered.", lambda: len(positions.books))
    gauge("readback_positions_shown", "Subjects shown in the streams held.", lambda: len(showing.live))
    counter("readback_samples_kept_total", "Samples kept.", lambda: keeper.kept)
    counter("readback_samples_commits_total", "Commits of samples.", lambda: keeper.commits)
    counter("readback_positions_stale_total", "Subjects that turned stale.", lambda: showing.turned_stale)
    counter("readback_positions_told_total", "Latest values told to other nodes.", lambda: showing.told)
    counter("readback_positions_heard_total", "Latest values heard from other nodes.", lambda: showing.heard)
