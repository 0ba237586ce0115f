"""What each op of readback.v1 does: a message of a connection in, answers and effects out.

Handlers are plain functions, run inside the shard's turn. One that must wait for the log hands its async half to
`Shard.wait_for`; the connection's later messages wait behind it, so a client's ops keep their order. Sends do not wait
for each other: they go into a lane and are answered from `committed`.

Bad input is answered with an error that names the field and what it may be; only what is no message at all ends the
connection (`bye/bad_frame`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson
import trio

from core import wire
from core.commands import Answer
from core.frames import text_frame
from core.model import FACT_TYPES, PRINCIPAL_RE, Entry, Outcome, Verdict
from core.policy import FOLLOWS, OWNS, SENDS, TYPES
from core.ports import Unavailable
from core.stream import Stream
from core.wire import Close
from gateway import opening, renewal
from gateway.connection import OPEN, Connection
from gateway.gatekeeper import limited
from gateway.pings import Pings
from gateway.service import WireError, check_expect, checked_key, no_right

if TYPE_CHECKING:
    from gateway.node import Node

Message = dict[str, Any]
Handler = Callable[["Ops", Connection, int | None, Message], None]

TOKEN_RENEW_S: Final = 60.0
"""A pong carries a fresh resume token when the last one given is older than this."""

PRESENCE_WAIT_S: Final = 0.1
"""How long other nodes are waited for where they have not yet said whom they have in a stream; two rounds take 0.1 s."""

PRESENCE_TRIES: Final = 3
"""How often a stream is loaded for a question about presence where it is let go before the answer."""

SHED_RETRY_S: Final = 0.5
"""What the sender of a shed send is told at least, spread up to twice that; a full lane is a third of a second of commits."""

PLUS: Final = ord("+")
"""What a large double has in JSON (1.8e+19) and most bodies have not: looking for it as an integer takes 20 ns."""

ASKED_MAX: Final = 100
"""Principals that one `presence` may ask about."""

_DUP: Final = Outcome.DUP
_REFERRING = frozenset(("edit", "delete", "react"))


def check_body(type: str, body: object) -> int | None:
    """The ``ref`` that the log must check for this event, if any. Raises `WireError` for a body its type cannot have."""
    if type not in _REFERRING:
        return None
    if not isinstance(body, dict):
        raise WireError("bad_request", f"body: {type} needs an object with ref")
    ref = body.get("ref")
    if not wire.is_seq(ref) or ref == 0:
        raise WireError("bad_request", "body.ref: the seq of an event of this stream")
    if type == "react":
        emoji = body.get("emoji")
        if not isinstance(emoji, str) or not 1 <= len(emoji) <= 32:
            raise WireError("bad_request", "body.emoji: a text of 1 to 32 characters")
        if not isinstance(body.get("on"), bool):
            raise WireError("bad_request", "body.on: true or false")
    assert isinstance(ref, int)
    return ref


def make_entry(
    node: Node,
    stream: Stream,
    *,
    by: str,
    standing: int,
    key: object,
    type: object,
    body: object,
    expect: object,
    ticket: object,
) -> Entry:
    """A checked entry for the lanes, from a socket's or an HTTP send. Raises `WireError`."""
    key = checked_key(key, "send")
    if not wire.is_type(type):
        raise WireError("bad_request", "type: lower-case letters, digits and _ . - , at most 64")
    assert isinstance(type, str)
    if type.startswith("member."):
        raise WireError("forbidden", "member.* events are made by the membership API")
    if type.startswith(FACT_TYPES) and stream.name.startswith(("flight:", "trip:")):
        raise WireError("forbidden", f"{type.partition('.')[0]}.* events are made by commands")
    check_expect(expect)
    ref = check_body(type, body)
    packed = orjson.dumps(body)
    if PLUS in packed and wire.beyond_64_bits(body):
        raise WireError("bad_request", "body: an integer beyond 64 bits would lose digits; send it as a string")
    if len(packed) > node.limits.body_bytes_max:
        raise WireError("too_large", f"body: {len(packed)} bytes, at most {node.limits.body_bytes_max}")
    role = stream.role(by, standing)
    if role not in SENDS:
        raise no_right(role, stream.name)
    return Entry(
        stream.tenant,
        stream.sid,
        key,
        type,
        by,
        packed,
        expect=expect,  # type: ignore[arg-type]  # an int or None, checked above
        ref=ref,
        privileged=standing & OWNS != 0,
        ticket=ticket,
    )


class Ops:
    def __init__(self, node: Node) -> None:
        self.node = node
        self.hub = node.hub
        self.shard = node.shard
        self.pings = Pings(self)
        self.errors_sent = 0
        self.sends_taken = 0
        self.shedding_sends = False
        """Overload: the last thing to go (gateway.pulse). What was taken before is committed and answered."""
        self.sends_shed = 0

    def message(self, connection: Connection, payload: bytes) -> None:
        """One client message. Every refusal that has an ``id`` to answer to is answered."""
        message = wire.parse(payload, self.node.limits.json_depth_max)
        if isinstance(message, wire.BadFrame):
            self.shard.counts.protocol_errors += 1
            self.shard.bye(connection, Close.BAD_FRAME, message.reason)
            return
        id = message.get("id")
        if id is not None and (id.__class__ is not int or not -wire.ID_MAX <= id <= wire.ID_MAX):
            self.error(connection, None, "bad_request", "id: an integer")
            return
        op = message.get("op")
        handler = _HANDLERS.get(op) if op.__class__ is str else None
        if handler is None:
            self.error(connection, id, "unknown_op", f"op: one of {', '.join(sorted(_HANDLERS))}")
            return
        if connection.state is not OPEN and op not in _BEFORE_HELLO:
            self.error(connection, id, "unauthorized", "say hello or resume first")
            return
        metered = connection.metered
        if metered is not None:
            wait_s = metered.message(len(payload), self.shard.now_s)
            if wait_s:
                self.refuse(connection, id, limited("messages", wait_s))
                return
        if op != "ping":
            connection.active = self.shard.tick
            if connection.idled:
                connection.idled = False
                self.hub.signals.set_away(connection, False)
        try:
            handler(self, connection, id, message)
        except WireError as error:
            self.refuse(connection, id, error)
        else:
            if connection.refused and op != "ping":  # heartbeats go on, whoever floods
                connection.refused = 0

    # -- answers ------------------------------------------------------------------------------------------------------

    def ok(self, connection: Connection, id: int | None, **fields: Any) -> None:
        if id is not None:
            self.hub.reply(connection, wire.encode_ok(id, **fields))

    def error(
        self, connection: Connection, id: int | None, code: str, message: str, retry_after_s: float | None = None
    ) -> None:
        self.errors_sent += 1
        self.hub.reply(connection, wire.encode_error(id, code, message, retry_after=retry_after_s))

    def refuse(self, connection: Connection, id: int | None, error: WireError) -> None:
        self.errors_sent += 1
        frame = wire.encode_error(
            id, error.code, error.message, retry_after=error.retry_after_s, head=error.head, facts=error.facts
        )
        self.hub.reply(connection, frame)
        if error.code == "rate_limited":
            self.node.throttle.refused(connection)
        elif error.code == "forbidden":
            self.node.note(connection.tenant, "denied", principal=connection.principal, what=error.message)

    # -- streams a message names --------------------------------------------------------------------------------------

    def known(self, connection: Connection, name: str) -> Stream | None:
        """The stream, when the hub holds it and what this principal may do there."""
        stream = self.hub.by_name.get((connection.tenant, name))
        if stream is not None and (connection.privileged or connection.principal in stream.roles):
            return stream
        return None

    def with_stream(
        self, connection: Connection, id: int | None, message: Message, then: Callable[[Stream], None]
    ) -> None:
        """Call ``then`` with the stream the message names, at once where it is known, after a query where it is not.

        Refuses a malformed name, a stream that does not exist and one that the principal has no part in.
        """
        name = message.get("stream")
        if not wire.is_stream(name):
            raise WireError("bad_request", "stream: kind:name, kind one of chat, flight, trip, user")
        assert isinstance(name, str)
        stream = self.known(connection, name)
        if stream is None:
            self.shard.wait_for(connection, functools.partial(self._load_then, connection, id, name, then))
        else:
            self._allowed(connection, stream)
            then(stream)

    def _allowed(self, connection: Connection, stream: Stream) -> None:
        if stream.role(connection.principal, connection.standing) not in FOLLOWS:
            raise WireError("forbidden", f"not a member of {stream.name}")

    async def _load_then(
        self, connection: Connection, id: int | None, name: str, then: Callable[[Stream], None]
    ) -> None:
        try:
            stream = await self.load(connection, name)
            if connection.state is OPEN:
                then(stream)
        except WireError as error:
            if connection.state is OPEN:
                self.refuse(connection, id, error)

    async def load(self, connection: Connection, name: str) -> Stream:
        """The named stream after asking the log. Raises `WireError`: not_found, forbidden, rate_limited, unavailable."""
        self.node.gatekeeper.one_more_stream(connection.tenant, name)
        try:
            await self.node.loader.load([(connection.tenant, name, connection.principal)])
        except Unavailable as error:
            raise unavailable(error) from None
        stream = self.hub.by_name.get((connection.tenant, name))
        if stream is None:
            raise WireError("not_found", f"no stream {name}")
        self._allowed(connection, stream)
        return stream

    # -- ops ----------------------------------------------------------------------------------------------------------

    def ping(self, connection: Connection, id: int | None, message: Message) -> None:
        wall_s = self.node.wall()
        token = None
        if connection.state is OPEN and wall_s - connection.token_at_s > TOKEN_RENEW_S:
            token = self.node.resume_token(connection)
        self.hub.reply(connection, wire.encode_pong(id, int(wall_s * 1000), token))

    def shed_send(self) -> WireError:
        """What a send is told while sends are shed; counted."""
        self.sends_shed += 1
        retry_after_s = SHED_RETRY_S * (1.0 + self.node.uniform())
        return WireError("overloaded", "too much to do here now; repeat with the same key", round(retry_after_s, 3))

    def _one_more_send(self, connection: Connection) -> None:
        """A send or a command: counted against quotas. Raises `WireError` rate_limited."""
        metered = connection.metered
        if metered is not None:
            wait_s = metered.send(self.shard.now_s)
            if wait_s:
                raise limited("sends", wait_s)
        if connection.inflight >= self.node.limits.inflight_sends_per_connection_max:
            raise WireError("rate_limited", f"{connection.inflight} sends are unanswered already", 0.1)

    def send(self, connection: Connection, id: int | None, message: Message) -> None:
        if self.shedding_sends:
            raise self.shed_send()
        name = message.get("stream")
        stream = self.hub.by_name.get((connection.tenant, name)) if name.__class__ is str else None
        if stream is None or not (connection.privileged or connection.principal in stream.roles):
            self.with_stream(connection, id, message, functools.partial(self._send, connection, id, message))
        else:
            self._send(connection, id, message, stream)

    def _send(self, connection: Connection, id: int | None, message: Message, stream: Stream) -> None:
        if "body" not in message:
            raise WireError("bad_request", "body: what to send")
        self._one_more_send(connection)
        entry = make_entry(
            self.node,
            stream,
            by=connection.principal,
            standing=connection.standing,
            key=message.get("key"),
            type=message.get("type", "message"),
            body=message["body"],
            expect=message.get("expect"),
            ticket=(connection, id, stream.name_b),
        )
        if not self.node.lanes.put(stream.partition, entry):
            raise WireError("overloaded", "too many sends are waiting to be committed", 0.5)
        connection.inflight += 1
        self.sends_taken += 1

    def sub(self, connection: Connection, id: int | None, message: Message) -> None:
        if id is None:
            raise WireError("bad_request", "id: a sub needs one for its answer")
        wanted = opening.parse_position(message)
        if isinstance(wanted, str):
            raise WireError("bad_request", wanted)
        limit = self.node.limits.streams_per_connection_max
        if len(connection.subs) >= limit:
            raise WireError("rate_limited", f"{limit} streams are followed already")
        self.with_stream(connection, id, message, functools.partial(self._sub, connection, id, wanted))

    def _sub(self, connection: Connection, id: int, wanted: opening.Position, stream: Stream) -> None:
        if wanted.after is not None and wanted.after > max(stream.head, stream.want):
            # Perhaps this node has not heard yet: the log decides whether the cursor is ahead of it.
            again = functools.partial(self._subscribe, connection, id, wanted)
            self.shard.wait_for(connection, functools.partial(self._load_then, connection, id, stream.name, again))
        else:
            self._subscribe(connection, id, wanted, stream)

    def _subscribe(self, connection: Connection, id: int, wanted: opening.Position, stream: Stream) -> None:
        after = opening.start(stream, wanted)
        kept = after if stream.first - 1 <= after <= max(stream.head, stream.want) else stream.first - 1
        self.ok(connection, id, stream=stream.name, head=stream.head, after=kept)
        self.hub.subscribe(connection, stream, after, trio.current_time())

    def unsub(self, connection: Connection, id: int | None, message: Message) -> None:
        name = message.get("stream")
        stream = self.hub.by_name.get((connection.tenant, name)) if wire.is_stream(name) else None  # type: ignore[arg-type]
        if stream is None or stream not in connection.subs:
            raise WireError("not_found", "stream: not followed by this connection")
        self.hub.unsubscribe(connection, stream, trio.current_time())
        self.ok(connection, id, stream=stream.name)

    def history(self, connection: Connection, id: int | None, message: Message) -> None:
        if id is None:
            raise WireError("bad_request", "id: a history needs one for its answer")
        before, limit = message.get("before"), message.get("limit", 50)
        if before is not None and (not wire.is_seq(before) or before == 0):
            raise WireError("bad_request", "before: a seq, from 1; leave it out for the newest")
        limit_max = self.node.limits.history_limit_max
        if limit.__class__ is not int or not 1 <= limit <= limit_max:
            raise WireError("bad_request", f"limit: an integer from 1 to {limit_max}")
        if connection.metered is not None:
            self.node.gatekeeper.history(connection.metered)
        self.shard.wait_for(connection, functools.partial(self._history, connection, id, message, before, limit))

    async def _history(self, connection: Connection, id: int, message: Message, before: int | None, limit: int) -> None:
        try:
            name = message.get("stream")
            if not wire.is_stream(name):
                raise WireError("bad_request", "stream: kind:name, kind one of chat, flight, trip, user")
            assert isinstance(name, str)
            stream = self.known(connection, name) or await self.load(connection, name)
            self._allowed(connection, stream)
            try:
                # No further than this node knows who is in it: the log may hold a removal, and what followed it, already.
                before = stream.head + 1 if before is None else min(before, stream.head + 1)
                events = await self.node.log.read_before(connection.tenant, stream.sid, before, limit)
            except Unavailable as error:
                raise unavailable(error) from None
        except WireError as error:
            if connection.state is OPEN:
                self.refuse(connection, id, error)
            return
        if connection.state is not OPEN:
            return  # its close frame is out, and nothing may follow that
        lines: list[bytes] = []
        size = 0
        for event in reversed(events):  # the newest that fit in a frame; the client asks again before `first` of these
            line = wire.event_json(
                stream.name_b, event.seq, event.type, event.key, event.by, event.at_ms, event.body or b"null"
            )
            size += len(line) + 1
            if lines and size > self.node.limits.frame_bytes_max - 512:
                break
            lines.append(line)
        head = b'{"op":"ok","id":%d,"stream":"%b","events":[%b],"first":%d}'
        self.hub.reply(connection, text_frame(head % (id, stream.name_b, b",".join(reversed(lines)), stream.first)))

    def mark(self, connection: Connection, id: int | None, message: Message) -> None:
        delivered, read = message.get("delivered", 0), message.get("read", 0)
        if not wire.is_seq(delivered) or not wire.is_seq(read):
            raise WireError("bad_request", "delivered, read: seqs, integers from 0")
        self.with_stream(connection, id, message, functools.partial(self._mark, connection, id, delivered, read))

    def _mark(self, connection: Connection, id: int | None, delivered: int, read: int, stream: Stream) -> None:
        self.hub.signals.mark(stream, connection.principal, delivered, read)
        if id is not None:
            delivered, read = stream.marks.get(connection.principal, (0, 0))
            self.ok(connection, id, stream=stream.name, delivered=delivered, read=read)

    def signal(self, connection: Connection, id: int | None, message: Message) -> None:
        kind, value = message.get("kind"), message.get("value")
        if kind == "presence":
            if value not in ("online", "away"):
                raise WireError("bad_request", 'value: "online" or "away"')
            self.hub.signals.set_away(connection, value == "away")
            self.ok(connection, id)
            return
        if kind != "typing":
            raise WireError("bad_request", 'kind: "typing" or "presence"')
        if not isinstance(value, bool):
            raise WireError("bad_request", "value: true or false")
        self.with_stream(connection, id, message, functools.partial(self._typing, connection, id, value))

    def _typing(self, connection: Connection, id: int | None, on: bool, stream: Stream) -> None:
        role = stream.role(connection.principal, connection.standing)
        if role not in TYPES:
            raise no_right(role, stream.name)
        self.hub.signals.typing(stream, connection.principal, on, trio.current_time())
        self.ok(connection, id)

    def presence(self, connection: Connection, id: int | None, message: Message) -> None:
        if id is None:
            raise WireError("bad_request", "id: a presence needs one for its answer")
        name = message.get("stream")
        if not wire.is_stream(name):
            raise WireError("bad_request", "stream: kind:name, kind one of chat, flight, trip, user")
        assert isinstance(name, str)
        of = message.get("of")
        if of is not None and not _are_principals(of):
            raise WireError("bad_request", f"of: 1 to {ASKED_MAX} principals such as user:bob")
        stream = self.known(connection, name)
        if stream is None or of is not None or not self._all_have_told(stream):
            self.shard.wait_for(connection, functools.partial(self._presence_later, connection, id, name, of))
        else:
            self._allowed(connection, stream)
            self._presence(connection, id, stream)

    def _all_have_told(self, stream: Stream) -> bool:
        return self.node.cluster is None or self.node.cluster.gossip.complete(stream)

    async def _presence_later(self, connection: Connection, id: int, name: str, of: list[str] | None) -> None:
        """Of a stream that has just come here: the other nodes are given a moment to say whom they have in it. What is
        not here by then follows as signals."""
        try:
            stream = await self._told_of(connection, name)
        except WireError as error:
            if connection.state is OPEN:
                self.refuse(connection, id, error)
            return
        if of is not None:
            await self._presence_of(connection, id, stream, of)
        elif connection.state is OPEN:
            self._presence(connection, id, stream)

    async def _told_of(self, connection: Connection, name: str) -> Stream:
        """The named stream when the others have said whom they have in it, or had their moment for that. Raises `WireError`."""
        for _ in range(PRESENCE_TRIES):
            stream = self.known(connection, name) or await self.load(connection, name)
            self._allowed(connection, stream)
            if self.node.cluster is not None:
                self.node.cluster.signals(trio.current_time())
            with trio.move_on_after(PRESENCE_WAIT_S):
                while not self._all_have_told(stream):  # noqa: ASYNC110  # the pure part has no events, and this is rare
                    await trio.sleep(PRESENCE_WAIT_S / 20)
            if self.hub.by_sid.get(stream.sid) is stream:
                return stream  # else nobody followed it and it was let go: of that one nobody knows who is there
        raise WireError("overloaded", "no room to keep the stream while it is asked about", 1.0)

    async def _presence_of(self, connection: Connection, id: int, stream: Stream, of: list[str]) -> None:
        """Those asked about, in their order; of who is not here, when it last was."""
        # All of it before the log is asked: the stream may be let go meanwhile.
        there = [(who, *self.hub.signals.one(stream, who)) for who in of]
        count = len(stream.present)
        absent = [who for who, value, _ in there if value == "offline"]
        seen: dict[str, int] = {}
        try:
            if absent:
                await self.node.save_seen()  # who left this node a moment ago is in it, too
                seen = await self.node.log.load_seen(stream.tenant, stream.sid, absent)
        except Unavailable as error:
            if connection.state is OPEN:
                self.refuse(connection, id, unavailable(error))
            return
        if connection.state is not OPEN:
            return
        people: list[dict[str, Any]] = []
        for who, value, devices in there:
            people.append({"by": who, "value": value, "devices": devices})
            if value == "offline":
                people[-1]["seen"] = wire.at_bytes(seen[who]).decode() if who in seen else None
        self.ok(connection, id, stream=stream.name, online=people, count=count)

    def _presence(self, connection: Connection, id: int, stream: Stream) -> None:
        people, count = self.hub.signals.online(stream)
        online = [{"by": by, "value": value, "devices": devices} for by, value, devices in people]
        self.ok(connection, id, stream=stream.name, online=online, count=count)

    def position(self, connection: Connection, id: int | None, message: Message) -> None:
        self.pings.position(connection, id, message)

    def command(self, connection: Connection, id: int | None, message: Message) -> None:
        if self.shedding_sends:
            raise self.shed_send()
        self.with_stream(connection, id, message, functools.partial(self._command, connection, id, message))

    def _command(self, connection: Connection, id: int | None, message: Message, stream: Stream) -> None:
        self._one_more_send(connection)
        connection.inflight += 1
        try:
            self.node.commander.ask(
                stream,
                by=connection.principal,
                standing=connection.standing,
                key=message.get("key"),
                type=message.get("type"),
                body=message.get("body"),
                expect=message.get("expect"),
                answered=functools.partial(self._commanded, connection, id, stream.name),
            )
        except WireError:
            connection.inflight -= 1
            raise

    def _commanded(self, connection: Connection, id: int | None, name: str, answer: Answer | WireError) -> None:
        connection.inflight -= 1
        if connection.state is not OPEN:
            return
        if isinstance(answer, WireError):
            self.refuse(connection, id, answer)
        elif answer.refusal is not None:
            self.refuse(connection, id, WireError("rejected", answer.refusal.message, facts=answer.facts()))
        else:
            at = wire.at_bytes(answer.at_ms).decode()
            self.ok(connection, id, stream=name, seqs=list(answer.seqs), at=at, dup=answer.dup)

    def still_welcome(self, connection: Connection) -> bool:
        """Whether the access token behind the connection is good still."""
        return self.node.wall() < connection.auth_expires_at_s

    def welcome_for_s(self, connection: Connection) -> float:
        """For how long it is good still."""
        return connection.auth_expires_at_s - self.node.wall()

    # -- what the lanes answer ----------------------------------------------------------------------------------------

    def answer(self, entry: Entry, verdict: Verdict) -> None:
        """One committed (or refused) entry of a socket's send, to its sender."""
        ticket: Any = entry.ticket  # what `_send` put there
        connection, id, name = ticket
        connection.inflight -= 1
        if id is None or connection.state is not OPEN:
            return
        outcome = verdict.outcome
        if outcome <= _DUP:
            self.hub.reply(connection, wire.encode_sent(id, name, verdict.seq, verdict.at_ms, outcome is _DUP))
        else:
            self.refuse(connection, id, refusal(entry, verdict))

    def unanswered(self, entries: Sequence[Entry], error: Unavailable) -> None:
        """The store did not say what became of these: the sender repeats with the same key, and it lands once."""
        for entry in entries:
            ticket: Any = entry.ticket
            connection, id, _name = ticket
            connection.inflight -= 1
            if connection.state is OPEN:
                self.refuse(connection, id, unavailable(error))


def _are_principals(of: object) -> bool:
    return (
        isinstance(of, list)
        and 1 <= len(of) <= ASKED_MAX
        and all(isinstance(who, str) and PRINCIPAL_RE.match(who) for who in of)
    )


def unavailable(error: Unavailable) -> WireError:
    return WireError("unavailable", "the log cannot be reached now; repeat with the same key", error.retry_after_s)


def refusal(entry: Entry, verdict: Verdict) -> WireError:
    """What a sender is told of an entry that the log did not take."""
    if verdict.outcome is Outcome.CONFLICT:
        return WireError("conflict", f"the head is {verdict.seq}", head=verdict.seq)
    if verdict.outcome is Outcome.FORBIDDEN:
        what = "send here" if entry.ref is None else "change that event"
        return WireError("forbidden", f"{entry.by} may not {what}")
    return WireError("not_found", "no such stream" if entry.ref is None else f"no event {entry.ref} is kept")


_HANDLERS: Final[dict[str, Handler]] = {
    "hello": opening.hello,
    "resume": opening.resume,
    "ping": Ops.ping,
    "refresh": renewal.refresh,
    "send": Ops.send,
    "sub": Ops.sub,
    "unsub": Ops.unsub,
    "history": Ops.history,
    "mark": Ops.mark,
    "signal": Ops.signal,
    "presence": Ops.presence,
    "position": Ops.position,
    "command": Ops.command,
}
_BEFORE_HELLO: Final = frozenset(("hello", "resume", "ping"))
