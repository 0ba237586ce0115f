"""Who may do what in the database itself, asked of Postgres as each role."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from store.embedded import EmbeddedPostgres
from tests.servers import GATEWAY_USER, Database, fresh_database, postgres_server  # noqa: F401

DIRECTORY_TABLES = ("revocations", "service_clients", "devices", "claims", "refresh_tokens")
TENANT_TABLES = ("streams", "events", "members", "markers", "seen", *DIRECTORY_TABLES)
ALL_TABLES = (*TENANT_TABLES, "batches", "partitions", "meta", "revisions")

AUDITED = "gen_random_uuid(), 'user:amy', '{}'"  # the last three arguments of what changes the directory

SETUP = """
    select readback.create_stream('a', 'chat:x', true, array['user:amy'], array['owner']);
    select readback.create_stream('b', 'chat:y', true, array['user:bob'], array['owner']);
    select outcomes from readback.append(
        array['a', 'b'], array[1, 2]::bigint[], array[gen_random_uuid(), gen_random_uuid()], array['message', 'message'],
        array['user:amy', 'user:bob'], array['{}', '{}'], array[null, null]::bigint[], array[null, null]::bigint[],
        array[false, false]);
    select readback.save_marks('a', array[1]::bigint[], array['user:amy'], array[1]::bigint[], array[1]::bigint[]);
    select readback.save_marks('b', array[2]::bigint[], array['user:bob'], array[1]::bigint[], array[1]::bigint[]);
    select readback.save_seen('a', array['user:amy'], array[1]::bigint[]);
    select readback.save_seen('b', array['user:bob'], array[1]::bigint[]);
"""
SETUP += "".join(
    f"""
    select readback.revoke_subject('{tenant}', 'token', 't-{tenant}', 1, 2, 'lost', {AUDITED});
    select readback.add_client('c-{tenant}', '{tenant}', 'service:x', array['service'], {secret}, 1, {AUDITED});
    select readback.mint_claim('{tenant}', 'device:{tenant}', {secret}, 2, {AUDITED});
    select readback.redeem_claim({secret}, 'key', {secret}, {secret}, 1, 2, {AUDITED});
    """
    for tenant, secret in (("a", "sha256('a')"), ("b", "sha256('b')"))
)


@pytest.fixture(scope="module")
def filled(postgres_server: EmbeddedPostgres) -> Iterator[Database]:  # noqa: F811
    """Of everything a tenant can have, one in each of two tenants, made as the gateway does; to look at."""
    with fresh_database(postgres_server) as made:
        made.sql(SETUP, user=GATEWAY_USER)
        yield made


@pytest.mark.parametrize("table", TENANT_TABLES)
def test_without_a_tenant_there_are_no_rows(filled: Database, table: str) -> None:
    """The gateway's login sees nothing, unless a call says for whom."""
    assert filled.sql(f"select count(*) from readback.{table}", user=GATEWAY_USER) == "0"
    assert filled.sql(f"set readback.tenant = ''; select count(*) from readback.{table}", user=GATEWAY_USER) == "0"


@pytest.mark.parametrize("table", TENANT_TABLES)
def test_with_a_tenant_there_are_only_its_rows(filled: Database, table: str) -> None:
    """And none of another's, whatever the query."""
    seen = filled.sql(f"set readback.tenant = 'a'; select distinct tenant from readback.{table}", user=GATEWAY_USER)
    assert seen == "a"
    assert filled.sql(f"select distinct tenant from readback.{table} order by 1") == "a\nb"


@pytest.mark.parametrize("tenant", ["", "a"])
def test_the_functions_are_the_only_writers(filled: Database, tenant: str) -> None:
    """The gateway's login may not insert, update, delete or truncate, with a tenant or without."""
    tables = ", ".join(f"'{table}'" for table in ALL_TABLES)
    let_through = filled.sql(
        f"""
        set readback.tenant = '{tenant}';
        create temporary table let_through (statement text);
        do $$
        declare
            name text;
            col text;
            statement text;
        begin
            foreach name in array array[{tables}] loop
                select attname into col from pg_attribute where attrelid = ('readback.' || name)::regclass and attnum = 2;
                foreach statement in array array[
                    format('insert into readback.%I default values', name),
                    format('update readback.%I set %I = %I', name, col, col),
                    format('delete from readback.%I', name),
                    format('truncate readback.%I', name)]
                loop
                    begin
                        execute statement;
                        insert into let_through values (statement);
                    exception when insufficient_privilege then
                        null;
                    end;
                end loop;
            end loop;
        end
        $$;
        select * from let_through;
        """,
        user=GATEWAY_USER,
    )
    assert let_through == ""


def test_a_call_s_tenant_ends_with_the_call(filled: Database) -> None:
    """No later statement on the same link inherits what a reading function set."""
    script = "select count(*) from readback.read('a', 1, 0, 10); select count(*) from readback.events"
    assert filled.sql(script, user=GATEWAY_USER) == "1\n0"


@pytest.mark.parametrize(
    "call",
    [
        "readback.read('a', 2, 0, 10)",
        "readback.read_before('a', 2, 10, 10)",
        "readback.load_marks('a', array[2]::bigint[])",
        "readback.my_streams('a', 'user:bob')",
        "readback.device('a', 'device:b')",
    ],
)
def test_reading_for_a_tenant_stops_at_its_rows(filled: Database, call: str) -> None:
    """The number of another tenant's stream gives nothing."""
    assert filled.sql(f"select count(*) from {call}", user=GATEWAY_USER) == "0"
    assert filled.sql(f"select count(*) from {call.replace(chr(39) + 'a' + chr(39), chr(39) + 'b' + chr(39))}") == "1"


def test_even_the_owner_of_the_tables_sees_nothing(filled: Database) -> None:
    """Row-level security is forced: owning a table is no policy."""
    for table in ALL_TABLES:
        assert filled.sql(f"set role readback_owner; select count(*) from readback.{table}") == "0"
        facts = filled.sql(
            f"select relrowsecurity, relforcerowsecurity, relowner::regrole from pg_class "
            f"where oid = 'readback.{table}'::regclass"
        )
        assert facts == "t|t|readback_owner"


def test_no_role_is_above_the_rules(filled: Database) -> None:
    """None is a superuser or passes by row-level security, and only the gateway's logs in."""
    roles = filled.sql(
        "select rolname, rolcanlogin, rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication "
        "from pg_roles where rolname like 'readback%' order by 1"
    )
    assert roles.split() == ["readback_gateway|t|f", "readback_log|f|f", "readback_owner|f|f"]
    assert filled.sql(f"select count(*) from pg_auth_members where member = '{GATEWAY_USER}'::regrole") == "0"


def test_every_function_is_pinned_and_private(filled: Database) -> None:
    """Owned by readback_log, closed to PUBLIC; what runs with its owner's rights has its search_path pinned."""
    rows = filled.sql(
        "select proname, proowner::regrole, prosecdef, coalesce(array_to_string(proconfig, ','), ''), "
        "exists (select from aclexplode(proacl) where grantee = 0) from pg_proc where pronamespace = 'readback'::regnamespace"
    )
    definers = 0
    for row in rows.splitlines():
        name, owner, definer, config, is_public = row.split("|")
        assert owner == "readback_log", name
        assert is_public == "f", name
        if definer == "t":
            definers += 1
            assert config == "search_path=pg_catalog, pg_temp", name
    assert definers >= 10


@pytest.mark.parametrize("call", ["revoked('a', 9)", "clients('a', 9)"])
def test_listing_for_a_tenant_lists_its_rows(filled: Database, call: str) -> None:
    """With the caller's rights, so that even a mistake in the function would end at the policy."""
    assert filled.sql(f"select distinct tenant from readback.{call}", user=GATEWAY_USER) == "a"
    invokers = filled.sql("select proname from pg_proc where pronamespace = 'readback'::regnamespace and not prosecdef")
    assert call.split("(")[0] in invokers.split()


@pytest.mark.parametrize(
    "call",
    [
        "install(99)",
        "lock_stream('a', 'chat:x')",
        f"write_audit('a', 'revoked', {AUDITED})",
        "renew_revocation('a', 'token', 't', 1, 2, '', 'user:amy')",
        "is_newest('a', 'device:a', sha256('a'), 'key')",
    ],
)
def test_inner_functions_are_not_for_the_gateway(filled: Database, call: str) -> None:
    """What assumes a lock, or installs, is not callable by a login."""
    with pytest.raises(AssertionError, match="permission denied"):
        filled.sql(f"select readback.{call}", user=GATEWAY_USER)


def test_the_gateway_makes_no_objects(filled: Database) -> None:
    """Nothing can be put in front of the log's own names."""
    with pytest.raises(AssertionError, match="permission denied"):
        filled.sql("create table readback.evil ()", user=GATEWAY_USER)
    with pytest.raises(AssertionError, match="permission denied"):
        filled.sql("set role readback_log", user=GATEWAY_USER)
