"""A log in Postgres for tests of the audit: filled in known batches, anchored on the way, tampered with as a superuser could.

Of its partition: pos 1 to 3 one batch, 4 and 5 one each, 6 to 9 one, 10 a membership, 11 to 13 one; anchored after pos 5 and
at the end. Streams `one` and `two` (demo) and `three` (other) lie in it; `one` is trimmed below seq 2.
"""

from __future__ import annotations

import itertools
import uuid
from dataclasses import dataclass
from typing import Final

from core.anchors import FIRST, Anchor, Head, make
from core.keys import SigningKey
from core.model import Entry, StreamFacts
from store.layout import partition_of
from store.postgres import PostgresLog, open_postgres_log
from store.proving import open_links, open_prover
from store.verifier import PATIENT, Verified, verify_log
from tests.servers import TEST_PARTITIONS, Database

KEY: Final = SigningKey("s1", b"s" * 32)

REWRITE: Final = """
    do $$
    declare
        b record;
        chained bytea;
    begin
        for b in select * from readback.batches where partition = {p} order by first_pos loop
            if b.first_pos = 1 then
                chained := sha256(convert_to('readback partition ' || b.partition, 'UTF8'));
            end if;
            chained := sha256(chained || (
                select string_agg(coalesce(e.digest, readback.event_digest(
                    e.partition, e.pos, e.sid, e.seq, e.key, e.at_ms, e.tenant, e.type, e.by, e.body)), ''::bytea order by pos)
                from readback.events e where e.partition = b.partition and e.pos between b.first_pos and b.last_pos));
            update readback.batches set hash = chained where partition = b.partition and first_pos = b.first_pos;
        end loop;
        update readback.partitions set hash = chained where partition = {p};
    end
    $$;
"""
"""Every hash of the partition anew, so that whatever was changed is consistent."""


@dataclass(slots=True)
class Filled:
    partition: int
    one: StreamFacts
    two: StreamFacts
    three: StreamFacts
    anchors: list[Anchor]


def names(tenant: str, partition: int) -> str:
    """A chat of this tenant that lies in the partition, the first by number."""
    return next(
        name
        for name in (f"chat:s{n}" for n in itertools.count())
        if partition_of(tenant, name, TEST_PARTITIONS) == partition
    )


def entry(stream: StreamFacts, body: str = '{"t":"ž"}', type: str = "message") -> Entry:
    return Entry(stream.tenant, stream.sid, str(uuid.uuid4()), type, "user:amy", body.encode())


async def make_stream(log: PostgresLog, tenant: str, name: str) -> StreamFacts:
    return await log.create_stream(tenant, name, open=True, members=[], by="user:amy")


async def anchor_of(database: Database, last: Anchor | None, at_ms: int) -> Anchor:
    async with open_prover(database.url) as prover:
        epoch, heads = await prover.heads()
    number, previous = (1, FIRST) if last is None else (last.number + 1, last.digest)
    return make(KEY, number=number, previous=previous, epoch=epoch, at_ms=at_ms, heads=heads)


async def fill(database: Database) -> Filled:
    async with open_postgres_log(database.url) as log:
        one = await make_stream(log, "demo", "chat:s0")
        p = one.partition
        another = "chat:x0"
        while partition_of("demo", another, TEST_PARTITIONS) != p:
            another = f"chat:x{int(another[6:]) + 1}"
        two = await make_stream(log, "demo", another)
        three = await make_stream(log, "other", names("other", p))
        aside = await make_stream(log, "demo", names("demo", (p + 1) % TEST_PARTITIONS))
        await log.append([entry(one, '{"n":1}'), entry(two, '{"n":2}'), entry(one, '{"n":3}')])
        await log.append([entry(three, '{"n":4}')])
        await log.append([entry(one, '{"n":5}')])
        anchors = [await anchor_of(database, None, 1_700_000_000_000)]
        await log.append([entry(s, f'{{"n":{n}}}') for n, s in ((6, one), (7, two), (8, one), (9, three))])
        await log.put_member("demo", one.stream, "user:bob", "member", "user:amy")
        await log.append([entry(aside)])
        await log.append([entry(one), entry(two), entry(three)])
        anchors.append(await anchor_of(database, anchors[0], 1_700_000_060_000))
        await log.trim("demo", one.stream, 2)
    return Filled(p, one, two, three, anchors)


async def verify(database: Database, anchors: list[Anchor] | None = None, page: int = 1_000) -> list[str]:
    """The findings, as sentences."""
    seen = Verified()
    async with open_links(database.admin_url, PATIENT) as links:
        steps = [step async for step in verify_log(links, anchors or [], seen, page)]
    assert [step.finding for step in steps if step.finding] == seen.findings
    assert steps[-1].done <= steps[-1].total
    return [str(finding) for finding in seen.findings]


def head(anchor: Anchor, partition: int) -> Head:
    found = anchor.head(partition)
    assert found is not None
    return found
