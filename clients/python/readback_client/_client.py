"""`Client`: what a `connect` block holds. Its methods ask the machine; two tasks let time pass and carry its frames.

Promises nothing that `_machine` does not decide, except this: whoever waits is woken, once, with an answer or with what
ended the client. Several tasks may use one client; no method blocks another.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import trio

from readback_client._answers import commanded_of, page_of, roster_of, sent_of
from readback_client._errors import Closed, TimedOut, Unavailable, WireError
from readback_client._feed import Start
from readback_client._iterators import Bell, Signals, StatusStream, Subscription
from readback_client._link import Address, DialFailed, run_link
from readback_client._machine import Dial, Machine
from readback_client._values import Body, Commanded, Cursors, Page, Roster, Sent, Stats, Status
from readback_client._wire import Frame, Malformed, check_body, check_key, check_stream

Token = str | Callable[[], Awaitable[str]]
T = TypeVar("T")

PRESENCES = ("online", "away")


class Client:
    """What a `connect` block works with. All methods may be called from any task of the same Trio run."""

    def __init__(
        self,
        machine: Machine,
        addresses: Mapping[str, Address],
        token: Token,
        ssl_context: ssl.SSLContext | None,
        new_key: Callable[[], str],
    ) -> None:
        self._machine = machine
        self._addresses = addresses
        self._token = token
        self._ssl_context = ssl_context
        self._new_key = new_key
        self._kick = Bell()  # the steering task should look again
        self._ink = Bell()  # there is something to write
        self._armed = 0.0  # when the steering task looks by itself
        self._hangup = trio.Event()
        self._linked = False
        self._unlinked = Bell()
        self._renewing: trio.CancelScope | None = None  # of the fetch of a fresh token, while the link lasts
        self._steered = trio.Event()  # the steering task has let go of its last link
        self._status_readers: list[StatusStream] = []
        machine.on_status = self._status_changed

    # -- streams ------------------------------------------------------------------------------------------------------

    def subscribe(self, stream: str, *, after: int | None = None, last: int | None = None) -> Subscription:
        """Iterate over a stream's events, in order, each once, for as long as you like and over any number of losses.

        Begins past seq ``after``, or ``last`` events before the head; with neither, where the store says this stream
        was left, else at the head. One iteration a stream at a time. Ends by raising: `Forbidden`, `Removed`,
        `NotFound`, `StreamReset`, or what ended the client.

        An event counts as done (for the store) when the loop asks for the next one. A loop that does not keep up makes
        the client leave the stream for a while, not grow; see `_feed`. Use ``with`` to be rid of it early:

            with rb.subscribe("chat:ops", after=117) as events:
                async for event in events:
                    ...
        """
        check_stream(stream)
        if after is not None and last is not None:
            raise ValueError("after or last, not both")
        for name, value in (("after", after), ("last", last)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise ValueError(f"{name}={value!r}: a number from 0")
        self._check_open()
        start = Start(after, last) if after is not None or last is not None else None
        subscription = Subscription(self._machine.streams, self._pump)
        subscription.reader = self._machine.streams.open_reader(
            trio.current_time(), stream, start, subscription.bell.ring
        )
        self._pump()
        return subscription

    def signals(self, stream: str) -> Signals:
        """Iterate over who types, who is here, how far others have read: `Typing`, `Presence`, `Mark`, `Signal`.

        The newest value under each principal and kind; those in between are skipped when the loop is slow.

            async for signal in rb.signals("chat:ops"):
                if isinstance(signal, Typing):
                    print(signal.by, "types" if signal.on else "ceased")
        """
        check_stream(stream)
        self._check_open()
        signals = Signals(self._machine.streams, stream, self._pump)
        signals.listener = self._machine.streams.open_signals(stream, signals.bell.ring)
        self._pump()
        return signals

    # -- calls --------------------------------------------------------------------------------------------------------

    async def send(
        self,
        stream: str,
        body: Body,
        type: str = "message",
        *,
        key: str | None = None,
        expect: int | None = None,
        timeout_s: float = 30.0,
    ) -> Sent:
        """Append an event; returns once it is committed, with its seq. Retried with the same key until ``timeout_s``.

        Any number may be in flight from several tasks. ``key`` (a UUID) names this send for good: give your own to
        repeat it in another run. ``expect`` appends only if it is the stream's head. Raises at once what will not heal
        (`Forbidden`, `NotFound`, `Conflict`, `TooLarge`, `BadRequest`, …), and `TimedOut` when nobody can say whether
        it landed: its ``key`` can be sent again.

            sent = await rb.send("chat:ops", {"text": "hi"})
            print(sent.seq)
        """
        check_body(body)
        key = check_key(key if key is not None else self._new_key())
        fields: dict[str, object] = {"stream": check_stream(stream), "key": key, "type": type, "body": body}
        if expect is not None:
            fields["expect"] = expect
        return await self._call("send", fields, sent_of, timeout_s, key)

    async def command(
        self,
        stream: str,
        type: str,
        body: Mapping[str, object] | None = None,
        *,
        key: str | None = None,
        expect: int | None = None,
        timeout_s: float = 30.0,
    ) -> Commanded:
        """Have something happen to a flight; returns once it has, with the seqs of the events it became. As `send` it is
        retried with the same key, and happens once.

        Raises `Rejected` where the flight's state or a rule forbids it: ``reason`` says why, ``cite`` which rule.

            done = await rb.command("flight:QX12-20261121", "depart", {"at": "2026-11-21T09:30:00Z"})
            print(done.seqs)
        """
        body = {} if body is None else dict(body)
        check_body(body)
        key = check_key(key if key is not None else self._new_key())
        fields: dict[str, object] = {"stream": check_stream(stream), "key": key, "type": type, "body": body}
        if expect is not None:
            fields["expect"] = expect
        return await self._call("command", fields, commanded_of, timeout_s, key)

    async def history(
        self, stream: str, *, before: int | None = None, limit: int = 50, timeout_s: float = 30.0
    ) -> Page:
        """Up to ``limit`` events with seq below ``before`` (from the head without it), ascending.

        May return fewer than asked even where there are more, for a frame is bounded: go on before the first of these.

            page = await rb.history("chat:ops", before=100, limit=20)
        """
        fields: dict[str, object] = {"stream": check_stream(stream), "limit": limit}
        if before is not None:
            fields["before"] = before
        return await self._call("history", fields, lambda frame: page_of(frame, stream), timeout_s)

    async def presence(self, stream: str, *, of: Sequence[str] = (), timeout_s: float = 30.0) -> Roster:
        """Who is here now; with ``of``, those principals (at most 100) whether here or not, and when they last were.

        print([here.by for here in (await rb.presence("chat:ops")).online])
        print((await rb.presence("chat:ops", of=["user:bob"])).online[0].seen)
        """
        asked: dict[str, object] = {"stream": check_stream(stream)}
        if of:
            asked["of"] = list(of)
        return await self._call("presence", asked, roster_of, timeout_s)

    # -- said in passing ----------------------------------------------------------------------------------------------

    def mark(self, stream: str, *, delivered: int = 0, read: int = 0) -> None:
        """Tell that everything up to these seqs was delivered, or read. Gathered, never moves back, survives losses.

        rb.mark("chat:ops", read=event.seq)
        """
        check_stream(stream)
        self._check_open()
        self._machine.manners.mark(trio.current_time(), stream, delivered, read)
        self._pump()

    def typing(self, stream: str, on: bool = True) -> None:
        """Tell that this principal types. Call it at every key; it is said at most every 3 s, and goes off after 6.

        rb.typing("chat:ops")
        """
        self._machine.manners.typing(trio.current_time(), check_stream(stream), on)
        self._pump()

    def set_presence(self, stream: str, value: str) -> None:
        """``"away"`` or ``"online"``; kept over reconnects.

        rb.set_presence("chat:ops", "away")
        """
        check_stream(stream)
        if value not in PRESENCES:
            raise ValueError(f"presence is one of {', '.join(PRESENCES)}, not {value!r}")
        self._machine.manners.presence(stream, value)
        self._pump()

    # -- about the client itself --------------------------------------------------------------------------------------

    @property
    def status(self) -> StatusStream:
        """A new iteration over `Connecting`, `Online`, `Waiting`, `Ended`: the current one first, then the latest.

        async for status in rb.status:
            print(status)
        """
        reader = StatusStream(self._machine, self._status_readers)
        self._status_readers.append(reader)
        return reader

    @property
    def state(self) -> Status:
        """The current status."""
        return self._machine.status

    @property
    def stats(self) -> Stats:
        return self._machine.stats

    @property
    def principal(self) -> str:
        """Who the server says we are; empty before the first welcome."""
        return self._machine.principal

    @property
    def token_ends_in_s(self) -> float | None:
        """For how long the server keeps this connection on the access token that it has; ``None`` where it is not known:
        not online, or an older server. A token that is fetched is renewed before; a fixed one ends the client then."""
        left_s = self._machine.renewal.ends_at - trio.current_time()
        return left_s if self._machine.online and left_s != math.inf else None

    @property
    def cursors(self) -> Cursors:
        """How far each reader is done, as a store would save it now."""
        return self._machine.cursors()

    async def ready(self) -> None:
        """Wait until online.

        with trio.fail_after(5):
            await rb.ready()
        """
        with self.status as statuses:
            async for _ in statuses:
                if self._machine.online:
                    return
        raise self._machine.error if self._machine.error is not None else Closed("this client was closed")

    # -- inside -------------------------------------------------------------------------------------------------------

    def _check_open(self) -> None:
        self._machine.tick(trio.current_time())
        if self._machine.ended:
            raise self._machine.error if self._machine.error is not None else Closed("this client was closed")

    def _status_changed(self) -> None:
        for reader in self._status_readers:
            reader.bell.ring()

    def _pump(self) -> None:
        """After anything was asked of the machine: wake whoever has to act on it."""
        if self._machine.writes:
            self._ink.ring()
        if self._machine.hangup or self._machine.deadline < self._armed:
            self._kick.ring()

    async def _call(
        self,
        op: str,
        fields: Mapping[str, object],
        read: Callable[[Frame], T],
        timeout_s: float,
        key: str | None = None,
    ) -> T:
        answered = trio.Event()
        self._machine.tick(trio.current_time())
        call = self._machine.call(op, fields, answered.set)
        self._pump()
        try:
            with trio.move_on_after(timeout_s):
                await answered.wait()
        finally:
            if not call.done:
                self._machine.calls.drop(call)
        if call.error is not None:
            raise call.error
        if call.answer is None:
            raise TimedOut(f"{op} on {fields['stream']}", timeout_s, key, call.last)
        try:
            return read(call.answer)
        except Malformed as error:
            raise WireError("internal", f"the answer to {op} cannot be read: {error}") from None

    async def run(self, block: trio.CancelScope) -> None:
        """For `connect`. Lets time pass for the machine, dials, hangs up. Ends with it, taking the block along."""
        machine = self._machine
        async with trio.open_nursery() as nursery:
            while True:
                now = trio.current_time()
                machine.tick(now)
                if machine.ended:
                    break
                dial = machine.next_dial(now)
                if dial is not None:
                    self._hangup = trio.Event()
                    self._linked = True
                    nursery.start_soon(self._link, dial, self._hangup)
                if machine.hangup:
                    self._hangup.set()
                elif machine.fresh_token_wanted and self._renewing is None:
                    self._renewing = trio.CancelScope(deadline=machine.renewal.ends_at)
                    nursery.start_soon(self._renew, self._renewing)
                self._armed = machine.deadline
                if machine.writes:
                    self._ink.ring()
                with trio.move_on_at(self._armed):
                    await self._kick.wait()
            self._hangup.set()
            while self._linked:
                await self._unlinked.wait()
            nursery.cancel_scope.cancel()
        self._steered.set()
        if machine.error is not None:
            block.cancel()

    async def _link(self, dial: Dial, hangup: trio.Event) -> None:
        machine = self._machine
        try:
            token = await self._fetch_token() if dial.token_needed else None
            code, reason = await run_link(
                self._addresses[dial.url],
                self,
                lambda: self._opened(token),
                limits=machine.limits,
                ssl_context=self._ssl_context,
                hangup=hangup,
            )
            machine.closed(trio.current_time(), code, reason)
        except DialFailed as failed:
            machine.failed(trio.current_time(), failed.why, retry_after_s=failed.retry_after_s, final=failed.final)
        finally:
            if self._renewing is not None:
                self._renewing.cancel()  # the next connection fetches its own, if it needs one
            self._linked = False
            self._unlinked.ring()
            self._kick.ring()

    def _opened(self, token: str | None) -> None:
        self._machine.connected(trio.current_time(), token)
        self._pump()

    async def _renew(self, scope: trio.CancelScope) -> None:
        """Fetch a fresh token beside the reading and writing, which go on."""
        token: str | None = None
        retry_after_s: float | None = None
        try:
            with scope:
                token = await self._fetch_token()
        except DialFailed as failed:
            retry_after_s = failed.retry_after_s
        finally:
            if token is not None:
                self._machine.renew(trio.current_time(), token)
            else:
                self._machine.not_renewed(trio.current_time(), retry_after_s)
            if self._renewing is scope:
                self._renewing = None
            self._pump()
            self._kick.ring()

    async def _fetch_token(self) -> str:
        if isinstance(self._token, str):
            return self._token
        try:
            return await self._token()
        except Unavailable as error:
            raise DialFailed(f"no access token now: {error}", error.retry_after_s) from None
        except Exception as error:
            self._machine.end(error)
            raise DialFailed("no access token") from None

    # -- what the link asks and tells ---------------------------------------------------------------------------------

    def heard(self) -> None:
        self._machine.heard(trio.current_time())

    async def received(self, text: str | bytes) -> None:
        self._machine.receive(trio.current_time(), text)
        if self._machine.token_wanted:
            self._machine.offer_token(trio.current_time(), await self._fetch_token())
        self._pump()
        if self._machine.ended:
            self._kick.ring()

    def next_write(self) -> str | None:
        writes = self._machine.writes
        return writes.popleft() if writes and not self._machine.hangup else None

    @property
    def write_timeout_s(self) -> float:
        return self._machine.write_timeout_s

    async def idle(self) -> None:
        await self._ink.wait()

    async def say_goodbye(self) -> None:
        """For `connect`. The block ended well: let the last marks out, then close the connection politely. Bounded."""
        machine = self._machine
        said = Bell()
        machine.manners.on_said = said.ring
        with trio.move_on_after(machine.limits.close_timeout_s):
            if machine.online:
                machine.manners.flush()
            self._pump()
            while machine.online and machine.manners.unsaid:
                await said.wait()
        machine.end(None)
        self._kick.ring()
        with trio.move_on_after(machine.limits.close_timeout_s):
            await self._steered.wait()
