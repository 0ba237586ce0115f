"""``readback check``: whether the log in Postgres still is what it promises to be.

Per partition: pos dense from 1 and ending at the partition's, times not falling, batches covering every pos once, and
the hash chain, recomputed here from the rows. Per stream: seq gap-free from 1 to head, in the order of pos, keys used
once, every event in its stream's partition and tenant, bodies there from ``first`` on. Per command that became events:
those are there, the first under its key, and of no other command; the last of them is what its stream was decided by
(`ruled`). A finding names the place.

Reads in pages, each its own snapshot, up to the positions that the first one saw: a log in use can be checked, and what
is committed meanwhile is left to the next check. Memory: a few numbers a stream, and one page.

The tables' row-level security lets the gateway's login see nothing here: connect as a superuser, or as a role that may
``set role readback_log``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import asyncpg

from core.ports import StoreError
from store.chain import batch_hash, event_digest, genesis

if TYPE_CHECKING:
    from store.links import Links

_PAGE = """
    select e.pos, e.sid, e.seq, e.key::text as key, e.tenant, e.type, e.by, e.at_ms, e.body, e.digest,
        s.partition as home, s.tenant as owner, s.first, s.trimmed
    from readback.events e left join readback.streams s on s.sid = e.sid
    where e.partition = $1 and e.pos > $2 and e.pos <= $3 order by e.pos limit $4
"""
_BATCHES = """
    select first_pos, last_pos, at_ms, hash from readback.batches
    where partition = $1 and first_pos >= $2 and first_pos <= $3 order by first_pos
"""
_TWICE = """
    select sid, key::text as key, array_agg(pos order by pos) as places from readback.events
    group by sid, key having count(*) > 1
"""
_COMMANDS = """
    select * from (
        select c.sid, c.key::text as key, c.seq, c.count, c.tenant, c.refusal is not null as refused, s.tenant as owner,
            f.key::text as found, l.seq as last,
            lag(c.seq + c.count - 1) over (partition by c.sid order by c.seq) as before
        from readback.commands c
        left join readback.streams s on s.sid = c.sid
        left join readback.events f on f.sid = c.sid and f.seq = c.seq
        left join readback.events l on l.sid = c.sid and l.seq = c.seq + c.count - 1
    ) c
    where owner is distinct from tenant or refused <> (seq = 0) or (seq = 0) <> (count = 0)
        or seq > 0 and (found is distinct from key or last is null or before >= seq)
    order by sid, seq
"""
_RULED = """
    select s.sid, s.ruled, coalesce(c.last, 0) as last from readback.streams s
    left join lateral (
        select k.seq + k.count - 1 as last from readback.commands k where k.sid = s.sid and k.seq > 0
        order by k.seq desc limit 1
    ) c on true
    where s.ruled <> coalesce(c.last, 0) order by s.sid
"""


async def check_log(links: Links, page_events: int) -> AsyncIterator[tuple[int, int, str | None]]:
    """See `core.ports.LogChecker.check`."""
    try:
        await links.fetch("select 1 from readback.batches limit 1")
        rows = await links.fetch("select partition, pos, at_ms, hash from readback.partitions order by partition")
    except StoreError as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            raise StoreError("this login may not read the whole log: check it as the database's owner") from None
        raise
    meta = await links.fetch("select partitions from readback.meta")
    # Heads before events: what is appended meanwhile only ever lies beyond them.
    heads = {row["sid"]: row["head"] for row in await links.fetch("select sid, head from readback.streams")}
    ends = {row["partition"]: row for row in rows}
    total = sum(row["pos"] for row in rows)
    done = 0
    seqs: dict[int, int] = {}
    if sorted(ends) != list(range(meta[0]["partitions"])):
        yield done, total, f"partitions: {sorted(ends)} are there, 0 to {meta[0]['partitions'] - 1} should be"
    for partition, end in ends.items():
        checker = _PartitionCheck(partition, seqs)
        while checker.pos < end["pos"]:
            events = await links.fetch(_PAGE, partition, checker.pos, end["pos"], page_events)
            if not events:
                break
            batches = await links.fetch(_BATCHES, partition, checker.batch_pos + 1, events[-1]["pos"])
            for finding in checker.page(events, batches):
                yield done, total, finding
            done += len(events)
            yield done, total, None
        for finding in checker.end(end):
            yield done, total, finding
    for sid, head in heads.items():
        if seqs.get(sid, 0) < head:
            yield done, total, f"stream {sid}: head is {head}, its last event is seq {seqs.get(sid, 0)}"
    for row in await links.fetch("select sid, head from readback.streams"):
        if seqs.get(row["sid"], 0) > row["head"]:
            yield done, total, f"stream {row['sid']}: head is {row['head']}, and seq {seqs[row['sid']]} exists"
    for row in await links.fetch(_TWICE):
        yield done, total, f"stream {row['sid']}: key {row['key']} was used twice, at pos {row['places']}"
    for row in await links.fetch(_COMMANDS):
        yield done, total, f"stream {row['sid']}: command {row['key']} {_wrong_command(row)}"
    for row in await links.fetch(_RULED):
        yield done, total, f"stream {row['sid']}: ruled is {row['ruled']}, its last command ends at seq {row['last']}"
    yield done, total, None


def _wrong_command(row: asyncpg.Record) -> str:
    first, last = row["seq"], row["seq"] + row["count"] - 1
    if row["owner"] != row["tenant"]:
        return f"is of tenant {row['tenant']}, its stream of {row['owner'] or 'none'}"
    if (first == 0) != row["refused"] or (first == 0) != (row["count"] == 0):
        return f"is {row['count']} events from seq {first}, and {'a' if row['refused'] else 'no'} refusal is kept"
    if row["found"] is None or row["last"] is None:
        return f"became seq {first} to {last}, and not all of them are there"
    if row["found"] != row["key"]:
        return f"became seq {first}, and that is of key {row['found']}"
    return f"became seq {first} to {last}, and another one seq {row['before']}"


class _PartitionCheck:
    """Walks one partition by pos; what it found comes out as sentences."""

    def __init__(self, partition: int, seqs: dict[int, int]) -> None:
        self.partition = partition
        self.pos = 0
        self.batch_pos = 0
        self._seqs = seqs
        self._at_ms = 0
        self._hash = genesis(partition)
        self._digests: dict[int, bytes] = {}
        self._chain_broken = False

    def page(self, events: list[asyncpg.Record], batches: list[asyncpg.Record]) -> list[str]:
        findings = []
        for event in events:
            findings += self._event(event)
        for batch in batches:
            if batch["last_pos"] > self.pos:
                break  # its other events are on the next page
            findings += self._batch(batch)
        return findings

    def _event(self, event: asyncpg.Record) -> list[str]:
        where = f"partition {self.partition} pos {event['pos']}"
        sid, seq = event["sid"], event["seq"]
        findings = []
        if event["pos"] != self.pos + 1:
            findings.append(
                f"{where}: the event before it is pos {self.pos}; {event['pos'] - self.pos - 1} are missing"
            )
        self.pos = event["pos"]
        if event["at_ms"] < self._at_ms:
            findings.append(f"{where}: its time falls from {self._at_ms} to {event['at_ms']}")
        self._at_ms = event["at_ms"]
        if event["home"] is None:
            findings.append(f"{where}: its stream {sid} does not exist")
        elif event["home"] != self.partition:
            findings.append(f"{where}: stream {sid} belongs to partition {event['home']}")
        elif event["owner"] != event["tenant"]:
            findings.append(f"{where}: tenant {event['tenant']}, but stream {sid} is of tenant {event['owner']}")
        if seq != self._seqs.get(sid, 0) + 1:
            findings.append(f"{where}: seq {seq} of stream {sid} follows seq {self._seqs.get(sid, 0)}")
        self._seqs[sid] = seq
        if event["body"] is not None:
            digest = event_digest(
                partition=self.partition,
                **{name: event[name] for name in ("pos", "sid", "seq", "key", "at_ms", "tenant", "type", "by", "body")},
            )
            if event["digest"] is not None and event["digest"] != digest:
                findings.append(f"{where}: its digest is not its body's")
            elif event["first"] is not None and seq < event["trimmed"] and not event["type"].startswith("member."):
                findings.append(f"{where}: seq {seq} of stream {sid} was trimmed, and its body is still here")
        else:
            digest = event["digest"]
            if digest is None:
                findings.append(f"{where}: neither body nor digest")
                digest = b""
            elif event["first"] is not None and seq >= event["first"]:
                findings.append(f"{where}: seq {seq} of stream {sid} is not trimmed, and its body is gone")
        self._digests[event["pos"]] = digest
        return findings

    def _batch(self, batch: asyncpg.Record) -> list[str]:
        where = f"partition {self.partition} pos {batch['first_pos']} to {batch['last_pos']}"
        findings = []
        if batch["first_pos"] != self.batch_pos + 1 or batch["last_pos"] < batch["first_pos"]:
            findings.append(f"{where}: the batch before it ends at pos {self.batch_pos}")
        self.batch_pos = batch["last_pos"]
        places = [pos for pos in sorted(self._digests) if pos <= batch["last_pos"]]
        expected = batch_hash(self._hash, [self._digests.pop(pos) for pos in places])
        if expected != batch["hash"]:
            findings.append(f"{where}: the hash chain breaks here: these events are not those that were committed")
        self._hash = batch["hash"]  # each break is reported where it is, not again in every later batch
        return findings

    def end(self, row: asyncpg.Record) -> list[str]:
        """Against the partition's own row, which was read first."""
        where = f"partition {self.partition} pos {row['pos']}"
        if self.pos != row["pos"]:
            return [f"{where}: the partition ends here, its last event is pos {self.pos}"]
        if self.batch_pos != row["pos"]:
            return [f"{where}: the partition ends here, its last batch at pos {self.batch_pos}"]
        if self._hash != row["hash"]:
            return [f"{where}: the partition's hash is not its last batch's"]
        return []
