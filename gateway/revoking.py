"""How a node learns of revocations: told by the bus at once, and asked of the directory twice a second.

The directory numbers all changes densely and in the order of their commits, so that "what is new past the number that I
have" misses nothing; that question is the truth, and it alone moves the number on. What the bus brings is applied as it
comes, whatever its number. So a revocation holds on every node within `LOOK_S` and a query without any bus, within
milliseconds with one, and even where a node cannot reach Postgres as long as the bus brings it.

Promises: nobody is served before the first answer. Does not: make revocations.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import orjson
import trio

from core.directory import SCOPES, Directory, Revocation
from core.ports import Unavailable
from core.revocations import Revocations

if TYPE_CHECKING:
    from gateway.node import Node

log = logging.getLogger("readback.revoking")

LOOK_S: Final = 0.4
"""With the query and a turn of the loop below a second, which is what is promised."""
PAGE: Final = 1_000


class Revoking:
    def __init__(self, node: Node, directory: Directory) -> None:
        self._node = node
        self._directory = directory
        self.number = 0
        """All changes up to this one are known."""
        self.told = 0
        self.trouble = False
        self._restored = 0

    async def look(self) -> None:
        """Ask for what is new. Raises `Unavailable`."""
        restored = self._node.follower.restored
        if restored != self._restored:
            await self._start_over()
            self._restored = restored
        while True:
            news = await self._directory.revocations(self.number, PAGE)
            for revocation in news:
                self._node.gatekeeper.apply(revocation)
                self.number = revocation.number
            if len(news) < PAGE:
                return

    async def _start_over(self) -> None:
        """The database was restored to an earlier point: its numbers are given anew, and only what it holds now is true."""
        found: list[Revocation] = []
        number = 0
        while page := await self._directory.revocations(number, PAGE):
            found += page
            number = page[-1].number
        self._node.gatekeeper.revocations = Revocations()
        for revocation in found:
            self._node.gatekeeper.apply(revocation)
        self.number = number

    async def run(self) -> None:
        while True:
            await trio.sleep(LOOK_S)
            try:
                await self.look()
                self.trouble = False
            except Unavailable as error:
                if not self.trouble:
                    log.warning("revocations cannot be asked for: %s; those that the bus brings are obeyed", error)
                self.trouble = True

    def made(self, revocation: Revocation) -> None:
        """One was made or lifted here: it holds here now, and the others are told."""
        self._node.gatekeeper.apply(revocation)
        if self._node.cluster is not None:
            self._node.cluster.publish_revocation(encode(revocation))

    async def noticed(self, tenant: str, scope: str, value: str) -> None:
        """The directory revoked this in the commit of another change, of a device or a client: it holds here now, and the
        others are told. Where the directory does not answer, every node learns of it by asking, as of any other."""
        try:
            await self.look()
        except Unavailable:
            return
        found = self._node.gatekeeper.revocations.known(tenant, scope, value)
        if found is not None and self._node.cluster is not None:
            self._node.cluster.publish_revocation(encode(found))

    def heard(self, payload: bytes) -> bool:
        """Another node tells of one; False where that cannot be read."""
        revocation = decode(payload)
        if revocation is None:
            return False
        self.told += 1
        self._node.gatekeeper.apply(revocation)
        return True


def encode(revocation: Revocation) -> bytes:
    return orjson.dumps(
        (
            revocation.number,
            revocation.tenant,
            revocation.scope,
            revocation.value,
            revocation.at_ms,
            revocation.until_ms,
            revocation.reason,
            revocation.by,
            revocation.lifted,
        )
    )


def decode(payload: bytes) -> Revocation | None:
    try:
        parsed = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    match parsed:
        case [
            int(number),
            str(tenant),
            str(scope),
            str(value),
            int(at_ms),
            int() | None as until_ms,
            str(reason),
            str(by),
            bool(lifted),
        ] if scope in SCOPES:
            return Revocation(number, tenant, scope, value, at_ms, until_ms, reason, by, lifted)
    return None
