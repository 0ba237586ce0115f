"""Commands of a node: each is decided on its stream's state, and what was decided is kept in the log or decided anew.

A stream's state is the fold of the events that commands became there. The node remembers it for the streams that get
commands (a `_Book` each, at most `commands_kept_max`); it decides one command of a stream at a time, those of different
streams together, and they gather for a commit as sends do (`gateway.lanes`), in lanes of their own.

Promises: whoever gives a command is answered once: with its events' seqs, or its refusal, after the commit; a repeated key
with what was answered first. What was decided holds only on the state it was decided on: where another node was faster
(`Outcome.STALE`) the state is read on and the command decided again, at most `TRIES_MAX` times. An answer of the store that
never came leaves the state unknown: it is read on before the next command.

Does not: know what commands mean (`core.flight`), nor who may follow a stream (`gateway.ops`).
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson
import trio

from core import wire
from core.commands import FOLDED_AT_ONCE, Answer, answer, as_recorded, recorded, to_keep
from core.flight.machine import Command, Decision, Machine, Malformed, Recorded, Unallowed
from core.flight.registry import machine_of
from core.model import FACTS_MAX, Decided, Judged, Outcome
from core.policy import OWNS, StreamAction, may
from core.ports import Unavailable
from gateway.lanes import Lanes
from gateway.service import WireError, check_expect, checked_key

if TYPE_CHECKING:
    from core.stream import Stream
    from gateway.node import Node

log = logging.getLogger("readback.commands")

TRIES_MAX: Final = 16
"""How often a command is decided: each time less one, somebody else's command to the same stream was faster."""

NEVER: Final = -1
"""A state that no stream is in."""

SETTLED_AT_ONCE: Final = 128
"""Commands of a commit that are folded, answered and followed by the next of their streams in one turn of the node's loop: some
5 ms, in which nothing else is served."""

Answered = Callable[["Answer | WireError"], None]


class Ask:
    """One command that waits for its answer. ``standing`` is of a token (`core.policy`).

    ``not_before_ms``: it is decided as of then, where this node's clock says less: whoever gives it knows by the store's.
    """

    __slots__ = ("answered", "command", "expect", "key", "not_before_ms", "privileged", "tries", "wrong")

    def __init__(
        self,
        command: Command,
        key: str,
        expect: int | None,
        privileged: bool,
        answered: Answered,
        not_before_ms: int = 0,
    ) -> None:
        self.command = command
        self.key = key
        self.expect = expect
        self.privileged = privileged
        self.answered = answered
        self.not_before_ms = not_before_ms
        self.tries = 0
        self.wrong: WireError | None = None
        """What it is answered, unless the log knows it already."""


class _Book:
    """A stream's state as far as it was folded (``seq`` is of the last command's event), and the commands that wait."""

    __slots__ = ("behind", "busy", "machine", "name", "partition", "seq", "sid", "state", "tenant", "waiting")

    def __init__(self, stream: Stream, machine: Machine[Any]) -> None:
        self.tenant = stream.tenant
        self.name = stream.name
        self.sid = stream.sid
        self.partition = stream.partition
        self.machine = machine
        self.state = machine.initial()
        self.seq = 0
        self.behind = True
        """There may be events that are not folded yet."""
        self.busy = False
        self.waiting: deque[Ask] = deque()


class Commander:
    """Of one node. `lanes` must run."""

    def __init__(self, node: Node, lanes: int) -> None:
        self._node = node
        self._books: OrderedDict[int, _Book] = OrderedDict()
        self.lanes: Lanes[Decided, Judged] = Lanes(
            lambda batch: node.log.command(batch), node.limits, lanes, self._judged, self._failed, node.weight
        )
        self._nursery: trio.Nursery | None = None
        self._unsettled: deque[tuple[Decided, Judged]] = deque()
        """What the log has said and nobody was told yet."""
        self._more = trio.Event()
        self._restored = 0
        self.given = 0
        self.refused = 0
        self.stale = 0
        self.waiting = 0
        """Commands that were not answered yet."""

    def __len__(self) -> int:
        return len(self._books)

    # -- giving ---------------------------------------------------------------------------------------------------------

    def ask(
        self,
        stream: Stream,
        *,
        by: str,
        standing: int,
        key: object,
        type: object,
        body: object,
        expect: object,
        answered: Answered,
    ) -> None:
        """A command from outside, checked for shape and role. Raises `WireError`; else ``answered`` is called once."""
        key = checked_key(key, "command")
        if not wire.is_type(type):
            raise WireError(
                "bad_request", "type: the command's verb, lower-case letters, digits and _ . - , at most 64"
            )
        if body is None:
            body = {}
        if not isinstance(body, dict):
            raise WireError("bad_request", "body: an object")
        check_expect(expect)
        if len(orjson.dumps(body)) > self._node.limits.body_bytes_max:
            raise WireError("too_large", f"body: at most {self._node.limits.body_bytes_max} bytes")
        role = stream.role(by, standing)
        if not may(StreamAction.COMMAND, role):
            raise WireError("forbidden", f"who only reads {stream.name} gives no commands there")
        assert isinstance(type, str)
        command = Command(type, body, by, "owner" if role == "owner" else "member")
        self.give(stream, Ask(command, key, expect, standing & OWNS != 0, answered))  # type: ignore[arg-type]  # checked

    def give(self, stream: Stream, ask: Ask) -> None:
        """One command. Raises `WireError` not_found where no machine decides in the stream, overloaded."""
        self._forget_if_restored()
        book = self._books.get(stream.sid)
        if book is None:
            machine = machine_of(stream.name)
            if machine is None:
                raise WireError("not_found", f"{stream.name} takes no commands; flights and trips do")
            self._make_room()
            book = self._books[stream.sid] = _Book(stream, machine)
        else:
            self._books.move_to_end(stream.sid)
        if len(book.waiting) >= self._node.limits.commands_per_stream_max:
            raise WireError("overloaded", f"{len(book.waiting)} commands wait for {stream.name} already", 0.2)
        self.given += 1
        self.waiting += 1
        book.waiting.append(ask)
        if not book.busy:
            self._next(book)

    def _make_room(self) -> None:
        if len(self._books) < self._node.limits.commands_kept_max:
            return
        for sid, book in self._books.items():
            if not book.busy:
                del self._books[sid]
                return

    def _forget_if_restored(self) -> None:
        restored = self._node.follower.restored
        if restored != self._restored:  # the log is another one: no state of before holds, nor the number of a stream
            self._restored = restored
            self._books.clear()

    # -- deciding -------------------------------------------------------------------------------------------------------

    def _next(self, book: _Book) -> None:
        """Decide what waits first and hand it to the log; those that nothing is kept of are answered at once."""
        self._forget_if_restored()
        if self._books.get(book.sid) is not book:  # one that is busy is let go of for that reason alone
            while book.waiting:
                self._done(book, _unavailable(Unavailable("the log was restored")))
        while book.waiting:
            if book.behind:
                book.busy = True
                assert self._nursery is not None, "commands before the node runs"
                self._nursery.start_soon(self._catch_up, book)
                return
            ask = book.waiting[0]
            ask.tries += 1
            now_ms = max(int(1000 * self._node.wall()), ask.not_before_ms)
            decision = self._decide(book, ask.command, now_ms)
            if decision is None:
                self._done(book, _OUR_FAULT)
                continue
            if isinstance(decision, Unallowed):
                self._done(book, WireError("forbidden", decision.message))
                continue
            if isinstance(decision, Malformed):
                ask.wrong = WireError("bad_request", decision.message)
                if ask.command.type not in book.machine.table:
                    self._done(book, ask.wrong)  # nobody ever obeyed or refused such
                    continue
                decided = self._lookup(book, ask)
            else:
                decided = to_keep(
                    decision,
                    ask.command,
                    tenant=book.tenant,
                    sid=book.sid,
                    key=ask.key,
                    state=book.seq,
                    expect=ask.expect,
                    privileged=ask.privileged,
                )
                if max((len(fact[2]) for fact in decided.facts), default=0) > self._node.limits.body_bytes_max:
                    # The event frame around it must stay below what clients are told a frame may be.
                    ask.wrong = WireError("too_large", "what the command would become is too large for one event")
                    decided = self._lookup(book, ask)
            decided.ticket = book
            if not self.lanes.put(book.partition, decided):
                self._done(book, WireError("overloaded", "too many commands are waiting to be committed", 0.5))
                continue
            book.busy = True
            return
        book.busy = False

    @staticmethod
    def _decide(book: _Book, command: Command, now_ms: int) -> Decision | None:
        """``None`` for a fault of the machine's, which must not end the node: it would end the next one, too."""
        try:
            decision = book.machine.decide(book.state, command, now_ms)
            assert not isinstance(decision, list) or 1 <= len(decision) <= FACTS_MAX, f"{len(decision)} facts"
        except Exception:
            log.exception("%s cannot be decided in %s of tenant %s", command.type, book.name, book.tenant)
            return None
        return decision

    @staticmethod
    def _evolve(book: _Book, events: Sequence[Recorded]) -> bool:
        """False where an event cannot be folded, which is as bad. The state is as far as it came."""
        for event in events:
            try:
                book.state = book.machine.evolve(book.state, event)
            except Exception:
                log.exception("event %d of %s of tenant %s cannot be folded", event.seq, book.name, book.tenant)
                return False
            book.seq = event.seq
        return True

    @staticmethod
    def _lookup(book: _Book, ask: Ask) -> Decided:
        """Of what nothing can be kept as the state is now: whether it was kept before, when the state was another. Decided on
        a state that never is, so that the log answers what it knows and keeps nothing."""
        command = ask.command
        return Decided(
            book.tenant,
            book.sid,
            ask.key,
            command.type,
            command.by,
            NEVER,
            [],
            refusal=b"{}",
            privileged=ask.privileged,
        )

    def _done(self, book: _Book, answered: Answer | WireError) -> None:
        ask = book.waiting.popleft()
        self.waiting -= 1
        if isinstance(answered, WireError) or answered.refusal is not None:
            self.refused += 1
        ask.answered(answered)

    async def _catch_up(self, book: _Book) -> None:
        """Fold what the log has beyond the state."""
        try:
            while True:
                events = await self._node.log.ruled(book.tenant, book.sid, book.seq, FOLDED_AT_ONCE)
                if not self._evolve(book, [recorded(event) for event in events]):
                    self._done(book, _OUR_FAULT)
                    break
                if len(events) < FOLDED_AT_ONCE:
                    book.behind = False
                    break
                await trio.lowlevel.checkpoint()
        except Unavailable as error:
            self._node.follower.failed(error)
            self._done(book, _unavailable(error))
        self._go_on(book)
        self._node.settle()

    def _go_on(self, book: _Book) -> None:
        book.busy = False
        self._next(book)

    # -- what the log says ------------------------------------------------------------------------------------------------

    def _judged(self, batch: Sequence[Decided], judged: Sequence[Judged]) -> None:
        """A batch is durable: others are told, its events shown, its givers answered; all but the first slice of them in turns
        of their own, so that the lane commits what the first slice made way for while the rest is looked at."""
        self._node.show_commands(batch, judged)
        self._unsettled.extend(zip(batch, judged, strict=True))
        self._settle_slice()
        if self._unsettled:
            self._more.set()

    def _settle_slice(self) -> None:
        for _ in range(min(len(self._unsettled), SETTLED_AT_ONCE)):
            decided, verdict = self._unsettled.popleft()
            book: Any = decided.ticket
            self._settle(book, decided, verdict)
        self._node.settle()

    async def _settle_rest(self) -> None:
        while True:
            await self._more.wait()
            self._more = trio.Event()
            while self._unsettled:
                await trio.lowlevel.checkpoint()
                self._settle_slice()

    def _settle(self, book: _Book, decided: Decided, verdict: Judged) -> None:
        ask, outcome = book.waiting[0], verdict.outcome
        if outcome is Outcome.OK:
            if not self._evolve(book, as_recorded(decided, verdict)):
                book.behind = True
            self._done(book, answer(verdict, dup=False))
        elif outcome is Outcome.DUP:
            self._done(book, answer(verdict, dup=True))
        elif ask.wrong is not None:
            self._done(book, ask.wrong)
        elif outcome is Outcome.STALE:
            self.stale += 1
            book.behind = True
            if ask.tries >= TRIES_MAX:
                self._done(book, WireError("overloaded", "others' commands to this stream were always faster", 0.2))
        elif outcome is Outcome.CONFLICT:
            self._done(book, WireError("conflict", f"the head is {verdict.seq}", head=verdict.seq))
        elif outcome is Outcome.FORBIDDEN:
            self._done(book, WireError("forbidden", f"{decided.by} may not give commands here, or not under this key"))
        else:
            self._done(book, WireError("not_found", "no such stream"))
        self._go_on(book)

    def _failed(self, batch: Sequence[Decided], error: Unavailable) -> None:
        self._node.follower.failed(error, commit=True)
        for decided in batch:
            book: Any = decided.ticket
            book.behind = True  # it may have been kept all the same
            self._done(book, _unavailable(error))
            self._go_on(book)
        self._node.settle()

    # -- running ----------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._settle_rest)
            await self.lanes.run()

    async def drained(self) -> None:
        """Wait until every command taken is answered."""
        while self.waiting:
            await self.lanes.drained()
            await trio.sleep(0.002)


_OUR_FAULT: Final = WireError(
    "internal", "a fault of ours: this stream's commands cannot be decided; its operators find why in the log"
)


def _unavailable(error: Unavailable) -> WireError:
    return WireError("unavailable", "the log cannot be reached now; repeat with the same key", error.retry_after_s)
