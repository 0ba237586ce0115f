"""Positions of those without a socket: `CollectService` over a `Node`, and the keys of apps that know neither tokens nor
signatures.

A key of an app is a secret of 130 random bits, short enough to be typed. An admin makes it for one device and one stream, and
that is all that it is good for: its holder sends positions of that device into that stream, reads nothing and sends nothing
else, whatever roles the device has. So it may travel where a token may not: OsmAnd has no place for it but the query. Only its
SHA-256 is kept, as of every secret that nobody thought of (`gateway.office` says why).

Promises: a key that was dropped or replaced is refused here at once and at other nodes within `Limits.device_key_s`; so it is
when its device is revoked; a tenant that takes signed positions only takes none from apps. Whoever tries many secrets is not
listened to for a while; an app that goes on with the same dead one guesses nothing, costs no query, and bars nobody behind its
address. Does not: judge fixes (`gateway.live.positions`), or read any app's protocol (`core.collectors`).
"""

from __future__ import annotations

import hashlib
import re
import secrets as randomness
from typing import TYPE_CHECKING, Final

import trio

from core.collectors.values import Report
from core.pings import read_fixes, read_nav
from core.policy import TenantAction, may_in_tenant
from core.ports import Unavailable
from core.stream import Stream
from core.tokens import Identity, TokenError
from core.tracks import AppKey, Tracks
from core.wire import is_stream
from gateway.collect_service import APPS, NewAppKey
from gateway.desk import ask_stream, one_more_send, stream_for
from gateway.device_keys import remember
from gateway.live.positions import Positions, Taken
from gateway.pings import check_may_send
from gateway.service import WireError
from store.directory_input import is_device

if TYPE_CHECKING:
    from gateway.node import Node

ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no letter that is taken for a digit or for another letter."""
SECRET_CHARS: Final = 26
KEYS_MAX: Final = 20_000
"""Keys and dead secrets that are remembered, each: more than apps that send to one node within a minute."""
DEAD_S: Final = 60.0
"""For so long who repeats a secret that is nobody's is refused without a look. No key can come to be it: keys are random."""

_SECRET_RE: Final = re.compile(f"[{ALPHABET}]{{{SECRET_CHARS}}}\\Z")
_TYPED: Final = str.maketrans({"o": "0", "i": "1", "l": "1", "-": None, " ": None})
_NOBODY: Final = "the app's key is unknown, or was taken back"
_NOTHING: Final = Taken([], 0, 0.0)


class Collector:
    """See the port. One of a node."""

    def __init__(self, node: Node, tracks: Tracks, positions: Positions) -> None:
        self._node = node
        self._tracks = tracks
        self._positions = positions
        self._known: dict[bytes, tuple[AppKey, float]] = {}
        """By the secret's hash, with when it was looked up."""
        self._dead: dict[bytes, float] = {}
        self._changes = 0
        """Of keys: one that was looked up meanwhile is not remembered."""
        counter, help = node.measures.registry.counter, "Requests of apps, by what became of them."
        self._counts = {
            (app, outcome): counter("readback_app_requests_total", help, app=app, outcome=outcome)
            for app in APPS
            for outcome in ("taken", "skipped", "refused")
        }

    def now_ms(self) -> int:
        return int(1000 * self._node.wall())

    # -- positions --------------------------------------------------------------------------------------------------------

    async def positions(
        self, who: Identity, stream: str, fixes: list[object], signature: str | None, nav: object
    ) -> Taken:
        one_more_send(self._node, who)
        read = read_fixes(fixes)
        if isinstance(read, str):
            raise WireError("bad_request", read)
        nav_ms = read_nav(nav)
        if isinstance(nav_ms, str):
            raise WireError("bad_request", nav_ms)
        found = await stream_for(self._node, who, stream)
        check_may_send(found, who.principal, who.standing)
        return await self._node.ops.pings.of(who.tenant, who.principal, found, read, signature, nav_ms)

    async def collect(self, app: str, address: str, secret: str, report: Report) -> Taken:
        try:
            taken = await self._collect(address, secret, report)
        except (WireError, Unavailable):
            self._counts[app, "refused"].value += 1
            raise
        self._counts[app, "taken" if taken.verdicts else "skipped"].value += 1
        return taken

    async def _collect(self, address: str, secret: str, report: Report) -> Taken:
        node = self._node
        wait_s = node.shard.barred_s(address)
        if wait_s:
            raise WireError("rate_limited", "too many wrong tokens from this address", round(wait_s, 3))
        key = await self._key(address, secret)
        who = Identity(key.tenant, key.subject, frozenset(), 0.0, key.made_ms / 1000)
        refused = node.gatekeeper.refuses(who)
        if refused is not None:
            node.refused(who, address, "revoked", refused)
            raise WireError("unauthorized", refused)
        self._check_unsigned(key.tenant)
        node.gatekeeper.call(who)
        one_more_send(node, who)
        if report.problem:
            raise WireError("too_large" if report.too_large else "bad_request", report.problem)
        if not report.fixes:
            return _NOTHING
        stream = await self._stream(key.tenant, key.stream, key.subject)
        return await self._positions.take(key.tenant, key.subject, stream, report.fixes)

    def _check_unsigned(self, tenant: str) -> None:
        if self._node.gatekeeper.tenants.arrivals_of(tenant).signed_only:
            raise WireError("forbidden", "this tenant takes signed positions only, and no app here signs")

    async def _key(self, address: str, secret: str) -> AppKey:
        typed = secret.lower().translate(_TYPED)
        hashed, now_s = _hash(typed if _SECRET_RE.match(typed) else secret), trio.current_time()
        known = self._known.get(hashed)
        if known is not None and now_s - known[1] <= self._node.limits.device_key_s:
            return known[0]
        self._known.pop(hashed, None)
        if now_s - self._dead.get(hashed, -DEAD_S) < DEAD_S:
            raise WireError("unauthorized", _NOBODY)
        changes = self._changes
        found = await self._tracks.app_key(hashed) if _SECRET_RE.match(typed) else None
        if found is None:
            remember(self._dead, hashed, now_s, KEYS_MAX)
            self._node.unproven(address, TokenError(_NOBODY))
            raise WireError("unauthorized", _NOBODY)
        if changes == self._changes:
            remember(self._known, hashed, (found, now_s), KEYS_MAX)
        return found

    async def _stream(self, tenant: str, name: str, subject: str) -> Stream:
        """Whatever part the device has in it: an admin bound it there."""
        stream = self._node.hub.by_name.get((tenant, name))
        if stream is None:
            self._node.gatekeeper.one_more_stream(tenant, name)
            stream = await ask_stream(self._node, tenant, name, subject)
        return stream

    # -- keys -------------------------------------------------------------------------------------------------------------

    async def mint(self, who: Identity, device: str, stream: str, base_url: str) -> NewAppKey:
        await self._may_bind(who, device, stream)
        self._check_unsigned(who.tenant)
        secret = "".join(randomness.choice(ALPHABET) for _ in range(SECRET_CHARS))
        key = AppKey(who.tenant, device, stream, self.now_ms())
        await self._node.noted(who.tenant, "app.made", device=device, stream=stream, by=who.principal)
        await self._tracks.put_app_key(key, _hash(secret))
        self._forget(who.tenant, device)
        return NewAppKey(key, secret, self._node.proving.public_url or base_url)

    async def bind(self, who: Identity, device: str, stream: str) -> None:
        await self._may_bind(who, device, stream)
        await self._node.noted(who.tenant, "app.bound", device=device, stream=stream, by=who.principal)
        if not await self._tracks.bind(who.tenant, device, stream):
            raise _no_key(device)
        self._forget(who.tenant, device)

    async def drop(self, who: Identity, device: str) -> None:
        self._need(who, TenantAction.MANAGE_DEVICES, "keys of apps are for admins")
        await self._node.noted(who.tenant, "app.removed", device=device, by=who.principal)
        dropped = await self._tracks.drop_app_key(who.tenant, device)
        self._forget(who.tenant, device)
        if not dropped:
            raise _no_key(device)

    async def keys(self, who: Identity) -> list[AppKey]:
        self._need(who, TenantAction.READ_ACCESS, "keys of apps are listed for admins and auditors")
        return await self._tracks.app_keys(who.tenant)

    def _need(self, who: Identity, action: TenantAction, rule: str) -> None:
        if not may_in_tenant(action, who.roles):
            raise WireError("forbidden", rule)

    async def _may_bind(self, who: Identity, device: str, stream: str) -> None:
        self._need(who, TenantAction.MANAGE_DEVICES, "keys of apps are for admins")
        if not is_device(device):
            raise WireError("bad_request", "device: device:NAME, such as device:truck-7")
        if not is_stream(stream):
            raise WireError("bad_request", "stream: kind:name, kind one of chat, flight, trip, user")
        if stream.startswith("audit:"):
            raise WireError("forbidden", "audit streams are the gateway's own")
        await self._stream(who.tenant, stream, device)

    def _forget(self, tenant: str, device: str) -> None:
        self._changes += 1
        for hashed, (key, _) in list(self._known.items()):
            if (key.tenant, key.subject) == (tenant, device):
                del self._known[hashed]


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "replace")).digest()


def _no_key(device: str) -> WireError:
    return WireError("not_found", f"{device} has no key of an app")
