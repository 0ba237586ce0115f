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
    "commands": Kind.TENANT,
    "rows": Kind.TENANT,
    "tasks": Kind.TENANT,
    "memories": Kind.TENANT,
    "parked": Kind.TENANT,
    "firings": Kind.TENANT,
    "positions": Kind.TENANT,
    "last_positions": Kind.TENANT,
    "geofences": Kind.TENANT,
    "app_keys": Kind.TENANT,
    "pushes": Kind.TENANT,
    "batches": Kind.HIDDEN,
    "route_calls": Kind.HIDDEN,
    "consumers": Kind.HIDDEN,
    "workers": Kind.HIDDEN,
    "outdated": Kind.HIDDEN,
    "revisions": Kind.HIDDEN,
    "meta": Kind.FACTS,
    "migrations": Kind.FACTS,
    "models": Kind.FACTS,
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
NO_TASKS = "'{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}', '{{}}'"
A_TASK = "array['timer'], array[{t}], array['k'], array[1]::bigint[], array[''], array['{{}}'], array[true]"
FENCE = "(select fence from readback.cursors('views') where partition = 0)"


def a_last(subject: str, memory: str) -> str:
    """What follows the tenant of a last position."""
    nothing = "array[null]::float8[]"
    return (
        f"array['{subject}'], array['trip:x'], array[1]::bigint[], array[1]::float8[], array[2]::float8[], "
        f"{nothing}, {nothing}, {nothing}, {nothing}, array['accepted'], array[1]::bigint[], array['{memory}']"
    )


FUNCTIONS: Final[dict[str, Function]] = {
    "add_client": Function(
        D, f"add_client('c-new', {{t}}, 'service:new', array['service'], {_hash(90)}, 1, {_key(10)}, {NOTE})"
    ),
    "add_push": Function(D, "add_push({t}, 'user:cy', 'fcm', 'token', 'app', 1, 10)"),
    "add_tasks": Function(D, f"add_tasks({A_TASK})"),
    "advance_lanes": Function(I, "advance_lanes(array['timer'], array[{t}], array['x'])"),
    "append": Function(
        D,
        "append(array[{t}], array[1]::bigint[], array[gen_random_uuid()], array['message'], array['user:amy'], "
        "array['{{}}'], array[null]::bigint[], array[null]::bigint[], array[true])",
    ),
    "beat": Function(D, "beat('w', array['views'], 600000)"),
    "begin_rebuild": Function(D, "begin_rebuild('board', 'rebuild')"),
    "bind_app_key": Function(D, "bind_app_key({t}, 'device:d', 'trip:y')"),
    "chain": Function(D, "chain(0, 1, 10, 10)"),
    "claim_tasks": Function(D, "claim_tasks('w', 'timer', 10, 600000, 'it ran out')"),
    "clean_work": Function(D, "clean_work(0, 10)"),
    "clients": Function(C, "clients({t}, 10)"),
    "command": Function(
        D,
        "command(array[{t}], array[1]::bigint[], array[gen_random_uuid()], array['depart'], array['user:amy'], array[true], "
        "array[null]::bigint[], array[2]::bigint[], array[null]::text[], array[1], array[1], array[gen_random_uuid()], "
        "array['flight.departed'], array['{{}}'])",
    ),
    "commit_work": Function(
        D,
        f"commit_work('views', 0, {FENCE}, 0, 0, array['board'], array[1]::bigint[], array[1], array[{{t}}], array['k'], "
        f"array[1]::bigint[], array[1]::bigint[], array[1]::bigint[], array['{{{{}}}}'], {NO_TASKS}, null)",
    ),
    "create_stream": Function(D, "create_stream({t}, 'chat:new', true, array['user:amy'], array['owner'])"),
    "cursors": Function(D, "cursors(null)"),
    "device": Function(C, "device({t}, 'device:d')"),
    "devices": Function(C, "devices({t}, 10)"),
    "drop_app_key": Function(D, "drop_app_key({t}, 'device:d')"),
    "drop_day": Function(D, "drop_day(0)"),
    "drop_geofence": Function(D, "drop_geofence({t}, 'f')"),
    "drop_push": Function(D, "drop_push('fcm', 'token-a', null)"),
    "event_digest": Function(C, f"event_digest(0, 1, 1, 1, {_key(1)}, 1, {{t}}, 'message', {NOTE})"),
    "event_to_prove": Function(C, "event_to_prove({t}, 'chat:x', 1)"),
    "find_app_key": Function(D, f"find_app_key({_hash(41)})"),
    "find_client": Function(D, "find_client('c-a')"),
    "find_pushes": Function(C, "find_pushes({t}, 'user:amy')"),
    "find_task": Function(D, "find_task('timer', 'a', 'k')"),
    "find_tasks": Function(D, "find_tasks('timer', null, null, 0, 10)"),
    "for_tenant": Function(C, "for_tenant({t})"),
    "forget_consumer": Function(D, "forget_consumer('nobody')"),
    "forget_positions": Function(D, "forget_positions(0, array['a'], array[9]::bigint[], 0, 10)"),
    "forget_revocations": Function(D, "forget_revocations(0, 10)"),
    "generations": Function(D, "generations()"),
    "grant_route_calls": Function(D, "grant_route_calls({t}, 1, 1, 10)"),
    "heads": Function(D, "heads()"),
    "hold_consumer": Function(D, "hold_consumer('nobody', 1)"),
    "install": Function(I, "install(1)"),
    "is_newest": Function(I, f"is_newest({{t}}, 'device:d', {_hash(1)}, 'k')"),
    "keep_lasts": Function(D, f"keep_lasts(array[{{t}}], {a_last('device:e', '{{}}')})"),
    "leave_work": Function(D, "leave_work('nobody')"),
    "lift_revocation": Function(D, f"lift_revocation({{t}}, 'principal', 'user:amy', 9, {_key(11)}, {NOTE})"),
    "load_lasts": Function(C, "load_lasts({t}, array['device:d'])"),
    "load_marks": Function(C, "load_marks({t}, array[1]::bigint[])"),
    "load_seen": Function(C, "load_seen({t}, 1, array['user:amy'])"),
    "lock_stream": Function(I, "lock_stream({t}, 'chat:x')"),
    "lock_tasks": Function(I, "lock_tasks(array['timer'], array[{t}], array['k'], array['x'])"),
    "make_days": Function(D, "make_days(array[0, 1], 10)"),
    "members": Function(C, "members({t}, 'chat:x')"),
    "mint_claim": Function(D, f"mint_claim({{t}}, 'device:new', {_hash(91)}, 99, {_key(12)}, {NOTE})"),
    "model_row": Function(C, "model_row('board', {t}, 'k')"),
    "model_rows": Function(C, "model_rows('board', {t}, '', null, '', 10)"),
    "my_streams": Function(C, "my_streams({t}, 'user:amy')"),
    "names": Function(D, "names(array[1, 2]::bigint[])"),
    "next_due": Function(D, "next_due('timer')"),
    "now_ms": Function(C, "now_ms()"),
    "open_streams": Function(
        D, "open_streams(array[{t}, {t}], array['chat:x', 'user:ina'], array['user:amy', 'user:ina'])"
    ),
    "parked_streams": Function(D, "parked_streams(null, null, 10)"),
    "partition_of": Function(C, "partition_of({t}, 'chat:x', 4)"),
    "position_days": Function(D, "position_days()"),
    "pulse_task": Function(D, "pulse_task(0, 1, 600000, null)"),
    "put_app_key": Function(D, f"put_app_key({_hash(96)}, {{t}}, 'device:new', 'trip:x', 1)"),
    "put_geofence": Function(D, "put_geofence({t}, 'new', 'new', array[1, 2]::float8[], 9, 0, '{{}}', 10)"),
    "put_member": Function(D, f"put_member({{t}}, 'chat:x', 'user:cy', 'member', {_key(2)}, {NOTE})"),
    "put_tasks": Function(I, f"put_tasks({A_TASK})"),
    "read": Function(C, "read({t}, 1, 0, 10)"),
    "read_before": Function(C, "read_before({t}, 1, 10, 10)"),
    "recall": Function(D, "recall('views', array[1, 2]::bigint[])"),
    "redeem_claim": Function(D, f"redeem_claim({_hash(92)}, 'k', ''::bytea, {_hash(93)}, 1, 99, {_key(13)}, {NOTE})"),
    "remove_client": Function(D, f"remove_client({{t}}, 'c-a', 9, {_key(14)}, {NOTE})"),
    "remove_member": Function(D, f"remove_member({{t}}, 'chat:x', 'user:amy', {_key(3)}, {NOTE})"),
    "renew_revocation": Function(I, "renew_revocation({t}, 'principal', 'user:amy', 9, null, 'lost', 'user:amy')"),
    "restart_consumer": Function(I, "restart_consumer('nobody')"),
    "retry_parked": Function(D, "retry_parked('views', 0, false)"),
    "revocations_after": Function(D, "revocations_after(0, 10)"),
    "revoke_device": Function(D, f"revoke_device({{t}}, 'device:d', 9, {_key(15)}, {NOTE})"),
    "revoke_subject": Function(
        D, f"revoke_subject({{t}}, 'principal', 'user:cy', 9, null, 'lost', {_key(16)}, {NOTE})"
    ),
    "revoked": Function(C, "revoked({t}, 10)"),
    "role_of": Function(C, "role_of(null, 'chat:x', true, 'user:amy')"),
    "rotate_token": Function(D, f"rotate_token({_hash(94)}, {_hash(95)}, 'k', null, null, 5, 99, {_key(17)}, {NOTE})"),
    "rows_after": Function(D, "rows_after('board', 0, 0, 10)"),
    "rule_firings": Function(C, "rule_firings({t}, null, null, 10)"),
    "ruled": Function(C, "ruled({t}, 1, 0, 10)"),
    "save_marks": Function(
        D, "save_marks({t}, array[1]::bigint[], array['user:eve'], array[1]::bigint[], array[1]::bigint[])"
    ),
    "save_seen": Function(D, "save_seen({t}, array['user:eve'], array[7]::bigint[])"),
    "settle_task": Function(D, f"settle_task('timer', 'a', 'k', '', 0, 1, 'done', 0, '', null, false, {NO_TASKS})"),
    "shown_lasts": Function(C, "shown_lasts({t}, 'trip:x')"),
    "swap_model": Function(D, "swap_model('board', 0, 'rebuild', 'views')"),
    "tail": Function(D, "tail(0, 0, 10)"),
    "take_pings": Function(D, "take_pings(array[{t}], array['device:d'], array[1]::bigint[])"),
    "tell_task": Function(D, "tell_task(0, 'drop')"),
    "tenant_app_keys": Function(C, "tenant_app_keys({t})"),
    "tenant_geofences": Function(C, "tenant_geofences({t})"),
    "track": Function(C, "track({t}, 'trip:x', 0, 9, null, null, null, null, 10, false)"),
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
        select outcomes from readback.command(
            array['{tenant}'], array[{number}]::bigint[], array[{_key(number)}], array['depart'], array['user:amy'],
            array[true], array[null]::bigint[], array[0]::bigint[], array[null]::text[], array[1], array[1],
            array[{_key(number)}], array['flight.departed'], array['{{}}']);
        select readback.beat('w', array['views'], 600000);
        select readback.commit_work('views', 0, {FENCE}, 0, 0,
            array['board'], array[1]::bigint[], array[1], array['{tenant}'], array['k'], array[1]::bigint[],
            array[1]::bigint[], array[1]::bigint[], array['{{}}'],
            array['timer'], array['{tenant}'], array['k'], array[9]::bigint[], array[''], array['{{}}'], array[false],
            '[[], [["{tenant}", {number}, "{{}}"]], [["{tenant}", "r", "1", "chat:x", 1, 1, "fired", "{{}}", "[]"]],
              [["{tenant}", {number}, "chat:x", 1, 1, "so", 1, false]], []]');
        select readback.make_days(array[0], 10);
        insert into readback_days.positions (tenant, subject, stream, at_ms, seq, lat, lon, verdict, reason, taken_ms)
        values ('{tenant}', 'device:d', 'trip:x', {number}, 1, 1, 2, 'accepted', '', 1);
        select readback.keep_lasts(array['{tenant}'], {a_last("device:d", "{}")});
        select readback.put_geofence('{tenant}', 'f', 'f', array[1, 2]::float8[], 9, 0, '{{}}', 10);
        select readback.put_app_key({_hash(number + 40)}, '{tenant}', 'device:d', 'trip:x', 1);
        select readback.add_push('{tenant}', 'user:amy', 'fcm', 'token-{tenant}', 'app', 1, 10);
        select readback.grant_route_calls('{tenant}', 1, 1, 10);
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
