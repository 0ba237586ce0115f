"""Role x table x verb x tenant, asked of Postgres as each role: what is not in `tests.walls.tables` is nobody's.

A new table or function without an entry there fails here, in a sentence that says what to add.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from store.embedded import EmbeddedPostgres
from tests.servers import GATEWAY_USER, Database, database, fresh_database, postgres_server, run_sql  # noqa: F401
from tests.walls.tables import FUNCTIONS, TABLES, UNFORCED, UNPINNED, Kind, Rights, setup

PUBLIC = "readback_walls_public"
"""A role with nothing but what everybody has."""
OWNER = "readback_owner"
VERBS = ("select", "insert", "update", "delete", "truncate", "references", "trigger")
SETTINGS = (None, "", "a", "b", "A", "a' or true --", "%")
"""Of readback.tenant. None: never set."""

VIEWS = ("aircraft_line", "crew_roster", "flight_board", "live_rows", "manifest", "seat_map")
"""Through these the caller sees of `rows` what the caller may see, and no more (tests/unit/store/test_sql_views.py)."""

SETUP = setup()


def public_role(server: EmbeddedPostgres) -> None:
    run_sql(
        server.url(database="postgres"),
        f"do $$ begin create role {PUBLIC} login; exception when duplicate_object then null; end $$",
        server,
    )


@pytest.fixture(scope="module")
def walled(postgres_server: EmbeddedPostgres) -> Iterator[Database]:  # noqa: F811
    """The same names in two tenants, to look at."""
    public_role(postgres_server)
    with fresh_database(postgres_server) as made:
        made.sql(SETUP, user=GATEWAY_USER)
        yield made


def names(found: str) -> list[str]:
    return found.split("\n") if found else []


# What there is


def test_every_table_has_its_line(walled: Database) -> None:
    """A new table says in tests/walls/tables.py whose it is, before it is made; views and the like are not thought of."""
    found = walled.sql(
        "select relname || ' ' || relkind::text from pg_class where relnamespace = 'readback'::regnamespace "
        "and relkind not in ('i', 'I', 't') order by 1"
    )
    kinds = dict(line.split(" ") for line in names(found))
    for name, kind in kinds.items():
        if kind == "S" or (kind == "v" and name in VIEWS):
            continue
        assert kind in ("r", "p"), (
            f"{name} is no table: say in tests/walls/test_database.py who may see what through it"
        )
        assert name in TABLES, f"the table {name} is new: add it to TABLES in tests/walls/tables.py, with its Kind"
    assert TABLES.keys() <= kinds.keys(), "tests/walls/tables.py has a table that is no more: take it out"


def test_every_view_is_read_with_its_callers_rights(walled: Database) -> None:
    """A view that is its owner's would show what the owner may see, to whoever may read it."""
    found = names(
        walled.sql(
            "select relname || ' ' || pg_get_userbyid(relowner) || ' ' || array_to_string(reloptions, ',') from pg_class "
            "where relnamespace = 'readback'::regnamespace and relkind = 'v' order by 1"
        )
    )
    assert found == [f"{name} {OWNER} security_invoker=true" for name in VIEWS]


def test_every_function_has_its_line(walled: Database) -> None:
    """A new function says in tests/walls/tables.py who calls it and with whose rights it runs, before it is made."""
    found = names(walled.sql("select proname from pg_proc where pronamespace = 'readback'::regnamespace order by 1"))
    for name in found:
        assert name in FUNCTIONS, (
            f"the function {name} is new: add it to FUNCTIONS in tests/walls/tables.py, with a sample"
        )
    assert sorted(FUNCTIONS) == found, "two functions of one name, or one in tests/walls/tables.py that is no more"


# Tables


TRY = """
do $try$
declare
    name text;
    verb text;
    col text;
    statement text;
    rows bigint;
begin
    foreach name in array array[{tables}] loop
        select column_name into col from tables where table_name = name;
        foreach verb in array array['select', 'insert', 'update', 'delete', 'truncate'] loop
            statement := case verb
                when 'select' then format('select from readback.%I', name)
                when 'insert' then format('insert into readback.%I ' || case name
                    when 'positions' then '(at_ms) values (1)' else 'default values' end, name)  -- no policy before a place
                when 'update' then format('update readback.%I set %I = %I', name, col, col)
                when 'delete' then format('delete from readback.%I', name)
                else format('truncate readback.%I', name) end;
            begin
                execute statement;
                get diagnostics rows = row_count;
                raise exception using errcode = 'WALLS', message = rows;  -- and nothing has happened
            exception
                when insufficient_privilege then insert into found values (name, verb, 'denied');
                when sqlstate 'WALLS' then insert into found values (name, verb, sqlerrm);
            end;
        end loop;
        foreach verb in array array['references', 'trigger'] loop
            insert into found select name, verb, case
                when has_table_privilege(oid, verb) or verb = 'references' and has_any_column_privilege(oid, verb)
                then 'may' else 'denied' end
            from tables where table_name = name;
        end loop;
    end loop;
end
$try$;
"""


def tried(walled: Database, role: str, tenant: str | None) -> dict[tuple[str, str], str]:
    """(table, verb) -> ``denied``, ``may``, or how many rows it concerned; all of it undone."""
    quoted = "" if tenant is None else "set readback.tenant = '" + tenant.replace("'", "''") + "';"
    listed = ", ".join(f"'{table}'" for table in TABLES)
    script = TRY.replace("{tables}", listed)
    found = walled.sql(
        f"""
        create temporary table found (name text, verb text, result text);
        create temporary table tables as
            select relname::text as table_name, c.oid, attname::text as column_name
            from pg_class c join pg_attribute on attrelid = c.oid and attnum = 2
            where relnamespace = 'readback'::regnamespace;
        grant all on found, tables to public;
        set role {role};
        {quoted}
        {script}
        reset role;
        select name, verb, result from found
        """
    )
    rows = [line.split("|") for line in found.split("\n")]
    return {(name, verb): result for name, verb, result in rows}


def rows_of(walled: Database, table: str, tenant: str | None = None) -> str:
    where = "" if tenant is None else f" where tenant = '{tenant}'"
    return walled.sql(f"select count(*) from readback.{table}{where}")


def allowed(walled: Database, role: str, tenant: str | None, table: str, verb: str) -> str:
    """What may come of it."""
    kind = TABLES[table]
    if role == OWNER and table not in UNFORCED:
        # Its owner may change or empty the table itself. It cannot log in, and no login is a member of it.
        return {"select": "0", "insert": "denied", "update": "0", "delete": "0", "truncate": "0"}.get(verb, "may")
    if role == GATEWAY_USER and verb == "select":
        if kind is Kind.TENANT:
            return rows_of(walled, table, tenant) if tenant in ("a", "b") else "0"
        if kind is Kind.FACTS:
            return rows_of(walled, table)
    return "denied"


@pytest.mark.parametrize("tenant", SETTINGS)
@pytest.mark.parametrize("role", [GATEWAY_USER, OWNER, PUBLIC])
def test_each_role_may_what_it_is_for(walled: Database, role: str, tenant: str | None) -> None:
    """Each verb on each table: the gateway reads one tenant's rows, and those of none where none is named."""
    wanted = {(table, verb): allowed(walled, role, tenant, table, verb) for table in TABLES for verb in VERBS}
    assert tried(walled, role, tenant) == wanted


@pytest.mark.parametrize("table", [name for name, kind in TABLES.items() if kind is Kind.TENANT])
def test_the_rows_that_are_seen_are_the_tenant_s(walled: Database, table: str) -> None:
    """Also where the query asks for another's by name, and both tenants have some."""
    for tenant, other in (("a", "b"), ("b", "a")):
        script = f"set readback.tenant = '{tenant}'; select distinct tenant from readback.{table}"
        assert walled.sql(script, user=GATEWAY_USER) == tenant
        script = f"set readback.tenant = '{tenant}'; select count(*) from readback.{table} where tenant = '{other}'"
        assert walled.sql(script, user=GATEWAY_USER) == "0"


@pytest.mark.parametrize("table", [name for name in TABLES if name not in UNFORCED])
def test_row_level_security_is_forced(walled: Database, table: str) -> None:
    """On every table, for its owner too, which is nobody who logs in."""
    facts = walled.sql(
        "select relrowsecurity, relforcerowsecurity, relowner::regrole from pg_class "
        f"where oid = 'readback.{table}'::regclass"
    )
    assert facts == "t|t|readback_owner"


def test_every_policy_is_one_of_three(walled: Database) -> None:
    """The log's own, a tenant's rows for the gateway, facts for the gateway; no other, and for nobody else."""
    found = walled.sql(
        "select tablename, policyname, permissive, array_to_string(roles, ','), cmd, coalesce(qual, '') from pg_policies "
        "where schemaname = 'readback'"
    )
    for line in names(found):
        table, policy, permissive, roles, cmd, qual = line.split("|")
        if policy == "log":
            assert (permissive, roles, cmd, qual) == ("PERMISSIVE", "readback_log", "ALL", "true"), table
        else:
            tenant = TABLES[table] is Kind.TENANT
            assert (policy, roles, cmd) == ("tenant" if tenant else "node", GATEWAY_USER, "SELECT"), table
            assert TABLES[table] is not Kind.HIDDEN, table
            assert ("current_setting('readback.tenant'" in qual) is tenant, table


def test_sequences_are_the_owner_s_alone(walled: Database) -> None:
    """How many streams others make is not told."""
    found = walled.sql(
        "select relname from pg_class where relnamespace = 'readback'::regnamespace and relkind = 'S' and ("
        f"has_sequence_privilege('{GATEWAY_USER}', oid, 'usage, select, update') or "
        f"has_sequence_privilege('{PUBLIC}', oid, 'usage, select, update'))"
    )
    assert found == ""


# Roles


def test_the_gateway_s_login_is_nobody(walled: Database) -> None:
    """It owns nothing, passes by no rule, and is a member of no role."""
    assert walled.sql(f"select count(*) from pg_class where relowner = '{GATEWAY_USER}'::regrole") == "0"
    assert walled.sql(f"select count(*) from pg_proc where proowner = '{GATEWAY_USER}'::regrole") == "0"
    assert walled.sql(f"select count(*) from pg_namespace where nspowner = '{GATEWAY_USER}'::regrole") == "0"
    assert walled.sql(f"select count(*) from pg_auth_members where member = '{GATEWAY_USER}'::regrole") == "0"
    facts = walled.sql(
        "select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication, rolconfig is null from pg_roles "
        f"where rolname = '{GATEWAY_USER}'"
    )
    assert facts == "f|f|f|f|f|t"


@pytest.mark.parametrize("role", ["readback_owner", "readback_log", "postgres", PUBLIC])
@pytest.mark.parametrize("way", ["set role {}", "set session authorization {}", "set local role {}"])
def test_nobody_becomes_another(walled: Database, role: str, way: str) -> None:
    """Neither by SET ROLE nor by SET SESSION AUTHORIZATION."""
    superuser = walled.sql("select rolname from pg_roles where rolsuper limit 1")
    target = superuser if role == "postgres" else role
    with pytest.raises(AssertionError, match="permission denied"):
        walled.sql(f"begin; {way.format(target)}; commit", user=GATEWAY_USER)


@pytest.mark.parametrize("statement", [
    "create table readback.evil ()",
    "create function readback.evil() returns int language sql as 'select 1'",
    "create schema evil",
    "alter table readback.streams disable row level security",
    "alter table readback.streams no force row level security",
    "drop policy tenant on readback.streams",
    "create policy evil on readback.streams using (true)",
    "grant select on readback.batches to readback_gateway",
    "alter function readback.heads() owner to readback_gateway",
    "alter role readback_gateway bypassrls",
    "begin; lock table readback.events in row exclusive mode; commit",
    "select from readback.streams for update",
    "copy readback.events to program 'true'",
    "set row_security = off; select from readback.events",
    "comment on table readback.events is 'evil'",
])  # fmt: skip
def test_the_walls_are_not_the_gateway_s_to_move(walled: Database, statement: str) -> None:
    """Whoever has the gateway's login has what the gateway has, and cannot take more."""
    with pytest.raises(
        AssertionError, match=r"permission denied|must be owner|would be affected by row-level security"
    ):
        walled.sql(f"set readback.tenant = 'a'; {statement}", user=GATEWAY_USER)


# Functions


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_is_called_by_whom_it_is_for(walled: Database, name: str) -> None:
    """Never by PUBLIC; owned by readback_log, which is no superuser; its search_path is pinned where it must be."""
    facts = walled.sql(
        f"select r.rolname, r.rolsuper or r.rolbypassrls or r.rolcanlogin, prosecdef, "
        f"has_function_privilege('{GATEWAY_USER}', p.oid, 'execute'), has_function_privilege('{PUBLIC}', p.oid, 'execute'), "
        "has_function_privilege('readback_owner', p.oid, 'execute'), "
        "exists (select from aclexplode(proacl) where grantee = 0), coalesce(array_to_string(proconfig, ';'), '') "
        "from pg_proc p join pg_roles r on r.oid = proowner "
        f"where pronamespace = 'readback'::regnamespace and proname = '{name}'"
    )
    owner, above, definer, gateway, public, tables_owner, granted, config = facts.split("|")
    assert (owner, above, public, tables_owner, granted) == ("readback_log", "f", "f", "f", "f")
    rights = FUNCTIONS[name].rights
    assert gateway == ("f" if rights is Rights.INNER else "t")
    if rights is not Rights.INNER:
        assert definer == ("t" if rights is Rights.OWNER else "f")
    pinned = "search_path=pg_catalog, pg_temp"
    assert config == ("" if name in UNPINNED else pinned)


CALLED = [name for name, function in FUNCTIONS.items() if function.rights is not Rights.INNER]
FOR_TENANTS = [name for name in CALLED if "{t}" in FUNCTIONS[name].sample and name not in UNPINNED]


def called(name: str, tenant: str) -> str:
    """``tenant`` is an expression of SQL."""
    return f"select * from readback.{FUNCTIONS[name].sample.format(t=tenant)}"


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in CALLED])
def test_inner_functions_are_refused(walled: Database, name: str) -> None:
    """To the gateway's login."""
    with pytest.raises(AssertionError, match="permission denied for function"):
        walled.sql(called(name, "'a'"), user=GATEWAY_USER)


def contents(at: Database) -> str:
    """All rows of all tables, as one hash each."""
    parts = [
        f"select '{table}', count(*), md5(coalesce(string_agg(t::text, ';' order by t::text), '')) from readback.{table} t"
        for table in sorted(TABLES)
    ]
    return at.sql(" union all ".join(parts))


HOSTILE = {
    "null": "null::text",
    "empty": "''",
    "64 letters": "repeat('a', 64)",
    "a capital": "'A'",
    "a slash": "'a/b'",
    "a line end": r"e'a\n'",
    "another alphabet": "'а'",
    "a megabyte": "repeat('a', 1048576)",
}


NOTHING = ("", "f", "t", "not_found", "{3}{0}{0}{0}{0}", "{3}{0}{0}{0}{0}{0}{NULL}", "{2}")
"""No row, or one that says so: not found (3), too old (2), nothing left to do."""


def refused_or_said(at: Database, statement: str) -> str:
    """What is answered; of a constraint that was hurt, nothing."""
    try:
        return at.sql(statement, user=GATEWAY_USER)
    except AssertionError as refused:
        if "violates" in str(refused):
            return ""
        raise


@pytest.mark.parametrize("name", FOR_TENANTS)
def test_a_tenant_that_is_none_has_nothing(walled: Database, name: str) -> None:
    """NULL, empty, too long, of other letters: an error or nothing, and nothing is written."""
    before = contents(walled)
    for what, tenant in HOSTILE.items():
        found = refused_or_said(walled, called(name, tenant))
        assert found.replace("|", "") in NOTHING, (name, what, found)
        assert contents(walled) == before, (name, what)


@pytest.mark.parametrize("name", FOR_TENANTS)
def test_nul_is_no_letter_of_a_tenant(walled: Database, name: str) -> None:
    """Postgres has no text with one in it."""
    with pytest.raises(AssertionError, match=r"invalid byte sequence|null character"):
        walled.sql(called(name, r"e'a\000b'"), user=GATEWAY_USER)


READS = {
    "read": "read('a', 2, 0, 1)",
    "read_before": "read_before('a', 2, 10, 1)",
    "load_marks": "load_marks('a', array[1, 2]::bigint[]) where sid = 2",
    "load_seen": "load_seen('a', 2, array['user:amy', 'user:amy'])",
    "my_streams": "my_streams('a', 'user:bob')",
    "event_to_prove": "event_to_prove('a', 'chat:x', 1) where sid = 2",
    "ruled": "ruled('a', 2, 0, 10)",
    "members": "members('a', 'chat:x') where 'user:bob' = any (principals)",
    "open_streams": "open_streams(array['a'], array['chat:x'], array['user:bob']) where sid = 2 or role = 'owner'",
}


@pytest.mark.parametrize("name", READS)
def test_the_number_of_another_tenant_s_stream_opens_nothing(walled: Database, name: str) -> None:
    """Guessed numbers and equal names: what is answered is the tenant's own."""
    assert walled.sql(f"select count(*) from readback.{READS[name]}", user=GATEWAY_USER) == "0"
    mine = READS[name].replace("'a'", "'b'")
    assert walled.sql(f"select count(*) from readback.{mine}", user=GATEWAY_USER) == "1"


WRITES = {
    "append": "append(array['a'], array[2]::bigint[], array[gen_random_uuid()], array['message'], array['user:amy'], "
    "array['{}'], array[null]::bigint[], array[null]::bigint[], array[true])",
    "save_marks": "save_marks('a', array[2]::bigint[], array['user:amy'], array[1]::bigint[], array[1]::bigint[])",
    "trim_bodies": "trim_bodies('a', 2, 10)",
    "command": "command(array['a'], array[2]::bigint[], array[gen_random_uuid()], array['depart'], array['user:amy'], "
    "array[true], array[null]::bigint[], array[2]::bigint[], array[null]::text[], array[1], array[1], "
    "array[gen_random_uuid()], array['flight.departed'], array['{}'])",
}


@pytest.mark.parametrize("name", WRITES)
def test_the_number_of_another_tenant_s_stream_is_not_written_to(walled: Database, name: str) -> None:
    """Not even with a standing above every member."""
    before = contents(walled)
    walled.sql(f"select * from readback.{WRITES[name]}", user=GATEWAY_USER)
    assert contents(walled) == before


ATTACK = f"""
    create schema attack;
    grant usage, create on schema attack to {GATEWAY_USER};
    create table attack.evidence (who text, what text);
    grant insert, select on attack.evidence to public;
    create function attack.note(what text) returns void language plpgsql as $$
        begin insert into attack.evidence values (current_user, what); end $$;
    grant usage on schema attack to public;
    create function attack.eq(a text, b text) returns boolean language plpgsql as $$
        begin perform attack.note('='); return true; end $$;
    create operator attack.= (leftarg = text, rightarg = text, function = attack.eq);
    create function attack.eq(a bigint, b bigint) returns boolean language plpgsql as $$
        begin perform attack.note('= bigint'); return true; end $$;
    create operator attack.= (leftarg = bigint, rightarg = bigint, function = attack.eq);
    create function attack.sha256(a bytea) returns bytea language plpgsql as $$
        begin perform attack.note('sha256'); return a; end $$;
    create function attack.convert_to(a text, b name) returns bytea language plpgsql as $$
        begin perform attack.note('convert_to'); return ''; end $$;
    create function attack.octet_length(a text) returns integer language plpgsql as $$
        begin perform attack.note('octet_length'); return 1; end $$;
    create function attack.clock_timestamp() returns timestamptz language plpgsql as $$
        begin perform attack.note('clock_timestamp'); return now(); end $$;
    create function attack.set_config(a text, b text, c boolean) returns text language plpgsql as $$
        begin perform attack.note('set_config'); return b; end $$;
    create function attack.current_setting(a text, b boolean) returns text language plpgsql as $$
        begin perform attack.note('current_setting'); return 'b'; end $$;
    create function attack.cardinality(a anyarray) returns integer language plpgsql as $$
        begin perform attack.note('cardinality'); return 0; end $$;
"""


MOVES = frozenset(
    (
        "now_ms",
        "append",
        "command",
        "put_member",
        "remove_member",
        "create_stream",
        "open_streams",
        "begin_rebuild",
        "claim_tasks",
    )
)
"""Answer times and numbers that are others at each call."""


def test_a_name_in_front_of_ours_changes_nothing(database: Database) -> None:  # noqa: F811
    """Tables, functions and operators of an attacker's schema, first in the search_path: nothing of it is ever run with the
    rights of the functions' owner, and what is answered and written is the same."""
    database.sql(SETUP, user=GATEWAY_USER)
    database.sql(ATTACK)
    tables = "".join(
        f"create temporary table {table} (like readback.{table}); create table attack.{table} (like readback.{table});"
        for table in ("partitions", "meta")
    )
    for name in CALLED:
        plain = database.sql(f"begin; {called(name, chr(39) + 'a' + chr(39))}; rollback", user=GATEWAY_USER)
        script = f"""
            create temporary table streams (sid bigint, tenant text); create temporary table events (sid bigint);
            {tables}
            set search_path = attack, pg_temp, readback, pg_catalog;
            begin; {called(name, chr(39) + "a" + chr(39))}; select who, what from attack.evidence; rollback;
            drop table attack.partitions, attack.meta;
        """
        attacked = database.sql(script, user=GATEWAY_USER)
        if name in UNPINNED:
            assert "readback_log" not in attacked, name
        else:
            assert "readback_" not in attacked, (name, attacked)
            if name not in MOVES:
                assert attacked == plain, name
