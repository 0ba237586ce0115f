"""How a connection opens: ``hello`` with an access token, or ``resume`` with a resume token and the cursors held.

Both end alike. They go through the door (`gateway.door`), perhaps after a wait. What the hub does not know of the streams
is asked of the log in one go; a resume is claimed on the bus, where there is one (`gateway.sessions`); then the welcome
says where each stream stands or why it is refused, and everything past the cursors follows as ordinary events. A cursor
is never guessed at: of another log epoch, past head, or before what is kept, it is answered with ``reset``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from core import wire
from core.admission import Ticket, weight
from core.policy import FOLLOWS, OWNS
from core.ports import Unavailable
from core.stream import Stream
from core.tokens import Identity, ResumeClaims, TokenError
from core.wire import Close
from gateway.connection import HELLO, OPEN, Connection
from gateway.loader import TRIES_MAX, Asked
from gateway.proving import Found, Later, authenticate, prove
from gateway.service import WireError

if TYPE_CHECKING:
    from gateway.ops import Ops

COME_BACK_S = 1.0
"""At least so long after a node said that it is leaving."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where to start in a stream: past ``after``, ``last`` before head, or (neither) at head."""

    after: int | None = None
    last: int | None = None


AT_HEAD = Position()


def parse_position(spec: Mapping[str, Any]) -> Position | str:
    """``{"after": n}``, ``{"last": n}`` or ``{}``; a str says what is wrong."""
    after, last = spec.get("after"), spec.get("last")
    if after is None and last is None:
        return AT_HEAD
    if after is not None and last is not None:
        return "after, last: one of them, not both"
    if not wire.is_seq(after if last is None else last):
        return "after, last: an integer from 0"
    return Position(after, last)


def start(stream: Stream, position: Position) -> int:
    """The cursor that a position means in this stream now."""
    if position.after is not None:
        return position.after
    if position.last is not None:
        return max(stream.head - position.last, stream.first - 1)
    return stream.head


@dataclass(frozen=True, slots=True)
class Entrance:
    """One hello or resume that was found good, on its way to its welcome."""

    id: int
    session: str
    resumed: ResumeClaims | None
    wanted: dict[str, Position | str]
    epoch: str | None  # the log's epoch that the cursors are of, where the client said it


def hello(ops: Ops, connection: Connection, id: int | None, message: dict[str, Any]) -> None:
    token = message.get("token")
    if token is None and connection.authorization is not None:
        scheme, _, token = connection.authorization.partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else None
    if connection.state is OPEN:
        raise WireError("bad_request", "hello was said already on this connection")
    if id is None:
        raise WireError("bad_request", "id: a hello needs one for its answer")
    wanted = _parse_streams(ops, message.get("streams"), _position_of)
    if token is None:
        ops.shard.bye(connection, Close.UNAUTHORIZED, "hello needs a token, here or in Authorization: Bearer")
        return
    found = authenticate(ops, connection, token, message.get("dpop"))
    meet = functools.partial(_meet, ops, connection, id, wanted, _epoch_of(message))
    if isinstance(found, Identity | TokenError):
        meet(found)
    else:
        ops.shard.wait_for(connection, functools.partial(_meet_later, found, meet))


async def _meet_later(find: Later, meet: Callable[[Found], None]) -> Callable[[], None]:
    return functools.partial(meet, await find())


def _meet(
    ops: Ops,
    connection: Connection,
    id: int,
    wanted: dict[str, Position | str],
    epoch: str | None,
    who: Found,
) -> None:
    if isinstance(who, TokenError):
        ops.node.guessed(connection, who)
        ops.shard.bye(connection, Close.UNAUTHORIZED, who.reason)
        return
    if _let_in(ops, connection, who, ""):
        _enter(ops, connection, Entrance(id, ops.node.new_session_id(), None, wanted, epoch))


def _let_in(ops: Ops, connection: Connection, who: Identity, session: str) -> bool:
    """Whether the connection may speak for who proved itself. ``session``: the one that it resumes."""
    node, gatekeeper = ops.node, ops.node.gatekeeper
    reason = gatekeeper.refuses(who, session)
    if reason is not None:
        node.refused(who, connection.address, "revoked", reason)
        ops.shard.bye(connection, Close.REVOKED, reason)
        return False
    # One that comes back before its old connection was found dead takes that one's place; one that was let in on this very
    # connection, for a resume that was refused then, has its own.
    counted = connection.meter is not None and connection.meter.account.tenant == who.tenant
    again = bool(session) and node.sessions.spoken_for(session) is not None
    wait_s = gatekeeper.admits(who, again=again or counted)
    if wait_s:
        reason = "the quota of its tenant is used up"
        node.refused(who, connection.address, "rate_limited", reason)
        ops.shard.bye(connection, Close.RATE_LIMITED, reason, round(wait_s, 2))
        return False
    identify(connection, who)
    gatekeeper.enter(connection)
    return True


def resume(ops: Ops, connection: Connection, id: int | None, message: dict[str, Any]) -> None:
    if connection.state is OPEN:
        raise WireError("bad_request", "this connection is open already")
    if id is None:
        raise WireError("bad_request", "id: a resume needs one for its answer")
    wanted = _parse_streams(ops, message.get("streams"), _cursor_of)
    epoch = _epoch_of(message)
    claims = ops.node.check_resume(message.get("resume"))
    if isinstance(claims, TokenError):
        ops.node.guessed(connection, claims)
        raise WireError("resume_rejected", claims.reason)
    who = Identity(
        claims.tenant,
        claims.principal,
        claims.roles,
        claims.auth_expires_at_s,
        claims.issued_at_s,
        claims.token_id,
        claims.bound_to,
    )
    entrance = Entrance(id, claims.session, claims, wanted, epoch)
    if not who.bound_to:
        _come_back(ops, connection, entrance, who)
        return
    found = prove(ops.node, connection, who, message.get("dpop"), message["resume"])
    if isinstance(found, Identity | TokenError):
        _come_back(ops, connection, entrance, found)
    else:
        come_back = functools.partial(_come_back_later, ops, connection, entrance)
        ops.shard.wait_for(connection, functools.partial(_meet_later, found, come_back))


def _come_back(ops: Ops, connection: Connection, entrance: Entrance, who: Found) -> None:
    if isinstance(who, TokenError):
        ops.node.guessed(connection, who)
        raise WireError("resume_rejected", who.reason)
    if _let_in(ops, connection, who, entrance.session):
        _enter(ops, connection, entrance)


def _come_back_later(ops: Ops, connection: Connection, entrance: Entrance, who: Found) -> None:
    try:
        _come_back(ops, connection, entrance, who)
    except WireError as error:
        ops.refuse(connection, entrance.id, error)


def _parse_streams(ops: Ops, streams: object, parse: Any) -> dict[str, Position | str]:
    limit = ops.node.limits.streams_per_connection_max
    if streams is None:
        return {}
    if not isinstance(streams, dict):
        raise WireError("bad_request", 'streams: an object such as {"chat:ops": …}')
    if len(streams) > limit:
        raise WireError("bad_request", f"streams: at most {limit}")
    return {name: parse(spec) if wire.is_stream(name) else "bad_request" for name, spec in streams.items()}


def _position_of(spec: object) -> Position | str:
    position = parse_position(spec) if isinstance(spec, dict) else "bad_request"
    return position if isinstance(position, Position) else "bad_request"


def _cursor_of(spec: object) -> Position | str:
    """A resume names cursors as plain numbers; the object form of hello is taken too."""
    if isinstance(spec, int) and wire.is_seq(spec):
        return Position(after=spec)
    return _position_of(spec)


def _epoch_of(message: dict[str, Any]) -> str | None:
    epoch = message.get("log")
    return epoch if isinstance(epoch, str) else None


def identify(connection: Connection, identity: Identity) -> None:
    """The connection speaks for this identity from now on."""
    connection.tenant = identity.tenant
    connection.principal = identity.principal
    connection.roles = identity.roles
    connection.standing = identity.standing
    connection.privileged = connection.standing & OWNS != 0
    connection.auth_expires_at_s = identity.expires_at_s
    connection.issued_at_s = identity.issued_at_s
    connection.token_id = identity.token_id
    connection.bound_to = identity.bound_to


def _enter(ops: Ops, connection: Connection, entrance: Entrance) -> None:
    node = ops.node
    if node.draining:
        _turn_away(ops, connection, COME_BACK_S * (1.0 + node.uniform()))
        return
    _bound_streams(ops, connection, entrance)
    missing = _unknown(ops, connection, entrance, frozenset())
    ticket = node.door.ask(connection.tenant, _weigh(ops, connection, entrance))
    if isinstance(ticket, float):
        _turn_away(ops, connection, ticket)
    elif ticket.let_in:
        _begin(ops, connection, entrance, ticket, missing)
    else:  # the time for a hello has been kept; the wait has a bound of its own
        ops.shard.put_off(connection, node.limits.opening_wait_s + 1.0)
        node.door.wait(ticket, connection, functools.partial(_turn_came, ops, connection, entrance, ticket))


def _bound_streams(ops: Ops, connection: Connection, entrance: Entrance) -> None:
    """What the tenant may not hold more of here is refused by name; the rest is opened."""
    gatekeeper, tenant = ops.node.gatekeeper, connection.tenant
    room = gatekeeper.room_for_streams(tenant)
    if room >= len(entrance.wanted):
        return
    for name, position in entrance.wanted.items():
        if not isinstance(position, str) and gatekeeper.is_one_more(tenant, name):
            if room <= 0:
                entrance.wanted[name] = "rate_limited"
            room -= 1


def _turn_came(
    ops: Ops, connection: Connection, entrance: Entrance, ticket: Ticket, retry_after_s: float | None
) -> None:
    """Of one that had to wait, let in or, with a time to come back, refused."""
    here = connection.state is HELLO
    if retry_after_s is not None:
        if here:
            _turn_away(ops, connection, retry_after_s)
    elif here:
        ops.shard.put_off(connection, ops.node.limits.hello_timeout_s)
        _begin(ops, connection, entrance, ticket, _unknown(ops, connection, entrance, frozenset()))
    else:
        ops.node.door.through(ticket, connection)


def _begin(ops: Ops, connection: Connection, entrance: Entrance, ticket: Ticket, missing: list[Asked]) -> None:
    node = ops.node
    if missing or (entrance.resumed is not None and node.claims is not None):
        ops.shard.wait_for(connection, functools.partial(_open, ops, connection, entrance, ticket))
        return
    try:
        _welcome(ops, connection, entrance)
    except WireError as error:
        ops.refuse(connection, entrance.id, error)
    finally:
        node.door.through(ticket, connection)


def _turn_away(ops: Ops, connection: Connection, retry_after_s: float) -> None:
    retry_after_s = round(retry_after_s, 2)
    if ops.node.draining:
        ops.shard.bye(connection, Close.DRAINING, "this node is going away", retry_after_s)
    else:
        ops.shard.bye(connection, Close.OVERLOADED, "too many are coming at once", retry_after_s)


def _weigh(ops: Ops, connection: Connection, entrance: Entrance) -> int:
    """The work of this opening, as far as its streams are known here."""
    by_name, tenant, behind = ops.hub.by_name, connection.tenant, 0
    for name, position in entrance.wanted.items():
        if position is AT_HEAD or isinstance(position, str):
            continue
        stream = by_name.get((tenant, name))
        if stream is not None:
            behind += max(stream.head - start(stream, position), 0)
    return weight(len(entrance.wanted), behind, ops.node.limits.replay_page_events)


async def _open(ops: Ops, connection: Connection, entrance: Entrance, ticket: Ticket) -> None:
    """An opening that has to wait: for the log, for the bus."""
    node = ops.node
    try:
        if connection.state is HELLO:
            await _prepare(ops, connection, entrance)
        if connection.state is HELLO:
            if node.draining:  # it began after everybody was told
                _turn_away(ops, connection, COME_BACK_S * (1.0 + node.uniform()))
                return
            node.door.reweigh(ticket, _weigh(ops, connection, entrance))
            _welcome(ops, connection, entrance)
    except Unavailable as error:
        if connection.state is HELLO:
            ops.shard.bye(connection, Close.UNAVAILABLE, "the log cannot be reached now", error.retry_after_s)
    except WireError as error:
        if connection.state is HELLO:
            ops.refuse(connection, entrance.id, error)
    finally:
        node.door.through(ticket, connection)


def _unknown(ops: Ops, connection: Connection, entrance: Entrance, asked: Collection[Asked]) -> list[Asked]:
    """What the log has to be asked before the welcome, beyond what it was ``asked`` already."""
    missing = []
    for name, position in entrance.wanted.items():
        if isinstance(position, str):
            continue
        triple = (connection.tenant, name, connection.principal)
        stream = ops.known(connection, name)
        if stream is None:
            if triple not in asked or (connection.tenant, name) in ops.hub.by_name:
                missing.append(triple)
        # A cursor past head: perhaps this node has not heard yet, so the log decides.
        elif position.after is not None and position.after > max(stream.head, stream.want) and triple not in asked:
            missing.append(triple)
    return missing


async def _prepare(ops: Ops, connection: Connection, entrance: Entrance) -> None:
    """Until all that the welcome says is known here, and a resume is this connection's alone. Raises `Unavailable`, and
    `WireError` for a token that was used before."""
    node, resumed = ops.node, entrance.resumed
    asked: set[Asked] = set()
    claimed = resumed is None or node.claims is None
    _bound_streams(ops, connection, entrance)  # again, where it had to wait: others have taken the room meanwhile
    for _ in range(TRIES_MAX):
        # Again after each wait: streams that were known may have been let go, and roles changed, meanwhile.
        missing = _unknown(ops, connection, entrance, asked)
        if missing:
            await node.loader.load(missing)
            asked.update(missing)
        elif claimed:
            return
        else:
            assert resumed is not None
            assert node.claims is not None
            # After the log, so that a token is not used up where the log is away; seldom does anything change meanwhile.
            _check(ops, resumed)
            if not await node.claims.claim(resumed.session, resumed.generation + 1):
                raise WireError("resume_rejected", "used before")
            claimed = True
    raise Unavailable("membership keeps changing while it is read")


def _check(ops: Ops, resumed: ResumeClaims) -> None:
    refused = ops.node.sessions.may_resume(resumed, ops.node.wall())
    if refused is not None:
        raise WireError("resume_rejected", refused)


def _welcome(ops: Ops, connection: Connection, entrance: Entrance) -> None:
    node, hub = ops.node, ops.hub
    if entrance.resumed is not None:
        _check(ops, entrance.resumed)  # again: a race of two connections with one token has one winner
        # While it waited the session was nobody's, so that a revocation of it ended nobody.
        reason = node.gatekeeper.refuses_session(connection, entrance.session)
        if reason is not None:
            ops.shard.bye(connection, Close.REVOKED, reason)
            return
    resumed = entrance.resumed
    news = resumed is not None and node.claims is not None and not node.sessions.was_last_here(resumed)
    node.enter(connection, entrance.session, resumed)
    if news:
        assert resumed is not None
        assert node.claims is not None
        node.claims.tell(entrance.session, resumed.generation + 1)
    other_epoch = entrance.epoch is not None and entrance.epoch != node.epoch.log
    streams: dict[str, dict[str, int | str]] = {}
    follow: list[tuple[Stream, int, str | None]] = []
    for name, position in entrance.wanted.items():
        if isinstance(position, str):
            streams[name] = {"error": position}
            continue
        stream = hub.by_name.get((connection.tenant, name))
        if stream is None:
            streams[name] = {"error": "not_found"}
        elif stream.role(connection.principal, connection.standing) not in FOLLOWS:
            streams[name] = {"error": "forbidden"}
        else:
            after = start(stream, position)
            reset = "epoch" if other_epoch and position.after is not None else None
            lost = reset is not None or after > max(stream.head, stream.want) or after < stream.first - 1
            streams[name] = {"head": stream.head, "after": stream.first - 1 if lost else after}
            follow.append((stream, after, reset))
    answer: dict[str, Any] = {
        "op": "welcome",
        "id": entrance.id,
        "session": connection.session,
        "principal": connection.principal,
        "log": node.epoch.log,
        "resume": node.resume_token(connection),
        "resume_ttl": int(node.limits.resume_ttl_s),
        "heartbeat": int(node.limits.heartbeat_s),
        "time": wire.at_bytes(int(node.wall() * 1000)).decode(),
        "expires": wire.at_bytes(int(connection.auth_expires_at_s * 1000)).decode(),
        "limits": {"frame": node.limits.frame_bytes_max, "streams": node.limits.streams_per_connection_max},
        "streams": streams,
    }
    if entrance.resumed is not None:
        answer["resumed"] = True
    hub.reply(connection, wire.encode(answer))
    now_s = trio.current_time()
    for stream, after, reset in follow:
        hub.subscribe(connection, stream, after, now_s, reset)
