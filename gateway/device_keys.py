"""Keys of devices, and whether a message of fixes is signed with one, or needs none.

For: `gateway.pings`. Promises: a key that was rotated here signs nothing more at once, one that was rotated at another node
within `device_key_s`; keys remembered are bounded. Does not: know numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Protocol

import trio

from core.directory import Device
from core.jws import b64url, unb64url
from core.keys import PublicKey, parse_jwk
from core.pings import Fix, signed_form
from core.ports import Unavailable
from core.stream import Stream

if TYPE_CHECKING:
    from gateway.node import Node

KEYS_MAX: Final = 20_000
"""Devices whose key is remembered: more than a node has connections."""
LOOK_AGAIN_S: Final = 0.2
"""A signature that does not hold under a key looked up longer ago than this has the key looked up again: perhaps it was
rotated at another node."""
LOOKS_AT_ONCE: Final = 8


class Signed(Protocol):
    """A message of fixes."""

    tenant: str
    subject: str
    stream: Stream
    fixes: list[Fix]
    signature: str | None


class _Known:
    """A device's key, when it was looked up, and whether the device is one that has to sign."""

    __slots__ = ("at_s", "key", "signs")

    def __init__(self, device: Device | None, at_s: float) -> None:
        self.key = _key(device)
        self.signs = device is not None and (bool(device.key) or device.revoked)
        self.at_s = at_s

    def refuses(self, signed: bytes, signature: bytes) -> str:
        if self.key is None:
            return "unsigned"
        return "" if self.key.verify(signed, signature) else "bad_signature"


class Keys:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._known: dict[tuple[str, str], _Known] = {}
        self._changes = 0
        """Told by `forget`: what was looked up meanwhile is not remembered."""

    def forget(self, tenant: str, device: str) -> None:
        """The device has another key, or is no more."""
        self._changes += 1
        self._known.pop((tenant, device), None)

    async def refuse(self, said: Signed) -> tuple[bool, str]:
        """Whether it goes without a key, and why nothing of it is taken; empty where its signature is the device's, or none is
        needed: who never enrolled a key has none to sign with. Raises `Unavailable`."""
        tenant, subject, signature = said.tenant, said.subject, said.signature
        node = self._node
        strict = node.positions is None or node.gatekeeper.tenants.arrivals_of(tenant).signed_only
        now_s = trio.current_time()
        known = None
        if subject.startswith("device:") and not (strict and signature is None):
            known = self._known.get((tenant, subject))
            if known is None or now_s - known.at_s > node.limits.device_key_s:
                known = await self.look(tenant, subject)
        if not strict and (known is None or not known.signs):
            # A signature that nobody can check is no signature.
            return (True, "") if signature is None else (False, "bad_signature")
        if known is None or signature is None:
            return False, "unsigned"
        raw = unb64url(signature)
        if raw is None or len(raw) != 64:
            return False, "bad_signature"
        signed = signed_form(tenant, subject, said.stream.name, said.fixes)
        refused = known.refuses(signed, raw)
        if refused and now_s - known.at_s > LOOK_AGAIN_S:
            refused = (await self.look(tenant, subject)).refuses(signed, raw)
        return False, refused

    async def look_up(self, senders: Iterable[tuple[str, str]]) -> None:
        """Keys that are not known, or not known to be so still, a few at once. One that cannot be looked up now is tried again
        for its message alone."""
        oldest_s = trio.current_time() - self._node.limits.device_key_s
        wanted = [
            sender
            for sender in dict.fromkeys(senders)
            if sender[1].startswith("device:") and ((known := self._known.get(sender)) is None or known.at_s < oldest_s)
        ]
        if len(wanted) < 2:
            return
        looks = trio.CapacityLimiter(LOOKS_AT_ONCE)
        async with trio.open_nursery() as nursery:
            for sender in wanted:
                await looks.acquire_on_behalf_of(sender)
                nursery.start_soon(self._look_quietly, sender, looks)

    async def _look_quietly(self, sender: tuple[str, str], looks: trio.CapacityLimiter) -> None:
        try:
            await self.look(*sender)
        except Unavailable:
            pass
        finally:
            looks.release_on_behalf_of(sender)

    async def look(self, tenant: str, device: str) -> _Known:
        directory = self._node.directory
        at_s, changes = trio.current_time(), self._changes
        known = _Known(None if directory is None else await directory.device(tenant, device), at_s)
        if changes == self._changes:
            self._known.pop((tenant, device), None)
            while len(self._known) >= KEYS_MAX:
                del self._known[next(iter(self._known))]
            self._known[tenant, device] = known
        return known


def _key(device: Device | None) -> PublicKey | None:
    """``None`` for a device that is not enrolled, or was revoked."""
    if device is None or not device.key or device.revoked:
        return None
    key = parse_jwk({"kty": "OKP", "crv": "Ed25519", "x": b64url(device.public_key)})
    return key if isinstance(key, PublicKey) else None
