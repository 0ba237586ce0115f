"""Soak: a steady chat for as long as asked, in which clients keep leaving and coming back.

A fixed number of places, each taken by one client at a time that follows a few rooms. At a steady rate one of those who
are in sends; at a steady rate one is cut (by turns with a TCP reset and an ordinary end), and after a while its place is
taken again: by turns by the same session, which resumes with its cursors, and by a new session of another principal of
the place's own few. So the node sees sessions, principals and subscriptions come and go without end, out of a bounded set.

Every seq is checked: on one connection each stream's events rise by exactly one. What this process keeps is bounded, so
that it does not slow down as the hours pass: latencies go into histograms, sends that were never answered are counted.
"""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

from bench.gen.dialect import Dialect, Keys, body, dialect_of, sent_at_ns, seq_of
from bench.gen.link import Link, Window, counted_from, monotonic_ns, until
from bench.gen.raw import OPEN, Raw, Swarm
from bench.gen.resume import open_slowly, stream_of
from bench.stats import Histogram

AWAY_S = 1.0
RETRY_S = 0.5
TICK_S = 0.002
FOLD_AT = 10_000
"""Latencies noted before they are folded into the histogram."""
SAMPLE = 10
"""Deliveries of every tenth place are timed; all are checked."""
LINGER_S = 2.0


class Book:
    """What all places share."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.random = random.Random(job["seed"])
        self.payload: int = job["payload"]
        self.keys = Keys()
        self.sent: dict[int, int] = {}
        """Sends not yet answered: id to the moment they are counted from."""
        self.next_id = 0
        self.welcome = 0
        self.acks, self.deliveries = Histogram(), Histogram()
        self._acks: list[int] = []
        self._deliveries: list[int] = []
        self.counts = dict.fromkeys(
            ("sent", "answered", "delivered", "gaps", "cuts", "resumed", "entered", "ended", "refused_sends"), 0
        )
        self.cut_off = 0
        """Sends whose answer cannot come any more, for their connection was cut."""
        self.reasons: dict[str, int] = {}
        self.running = False

    def answered(self, ns: int) -> None:
        self.counts["answered"] += 1
        self._acks.append(ns)
        if len(self._acks) >= FOLD_AT:
            self.fold()

    def seen(self, ns: int) -> None:
        self._deliveries.append(ns)
        if len(self._deliveries) >= FOLD_AT:
            self.fold()

    def fold(self) -> None:
        self.acks.record_all(self._acks)
        self.deliveries.record_all(self._deliveries)
        self._acks.clear()
        self._deliveries.clear()

    def note(self, reason: str) -> None:
        """Reasons are few, unless something is very wrong: then the first twenty say what."""
        if reason in self.reasons or len(self.reasons) < 20:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1


class Place(Raw):
    def __init__(self, swarm: Swarm, dialect: Dialect, tokens: list[str], rooms: list[str], book: Book, timed: bool):
        super().__init__(swarm, dialect, dialect.hello(tokens[0] or None, {room: {} for room in rooms}))
        self.tokens = tokens
        self.turn = 0
        self.rooms = rooms
        self.book = book
        self.timed = timed
        self.cursors: dict[str, int] = {}
        self.log = ""
        self.resume_token = ""
        self.resuming = False
        self.waiting: set[int] = set()
        """Ids of this connection's sends that have no answer yet."""

    def on_welcome(self, welcome: dict[str, Any]) -> None:
        self.book.welcome += 1
        self.book.counts["resumed" if self.resuming else "entered"] += 1
        self.log, self.resume_token = welcome["log"], welcome["resume"]
        if not self.resuming:
            self.cursors = {name: place["after"] for name, place in welcome["streams"].items()}

    def on_event(self, payload: bytes) -> None:
        name, seq = stream_of(payload), seq_of(payload)
        counts = self.book.counts
        if seq != self.cursors.get(name, -1) + 1:
            counts["gaps"] += 1
        self.cursors[name] = seq
        counts["delivered"] += 1
        if self.timed and not self.resuming:
            self.book.seen(monotonic_ns() - sent_at_ns(payload))

    def on_answer(self, payload: bytes) -> None:
        book = self.book
        if payload.startswith(self.dialect.answer_prefix):
            at = payload.index(b'"id":') + 5
            ident = int(payload[at : payload.index(b",", at)])
            self.waiting.discard(ident)
            counted = book.sent.pop(ident, None)
            if counted is not None:
                book.answered(monotonic_ns() - counted)
        elif payload.startswith(b'{"op":"error"'):
            book.counts["refused_sends"] += 1
            book.note(payload.decode(errors="replace")[:80])

    def talk(self, counted_ns: int) -> None:
        book = self.book
        book.next_id += 1
        ident = book.next_id
        book.sent[ident] = counted_ns
        book.counts["sent"] += 1
        self.waiting.add(ident)
        room = self.rooms[ident % len(self.rooms)].encode()
        self.send(self.dialect.send(ident, room, book.keys(), body(counted_ns, book.payload)))

    def leave(self) -> None:
        self.turn += 1
        self.book.counts["cuts"] += 1
        self.cut(reset=self.turn % 4 < 2)
        self._give_up()
        asyncio.get_running_loop().call_later(AWAY_S * self.book.random.uniform(0.5, 1.5), self.come_back)

    def _give_up(self) -> None:
        for ident in self.waiting:
            self.book.cut_off += self.book.sent.pop(ident, None) is not None
        self.waiting.clear()

    def come_back(self) -> None:
        if not self.book.running:
            return
        self.resuming = self.turn % 2 == 1
        if self.resuming:
            self.first_frame = self.dialect.resume(self.resume_token, self.log, self.cursors)
        else:
            token = self.tokens[self.turn // 2 % len(self.tokens)]
            self.first_frame = self.dialect.hello(token or None, {room: {} for room in self.rooms})
        self.connect()

    def on_gone(self, reason: str) -> None:
        """Refused, or ended by the server: that is counted, and the place is taken again by a new session."""
        self.book.counts["ended"] += 1
        self.book.note(reason[:80])
        self._give_up()
        self.turn += self.turn % 2
        asyncio.get_running_loop().call_later(RETRY_S, self.come_back)


async def run(job: dict[str, Any], link: Link) -> None:
    """Job: port, dialect, connections, tokens (several a place), rooms, each, rate, churn, payload, seed. Go: a window.

    The result counts the whole run from the start, not the window alone: nothing may be lost at its edges.
    """
    gc.enable()  # this run is long, and what is timed to the microsecond elsewhere is timed to the millisecond here
    swarm = Swarm(job["port"])
    book = Book(job)
    rooms: list[str] = job["rooms"]
    each, many = job["each"], len(job["tokens"]) // job["connections"]
    places = [
        Place(
            swarm,
            dialect_of(job["dialect"]),
            job["tokens"][number * many : (number + 1) * many],
            [rooms[(number * each + k) % len(rooms)] for k in range(each)],
            book,
            number % SAMPLE == 0,
        )
        for number in range(job["connections"])
    ]
    await open_slowly(places, lambda: book.welcome, link)
    window = Window.of(await link.ready())
    await until(window.start_ns)
    book.running = True
    late = await steadily(places, book, job["rate"], job["churn"], window)
    book.running = False
    await asyncio.sleep(LINGER_S)
    book.fold()
    link.result(
        **book.counts,
        late=late,
        unanswered=len(book.sent),
        cut_off=book.cut_off,
        reasons=book.reasons,
        acks=book.acks.to_json(),
        deliveries=book.deliveries.to_json(),
    )
    swarm.close()


async def steadily(places: list[Place], book: Book, rate: float, churn: float, window: Window) -> int:
    """Sends and cuts as they are due. Returns how many sends left more than two ticks late."""
    sends = cuts = late = 0
    choose = book.random.choice
    while (now := monotonic_ns()) < window.until_ns:
        while (due := window.start_ns + int(sends * 1e9 / rate)) <= now:
            sends += 1
            late += now - due > 2 * TICK_S * 1e9
            place = choose(places)
            if place.state == OPEN:
                place.talk(counted_from(due))
        while churn and window.start_ns + int(cuts * 1e9 / churn) <= now:
            cuts += 1
            place = choose(places)
            if place.state == OPEN:
                place.leave()
        await asyncio.sleep(TICK_S)
    return late
