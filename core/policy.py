"""Who may do what: every decision of an installation in one table, deny by default.

An identity has a *standing* in its tenant, from its token's roles, and a role in a stream: its own membership, or what its
standing gives it there. An action is allowed where the table names that role or standing; what the table does not name is
refused. Nothing here ever looks at another tenant: an identity can name streams of its own only.

The same table is obeyed where it matters: at subscribe and resume (`gateway.opening`), at every op (`gateway.ops`) and HTTP
route (`gateway.desk`, `gateway.office`), and inside the append (store/sql, `store.memory`), where a membership that ended a
moment ago still counts. docs/access.md is made from it (``python -m tests.measure.access --write``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from core.model import AUDIT_STREAM, ROLES

OWNS: Final = 1
"""Acts as owner of every stream of the tenant but the audit's: roles admin and service."""
READS_AUDIT: Final = 2
"""Reads the audit stream: roles admin and auditor."""

_STANDING: Final[Mapping[str, int]] = MappingProxyType(
    {"admin": OWNS | READS_AUDIT, "service": OWNS, "auditor": READS_AUDIT}
)


class StreamAction(Enum):
    """What is done in one stream. The value says it in words."""

    FOLLOW = "follow, resume, read history"
    PRESENCE = "ask who is there"
    MARK = "mark as delivered or read"
    TYPE = "show that one types"
    SEND = "send, react, edit and delete one's own"
    DELETE = "delete anybody's event"
    COMMAND = "give commands to a flight or a trip; what each role may command, the machine's table says"
    POSITION = "send positions"
    READ_TRACK = "read a trip's state, tracks and last positions"
    LIST_MEMBERS = "list members"
    MANAGE_MEMBERS = "add and remove members, change roles"


class TenantAction(Enum):
    """What is done in a tenant."""

    CREATE_STREAM = "create a stream"
    TRIM_STREAM = "forget old events of a stream"
    READ_AUDIT = "read the audit stream, export a proof"
    READ_ACCESS = "list revocations, service clients, devices and which have an app's key"
    REVOKE = "revoke tokens, sessions and principals"
    MANAGE_CLIENTS = "add and remove service clients"
    MANAGE_DEVICES = "mint claims for devices, revoke devices; make and end keys of their apps"
    MANAGE_FENCES = "list, draw and remove fences"
    START_SAGA = "start a saga"
    READ_WORK = "read how sagas go on and what rules did"


STREAM_TABLE: Final[Mapping[StreamAction, frozenset[str]]] = MappingProxyType(
    {
        StreamAction.FOLLOW: frozenset(("owner", "member", "reader")),
        StreamAction.PRESENCE: frozenset(("owner", "member", "reader")),
        StreamAction.MARK: frozenset(("owner", "member", "reader")),
        StreamAction.TYPE: frozenset(("owner", "member")),
        StreamAction.SEND: frozenset(("owner", "member")),
        StreamAction.DELETE: frozenset(("owner",)),
        StreamAction.COMMAND: frozenset(("owner", "member")),
        StreamAction.POSITION: frozenset(("owner", "member")),
        StreamAction.READ_TRACK: frozenset(("owner", "member", "reader")),
        StreamAction.LIST_MEMBERS: frozenset(("owner", "member", "reader")),
        StreamAction.MANAGE_MEMBERS: frozenset(("owner",)),
    }
)
"""By role in the stream."""

TENANT_TABLE: Final[Mapping[TenantAction, frozenset[str]]] = MappingProxyType(
    {
        TenantAction.CREATE_STREAM: frozenset(("admin", "service")),
        TenantAction.TRIM_STREAM: frozenset(("admin", "service")),
        TenantAction.READ_AUDIT: frozenset(("admin", "auditor")),
        TenantAction.READ_ACCESS: frozenset(("admin", "auditor")),
        TenantAction.REVOKE: frozenset(("admin",)),
        TenantAction.MANAGE_CLIENTS: frozenset(("admin",)),
        TenantAction.MANAGE_DEVICES: frozenset(("admin",)),
        TenantAction.MANAGE_FENCES: frozenset(("admin", "service")),
        TenantAction.START_SAGA: frozenset(("admin", "service")),
        TenantAction.READ_WORK: frozenset(("admin", "service")),
    }
)
"""By role in the tenant."""

FOLLOWS: Final = STREAM_TABLE[StreamAction.FOLLOW]
SENDS: Final = STREAM_TABLE[StreamAction.SEND]
TYPES: Final = STREAM_TABLE[StreamAction.TYPE]


def standing(roles: Collection[str]) -> int:
    """`OWNS` and `READS_AUDIT` as the roles of a token give them; roles that nobody knows give nothing."""
    result = 0
    for role in roles:
        result |= _STANDING.get(role, 0)
    return result


def role_in(stream: str, own: str | None, standing: int) -> str | None:
    """The role in a stream of somebody with this membership of its own and this standing; ``None``: no part in it."""
    if stream.startswith("audit:"):
        return "reader" if standing & READS_AUDIT and stream == AUDIT_STREAM else None
    return "owner" if standing & OWNS else own if own in ROLES else None


def may(action: StreamAction, role: str | None) -> bool:
    return role in STREAM_TABLE[action]


def may_in_tenant(action: TenantAction, roles: Collection[str]) -> bool:
    return not TENANT_TABLE[action].isdisjoint(roles)
