"""The node as the HTTP API sees it: `gateway.service.Service` over a `Node`. The socket's rules, for those without one."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from core.commands import Answer
from core.model import Event, Member, MyStream, Outcome, StreamFacts
from core.policy import FOLLOWS, StreamAction, TenantAction, may, may_in_tenant, role_in
from core.ports import Unavailable
from core.stream import Stream
from core.tokens import Identity, TokenError
from gateway.gatekeeper import limited
from gateway.node import Node
from gateway.ops import make_entry, refusal, unavailable
from gateway.service import Credentials, Health, Page, Sent, WireError
from gateway.waiting import Waiting


class Desk:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def prove(self, credentials: Credentials) -> Identity | TokenError:
        node = self._node
        who = await node.proving.http(
            credentials.token,
            credentials.scheme,
            credentials.proof,
            credentials.method,
            credentials.host,
            credentials.path,
        )
        if isinstance(who, TokenError):
            node.unproven(credentials.address, who)
            return who
        reason = node.gatekeeper.refuses(who)
        if reason is not None:
            node.refused(who, credentials.address, "revoked", reason)
            return TokenError(reason)
        node.gatekeeper.call(who)
        return who

    def denied(self, who: Identity, what: str) -> None:
        self._node.note(who.tenant, "denied", principal=who.principal, what=what)

    async def create_stream(self, who: Identity, stream: str, *, open: bool, members: Sequence[Member]) -> StreamFacts:
        if not may_in_tenant(TenantAction.CREATE_STREAM, who.roles):
            raise WireError("forbidden", "creating a stream needs a token with role admin or service")
        if stream.startswith("audit:"):
            raise WireError("forbidden", "audit streams are the gateway's own")
        await self._node.noted(
            who.tenant, "stream.created", stream=stream, open=open, members=len(members), by=who.principal
        )
        return await self._node.log.create_stream(who.tenant, stream, open=open, members=members, by=who.principal)

    async def put_member(self, who: Identity, stream: str, principal: str, role: str) -> Event | None:
        known = await self._manage(who, stream)
        await self._node.noted(
            who.tenant, "member.put", stream=stream, principal=principal, role=role, by=who.principal
        )
        event = await self._node.log.put_member(who.tenant, stream, principal, role, who.principal)
        if event is not None:
            self._node.show(event)
        elif known is not None:
            known.roles.pop(principal, None)
        return event

    async def remove_member(self, who: Identity, stream: str, principal: str) -> Event:
        if principal != who.principal:  # everybody may leave
            await self._manage(who, stream)
        await self._node.noted(who.tenant, "member.removed", stream=stream, principal=principal, by=who.principal)
        event = await self._node.log.remove_member(who.tenant, stream, principal, who.principal)
        self._node.show(event)
        return event

    async def members(self, who: Identity, stream: str) -> list[Member]:
        await self._readable(who, stream)
        members = await self._node.log.members(who.tenant, stream)
        if members is None:
            raise WireError("not_found", f"no stream {stream}")
        return members

    async def send(self, who: Identity, stream: str, *, key: str, type: str, body: object, expect: int | None) -> Sent:
        one_more_send(self._node, who)
        found = await self._readable(who, stream)
        entry = make_entry(
            self._node,
            found,
            by=who.principal,
            standing=who.standing,
            key=key,
            type=type,
            body=body,
            expect=expect,
            ticket=None,
        )
        verdict = await self._node.append(found, entry)
        if verdict.outcome > Outcome.DUP:
            raise refusal(entry, verdict)
        return Sent(verdict.seq, verdict.at_ms, verdict.outcome is Outcome.DUP)

    async def command(
        self, who: Identity, stream: str, *, key: str, type: str, body: object, expect: int | None
    ) -> Answer:
        one_more_send(self._node, who)
        node = self._node
        if node.ops.shedding_sends:
            raise node.ops.shed_send()
        found = await self._readable(who, stream)
        waiting = Waiting[Answer]()
        node.commander.ask(
            found,
            by=who.principal,
            standing=who.standing,
            key=key,
            type=type,
            body=body,
            expect=expect,
            answered=waiting.answered,
        )
        return await waiting.answer()

    async def read(self, who: Identity, stream: str, *, after: int, limit: int) -> Page:
        self._node.gatekeeper.history(self._node.gatekeeper.meter(who))
        found = await self._readable(who, stream)
        known = found.head
        events = await self._node.log.read(who.tenant, found.sid, after, limit)
        if events and events[-1].seq > known and not who.privileged:
            # The log is ahead of what this node knows of members: among these may be a removal, and what followed it.
            found = await ask_stream(self._node, who.tenant, stream, who.principal)
            self._check_readable(who, found)
        head = max(found.head, events[-1].seq if events else 0)
        first = events[0].seq if events and events[0].seq > after + 1 else found.first
        return Page(events, head, first)

    async def my_streams(self, who: Identity) -> list[MyStream]:
        try:
            await self._node.save_marks()  # so that unread counts are of now, not of half a second ago
        except Unavailable as error:
            raise unavailable(error) from None
        return await self._node.log.my_streams(who.tenant, who.principal)

    async def trim(self, who: Identity, stream: str, before: int) -> int:
        if not may_in_tenant(TenantAction.TRIM_STREAM, who.roles):
            raise WireError("forbidden", "trimming needs a token with role admin or service")
        if stream.startswith("audit:"):
            raise WireError("forbidden", "nobody makes the audit stream forget")
        if stream.startswith(("flight:", "trip:")):
            raise WireError("forbidden", "what flights and trips are is the fold of their events: they are kept")
        await self._node.noted(who.tenant, "stream.trimmed", stream=stream, before=before, by=who.principal)
        first = await self._node.log.trim(who.tenant, stream, before)
        found = self._node.hub.by_name.get((who.tenant, stream))
        if found is not None:
            self._node.hub.trimmed(found, first)
        if self._node.cluster is not None:
            self._node.cluster.publish_trim(who.tenant, stream, first)
        return first

    async def readable(self, who: Identity, name: str) -> Stream:
        """A stream that one may follow, for whoever answers from it. Raises `WireError`."""
        return await self._readable(who, name)

    async def there(self, who: Identity, name: str) -> Stream:
        """A stream, whatever one may do there. Raises `WireError` where there is none."""
        return await stream_for(self._node, who, name)

    async def still_readable(self, who: Identity, stream: Stream, known: int, seq: int) -> None:
        """Something as late as ``seq`` is about to be shown, and the head was ``known`` when it was read: where that is later,
        there may be a removal between that this node has not seen."""
        if seq > known and not who.privileged:
            self._check_readable(who, await ask_stream(self._node, who.tenant, stream.name, who.principal))

    def health(self) -> Health:
        return self._node.measures.health()

    def metrics_text(self) -> bytes:
        return self._node.measures.registry.text()

    async def _readable(self, who: Identity, name: str) -> Stream:
        stream = await stream_for(self._node, who, name)
        self._check_readable(who, stream)
        return stream

    def _check_readable(self, who: Identity, stream: Stream) -> None:
        if stream.role(who.principal, who.standing) not in FOLLOWS:
            raise WireError("forbidden", f"not a member of {stream.name}")

    async def _manage(self, who: Identity, name: str) -> Stream | None:
        """Membership is for owners of the stream and privileged tokens."""
        if may(StreamAction.MANAGE_MEMBERS, role_in(name, None, who.standing)):
            return self._node.hub.by_name.get((who.tenant, name))
        stream = await stream_for(self._node, who, name)
        if not may(StreamAction.MANAGE_MEMBERS, stream.role(who.principal, who.standing)):
            raise WireError("forbidden", f"managing members of {name} is for its owners")
        return stream


def one_more_send(node: Node, who: Identity) -> None:
    """Over HTTP. Raises `WireError` rate_limited."""
    wait_s = node.gatekeeper.meter(who).send(trio.current_time())
    if wait_s:
        raise limited("sends", wait_s)


async def stream_for(node: Node, who: Identity, name: str) -> Stream:
    """The stream, with the role in it of whoever asks. Raises `WireError`."""
    stream = node.hub.by_name.get((who.tenant, name))
    if stream is None or not (who.privileged or who.principal in stream.roles):
        node.gatekeeper.one_more_stream(who.tenant, name)
        stream = await ask_stream(node, who.tenant, name, who.principal)
    return stream


async def ask_stream(node: Node, tenant: str, name: str, principal: str) -> Stream:
    """The stream as the log has it now, with this principal's role. Raises `WireError`."""
    try:
        await node.loader.load([(tenant, name, principal)])
    except Unavailable as error:
        raise unavailable(error) from None
    stream = node.hub.by_name.get((tenant, name))
    if stream is None:
        raise WireError("not_found", f"no stream {name}")
    return stream
