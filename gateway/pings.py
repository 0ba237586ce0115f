"""``position``: fixes of devices, each taken once, ever, then judged, kept and shown (`gateway.live`).

A fix is taken where the device's present key signed its message (`core.pings` says what is signed) and its number is new to
the device's window in the directory, which all nodes share. So what is late is taken once, however late, and a replay never:
not at another node, not after a restart, not in another session, nor under a key that was rotated. The number is taken after
the sample is kept: whatever dies between the two, who says it again is not told that it is there while it is not. A sample
that is kept twice for that is read once, and a replay moves nothing (`core.geo.plausible`), whatever it is answered in the
end. Who never enrolled a key need not sign, unless its tenant says so; its numbers are kept with what is remembered for
judging it.

Messages of all connections gather for a moment, and a batch of them goes the same way in turn: keys are looked up, signatures
checked in slices, fixes judged; while its samples are kept and its numbers taken, the next batch is on its way. No task
is started for a message, and it holds up nothing else that its connection says, as a send does.

Promises: one bad message or fix refuses no other; what is under way is bounded, more answers ``overloaded``; messages of one
device are judged in the order they came. Does not: judge whether a fix is plausible. A node that keeps no tracks says
``accepted`` of what was taken, and asks for signatures.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import trio

from core.directory import Ping
from core.geo.cadence import REST_S
from core.pings import Fix, read_fixes, read_nav
from core.policy import StreamAction, may
from core.ports import Unavailable
from core.stream import Stream
from core.wire import Close
from gateway.connection import CLOSING, OPEN, Connection
from gateway.device_keys import Keys
from gateway.gatekeeper import limited
from gateway.live.books import Book
from gateway.live.positions import NUMBERED, Judged, Taken, Verdict, verdict_of
from gateway.service import WireError, no_right
from gateway.waiting import Waiting

if TYPE_CHECKING:
    from gateway.node import Node
    from gateway.ops import Ops

log = logging.getLogger("readback.positions")

NEXT_IN_S: Final = 2.0
"""When the next fix is worth sending to a node that keeps no tracks; several times that while the node sheds."""
CALL_MAX: Final = 5_000
"""Fixes of one batch, where more than `pings_batch_max` gathered."""
SLICE: Final = 1
"""Signatures checked (60 us each) before others have a turn: a send needs three turns, and waits for what is in each."""
JUDGED: Final = 4
"""Fixes judged (40 us each, 8 where they are many of one message), or those of one message, before others have a turn."""
BATCHED: Final = 2_000
"""Messages whose numbers are taken in one call."""
OVERLOADED_S: Final = 0.5
SPARED: Final = 0.25
"""The part of the fixes under way that no tenant gets which has as many already."""

Answered = Callable[[Taken | Exception], None]


class Asked:
    """A message of fixes on its way. ``verdicts``: what is said of each already; ``nav_ms``: when its sender's own navigation
    says that it arrives."""

    __slots__ = (
        "answered",
        "ended",
        "fixes",
        "keyless",
        "nav_ms",
        "signature",
        "stream",
        "subject",
        "tenant",
        "verdicts",
    )

    def __init__(
        self,
        tenant: str,
        subject: str,
        stream: Stream,
        fixes: list[Fix],
        signature: str | None,
        answered: Answered,
        nav_ms: int | None = None,
    ) -> None:
        self.nav_ms = nav_ms
        self.tenant = tenant
        self.subject = subject
        self.stream = stream
        self.fixes = fixes
        self.signature = signature
        self.answered = answered
        self.ended = False
        self.keyless = False
        self.verdicts: list[Verdict | None] = [None] * len(fixes)


class Pings:
    """Of one node. Run with `run`."""

    def __init__(self, ops: Ops) -> None:
        self._ops = ops
        self._node: Node = ops.node
        self.keys = Keys(self._node)
        self._gathering: list[Asked] = []
        self._gathered = 0
        """Fixes in them."""
        self._wake = trio.Event()
        self._full = trio.Event()
        self.waiting = 0
        """Fixes under way."""
        self._waiting: dict[str, int] = {}
        """The same, by tenant."""
        self._to_number: list[tuple[Asked, Judged]] = []
        """Kept, and to be answered once their numbers are taken."""
        self._number = trio.Event()
        self.calls = 0
        self.accepted = 0

    def forget(self, tenant: str, device: str) -> None:
        """The device has another key, or is no more."""
        self.keys.forget(tenant, device)

    # -- in -------------------------------------------------------------------------------------------------------------

    def position(self, connection: Connection, id: int | None, message: dict[str, Any]) -> None:
        if id is None:
            raise WireError("bad_request", "id: a position needs one for its answer")
        signature = message.get("sig")
        if signature is not None and not isinstance(signature, str):
            raise WireError("bad_request", "sig: a signature in base64url")
        fixes = read_fixes(message.get("fixes"))
        if isinstance(fixes, str):
            raise WireError("bad_request", fixes)
        nav_ms = read_nav(message.get("nav"))
        if isinstance(nav_ms, str):
            raise WireError("bad_request", nav_ms)
        then = functools.partial(self._position, connection, id, fixes, signature, nav_ms)
        self._ops.with_stream(connection, id, message, then)

    def _position(
        self,
        connection: Connection,
        id: int,
        fixes: list[Fix],
        signature: str | None,
        nav_ms: int | None,
        stream: Stream,
    ) -> None:
        check_may_send(stream, connection.principal, connection.standing)
        if connection.inflight >= self._node.limits.inflight_sends_per_connection_max:
            raise limited(f"{connection.inflight} unanswered sends", 0.1)
        answered = functools.partial(self._answer, connection, id)
        self.ask(Asked(connection.tenant, connection.principal, stream, fixes, signature, answered, nav_ms))
        connection.inflight += 1

    def _answer(self, connection: Connection, id: int, outcome: Taken | Exception) -> None:
        connection.inflight -= 1
        if connection.state is not OPEN:
            return
        if isinstance(outcome, Taken):
            verdicts, accepted, next_in_s = outcome
            self._ops.ok(connection, id, accepted=accepted, verdicts=verdicts, next_in=next_in_s)
        elif isinstance(outcome, WireError):
            self._ops.refuse(connection, id, outcome)
        elif isinstance(outcome, Unavailable):
            why = "positions cannot be taken now; repeat: what was taken is a duplicate then"
            self._ops.refuse(connection, id, WireError("unavailable", why, outcome.retry_after_s))
        elif connection.state < CLOSING:
            self._node.shard.bye(connection, Close.INTERNAL, "internal error")

    async def of(
        self,
        tenant: str,
        principal: str,
        stream: Stream,
        fixes: list[Fix],
        signature: str | None,
        nav_ms: int | None = None,
    ) -> Taken:
        """The same for one who has no socket, and may send to the stream (`check_may_send`). Raises `WireError`,
        `Unavailable`."""
        waiting = Waiting[Taken]()
        self.ask(Asked(tenant, principal, stream, fixes, signature, waiting.answered, nav_ms))
        return await waiting.answer()

    def ask(self, asked: Asked) -> None:
        """Answered later, once. Raises `WireError` overloaded."""
        count = len(asked.fixes)
        if not self._has_room(asked.tenant, count):
            wait_s = OVERLOADED_S * (1.0 + self._node.uniform())
            raise WireError("overloaded", "too many positions are under way", round(wait_s, 3))
        self.waiting += count
        self._waiting[asked.tenant] = self._waiting.get(asked.tenant, 0) + count
        self._gathering.append(asked)
        self._gathered += count
        self._wake.set()
        if self._gathered >= self._node.limits.pings_batch_max:
            self._full.set()

    def _has_room(self, tenant: str, count: int) -> bool:
        """The last `SPARED` is for tenants that have less than that under way: one that floods is in nobody else's way."""
        most = self._node.limits.pings_waiting_max
        spared, room = int(SPARED * most), most - self.waiting - count
        return room >= 0 and (room >= spared or self._waiting.get(tenant, 0) + count <= spared)

    def _over(self, tenant: str, count: int) -> None:
        self.waiting -= count
        self._waiting[tenant] -= count
        if not self._waiting[tenant]:
            del self._waiting[tenant]

    def _end(self, asked: Asked, outcome: Taken | Exception) -> None:
        if asked.ended:
            return
        asked.ended = True
        self._over(asked.tenant, len(asked.fixes))
        if isinstance(outcome, Taken):
            self.accepted += outcome.accepted
        asked.answered(outcome)

    # -- the way of a batch -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """In two steps, each a loop, and not a task a batch: those would overtake each other."""
        proved, to_judge = trio.open_memory_channel[list[Asked]](1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._judge_forever, to_judge)
            nursery.start_soon(self._number_forever)
            while True:
                await self._wake.wait()
                with trio.move_on_after(self._node.limits.pings_gather_s):
                    await self._full.wait()
                batch = self._next()
                try:
                    await proved.send(await self._proved(batch))
                except Exception as error:
                    self._failed(batch, error)

    async def _judge_forever(self, proved: trio.MemoryReceiveChannel[list[Asked]]) -> None:
        async for batch in proved:
            try:
                await self._judged(batch, await self._books(batch))
            except Exception as error:
                self._failed(batch, error)
            self._node.settle()

    def _failed(self, batch: list[Asked], error: Exception) -> None:
        if not isinstance(error, Unavailable | WireError):
            log.error("positions of %d messages were not taken", len(batch), exc_info=error)
        for asked in batch:
            self._end(asked, error)
        self._node.settle()

    def _next(self) -> list[Asked]:
        """What comes from now on gathers anew, however long this batch takes: small ones cost the most."""
        batch, count = self._gathering, 0
        for at, asked in enumerate(batch):
            count += len(asked.fixes)
            if count > CALL_MAX and at:
                self._gathering = batch[at:]
                self._gathered -= count - len(asked.fixes)
                return batch[:at]
        self._gathering, self._gathered = [], 0
        self._wake, self._full = trio.Event(), trio.Event()
        return batch

    async def _proved(self, batch: list[Asked]) -> list[Asked]:
        """Those that are to be taken further. The others are answered: nothing of them is taken, or their key cannot be
        looked up now."""
        await self.keys.look_up((asked.tenant, asked.subject) for asked in batch)
        result = []
        for at, asked in enumerate(batch):
            if at and not at % SLICE:
                await trio.lowlevel.checkpoint()
            try:
                asked.keyless, refused = await self.keys.refuse(asked)
            except Exception as error:
                self._failed([asked], error)
                continue
            if refused:
                self._end(asked, self._none(asked, refused))
            else:
                result.append(asked)
        return result

    async def _books(self, batch: list[Asked]) -> Mapping[tuple[str, str], Book]:
        """What their judges know. Raises `WireError`, `Unavailable`: nothing was taken."""
        positions = self._node.positions
        if positions is None:
            return {}
        positions.check_room(0)
        return await positions.books.load((asked.tenant, asked.subject) for asked in batch)

    async def _number_forever(self) -> None:
        while True:
            await self._number.wait()
            self._number = trio.Event()
            kept, self._to_number = self._to_number, []
            for first in range(0, len(kept), BATCHED):
                part = kept[first : first + BATCHED]
                try:
                    await self._numbered([asked for asked, _ in part])
                except Exception as error:
                    self._failed([asked for asked, _ in part], error)
                for asked, judged in part:
                    self._answered(asked, judged)
                self._node.settle()

    def _answered(self, asked: Asked, judged: Judged) -> None:
        """As judged, but for what was said before."""
        verdicts, accepted, next_in_s = judged.taken
        if any(asked.verdicts):
            verdicts = [said or verdict for said, verdict in zip(asked.verdicts, verdicts, strict=True)]
            accepted = sum(each["verdict"] == "accepted" for each in verdicts)
        if not asked.ended and self._node.positions is not None:
            self._node.positions.count(verdicts)
        self._end(asked, Taken(verdicts, accepted, next_in_s))

    async def _numbered(self, batch: list[Asked]) -> None:
        """Take the numbers of fixes whose senders have a key; of who has none `gateway.live` does. Raises `Unavailable`:
        none was taken, or nobody knows."""
        directory = self._node.directory
        pings = [
            (asked.tenant, asked.subject, fix.seq)
            for asked in batch
            if not asked.keyless
            for fix in asked.fixes
            if fix.good
        ]
        if not pings:
            return
        self.calls += 1
        assert directory is not None
        found = iter(await directory.take_pings(pings))
        for asked in batch:
            if asked.keyless:
                continue
            for at, fix in enumerate(asked.fixes):
                if fix.good and (ping := next(found)) is not Ping.ACCEPTED:
                    asked.verdicts[at] = verdict_of(fix, *NUMBERED[ping])

    async def _judged(self, batch: list[Asked], books: Mapping[tuple[str, str], Book]) -> None:
        """Judge, and answer once kept. Of whoever that fails for, nobody else hears."""
        positions = self._node.positions
        if positions is None:
            await self._numbered(batch)
            for asked in batch:
                self._end(asked, self._taken(asked))
            return
        kept: list[tuple[Asked, Judged]] = []
        turn = 0
        for asked in batch:
            if turn >= JUDGED:
                turn = 0
                await trio.lowlevel.checkpoint()
            turn += len(asked.fixes)
            book = books[asked.tenant, asked.subject]
            try:
                judged = positions.judge(
                    book,
                    asked.tenant,
                    asked.subject,
                    asked.stream,
                    asked.fixes,
                    numbered=asked.keyless,
                )
            except Exception as error:
                log.exception("fixes of tenant %r could not be judged", asked.tenant)
                self._end(asked, error)
            else:
                kept.append((asked, judged))
                if asked.nav_ms is not None and judged.last is not None and self._node.arrivals is not None:
                    self._node.arrivals.advise(asked.stream, asked.subject, asked.nav_ms, judged.last.at_ms)
        if kept:
            positions.keep([judged for _, judged in kept], functools.partial(self._kept, kept))

    def _kept(self, kept: Sequence[tuple[Asked, Judged]], error: Exception | None) -> None:
        for asked, judged in kept:
            if error is not None and judged.waits:
                self._end(asked, error)
            elif asked.keyless:
                self._answered(asked, judged)
            else:
                self._to_number.append((asked, judged))
                self._number.set()

    def _none(self, asked: Asked, reason: str) -> Taken:
        verdicts = [verdict_of(fix, "rejected", reason) for fix in asked.fixes]
        positions = self._node.positions
        if positions is None:
            return Taken(verdicts, 0, self._next_in_s())
        positions.count(verdicts)
        return Taken(verdicts, 0, REST_S * self._node.pulse.position_factor)  # what is refused is worth no hurry

    def _taken(self, asked: Asked) -> Taken:
        """At a node that keeps no tracks."""
        verdicts = [
            said or (verdict_of(fix, "accepted") if fix.good else verdict_of(fix, "rejected", "malformed"))
            for fix, said in zip(asked.fixes, asked.verdicts, strict=True)
        ]
        accepted = sum(each["verdict"] == "accepted" for each in verdicts)
        return Taken(verdicts, accepted, self._next_in_s())

    def _next_in_s(self) -> float:
        return NEXT_IN_S * self._node.pulse.position_factor

    async def drained(self) -> None:
        """Until nothing is under way."""
        while self.waiting:  # noqa: ASYNC110  # once in a life
            await trio.sleep(0.02)


def check_may_send(stream: Stream, principal: str, standing: int) -> None:
    """Raises `WireError`."""
    role = stream.role(principal, standing)
    if not may(StreamAction.POSITION, role):
        raise no_right(role, stream.name)
