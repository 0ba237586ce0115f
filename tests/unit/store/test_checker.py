"""``check`` finds each kind of damage and names its place. Damage is done as superuser, past every function."""

from __future__ import annotations

import uuid

import pytest

from core.model import Entry
from core.ports import StoreError
from store.chain import batch_hash, event_digest, genesis
from store.links import StoreLimits
from store.postgres import open_postgres_log
from tests.servers import Database, database, postgres_server  # noqa: F401


async def fill(database: Database) -> int:  # noqa: F811
    """Two streams in one partition, nine events in four batches of it; returns the partition."""
    async with open_postgres_log(database.url) as log:
        names = (f"chat:s{n}" for n in range(100))
        one = await log.create_stream("demo", next(names), open=True, members=[], by="user:amy")
        two = one
        while two is one or two.partition != one.partition:
            two = await log.create_stream("demo", next(names), open=True, members=[], by="user:amy")
        assert (one.sid, two.sid) == (1, two.sid)
        for size in (3, 2, 4):
            entries = [
                Entry("demo", (one, two)[n % 2].sid, str(uuid.uuid4()), "message", "user:amy", '{"t":"ž"}'.encode())
                for n in range(size)
            ]
            await log.append(entries)
        await log.put_member("demo", one.stream, "user:bob", "member", "user:amy")
        await log.trim("demo", one.stream, 2)
        return one.partition


async def check(database: Database, page: int = 1_000) -> list[str]:  # noqa: F811
    async with open_postgres_log(database.admin_url, limits=StoreLimits(check_page_events=page)) as log:
        steps = [step async for step in log.check()]
    done, total, last = steps[-1]
    assert last is None
    assert done <= total
    return [finding for _, _, finding in steps if finding]


@pytest.mark.parametrize("page", [1, 2, 4, 1_000])
async def test_a_sound_log_has_no_findings(database: Database, page: int) -> None:  # noqa: F811
    """However the pages cut its batches; trimmed events included."""
    await fill(database)
    assert await check(database, page) == []


async def test_a_log_trimmed_to_its_head_is_sound(database: Database) -> None:  # noqa: F811
    """Of what was trimmed only changes of membership keep their bodies."""
    await fill(database)
    async with open_postgres_log(database.url) as log:
        assert await log.trim("demo", "chat:s0", 1_000) > 2
    assert await check(database) == []


async def test_an_empty_log_is_sound(database: Database) -> None:  # noqa: F811
    """And its progress ends."""
    assert await check(database) == []


async def test_the_gateway_s_login_cannot_check(database: Database) -> None:  # noqa: F811
    """It may not see other tenants' rows; it is told so, not that all is well."""
    async with open_postgres_log(database.url) as log:
        with pytest.raises(StoreError, match="check it as the database's owner"):
            async for _ in log.check():
                pass


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (
            "update readback.events set body = '{}' where pos = 4",
            "partition {p} pos 4 to 5: the hash chain breaks here",
        ),
        (
            "update readback.events set by = 'user:eve' where pos = 2",
            "partition {p} pos 1 to 3: the hash chain breaks here",
        ),
        ("update readback.events set digest = sha256('x') where pos = 1", "pos 1 to 3: the hash chain breaks here"),
        (
            "update readback.batches set hash = sha256('x') where first_pos = 4",
            "pos 4 to 5: the hash chain breaks here",
        ),
        ("update readback.partitions set hash = sha256('x')", "partition {p} pos 10: the partition's hash is not"),
        (
            "delete from readback.events where pos = 5",
            "partition {p} pos 6: the event before it is pos 4; 1 are missing",
        ),
        (
            "delete from readback.events where pos = 10",
            "partition {p} pos 10: the partition ends here, its last event is pos 9",
        ),
        (
            "delete from readback.batches where first_pos = 4",
            "partition {p} pos 6 to 9: the batch before it ends at pos 3",
        ),
        (
            "delete from readback.batches where first_pos = 10",
            "pos 10: the partition ends here, its last batch at pos 9",
        ),
        ("update readback.events set seq = 20 where pos = 6", "partition {p} pos 6: seq 20 of stream 1 follows seq 3"),
        ("update readback.streams set head = 9 where sid = 1", "stream 1: head is 9, its last event is seq 6"),
        ("update readback.streams set head = 4 where sid = 1", "stream 1: head is 4, and seq 6 exists"),
        ("update readback.events set at_ms = at_ms - 99999 where pos = 6", "partition {p} pos 6: its time falls"),
        (
            "update readback.events set tenant = 'evil' where pos = 3",
            "partition {p} pos 3: tenant evil, but stream 1 is of",
        ),
        ("update readback.streams set partition = partition + 1 where sid = 1", "pos 1: stream 1 belongs to partition"),
        ("update readback.events set sid = 999 where pos = 6", "partition {p} pos 6: its stream 999 does not exist"),
        (
            "update readback.events set body = null, digest = sha256('') where pos = 4",
            "pos 4: seq 3 of stream 1 is not trimmed",
        ),
        ("update readback.events set digest = null where pos = 1", "partition {p} pos 1: neither body nor digest"),
        ("update readback.events set body = 'back' where pos = 1", "partition {p} pos 1: its digest is not its body's"),
        (
            """alter table readback.events drop constraint events_sid_key_key;
               update readback.events e set key = (select key from readback.events where pos = 3) where pos = 4""",
            "was used twice, at pos [3, 4]",
        ),
        (
            """delete from readback.partitions where partition = (
                   select max(partition) from readback.partitions where pos = 0)""",
            "partitions: ",
        ),
    ],
)
async def test_each_damage_is_named(database: Database, damage: str, finding: str) -> None:  # noqa: F811
    """What was changed behind the log's back, and where."""
    partition = await fill(database)
    database.sql(damage)
    findings = await check(database)
    wanted = finding.replace("{p}", str(partition))
    assert any(wanted in found for found in findings), findings


async def test_one_break_is_one_finding(database: Database) -> None:  # noqa: F811
    """A changed text is reported where it is, not again in every later batch."""
    partition = await fill(database)
    database.sql('update readback.events set body = \'{"text":"forged"}\' where pos = 2')
    assert await check(database) == [
        f"partition {partition} pos 1 to 3: the hash chain breaks here: these events are not those that were committed"
    ]


def test_the_encoding_of_an_event_never_changes() -> None:
    """This digest is on disks already: a line of numbers and lengths, then the texts."""
    import hashlib

    text = "2 3 4 5 00000000-0000-4000-8000-000000000001 6 4 7 8 3\ndemomessageuser:amy\u017e!"
    digest = event_digest(
        partition=2,
        pos=3,
        sid=4,
        seq=5,
        key="00000000-0000-4000-8000-000000000001",
        at_ms=6,
        tenant="demo",
        type="message",
        by="user:amy",
        body="ž!",
    )
    assert digest == hashlib.sha256(text.encode()).digest()
    assert genesis(2) == hashlib.sha256(b"readback partition 2").digest()
    assert batch_hash(genesis(2), [digest, digest]) == hashlib.sha256(genesis(2) + digest + digest).digest()


def test_texts_cannot_be_shifted_between_fields() -> None:
    """Moving a letter from one text to the next is another event."""
    same = {"partition": 1, "pos": 1, "sid": 1, "seq": 1, "key": "k", "at_ms": 1, "tenant": "demo"}
    one = event_digest(type="message", by="user:amy", body="x", **same)  # type: ignore[arg-type]
    two = event_digest(type="messageu", by="ser:amy", body="x", **same)  # type: ignore[arg-type]
    assert one != two
