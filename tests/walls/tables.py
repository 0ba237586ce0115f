"""Every table and function of schema readback, with whom each is for. One that is not here fails `test_database.py`."""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple


class Kind(Enum):
    TENANT = "the gateway's login reads the rows of the tenant that readback.tenant names"
    FACTS = "the gateway's login reads all of it: facts of the log that name no tenant"
    HIDDEN = "the gateway's login has no right to it: only functions look"


TABLES: Final[dict[str, Kind]] = {
    "streams": Kind.TENANT,
    "events": Kind.TENANT,
    "members": Kind.TENANT,
    "markers": Kind.TENANT,
    "seen": Kind.TENANT,
    "revocations": Kind.TENANT,
    "service_clients": Kind.TENANT,
    "devices": Kind.TENANT,
    "claims": Kind.TENANT,
    "refresh_tokens": Kind.TENANT,
    "batches": Kind.HIDDEN,
    "revisions": Kind.HIDDEN,
    "meta": Kind.FACTS,
    "migrations": Kind.FACTS,
    "partitions": Kind.FACTS,
}
UNFORCED: Final = frozenset(("migrations",))
"""The migrating user's own: row-level security is not for it."""


class Rights(Enum):
    OWNER = "with its owner's rights (SECURITY DEFINER)"
    CALLER = "with its caller's rights, which end at one tenant's rows"
    INNER = "not for the gateway's login: the functions above call it"


class Function(NamedTuple):
    """``sample`` is a call for the tenant `a` of tests.walls.test_database, each text of a tenant written as {t}."""

    rights: Rights
    sample: str


def _key(number: int) -> str:
    return f"'00000000-0000-4000-8000-{number:012}'::uuid"


def _hash(number: int) -> str:
    return f"decode('{number:064}', 'hex')"


D, C, I = Rights.OWNER, Rights.CALLER, Rights.INNER  # noqa: E741
NOTE = "'user:amy', '{{}}'"
FUNCTIONS: Final[dict[str, Function]] = {
    "add_client": Function(
        D, f"add_client('c-new', {{t}}, 'service:new', array['service'], {_hash(90)}, 1, {_key(10)}, {NOTE})"
    ),
    "append": Function(
        D,
        "append(array[{t}], array[1]::bigint[], array[gen_random_uuid()], array['message'], array['user:amy'], "
        "array['{{}}'], array[null]::bigint[], array[null]::bigint[], array[true])",
    ),
    "chain": Function(D, "chain(0, 1, 10, 10)"),
    "clients": Function(C, "clients({t}, 10)"),
    "create_stream": Function(D, "create_stream({t}, 'chat:new', true, array['user:amy'], array['owner'])"),
    "device": Function(C, "device({t}, 'device:d')"),
    "devices": Function(C, "devices({t}, 10)"),
    "event_digest": Function(C, f"event_digest(0, 1, 1, 1, {_key(1)}, 1, {{t}}, 'message', {NOTE})"),
    "event_to_prove": Function(C, "event_to_prove({t}, 'chat:x', 1)"),
    "find_client": Function(D, "find_client('c-a')"),
    "for_tenant": Function(C, "for_tenant({t})"),
    "forget_revocations": Function(D, "forget_revocations(0, 10)"),
    "heads": Function(D, "heads()"),
    "install": Function(I, "install(1)"),
    "is_newest": Function(I, f"is_newest({{t}}, 'device:d', {_hash(1)}, 'k')"),
    "lift_revocation": Function(D, f"lift_revocation({{t}}, 'principal', 'user:amy', 9, {_key(11)}, {NOTE})"),
    "load_marks": Function(C, "load_marks({t}, array[1]::bigint[])"),
    "load_seen": Function(C, "load_seen({t}, 1, array['user:amy'])"),
    "lock_stream": Function(I, "lock_stream({t}, 'chat:x')"),
    "members": Function(C, "members({t}, 'chat:x')"),
    "mint_claim": Function(D, f"mint_claim({{t}}, 'device:new', {_hash(91)}, 99, {_key(12)}, {NOTE})"),
    "my_streams": Function(C, "my_streams({t}, 'user:amy')"),
    "now_ms": Function(C, "now_ms()"),
    "open_streams": Function(
        D, "open_streams(array[{t}, {t}], array['chat:x', 'user:ina'], array['user:amy', 'user:ina'])"
    ),
    "partition_of": Function(C, "partition_of({t}, 'chat:x', 4)"),
    "put_member": Function(D, f"put_member({{t}}, 'chat:x', 'user:cy', 'member', {_key(2)}, {NOTE})"),
    "read": Function(C, "read({t}, 1, 0, 10)"),
    "read_before": Function(C, "read_before({t}, 1, 10, 10)"),
    "redeem_claim": Function(D, f"redeem_claim({_hash(92)}, 'k', ''::bytea, {_hash(93)}, 1, 99, {_key(13)}, {NOTE})"),
    "remove_client": Function(D, f"remove_client({{t}}, 'c-a', 9, {_key(14)}, {NOTE})"),
    "remove_member": Function(D, f"remove_member({{t}}, 'chat:x', 'user:amy', {_key(3)}, {NOTE})"),
    "renew_revocation": Function(I, "renew_revocation({t}, 'principal', 'user:amy', 9, null, 'lost', 'user:amy')"),
    "revocations_after": Function(D, "revocations_after(0, 10)"),
    "revoke_device": Function(D, f"revoke_device({{t}}, 'device:d', 9, {_key(15)}, {NOTE})"),
    "revoke_subject": Function(
        D, f"revoke_subject({{t}}, 'principal', 'user:cy', 9, null, 'lost', {_key(16)}, {NOTE})"
    ),
    "revoked": Function(C, "revoked({t}, 10)"),
    "role_of": Function(C, "role_of(null, 'chat:x', true, 'user:amy')"),
    "rotate_token": Function(D, f"rotate_token({_hash(94)}, {_hash(95)}, 'k', null, null, 5, 99, {_key(17)}, {NOTE})"),
    "save_marks": Function(
        D, "save_marks({t}, array[1]::bigint[], array['user:eve'], array[1]::bigint[], array[1]::bigint[])"
    ),
    "save_seen": Function(D, "save_seen({t}, array['user:eve'], array[7]::bigint[])"),
    "tail": Function(D, "tail(0, 0, 10)"),
    "take_pings": Function(D, "take_pings(array[{t}], array['device:d'], array[1]::bigint[])"),
    "trim_bodies": Function(D, "trim_bodies({t}, 1, 10)"),
    "trim_first": Function(D, "trim_first({t}, 'chat:x', 1)"),
    "write_audit": Function(I, f"write_audit({{t}}, 'revoked', {_key(18)}, {NOTE})"),
    "write_event": Function(I, f"write_event(1, {_key(4)}, 'message', {NOTE})"),
}
UNPINNED: Final = frozenset(("event_digest", "for_tenant", "now_ms", "partition_of", "role_of"))
"""Run with the caller's rights and search_path; called by a function of the owner's they have that one's."""


def setup() -> str:
    """Two tenants, a and b, made as the gateway does: something of each in every table. Their chat:x are streams 1 and 2."""
    streams = "".join(
        f"select readback.create_stream('{tenant}', 'chat:x', true, array['{owner}'], array['owner']);"
        for tenant, owner in (("a", "user:amy"), ("b", "user:bob"))
    )
    return streams + _contents("a", 1) + _contents("b", 2)


def _contents(tenant: str, number: int) -> str:
    rest = f"gen_random_uuid(), 'user:{tenant}', '{{}}'"
    return f"""
        select outcomes from readback.append(
            array['{tenant}'], array[{number}]::bigint[], array[gen_random_uuid()], array['message'], array['user:amy'],
            array['{{}}'], array[null]::bigint[], array[null]::bigint[], array[false]);
        select readback.save_marks(
            '{tenant}', array[{number}]::bigint[], array['user:amy'], array[1]::bigint[], array[1]::bigint[]);
        select readback.save_seen('{tenant}', array['user:amy'], array[1]::bigint[]);
        select readback.revoke_subject(
            '{tenant}', 'principal', 'user:amy', 1, null, 'lost', {rest});
        select readback.add_client('c-{tenant}', '{tenant}', 'service:s', array['service'], {_hash(number + 10)}, 1,
            {rest});
        select readback.mint_claim('{tenant}', 'device:d', {_hash(number + 20)}, 99,
            {rest});
        select readback.redeem_claim({_hash(number + 20)}, 'k', ''::bytea, {_hash(number + 30)}, 5, 99,
            {rest});
    """
