"""Keys of devices, and whether a message of fixes is signed with one, or needs none.

For: `gateway.pings`. Promises: a key that was rotated here signs nothing more at once, one that was rotated at another node
within `device_key_s`; keys remembered are bounded. Does not: know numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import trio

from core.directory import Device
from core.jws import b64url, unb64url
from core.keys import PublicKey, parse_jwk
from core.pings import Fix, signed_form
from core.stream import Stream

if TYPE_CHECKING:
    from gateway.node import Node

Place = TypeVar("Place")
Value = TypeVar("Value")

KEYS_MAX: Final = 20_000
"""Devices whose key is remembered: more than a node has connections."""
LOOK_AGAIN_S: Final = 0.2
"""A signature that does not hold under a key looked up longer ago than this has the key looked up again: perhaps it was
rotated at another node."""

Sender = tuple[str, str]
"""Tenant and principal."""


class Signed(Protocol):
    """A message of fixes."""

    tenant: str
    subject: str
    stream: Stream
    fixes: list[Fix]
    nav_ms: int | None
    signature: str | None


class _Known:
    """A device's key, when it was looked up, and whether the device is one that has to sign."""

    __slots__ = ("at_s", "key", "signs")

    def __init__(self, device: Device | None, at_s: float, before: _Known | None) -> None:
        self.key: PublicKey | None = None if before is None else before.key
        if device is None or device.revoked or self.key is None or self.key.thumbprint != device.key:
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
        self._known: dict[Sender, _Known] = {}
        self._looking: dict[int, set[Sender]] = {}
        """Of each look that is under way, whose key `forget` was told of meanwhile: what it finds of them is of before."""
        self._since_s = 0.0
        """A key that was looked up since then is good for the messages at hand (`look_up`): they may take a while."""

    def forget(self, tenant: str, device: str) -> None:
        """The device has another key, or is no more."""
        self._known.pop((tenant, device), None)
        for changed in self._looking.values():
            changed.add((tenant, device))

    async def refuse(self, said: Signed) -> tuple[bool, str]:
        """Whether it goes without a key, and why nothing of it is taken; empty where its signature is the device's, or none is
        needed: who never enrolled a key has none to sign with. After `look_up`. Raises `Unavailable`."""
        tenant, subject, signature = said.tenant, said.subject, said.signature
        node = self._node
        strict = node.positions is None or node.gatekeeper.tenants.arrivals_of(tenant).signed_only
        now_s = trio.current_time()
        known = None
        if subject.startswith("device:") and not (strict and signature is None):
            known = self._known.get((tenant, subject))
            if known is None or known.at_s < self._since_s:
                known = await self.look(tenant, subject)
        if not strict and (known is None or not known.signs):
            # A signature that nobody can check is no signature.
            return (True, "") if signature is None else (False, "bad_signature")
        if known is None or signature is None:
            return False, "unsigned"
        raw = unb64url(signature)
        if raw is None or len(raw) != 64:
            return False, "bad_signature"
        signed = signed_form(tenant, subject, said.stream.name, said.fixes, said.nav_ms)
        refused = known.refuses(signed, raw)
        if refused and now_s - known.at_s > LOOK_AGAIN_S:
            refused = (await self.look(tenant, subject)).refuses(signed, raw)
        return False, refused

    async def look_up(self, senders: Iterable[Sender]) -> None:
        """Keys that are not known, or not known to be so still, in one call. Raises `Unavailable`."""
        node = self._node
        self._since_s = oldest_s = trio.current_time() - node.limits.device_key_s
        wanted = [
            sender
            for sender in dict.fromkeys(senders)
            if sender[1].startswith("device:") and ((known := self._known.get(sender)) is None or known.at_s < oldest_s)
        ]
        if wanted:
            await self._look(wanted)

    async def look(self, tenant: str, device: str) -> _Known:
        return (await self._look([(tenant, device)]))[0]

    async def _look(self, wanted: Sequence[Sender]) -> list[_Known]:
        directory, at_s = self._node.directory, trio.current_time()
        if directory is None:
            return [_Known(None, at_s, None) for _ in wanted]
        changed: set[Sender] = set()
        self._looking[id(changed)] = changed
        try:
            devices = await directory.known(wanted)
        finally:
            del self._looking[id(changed)]
        found = []
        for sender, device in zip(wanted, devices, strict=True):
            found.append(known := _Known(device, at_s, self._known.get(sender)))
            if sender not in changed:
                remember(self._known, sender, known, KEYS_MAX)
        return found


def remember(what: dict[Place, Value], place: Place, value: Value, most: int) -> None:
    """As the newest; the oldest make room."""
    what.pop(place, None)
    while len(what) >= most:
        del what[next(iter(what))]
    what[place] = value


def _key(device: Device | None) -> PublicKey | None:
    """``None`` for a device that is not enrolled, or was revoked."""
    if device is None or not device.key or device.revoked:
        return None
    key = parse_jwk({"kty": "OKP", "crv": "Ed25519", "x": b64url(device.public_key)})
    return key if isinstance(key, PublicKey) else None
