"""How the log is laid out, said once for both stores: a stream's partition, and what names are let in.

`store.memory` calls these functions; the SQL of `store.postgres` repeats `partition_of` (tests/contract compares them).
Nothing here may change for an installed log: a stream that moved to another partition would lose its order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from core.model import FACT_TYPES, KEY_RE, PRINCIPAL_RE, ROLES, STREAM_RE, TENANT_RE, TYPE_RE, Decided, Entry, Member
from core.ports import Refused

PARTITIONS_DEFAULT = 16
PARTITIONS_MAX = 1024  # each is a row that every heads() reads and a lock that an append may take
REMEMBERED_MAX = 65_536  # names remembered as well-formed, a kind; forgotten all at once when full


def partition_of(tenant: str, stream: str, partitions: int) -> int:
    """The partition of a stream: the first four bytes of ``sha256(tenant/stream)``, big-endian, modulo P.

    Unambiguous because a tenant's name has no slash. SHA-256 because Postgres computes it too.
    """
    digest = hashlib.sha256(f"{tenant}/{stream}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % partitions


def is_wellformed(tenant: str, stream: str, principal: str) -> bool:
    """Whether a question about these can have an answer at all."""
    return bool(TENANT_RE.match(tenant) and STREAM_RE.match(stream) and PRINCIPAL_RE.match(principal))


def check_stream(tenant: str, stream: str) -> None:
    """`Refused` bad_request unless both names are well-formed."""
    if not TENANT_RE.match(tenant):
        raise Refused("bad_request", "a tenant is 1 to 63 of a-z, 0-9, '.', '_', '-', not starting with a sign")
    if not STREAM_RE.match(stream):
        raise Refused("bad_request", "a stream is kind:name, kind one of chat, flight, trip, user")


def check_principal(principal: str) -> None:
    if not PRINCIPAL_RE.match(principal):
        raise Refused("bad_request", "a principal is kind:name, kind one of user, device, service")


def check_role(role: str) -> None:
    if role not in ROLES:
        raise Refused("bad_request", f"a role is one of {', '.join(ROLES)}")


def check_members(members: Sequence[Member]) -> None:
    """`Refused` bad_request unless every member is well-formed and named once."""
    seen = set()
    for member in members:
        check_principal(member.principal)
        check_role(member.role)
        if member.principal in seen:
            raise Refused("bad_request", f"{member.principal} is named twice")
        seen.add(member.principal)


def is_fact_type(type: str) -> bool:
    """Whether a command may become an event of this type."""
    return TYPE_RE.match(type) is not None and type.startswith(FACT_TYPES)


class Wellformed:
    """Says whether an entry of an append can be stored at all; one that cannot is answered ``FORBIDDEN``.

    Types and principals repeat, so that a set lookup nearly always answers; the expressions run on first sight only.
    """

    __slots__ = ("_principals", "_types")

    def __init__(self) -> None:
        self._types: set[str] = set()
        self._principals: set[str] = set()

    def __call__(self, entry: Entry) -> bool:
        if entry.type not in self._types and not self._learn_type(entry.type):
            return False
        if entry.by not in self._principals and not self._learn_principal(entry.by):
            return False
        return KEY_RE.match(entry.key) is not None and b"\0" not in entry.body and _is_utf8(entry.body)

    def command(self, command: Decided) -> bool:
        """The same of a decided command: its facts are of types that nobody else may write."""
        if TYPE_RE.match(command.type) is None or KEY_RE.match(command.key) is None:
            return False
        if command.by not in self._principals and not self._learn_principal(command.by):
            return False
        if command.refusal is not None and (b"\0" in command.refusal or not _is_utf8(command.refusal)):
            return False
        if len(command.facts) > 1 and len({key for key, _, _ in command.facts}) < len(command.facts):
            return False
        return all(
            is_fact_type(type) and KEY_RE.match(key) is not None and b"\0" not in body and _is_utf8(body)
            for key, type, body in command.facts
        )

    def _learn_type(self, type: str) -> bool:
        """``member.*`` is no more storable than a malformed type: it is put_member's and remove_member's alone."""
        if TYPE_RE.match(type) is None or type.startswith("member."):
            return False
        if len(self._types) >= REMEMBERED_MAX:
            self._types.clear()
        self._types.add(type)
        return True

    def _learn_principal(self, principal: str) -> bool:
        if PRINCIPAL_RE.match(principal) is None:
            return False
        if len(self._principals) >= REMEMBERED_MAX:
            self._principals.clear()
        self._principals.add(principal)
        return True


def _is_utf8(body: bytes) -> bool:
    if body.isascii():
        return True
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True
