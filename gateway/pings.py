"""``position``: fixes of devices, each taken once, ever.

A fix is taken where the device's present key signed its message (`core.pings` says what is signed) and its number is new to
the device's window in the directory, which all nodes share. So what is late is taken once, however late, and a replay never:
not at another node, not after a restart, not in another session, nor under a key that was rotated. Fixes of all connections
gather for a moment and go to the directory together, one call at a time.

Promises: one bad message or fix refuses no other; what is under way is bounded, more answers ``overloaded``. Does not: judge
whether a fix is plausible, keep tracks, or show anything to who follows the stream: verdicts only, so far.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import trio

from core.directory import Device, Ping
from core.jws import b64url, unb64url
from core.keys import PublicKey, parse_jwk
from core.pings import Fix, read_fixes, signed_form
from core.policy import StreamAction, may
from core.ports import Unavailable
from core.wire import is_stream
from gateway.connection import OPEN, Connection
from gateway.service import WireError

if TYPE_CHECKING:
    from gateway.ops import Ops

NEXT_IN_S: Final = 2.0
"""When the next fix is worth sending; several times that while the node sheds."""
KEYS_MAX: Final = 20_000
"""Devices whose key is remembered: more than a node has connections."""
LOOK_AGAIN_S: Final = 0.2
"""A signature that does not hold under a key looked up longer ago than this has the key looked up again: perhaps it was
rotated at another node."""
CALL_MAX: Final = 5_000
"""Fixes of one call of the directory, where more than `pings_batch_max` gathered while another was under way."""
OVERLOADED_S: Final = 0.5
SPARED: Final = 0.25
"""The part of the fixes under way that no tenant gets which has as many already."""

Taken = tuple[str, str, int]
"""Tenant, device and number, as the directory takes them."""
_REASONS: Final = {Ping.DUPLICATE: ("duplicate", "replayed"), Ping.TOO_OLD: ("rejected", "too_old")}


class _Batch:
    """What gathers for one call, and what came of it."""

    __slots__ = ("done", "error", "full", "pings", "verdicts")

    def __init__(self) -> None:
        self.pings: list[Taken] = []
        self.full = trio.Event()
        self.done = trio.Event()
        self.verdicts: list[Ping] = []
        self.error: Exception | None = None


class _Known:
    """A device's key, and when it was looked up."""

    __slots__ = ("at_s", "key")

    def __init__(self, key: PublicKey | None, at_s: float) -> None:
        self.key = key
        self.at_s = at_s

    def refuses(self, signed: bytes, signature: bytes) -> str:
        if self.key is None:
            return "unsigned"
        return "" if self.key.verify(signed, signature) else "bad_signature"


class Pings:
    def __init__(self, ops: Ops) -> None:
        self._ops = ops
        self._node = ops.node
        self._known: dict[tuple[str, str], _Known] = {}
        self._changes = 0
        """Of keys, told by `forget`: what was looked up meanwhile is not remembered."""
        self._gathering: _Batch | None = None
        self._calling = trio.Lock()
        self.waiting = 0
        """Fixes under way."""
        self._waiting: dict[str, int] = {}
        """The same, by tenant."""
        self.calls = 0
        self.accepted = 0

    def forget(self, tenant: str, device: str) -> None:
        """The device has another key, or is no more."""
        self._changes += 1
        self._known.pop((tenant, device), None)

    def position(self, connection: Connection, id: int | None, message: dict[str, Any]) -> None:
        if id is None:
            raise WireError("bad_request", "id: a position needs one for its answer")
        name, signature = message.get("stream"), message.get("sig")
        if not is_stream(name):
            raise WireError("bad_request", "stream: kind:name, kind one of chat, flight, trip, user")
        if signature is not None and not isinstance(signature, str):
            raise WireError("bad_request", "sig: a signature in base64url")
        fixes = read_fixes(message.get("fixes"))
        if isinstance(fixes, str):
            raise WireError("bad_request", fixes)
        if not self._has_room(connection.tenant, len(fixes)):
            wait_s = OVERLOADED_S * (1.0 + self._node.uniform())
            raise WireError("overloaded", "too many positions are under way", round(wait_s, 3))
        assert isinstance(name, str)
        self.waiting += len(fixes)
        self._waiting[connection.tenant] = self._waiting.get(connection.tenant, 0) + len(fixes)
        self._ops.shard.wait_for(connection, functools.partial(self._position, connection, id, name, fixes, signature))

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

    async def _position(
        self, connection: Connection, id: int, name: str, fixes: list[Fix], signature: str | None
    ) -> None:
        try:
            verdicts = await self._judge(connection, name, fixes, signature)
        except WireError as error:
            if connection.state is OPEN:
                self._ops.refuse(connection, id, error)
            return
        except Unavailable as error:
            if connection.state is OPEN:
                why = "the devices' windows cannot be looked at now; repeat: what was taken is a duplicate then"
                self._ops.refuse(connection, id, WireError("unavailable", why, error.retry_after_s))
            return
        finally:
            self._over(connection.tenant, len(fixes))
        accepted = sum(verdict["verdict"] == "accepted" for verdict in verdicts)
        self.accepted += accepted
        if connection.state is OPEN:
            next_in_s = NEXT_IN_S * self._node.pulse.position_factor
            self._ops.ok(connection, id, accepted=accepted, verdicts=verdicts, next_in=next_in_s)

    async def _judge(
        self, connection: Connection, name: str, fixes: list[Fix], signature: str | None
    ) -> list[dict[str, Any]]:
        """A verdict for each fix. Raises `WireError` and `Unavailable`."""
        ops = self._ops
        stream = ops.known(connection, name) or await ops.load(connection, name)
        if not may(StreamAction.POSITION, stream.role(connection.principal, connection.standing)):
            raise WireError("forbidden", f"only a reader of {name}")
        tenant, device = connection.tenant, connection.principal
        refused = await self._refused(tenant, device, signature, signed_form(tenant, device, name, fixes))
        if refused:
            return [_verdict(fix, "rejected", refused) for fix in fixes]
        taken = iter(await self._take([(tenant, device, fix.seq) for fix in fixes if fix.good]))
        result = []
        for fix in fixes:
            if not fix.good:
                result.append(_verdict(fix, "rejected", "malformed"))
            elif (ping := next(taken)) is Ping.ACCEPTED:
                result.append(_verdict(fix, "accepted"))
            else:
                result.append(_verdict(fix, *_REASONS[ping]))
        return result

    async def _refused(self, tenant: str, device: str, signature: str | None, signed: bytes) -> str:
        """Why nothing of the message is taken; empty where its signature is the device's."""
        if signature is None or not device.startswith("device:"):
            return "unsigned"
        raw = unb64url(signature)
        if raw is None or len(raw) != 64:
            return "bad_signature"
        known = self._known.get((tenant, device))
        now_s = trio.current_time()
        if known is None or now_s - known.at_s > self._node.limits.device_key_s:
            return (await self._look(tenant, device)).refuses(signed, raw)
        refused = known.refuses(signed, raw)
        if refused and now_s - known.at_s > LOOK_AGAIN_S:
            return (await self._look(tenant, device)).refuses(signed, raw)
        return refused

    async def _look(self, tenant: str, device: str) -> _Known:
        directory = self._node.directory
        at_s, changes = trio.current_time(), self._changes
        found = None if directory is None else await directory.device(tenant, device)
        known = _Known(_key(found), at_s)
        if changes == self._changes:
            self._known.pop((tenant, device), None)
            while len(self._known) >= KEYS_MAX:
                del self._known[next(iter(self._known))]
            self._known[tenant, device] = known
        return known

    # -- the directory, for all connections together ----------------------------------------------------------------------

    async def _take(self, pings: list[Taken]) -> list[Ping]:
        if not pings:
            return []
        batch, first = self._gathering, self._gathering is None
        if batch is None or len(batch.pings) + len(pings) > CALL_MAX:
            batch, first = _Batch(), True
            self._gathering = batch
        start = len(batch.pings)
        batch.pings += pings
        if len(batch.pings) >= self._node.limits.pings_batch_max:
            batch.full.set()
        if first:
            await self._call(batch)
        await batch.done.wait()
        if batch.error is not None:
            raise batch.error
        return batch.verdicts[start : start + len(pings)]

    async def _call(self, batch: _Batch) -> None:
        """Whoever came first does it for all."""
        with trio.move_on_after(self._node.limits.pings_gather_s):
            await batch.full.wait()
        async with self._calling:  # meanwhile it gathers on
            if self._gathering is batch:
                self._gathering = None
            self.calls += 1
            assert self._node.directory is not None
            try:
                batch.verdicts = await self._node.directory.take_pings(batch.pings)
            except Exception as error:  # each who waits has its own connection to answer, or to end
                batch.error = error
            finally:
                batch.done.set()


def _key(device: Device | None) -> PublicKey | None:
    """``None`` for a device that is not enrolled, or was revoked."""
    if device is None or not device.key or device.revoked:
        return None
    key = parse_jwk({"kty": "OKP", "crv": "Ed25519", "x": b64url(device.public_key)})
    return key if isinstance(key, PublicKey) else None


def _verdict(fix: Fix, verdict: str, reason: str = "") -> dict[str, Any]:
    said = {"seq": fix.seq, "verdict": verdict}
    return {**said, "reason": reason} if reason else said
