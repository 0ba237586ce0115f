"""Samples of positions, whose table has two names: the gateway's login reads by the one under its tenant's policy, and adds by
the other, where it does nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from store.embedded import EmbeddedPostgres
from tests.servers import GATEWAY_USER, Database, fresh_database, postgres_server  # noqa: F401
from tests.walls.tables import setup
from tests.walls.test_database import OWNER, PUBLIC, names, public_role

DAYS = "readback_days"
PARENT = f"{DAYS}.positions"
DAY = f"{DAYS}.day_0"
COLUMNS = "tenant, subject, stream, at_ms, seq, lat, lon, verdict, reason, taken_ms"
VALUES = "'a', 'device:d', 'trip:x', 5, 1, 1, 2, 'accepted', '', 1"


@pytest.fixture(scope="module")
def walled(postgres_server: EmbeddedPostgres) -> Iterator[Database]:  # noqa: F811
    """The same names in two tenants, to look at."""
    public_role(postgres_server)
    with fresh_database(postgres_server) as made:
        made.sql(setup(), user=GATEWAY_USER)
        yield made


def test_the_schema_of_days_holds_days_and_nothing_else(walled: Database) -> None:
    """Its tables are those below `positions`, owned by the functions' owner; no function, view or sequence is there."""
    found = walled.sql(
        f"select relname, relowner::regrole, relispartition from pg_class where relnamespace = '{DAYS}'::regnamespace "
        "and relkind not in ('i', 'I') order by 1"
    )
    assert names(found) == ["day_0|readback_log|t", "positions|readback_log|t"]
    assert walled.sql(f"select count(*) from pg_proc where pronamespace = '{DAYS}'::regnamespace") == "0"
    assert walled.sql(f"select nspowner::regrole from pg_namespace where nspname = '{DAYS}'") == "readback_log"


@pytest.mark.parametrize("role", [GATEWAY_USER, OWNER, PUBLIC])
def test_the_gateway_adds_and_nobody_else_does_anything(walled: Database, role: str) -> None:
    """No right to a day's own table; to insert into their parent, for the gateway alone."""
    for table in (PARENT, DAY):
        for verb in ("select", "insert", "update", "delete", "truncate", "references", "trigger"):
            may = walled.sql(f"select has_table_privilege('{role}', '{table}', '{verb}')")
            assert may == ("t" if (role, table, verb) == (GATEWAY_USER, PARENT, "insert") else "f"), (table, verb)
        for verb in ("select", "update", "references"):
            assert walled.sql(f"select has_any_column_privilege('{role}', '{table}', '{verb}')") == "f", (table, verb)
    assert walled.sql(f"select has_schema_privilege('{role}', '{DAYS}', 'create')") == "f"


@pytest.mark.parametrize("statement", [
    f"select from {PARENT}",
    f"select from {DAY}",
    f"copy {PARENT} to stdout",
    f"insert into {PARENT} ({COLUMNS}) values ({VALUES}) returning tenant",
    f"insert into {PARENT} ({COLUMNS}) select {COLUMNS} from {DAY}",
    f"insert into {DAY} ({COLUMNS}) values ({VALUES})",
    f"insert into readback.positions ({COLUMNS}) values ({VALUES})",
    f"update {PARENT} set lat = 0",
    f"delete from {PARENT}",
    f"delete from {DAY}",
    f"merge into {PARENT} using (select 1) s on tenant = 'b' when matched then delete when not matched then do nothing",
    f"truncate {PARENT}",
    f"drop table {DAY}",
    f"alter table {PARENT} detach partition {DAY}",
    f"create table {DAYS}.evil ()",
    f"create table public.evil partition of {PARENT} for values from (86400000) to (172800000)",
    f"create trigger evil before insert on {PARENT} for each row execute function suppress_redundant_updates_trigger()",
    f"begin; lock table {PARENT} in access exclusive mode; commit",
])  # fmt: skip
def test_whoever_adds_sees_and_changes_nothing(walled: Database, statement: str) -> None:
    """Whoever has the gateway's login learns by no way what others have kept, and takes nothing of it away."""
    before = walled.sql("select count(*) from readback.positions")
    with pytest.raises(AssertionError, match=r"permission denied|must be owner"):
        walled.sql(f"set readback.tenant = 'a'; {statement}", user=GATEWAY_USER)
    assert walled.sql("select count(*) from readback.positions") == before


def test_no_error_tells_what_is_there(walled: Database) -> None:
    """There is no unique index to run into: the same row goes in again, and "on conflict" has nothing to go by."""
    row = f"insert into {PARENT} ({COLUMNS}) values ('b', 'device:d', 'trip:x', 2, 1, 1, 2, 'accepted', '', 1)"
    assert walled.sql(f"begin; {row}; {row}; {row} on conflict do nothing; rollback", user=GATEWAY_USER) == ""


@pytest.mark.parametrize(("column", "value"), [
    ("tenant", "null"), ("tenant", "''"), ("tenant", "repeat('a', 64)"), ("subject", "repeat('a', 256)"), ("stream", "''"),
    ("reason", "repeat('a', 1001)"), ("lat", "'nan'"), ("lat", "90.1"), ("lon", "'-infinity'"), ("verdict", "'rejected'"),
    ("at_ms", str(86_400_000)), ("at_ms", "-1"), ("seq", "null"),
])  # fmt: skip
def test_a_row_that_is_no_sample_is_not_added(walled: Database, column: str, value: str) -> None:
    """Whoever adds it: too long, no place, or of a day that has no table."""
    fields = dict(zip(COLUMNS.split(", "), VALUES.split(", "), strict=True)) | {column: value}
    with pytest.raises(AssertionError, match=r"violates|no partition"):
        walled.sql(f"insert into {PARENT} ({COLUMNS}) values ({', '.join(fields.values())})", user=GATEWAY_USER)


def test_a_tenant_s_track_is_read_below_its_policy(walled: Database) -> None:
    """A day made later, too, is under the policies of the table that readers name."""
    walled.sql("select readback.make_days(array[1], 10)", user=GATEWAY_USER)
    late = f"insert into {PARENT} ({COLUMNS}) values ('b', 'device:d', 'trip:x', 86400001, 1, 1, 2, 'accepted', '', 1)"
    walled.sql(late, user=GATEWAY_USER)
    seen = "select string_agg(distinct tenant, ',') from readback.positions"
    assert walled.sql(f"set readback.tenant = 'a'; {seen}", user=GATEWAY_USER) == "a"
    assert walled.sql(seen, user=GATEWAY_USER) == ""
    walled.sql("select readback.drop_day(1)", user=GATEWAY_USER)
