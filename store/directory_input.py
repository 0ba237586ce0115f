"""What both directories let in: `core.ports.Refused` bad_request for the rest, before anything is read or written.

Names that a secret could hide in are never repeated in a message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import orjson

from core.directory import SCOPES, Note, ServiceClient
from core.model import PRINCIPAL_RE, TENANT_RE
from core.ports import Refused

MS_MAX: Final = 2**53 - 1  # what JSON carries exactly
SEQ_MAX: Final = 2**53 - 1  # of a ping; beyond it: too old
HASH_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
VALUE_CHARS_MAX: Final = 256  # of a token's or a session's id; foreign issuers choose theirs freely
REASON_CHARS_MAX: Final = 500
NOTE_BYTES_MAX: Final = 16_384
ROLES_MAX: Final = 32  # core.tokens takes no more
PINGS_MAX: Final = 10_000  # of one call: rows locked at once
REVOKED_MAX: Final = 1_000
CLIENTS_MAX: Final = 10_000
DEVICES_MAX: Final = 10_000

_KEY_RE = re.compile(r"[A-Za-z0-9_-]{43}\Z")  # SHA-256 in base64url
_CLIENT_RE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,127}\Z")
_ROLE_RE = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")


def refuse(message: str) -> Refused:
    return Refused("bad_request", message)


def check_tenant(tenant: str) -> None:
    if not TENANT_RE.match(tenant):
        raise refuse("a tenant is 1 to 63 of a-z, 0-9, '.', '_', '-', not starting with a sign")


def check_principal(principal: str) -> None:
    if not PRINCIPAL_RE.match(principal):
        raise refuse("a principal is kind:name, kind one of user, device, service")


def is_client_id(client_id: str) -> bool:
    return _CLIENT_RE.match(client_id) is not None


def is_device(device: str) -> bool:
    """A device is called by its principal."""
    return device.startswith("device:") and PRINCIPAL_RE.match(device) is not None


def check_device(tenant: str, device: str) -> None:
    check_tenant(tenant)
    if not is_device(device):
        raise refuse("a device is device:name, name 1 to 128 of A-Z, a-z, 0-9 and ._~@+-")


def check_note(note: Note) -> None:
    check_principal(note.by)
    if len(note.body) > NOTE_BYTES_MAX:
        raise refuse(f"a note is at most {NOTE_BYTES_MAX} bytes")
    try:
        is_object = isinstance(orjson.loads(note.body), dict)
    except orjson.JSONDecodeError:
        is_object = False
    if not is_object:
        raise refuse("a note is a JSON object")


def check_times(*times_ms: int | None) -> None:
    for time_ms in times_ms:
        if time_ms is not None and not 0 <= time_ms <= MS_MAX:
            raise refuse("a time is in Unix milliseconds, from 0")


def check_hashes(*hashes: bytes) -> None:
    """Of one call: no two may be the same secret's."""
    if any(len(each) != HASH_BYTES for each in hashes):
        raise refuse("a secret's hash is 32 bytes")
    if len(set(hashes)) < len(hashes):
        raise refuse("a secret's successor is another secret")


def check_key(key: str, public_key: bytes | None = None) -> None:
    if not _KEY_RE.match(key):
        raise refuse("a key's thumbprint is 43 characters of base64url")
    if public_key is not None and len(public_key) != PUBLIC_KEY_BYTES:
        raise refuse("a public key is 32 bytes")


def check_subject(tenant: str, scope: str, value: str) -> None:
    """Whether this is something that can be revoked."""
    check_tenant(tenant)
    if scope not in SCOPES:
        raise refuse(f"a scope is one of {', '.join(SCOPES)}")
    if scope == "tenant":
        if value:
            raise refuse("a tenant is revoked as a whole: the value is empty")
    elif scope == "principal":
        check_principal(value)
    elif not (0 < len(value) <= VALUE_CHARS_MAX and value.isprintable()):
        raise refuse(f"a {scope}'s id is 1 to {VALUE_CHARS_MAX} printable characters")


def check_reason(reason: str) -> None:
    if len(reason) > REASON_CHARS_MAX or not reason.isprintable():
        raise refuse(f"a reason is at most {REASON_CHARS_MAX} printable characters")


def check_client(client: ServiceClient) -> None:
    check_tenant(client.tenant)
    if not is_client_id(client.client_id):
        raise refuse("a client's id is 1 to 128 of A-Z, a-z, 0-9 and ._~-, not starting with a sign")
    check_principal(client.principal)
    if len(client.roles) > ROLES_MAX or not all(_ROLE_RE.match(role) for role in client.roles):
        raise refuse(f"roles are at most {ROLES_MAX} words of a-z, 0-9, '_', '-'")
    check_hashes(client.secret_hash)
    check_times(client.made_ms)


def check_pings(pings: Sequence[tuple[str, str, int]]) -> None:
    if len(pings) > PINGS_MAX:
        raise refuse(f"at most {PINGS_MAX} pings a call")
