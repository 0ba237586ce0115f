"""Whom the node serves, and how much of it: revocations and quotas, asked at every entrance.

A connection is counted to its tenant and its principal from the moment when its token was found good until its socket is
closed; so that what is bounded is what is held. An HTTP call is counted as one message of its principal.

Promises: who was revoked is ended at once, whatever it is doing, and does not come back with what it has; quotas that
change hold for who is here already; where nothing is bounded a message costs one look at a slot. Does not: verify tokens
(`core.tokens`), or learn of revocations by itself (`gateway.revoking`).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio

from core.directory import Revocation
from core.quotas import Accounts, Meter
from core.revocations import Revocations
from core.stream import Stream
from core.tenants import Tenants
from core.tokens import Identity
from core.wire import Close
from gateway.connection import CLOSING, Connection
from gateway.service import WireError

if TYPE_CHECKING:
    from gateway.node import Node

FULL_RETRY_S: Final = 5.0
"""Who found no room for one more connection of its tenant is told to come back after this, spread up to twice that."""

RATED = "the quota of {} is used up"


class Gatekeeper:
    def __init__(self, node: Node, tenants: Tenants) -> None:
        self._node = node
        self.tenants = tenants
        self.revocations = Revocations()
        self.accounts = Accounts(tenants.quotas_of, node.limits.frame_bytes_max, node.limits.meters_kept_max)
        self.revoked = 0
        """Connections ended by a revocation, and entrances refused for one."""

    # -- who --------------------------------------------------------------------------------------------------------------

    def refuses(self, who: Identity, session: str = "") -> str | None:
        """Why this identity is not served although its token is good, in words fit for it."""
        if self.tenants.only_named and who.tenant not in self.tenants.named:
            return "this tenant is not served here"
        reason = self.revocations.refuses(
            who.tenant, who.principal, session=session, token_id=who.token_id, issued_at_s=who.issued_at_s
        )
        if reason is not None:
            self.revoked += 1
        return reason

    def apply(self, revocation: Revocation) -> None:
        """What was revoked, or is no more: whoever it concerns is ended now."""
        if not self.revocations.take(revocation) or revocation.lifted:
            return
        node = self._node
        for connection in list(node.shard.connections.values()):
            if connection.tenant != revocation.tenant or connection.state >= CLOSING:
                continue
            reason = self.refuses_session(connection, connection.session)
            if reason is not None:
                node.shard.bye(connection, Close.REVOKED, reason)
        node.settle()

    def refuses_session(self, connection: Connection, session: str) -> str | None:
        """Why a connection may not speak for this session any more."""
        reason = self.revocations.refuses(
            connection.tenant,
            connection.principal,
            session=session,
            token_id=connection.token_id,
            issued_at_s=connection.issued_at_s,
        )
        if reason is not None:
            self.revoked += 1
        return reason

    # -- how much ---------------------------------------------------------------------------------------------------------

    def admits(self, who: Identity, *, again: bool = False) -> float:
        """0 where one more connection of this tenant may open now; else when to come back, in seconds. ``again``: it takes
        the place of one that is counted."""
        now_s = trio.current_time()
        account = self.accounts.account(who.tenant, now_s)
        if account.connections_max and not again and account.connections >= account.connections_max:
            account.throttled += 1
            return FULL_RETRY_S * (1.0 + self._node.uniform())
        if account.resumes is not None:
            wait_s = account.resumes.take(1.0, now_s)
            if wait_s:
                account.throttled += 1
                return wait_s * (1.0 + self._node.uniform())
        return 0.0

    def enter(self, connection: Connection) -> None:
        """Count it, from now on: its tenant and principal are known."""
        self.gone(connection)
        meter = self.accounts.meter(connection.tenant, connection.principal, trio.current_time())
        meter.users += 1
        meter.account.connections += 1
        connection.meter = meter
        connection.metered = meter if meter.bounded else None

    def gone(self, connection: Connection) -> None:
        meter, connection.meter, connection.metered = connection.meter, None, None
        if meter is not None:
            meter.users -= 1
            meter.account.connections -= 1

    def held(self, stream: Stream) -> None:
        self.accounts.account(stream.tenant, trio.current_time()).streams += 1
        self._node.loader.held(stream)

    def let_go(self, stream: Stream) -> None:
        self.accounts.account(stream.tenant, trio.current_time()).streams -= 1

    def room_for_streams(self, tenant: str) -> float:
        """How many more streams the tenant may ask for here, beyond those held and those on their way; infinite where that is
        not bounded."""
        account = self.accounts.account(tenant, trio.current_time())
        if not account.streams_max:
            return math.inf
        return account.streams_max - account.streams - len(self._node.loader.coming(tenant))

    def is_one_more(self, tenant: str, name: str) -> bool:
        """Whether following this stream would make it one more that is held here."""
        return (tenant, name) not in self._node.hub.by_name and name not in self._node.loader.coming(tenant)

    def one_more_stream(self, tenant: str, name: str) -> None:
        """Raises `WireError` rate_limited where the tenant may not hold one more, and this would be one. For who asks the log
        next."""
        if self.room_for_streams(tenant) <= 0 and self.is_one_more(tenant, name):
            raise limited("streams", FULL_RETRY_S)

    def history(self, meter: Meter | None) -> None:
        """One history read. Raises `WireError` rate_limited."""
        bucket = None if meter is None else meter.account.history
        if bucket is not None:
            assert meter is not None
            wait_s = bucket.take(1.0, trio.current_time())
            if wait_s:
                meter.account.throttled += 1
                raise limited("history reads", wait_s)

    def meter(self, who: Identity) -> Meter:
        """Of one who calls over HTTP."""
        return self.accounts.meter(who.tenant, who.principal, trio.current_time())

    def call(self, who: Identity) -> None:
        """An HTTP call is a message. Raises `WireError` rate_limited."""
        wait_s = self.meter(who).message(0, trio.current_time())
        if wait_s:
            raise limited("messages", wait_s)

    def refit(self, tenants: Tenants | None = None) -> list[str]:
        """Other quotas, or another number of nodes to share them. Returns the tenants known here whose quotas changed."""
        if tenants is not None:
            self.tenants = tenants
        cluster = self._node.cluster
        nodes = 1 if cluster is None else 1 + len(cluster.gossip.nodes)
        changed = self.accounts.refit(self.tenants.quotas_of, nodes, trio.current_time())
        for connection in self._node.shard.connections.values():
            meter = connection.meter
            connection.metered = meter if meter is not None and meter.bounded else None
        return changed

    def tidy(self) -> None:
        """Housekeeping: forget whom nobody would miss, and see how many nodes there are."""
        cluster = self._node.cluster
        if cluster is not None and 1 + len(cluster.gossip.nodes) != self.accounts.nodes:
            self.refit()
        self.accounts.tidy(trio.current_time())
        self.revocations.forget(int(self._node.wall() * 1000))


def limited(what: str, wait_s: float) -> WireError:
    return WireError("rate_limited", RATED.format(what), round(wait_s, 3))
