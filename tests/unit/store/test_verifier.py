"""`store.verifier`: whatever a superuser does to the rows is found, and the first of it named. On a real Postgres."""

from __future__ import annotations

import random

import pytest

from core.anchors import make
from core.ports import StoreError
from store.postgres import open_postgres_log
from store.proving import open_links
from store.verifier import PATIENT, Verified, verify_log
from tests.servers import Database, database, postgres_server  # noqa: F401
from tests.tampering import KEY, REWRITE, entry, fill, make_stream, verify

NO_KEYS = "alter table readback.events drop constraint events_pkey, drop constraint events_sid_seq_key;"


@pytest.mark.parametrize("page", [1, 2, 5, 1_000])
async def test_a_sound_log_has_no_findings(database: Database, page: int) -> None:  # noqa: F811
    """However pages cut its batches, trimmed streams included, and every anchor agrees."""
    filled = await fill(database)
    seen = Verified()
    async with open_links(database.admin_url, PATIENT) as links:
        steps = [step async for step in verify_log(links, filled.anchors, seen, page)]
    assert seen.findings == []
    assert (seen.events, steps[-1].done, steps[-1].total) == (14, 14, 14)
    assert (seen.anchors, seen.foreign, seen.partitions) == (2, 0, 4)
    assert seen.agreed == 6  # each partition's heads, once each


async def test_an_empty_log_is_sound(database: Database) -> None:  # noqa: F811
    """With an anchor from before its first event, too."""
    assert await verify(database) == []


async def test_a_log_trimmed_to_its_head_is_sound(database: Database) -> None:  # noqa: F811
    """Digests stand in for bodies; memberships keep theirs."""
    filled = await fill(database)
    async with open_postgres_log(database.url) as log:
        await log.trim("demo", filled.one.stream, 1_000)
        await log.trim("other", filled.three.stream, 2)
    assert await verify(database, filled.anchors) == []


TAMPERING = [
    # One row of its batch: named exactly.
    (
        "update readback.events set body = '{}' where pos = 5",
        "{p}, pos 5, {one} seq 3 of demo: altered: these are not",
    ),
    (
        "update readback.events set type = 'x' where pos = 4",
        "{p}, pos 4, {three} seq 1 of other: altered: these are not",
    ),
    ("update readback.events set by = 'user:eve' where pos = 4", "{p}, pos 4, {three} seq 1 of other: altered"),
    (
        "update readback.events set key = gen_random_uuid() where pos = 4",
        "{p}, pos 4, {three} seq 1 of other: altered",
    ),
    ("update readback.events set at_ms = at_ms - 1 where pos = 4", "{p}, pos 4, {three} seq 1 of other: altered"),
    (
        "update readback.events set body = 'x' where type = 'member.joined'",
        "{p}, pos 10, {one} seq 6 of demo: altered",
    ),
    # One of several: exactly where anything tells which, else by the batch.
    (
        "update readback.events set at_ms = at_ms + 7 where pos = 7",
        "{p}, pos 7, {two} seq 2 of demo: altered: its time was",
    ),
    (
        "update readback.events set tenant = 'evil' where pos = 8",
        "{p}, pos 8, {one} seq 5 of evil: altered: the row says tenant evil, its stream is of demo",
    ),
    ("update readback.events set sid = 999 where pos = 7", "{p}, pos 7: altered: stream number 999 does not exist"),
    (
        "update readback.events set seq = 20 where pos = 8",
        "pos 8, {one} seq 20 of demo: altered: it was committed as seq 5",
    ),
    ("update readback.events set body = '{}' where pos = 7", "{p}, pos 6 to 9: altered: one of these 4 rows"),
    (
        "update readback.events set key = gen_random_uuid() where pos = 12",
        "{p}, pos 11 to 13: altered: one of these 3",
    ),
    (
        "update readback.events set body = null, digest = sha256('') where pos = 7",
        "{p}, pos 7, {two} seq 2 of demo: altered: its body is gone",
    ),
    (
        "update readback.events set digest = null where pos = 1 and partition = {p}",
        "{p}, pos 1, {one} seq 1 of demo: altered: neither body",
    ),
    (
        "update readback.events set digest = sha256('') where pos = 1 and partition = {p}",
        "{p}, pos 1 to 3: altered: one of these 3 rows",
    ),
    (
        "update readback.events set body = 'back' where pos = 1 and partition = {p}",
        "{p}, pos 1, {one} seq 1 of demo: altered: the digest beside",
    ),
    # Missing.
    ("delete from readback.events where pos = 4", "{p}, pos 4, {three} seq 1 of other: missing: no row is here"),
    ("delete from readback.events where pos = 7", "{p}, pos 7, {two} seq 2 of demo: missing: no row is here"),
    ("delete from readback.events where pos = 13", "{p}, pos 13, {three} seq 3 of other: missing: no row is here"),
    ("delete from readback.events where pos between 6 and 8", "{p}, pos 6 to 8: missing: no rows are here"),
    ("delete from readback.events where pos > 9", "{p}, pos 10: missing: no row is here"),
    # Reordered.
    (
        NO_KEYS + "update readback.events set pos = 14 - pos where pos in (6, 8) and partition = {p}",
        "{p}, pos 6, {one} seq 5 of demo: reordered: seq 4 should be here, and is at pos 8",
    ),
    (
        NO_KEYS + "update readback.events set pos = 13 - pos where pos in (6, 7) and partition = {p}",
        "{p}, pos 6, {two} seq 2 of demo: reordered: it was committed at pos 7",
    ),
    (
        NO_KEYS + "update readback.events set pos = 13 - pos where pos in (5, 8) and partition = {p}",
        "{p}, pos 5, {one} seq 5 of demo: reordered: seq 3 should be here, and is at pos 8",
    ),
    (
        """update readback.events e set body = o.body from readback.events o
           where e.partition = {p} and o.partition = {p} and (e.pos, o.pos) in ((6, 9), (9, 6))""",
        "{p}, pos 6, {one} seq 4 of demo: altered: its body is that of pos 9, which has its own",
    ),
    # Put in.
    (
        """insert into readback.events (partition, pos, sid, tenant, seq, key, type, by, at_ms, body)
           select partition, 14, sid, tenant, seq + 1, gen_random_uuid(), type, by, at_ms, body
           from readback.events where pos = 13""",
        "{p}, pos 14, {three} seq 4 of other: inserted: a row is here, where the partition ended before",
    ),
    (
        """insert into readback.events (partition, pos, sid, tenant, seq, key, type, by, at_ms, body)
           select partition, 0, sid, tenant, 0, gen_random_uuid(), type, by, at_ms, body
           from readback.events where pos = 13""",
        "{p}, pos 0, {three} seq 0 of other: inserted: a row is here, before the first",
    ),
    (
        """insert into readback.events (partition, pos, sid, tenant, seq, key, type, by, at_ms, body)
           select 77, 1, sid, tenant, 77, gen_random_uuid(), type, by, at_ms, body from readback.events where pos = 13""",
        "partition 77, pos 1: inserted: there is no such partition",
    ),
    (
        NO_KEYS
        + """update readback.events set pos = pos + 1 where partition = {p} and pos > 4;
             insert into readback.events (partition, pos, sid, tenant, seq, key, type, by, at_ms, body)
             select partition, 5, sid, tenant, 9, gen_random_uuid(), type, by, at_ms, body
             from readback.events where pos = 4""",
        "{p}, pos 5, {three} seq 9 of other: reordered: seq 2 should be here, and is at pos 10",
    ),
    # The rows that keep the hashes, and the streams'.
    (
        "update readback.batches set hash = sha256('x') where first_pos = 6",
        "{p}, pos 6 to 9: chain: the hash of this batch",
    ),
    (
        "update readback.batches set hash = sha256('x') where first_pos = 11",
        "{p}, pos 11 to 13: chain: the hash of",
    ),
    (
        "update readback.batches set last_pos = 8 where first_pos = 6",
        "{p}, pos 6 to 8: chain: this batch says that it ends",
    ),
    (
        "update readback.batches set last_pos = 10 where first_pos = 6",
        "{p}, pos 6 to 10: chain: this batch says that it",
    ),
    ("update readback.batches set first_pos = 7 where first_pos = 6", "{p}, pos 6: chain: no batch is of this"),
    (
        "update readback.batches set at_ms = 1 where first_pos = 6",
        "{p}, pos 6 to 9: chain: the batch's time, 1, is not",
    ),
    ("delete from readback.batches where first_pos = 6", "{p}, pos 6 to 9: chain: no batch is of this"),
    ("delete from readback.batches where first_pos = 11", "{p}, pos 11 to 13: chain: no batch is here"),
    (
        "insert into readback.batches values ({p}, 7, 7, 1, 'x')",
        "{p}, pos 7: chain: a batch of pos 7 to 7 cannot be here",
    ),
    (
        "insert into readback.batches values ({p}, 20, 21, 1, 'x')",
        "{p}, pos 20: chain: a row is here, where the partition",
    ),
    (
        "update readback.partitions set hash = sha256('x') where partition = {p}",
        "pos 13: chain: the partition's hash is not",
    ),
    ("update readback.streams set head = 9 where sid = 1", "{one} seq 8 of demo: missing: the stream's head is 9"),
    ("update readback.streams set head = 4 where sid = 1", "{one} seq 5 of demo: altered: the stream's head is 4"),
    (
        "update readback.streams set tenant = 'evil' where sid = 1",
        "pos 1, {one} seq 1 of demo: altered: the row says tenant",
    ),
    (
        "update readback.streams set stream = 'chat:' || (case when stream = 'chat:s1' then 's2' else 's1' end) where sid = 1",
        "pos 1, chat:s1 seq 1 of demo: altered: a stream of this name belongs to another partition",
    ),
    (
        "delete from readback.partitions where partition = {p}",
        "{p}: chain: the row of this partition is missing, of 4",
    ),
]


@pytest.mark.parametrize(("damage", "expected"), TAMPERING)
async def test_each_tampering_is_named(database: Database, damage: str, expected: str) -> None:  # noqa: F811
    """The first row that does not hold, with its stream, and what is wrong with it; on pages of any size."""
    filled = await fill(database)
    database.sql(damage.replace("{p}", str(filled.partition)))
    names = {"one": filled.one.stream, "two": filled.two.stream, "three": filled.three.stream}
    wanted = expected.replace("{p}", f"partition {filled.partition}").format(**names)
    for page in (1, 3, 1_000):
        findings = await verify(database, page=page)
        assert len(findings) == 1, findings
        assert wanted in findings[0], (wanted, findings, page)


REWRITTEN = [
    # (what was done, with all hashes made anew; what the two anchors tell)
    (
        "update readback.events set body = '{}' where pos = 12",
        "{p}, pos 6 to 13: rewritten: anchor 2 of 2023-11-14T22:14:20.000Z has another hash for the end of this",
    ),
    (
        "update readback.events set type = 'lie' where pos = 2",
        "{p}, pos 1 to 5: rewritten: anchor 1 of 2023-11-14T22:13:20.000Z has another hash for the end of this",
    ),
    (
        """delete from readback.events where partition = {p} and pos > 10;
           delete from readback.batches where partition = {p} and first_pos > 10;
           update readback.partitions set pos = 10 where partition = {p};
           update readback.streams s set head = (select max(seq) from readback.events e where e.sid = s.sid)
           where partition = {p}""",
        "{p}, pos 11 to 13: truncated: anchor 2 of 2023-11-14T22:14:20.000Z saw the partition end at pos 13",
    ),
    (
        """delete from readback.events where partition = {p} and pos > 3;
           delete from readback.batches where partition = {p} and first_pos > 3;
           update readback.partitions set pos = 3 where partition = {p};
           update readback.streams s set head = coalesce((select max(seq) from readback.events e where e.sid = s.sid), 0)
           where partition = {p}""",
        "{p}, pos 4 to 13: truncated: anchor 2",
    ),
    (
        """delete from readback.batches where partition = {p} and first_pos in (4, 5, 6);
           insert into readback.batches select {p}, 4, 9, at_ms, 'x' from readback.events where partition = {p} and pos = 4;
           update readback.events set at_ms = (select at_ms from readback.events where partition = {p} and pos = 4)
           where partition = {p} and pos in (5, 6, 7, 8, 9)""",
        "{p}, pos 1 to 5: rewritten: anchor 1 of 2023-11-14T22:13:20.000Z saw a batch end at pos 5, and none does",
    ),
]


@pytest.mark.parametrize(("damage", "expected"), REWRITTEN)
async def test_a_rewritten_tail_is_found_by_anchors_alone(
    database: Database,  # noqa: F811
    damage: str,
    expected: str,
) -> None:
    """Every hash made anew: the log agrees with itself, and not with what was written down elsewhere."""
    filled = await fill(database)
    database.sql((damage + ";" + REWRITE).replace("{p}", str(filled.partition)))
    assert await verify(database) == []
    for page in (2, 1_000):
        findings = await verify(database, filled.anchors, page)
        assert len(findings) == 1, findings
        assert expected.replace("{p}", f"partition {filled.partition}") in findings[0]


async def test_rows_alone_changed_leave_the_anchors_agreeing(database: Database) -> None:  # noqa: F811
    """Which tells that the hashes are those of then, and the row is not; and an altered hash is told by both."""
    filled = await fill(database)
    database.sql("update readback.events set body = '{}' where pos = 5")
    assert len(await verify(database, filled.anchors)) == 1
    database.sql("update readback.batches set hash = sha256('x') where first_pos = 11")
    kinds = [finding.split(": ")[1] for finding in await verify(database, filled.anchors)]
    assert kinds == ["altered", "rewritten"]


async def test_a_row_that_was_dropped_and_the_rest_rewritten_shows_in_its_stream(database: Database) -> None:  # noqa: F811
    """Positions closed up and hashes anew, but not the seqs of those behind it: that is seen without an anchor."""
    filled = await fill(database)
    p = filled.partition
    database.sql(
        f"""{NO_KEYS} delete from readback.events where partition = {p} and pos = 8;
            update readback.events set pos = pos - 1 where partition = {p} and pos > 8;
            update readback.batches set last_pos = 8 where partition = {p} and first_pos = 6;
            update readback.batches set first_pos = first_pos - 1, last_pos = last_pos - 1
            where partition = {p} and first_pos > 8;
            update readback.partitions set pos = 12 where partition = {p};"""
        + REWRITE.replace("{p}", str(p))
    )
    (finding,) = await verify(database)
    assert f"pos 9, {filled.one.stream} seq 5 of demo: missing: seq 5 should be here, and is nowhere near" in finding


async def test_anchors_of_another_log_are_not_compared(database: Database) -> None:  # noqa: F811
    """Counted, so that nobody takes them for agreeing; one that knows more partitions than there are is a finding."""
    filled = await fill(database)
    foreign = make(
        KEY,
        number=1,
        previous="0" * 64,
        epoch="another",
        at_ms=1,
        heads=[h._replace(pos=99) for h in filled.anchors[0].heads],
    )
    seen = Verified()
    async with open_links(database.admin_url, PATIENT) as links:
        assert [step async for step in verify_log(links, [foreign], seen)]
    assert (seen.findings, seen.anchors, seen.foreign) == ([], 0, 1)
    last = filled.anchors[0].heads[-1]
    more = make(KEY, number=1, previous="0" * 64, epoch=seen.epoch, at_ms=1, heads=[last, last._replace(partition=9)])
    (finding,) = await verify(database, [more])
    assert "partition 9: truncated: anchor 1" in finding


async def test_who_may_verify(database: Database) -> None:  # noqa: F811
    """Not the gateway, nor one who may only select: they would see nothing, and hear that all is well. Two others may."""
    filled = await fill(database)
    database.sql(
        """create role member_of_log login in role readback_log;
           create role sees_all login bypassrls; create role sees_little login;
           grant usage on schema readback to sees_all, sees_little;
           grant select on all tables in schema readback to sees_all, sees_little;"""
    )
    try:
        for user, may in (
            ("readback_gateway", False),
            ("sees_little", False),
            ("member_of_log", True),
            ("sees_all", True),
        ):
            seen = Verified()
            async with open_links(database.server.url(user=user, database=database.name), PATIENT) as links:
                if may:
                    assert [step async for step in verify_log(links, filled.anchors, seen)]
                    assert (seen.findings, seen.events, seen.agreed) == ([], 14, 6)
                else:
                    with pytest.raises(StoreError, match="member of readback_log"):
                        _ = [step async for step in verify_log(links, filled.anchors, seen)]
    finally:
        database.sql(
            "drop owned by member_of_log, sees_all, sees_little; drop role member_of_log, sees_all, sees_little"
        )


async def test_a_log_in_use_can_be_verified(database: Database) -> None:  # noqa: F811
    """Events, streams and trims that come while it reads are left to the next time, and never taken for damage."""
    filled = await fill(database)
    seen = Verified()
    async with open_postgres_log(database.url) as log, open_links(database.admin_url, PATIENT) as links:
        async for _ in verify_log(links, filled.anchors, seen, 2):
            await log.append([entry(filled.one), entry(filled.three)])
            await log.trim("demo", filled.two.stream, 1_000)
            await log.trim("other", filled.three.stream, 1_000)
            new = await make_stream(log, "demo", f"chat:new{random.random()}")
            await log.append([entry(new)])
    assert seen.findings == []


async def test_random_tampering_is_always_found(database: Database) -> None:  # noqa: F811
    """Any column of any row of events and batches, changed by a seed: one finding at least, at the batch of the first change
    or before it ends; put back, none."""
    filled = await fill(database)
    rng = random.Random(2)
    p = filled.partition
    ends = (3, 4, 5, 9, 10, 13)
    values = {
        "body": "body || ' '",
        "type": "type || 'x'",
        "by": "by || 'x'",
        "key": "gen_random_uuid()",
        "at_ms": "at_ms + 1",
        "tenant": "tenant || 'x'",
        "sid": "sid + 1000",
        "seq": "seq + 1000",
        "digest": "sha256('x')",
        "delete": "",
    }
    database.sql("create table kept_events as select * from readback.events")
    for _ in range(40):
        pos, column = rng.randrange(2, 14), rng.choice(list(values))
        if column == "delete":
            database.sql(f"delete from readback.events where partition = {p} and pos = {pos}")
        else:
            database.sql(
                f"update readback.events set {column} = {values[column]} where partition = {p} and pos = {pos}"
            )
        (finding,) = await verify(database, filled.anchors, rng.choice((1, 4, 100)))
        place = finding.split("pos ")[1].split(",")[0].split(":")[0].split(" to ")
        end = next(end for end in ends if pos <= end)
        assert int(place[0]) <= pos <= int(place[-1]) <= end, (pos, column, finding)
        database.sql(
            f"""delete from readback.events where partition = {p} and pos = {pos};
                insert into readback.events select * from kept_events where partition = {p} and pos = {pos}"""
        )
    assert await verify(database, filled.anchors) == []
