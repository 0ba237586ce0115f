"""``refresh``: a new access token for a connection that is open, so that it need not end with the old one.

The new token must be of the same tenant and principal; a connection whose token is bound to a key stays bound to one. What
the new token's roles no longer allow ends here and is named in the answer, exactly as a resume would refuse it; everything
else goes on untouched. A token that is refused changes nothing: the connection goes on with what it has.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import trio

from core import wire
from core.policy import FOLLOWS
from core.ports import Unavailable
from core.stream import Stream
from core.tokens import Identity, TokenError
from core.wire import Close
from gateway.connection import OPEN, Connection
from gateway.opening import identify
from gateway.proving import Found, Later, authenticate
from gateway.service import WireError

if TYPE_CHECKING:
    from gateway.ops import Ops


def refresh(ops: Ops, connection: Connection, id: int | None, message: dict[str, Any]) -> None:
    if id is None:
        raise WireError("bad_request", "id: a refresh needs one for its answer")
    token, proof = message.get("token"), message.get("dpop")
    if token is None:
        raise WireError("bad_request", "token: the new access token")
    found = authenticate(ops, connection, token, proof)
    if not isinstance(found, Identity | TokenError):
        ops.shard.wait_for(connection, functools.partial(_later, ops, connection, id, found))
    elif unsure := _renew(ops, connection, found):
        ops.shard.wait_for(connection, functools.partial(_recheck, ops, connection, id, unsure))
    else:
        _answer(ops, connection, id)


async def _later(ops: Ops, connection: Connection, id: int, find: Later) -> None:
    found = await find()
    if connection.state is not OPEN:
        return
    try:
        unsure = _renew(ops, connection, found)
    except WireError as error:
        ops.refuse(connection, id, error)
        return
    await _recheck(ops, connection, id, unsure)


def _renew(ops: Ops, connection: Connection, who: Found) -> list[Stream]:
    """Take the new identity; returns the streams that the old one's roles stood in for. Raises `WireError` unauthorized."""
    if isinstance(who, TokenError):
        ops.node.guessed(connection, who)
        raise WireError("unauthorized", who.reason)
    if (who.tenant, who.principal) != (connection.tenant, connection.principal):
        raise WireError("unauthorized", "a refresh brings a token of the same tenant and principal")
    if connection.bound_to and not who.bound_to:
        raise WireError("unauthorized", "this connection's token is bound to a key, and so must be the next")
    reason = ops.node.gatekeeper.refuses(who, connection.session)
    if reason is not None:
        ops.shard.bye(connection, Close.REVOKED, reason)
        return []
    lost = connection.standing
    identify(connection, who)
    ops.shard.renewed(connection)
    lost &= ~connection.standing
    return [stream for stream in connection.subs if connection.principal not in stream.roles] if lost else []


async def _recheck(ops: Ops, connection: Connection, id: int, unsure: list[Stream]) -> None:
    try:
        await ops.node.loader.load([(stream.tenant, stream.name, connection.principal) for stream in unsure])
    except Unavailable as error:
        # Nobody keeps what it may have no right to.
        if connection.state is OPEN:
            ops.shard.bye(connection, Close.UNAVAILABLE, "the log cannot be reached now", error.retry_after_s)
    if connection.state is OPEN:
        _answer(ops, connection, id)


def _answer(ops: Ops, connection: Connection, id: int) -> None:
    if connection.state is not OPEN:
        return
    ended = {}
    for stream in list(connection.subs):
        if stream.role(connection.principal, connection.standing) not in FOLLOWS:
            ops.hub.unsubscribe(connection, stream, trio.current_time())
            ended[stream.name] = {"error": "forbidden"}
    expires = wire.at_bytes(int(connection.auth_expires_at_s * 1000)).decode()
    ops.ok(connection, id, expires=expires, resume=ops.node.resume_token(connection), streams=ended)
