"""``readback audit verify``: the log of a Postgres against its own chain of hashes, and that against anchors.

Reads every row once, a partition at a time, in pages; the partition's end and its streams are one snapshot, so that a log in
use can be verified. Memory: the streams of one partition, a page, and the anchors. Changes nothing.

Needs a login that sees all rows: a superuser, one that is a member of ``readback_log``, or one with BYPASSRLS and the right
to select (docs/audit.md); any other is told so, never that all is well.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import asyncpg

from core.anchors import Anchor
from core.ports import StoreError
from store.links import Links, StoreLimits
from store.verify import Anchored, BatchRow, End, Finding, Row, StreamRow, Walk

PATIENT: Final = StoreLimits(readers=1, query_timeout_s=600.0, statement_timeout_s=600.0)
PAGE_EVENTS: Final = 5_000
NO_RIGHT: Final = (
    "this login may not read the whole log: verify it as the database's owner, or as a member of readback_log"
)

# With the right to select but without a policy, everything looks empty.
_BLIND = "select row_security_active('readback.events') and not pg_has_role('readback_log', 'usage')"
_ROWS = """
    select pos, sid, seq, key::text as key, tenant, type, by, at_ms, body, digest from readback.events
    where partition = $1 and pos > $2 and pos <= $3 order by pos limit $4
"""
_BATCHES = """
    select first_pos, last_pos, at_ms, hash from readback.batches
    where partition = $1 and first_pos > $2 and first_pos <= $3 order by first_pos limit $4
"""
_STREAMS = "select sid, tenant::text, stream::text, head, first from readback.streams where partition = $1"
_FIRSTS = "select sid, first from readback.streams where sid = any ($1)"
_BEYOND = """
    select
        (select e.pos from readback.events e where e.partition = p.partition and e.pos > p.pos order by e.pos limit 1),
        (select e.pos from readback.events e where e.partition = p.partition and e.pos < 1 order by e.pos limit 1),
        (select b.first_pos from readback.batches b
            where b.partition = p.partition and b.first_pos > p.pos order by b.first_pos limit 1),
        (select b.first_pos from readback.batches b
            where b.partition = p.partition and b.first_pos < 1 order by b.first_pos limit 1)
    from readback.partitions p where p.partition = $1
"""
_WHERE = """
    select e.pos from readback.events e join readback.streams s on s.sid = e.sid
    where s.tenant = $1 and s.stream = $2 and e.seq = $3 and e.partition = $4
"""
_FACTS = """
    select e.seq, s.tenant::text, s.stream::text from readback.events e
    left join readback.streams s on s.sid = e.sid where e.partition = $1 and e.pos = $2
"""
# Of the streams whose heads say more than their rows: the first seq that no row has.
_ABSENT = """
    select s.tenant::text, s.stream::text, (
        select min(n) from generate_series(1, s.head) n
        where not exists (select from readback.events e where e.sid = s.sid and e.seq = n)) as seq
    from readback.streams s
    where s.partition = $1 and s.head > (
        select count(*) from readback.events e where e.sid = s.sid and e.partition = s.partition)
    limit 2
"""
_STRAY = """
    select partition, pos from readback.events where partition < 0 or partition >= $1 order by partition, pos limit 1
"""


class Step(NamedTuple):
    done: int
    total: int
    finding: Finding | None


@dataclass(slots=True)
class Verified:
    """What `verify_log` has seen, complete when it ended."""

    epoch: str = ""
    partitions: int = 0
    events: int = 0
    anchors: int = 0
    """Of this log."""
    foreign: int = 0
    """Of other logs, which were not compared."""
    agreed: int = 0
    """Heads in anchors that are the log's; a log that was not appended to is anchored at the same pos again."""
    findings: list[Finding] = field(default_factory=list)


class _Snapshot(NamedTuple):
    end: End | None
    streams: dict[int, StreamRow]


async def verify_log(
    links: Links, anchors: Sequence[Anchor], seen: Verified, page_events: int = PAGE_EVENTS
) -> AsyncIterator[Step]:
    """Yields as it goes; fills ``seen``. ``anchors`` must have been read before this begins. Raises `StoreError`."""
    partitions, ends, epoch = await _facts(links)
    seen.epoch, seen.partitions = epoch, partitions
    total = sum(ends.values())
    anchored, beyond = _by_partition(anchors, epoch, partitions, seen)
    for finding in beyond:
        seen.findings.append(finding)
        yield Step(0, total, finding)
    if sorted(ends) != list(range(partitions)):
        absent = sorted(set(range(partitions)) - ends.keys()) or sorted(ends.keys() - set(range(partitions)))
        finding = Finding("chain", f"the row of this partition is missing, of {partitions}", absent[0])
        seen.findings.append(finding)
        yield Step(0, total, finding)
    done = 0
    for partition in sorted(ends):
        snapshot = await _snapshot(links, partition)
        if snapshot.end is None:
            continue
        walk = Walk(partition, partitions, snapshot.streams, snapshot.end, anchored.get(partition, ()))
        async for count in _walk(links, walk, snapshot, page_events):
            done += count
            seen.events += count
            yield Step(done, total, None)
        seen.agreed += walk.agreed
        finding_of_rows = await _completed(links, walk)
        for found in (finding_of_rows, walk.contradiction):
            if found is not None:
                seen.findings.append(found)
                yield Step(done, total, found)
    stray = await links.fetch(_STRAY, partitions)
    if stray:
        finding = Finding("inserted", "there is no such partition", stray[0][0], stray[0][1], stray[0][1])
        seen.findings.append(finding)
        yield Step(done, total, finding)
    yield Step(done, total, None)


async def _facts(links: Links) -> tuple[int, dict[int, int], str]:
    try:
        await links.fetch("select 1 from readback.batches limit 1")
        meta = await links.fetch("select epoch::text as epoch, partitions from readback.meta")
        rows = await links.fetch("select partition, pos from readback.partitions order by partition")
        blind = await links.fetch(_BLIND)
    except StoreError as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            raise StoreError(NO_RIGHT) from None
        raise
    if blind[0][0] or not meta or not rows:
        raise StoreError(NO_RIGHT)
    return meta[0]["partitions"], {row["partition"]: row["pos"] for row in rows}, meta[0]["epoch"]


def _by_partition(
    anchors: Sequence[Anchor], epoch: str, partitions: int, seen: Verified
) -> tuple[dict[int, list[Anchored]], list[Finding]]:
    """What the anchors of this log say of each partition, and what they say that no log can be."""
    anchored: dict[int, list[Anchored]] = {}
    findings: list[Finding] = []
    for anchor in anchors:
        if anchor.epoch != epoch:
            seen.foreign += 1
            continue
        seen.anchors += 1
        name = f"anchor {anchor.number} of {anchor.at}"
        for head in anchor.heads:
            if head.partition >= partitions and not findings:
                what = f"{name} is of a partition that this log of {partitions} does not have"
                findings.append(Finding("truncated", what, head.partition))
            known = anchored.setdefault(head.partition, [])
            if not known or known[-1].pos != head.pos or known[-1].hash != head.hash:
                known.append(Anchored(head.pos, head.hash, name))
    return anchored, findings


async def _snapshot(links: Links, partition: int) -> _Snapshot:
    """Where a partition ends, and its streams, as of one moment."""

    async def work(link: asyncpg.Connection) -> _Snapshot:
        async with link.transaction(isolation="repeatable_read", readonly=True):
            rows = await link.fetch("select pos, at_ms, hash from readback.partitions where partition = $1", partition)
            streams = await link.fetch(_STREAMS, partition)
        end = End(rows[0]["pos"], rows[0]["at_ms"], rows[0]["hash"]) if rows else None
        return _Snapshot(end, {row[0]: StreamRow(*row[1:]) for row in map(tuple, streams)})

    async with links.borrow() as link:
        return await links.on_loop(work, link)


async def _walk(links: Links, walk: Walk, snapshot: _Snapshot, page_events: int) -> AsyncIterator[int]:
    """Feeds the walk; yields how many events each page had."""
    end = snapshot.end
    assert end is not None
    partition, after = walk.partition, 0
    while walk.looking and after < end.pos:
        rows = [Row(*row) for row in map(tuple, await links.fetch(_ROWS, partition, after, end.pos, page_events))]
        last = len(rows) < page_events
        after = rows[-1].pos if rows else end.pos
        batches = await _batches(links, partition, walk.batch_first, end.pos if last else after, page_events)
        await _trimmed_since(links, rows, snapshot.streams)
        walk.page(rows, batches, last=last)
        yield len(rows)
        if last:
            break
    # Of what follows a finding only the hashes matter, for the anchors; and there may be batches left of the last page.
    while batches := await _batches(links, partition, walk.batch_first, end.pos, page_events):
        walk.page((), batches, last=True)
    walk.end()


async def _batches(links: Links, partition: int, after: int, upto: int, at_most: int) -> list[BatchRow]:
    rows = await links.fetch(_BATCHES, partition, after, upto, at_most)
    return [BatchRow(*row) for row in map(tuple, rows)]


async def _trimmed_since(links: Links, rows: list[Row], streams: dict[int, StreamRow]) -> None:
    """A stream may have been trimmed after the snapshot: then where it begins is asked for again, once a page at most."""
    late = {row.sid for row in rows if row.body is None and row.sid in streams and row.seq >= streams[row.sid].first}
    if late:
        for sid, first in map(tuple, await links.fetch(_FIRSTS, sorted(late))):
            streams[sid] = streams[sid]._replace(first=first)


async def _completed(links: Links, walk: Walk) -> Finding | None:
    """The walk's finding, with what a query more can tell of it; or of rows past the partition's end."""
    found = walk.finding
    if found is None:
        beyond = await links.fetch(_BEYOND, walk.partition)
        for at, pos in enumerate(tuple(beyond[0]) if beyond else ()):
            if pos is not None:
                what = (
                    "a row is here, where the partition ended before" if pos > 0 else "a row is here, before the first"
                )
                found = Finding("inserted" if at < 2 else "chain", what, walk.partition, pos, pos)
                break
        return await _named(links, found) if found is not None and found.kind == "inserted" else found
    if found.kind == "missing" and found.stream is None:
        absent = await links.fetch(_ABSENT, walk.partition)
        if len(absent) == 1:  # of one stream a seq is missing: that is what was here
            return replace(found, tenant=absent[0][0], stream=absent[0][1], seq=absent[0][2])
    elif found.kind == "missing" and found.pos is not None:
        elsewhere = await links.fetch(_WHERE, found.tenant, found.stream, found.seq, found.partition)
        if elsewhere:
            what = f"seq {found.seq} should be here, and is at pos {elsewhere[0][0]}"
            return await _named(links, replace(found, kind="reordered", what=what))
    return found


async def _named(links: Links, found: Finding) -> Finding:
    """With the facts of the row that is there."""
    rows = await links.fetch(_FACTS, found.partition, found.pos)
    return replace(found, seq=rows[0][0], tenant=rows[0][1], stream=rows[0][2]) if rows else found
