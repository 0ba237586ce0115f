"""What in a partition's rows was altered, is missing, or stands elsewhere: the first of it, named as exactly as the rows allow.

Pure: rows in, at most two findings out (`store.verifier` reads them). The chain of hashes (`store.chain`) says whether the
rows are those that were committed, a batch at a time. Where it breaks, which row it was is read from what else must hold: no
pos left out, seqs rising by one, each row of its stream's tenant and its batch's time; then from trying: two rows, or their
bodies, or a time put back must give the batch's hash again. What none of that tells is named as the batch's range.

Anchors are held against the hashes that are stored: rows that were changed alone leave those in place, a rewriting of all that
follows does not. So both findings together tell what was done.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from store.chain import batch_hash, event_digest, genesis
from store.layout import partition_of

TRIED_MAX: Final = 48
"""Rows of a batch up to which pairs are tried: some 1,100 pairs, 10 ms."""


class Row(NamedTuple):
    pos: int
    sid: int
    seq: int
    key: str
    tenant: str
    type: str
    by: str
    at_ms: int
    body: str | None
    digest: bytes | None


class BatchRow(NamedTuple):
    first_pos: int
    last_pos: int
    at_ms: int
    hash: bytes


class StreamRow(NamedTuple):
    tenant: str
    stream: str
    head: int
    first: int


class Anchored(NamedTuple):
    """What one anchor says of a partition; ``name`` is for people."""

    pos: int
    hash: bytes
    name: str


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind``: altered, missing, reordered, inserted (rows); chain (the rows that keep the hashes); rewritten, truncated
    (against an anchor); anchor (a record itself). ``pos`` to ``last_pos`` is where; the same where it is one row."""

    kind: str
    what: str
    partition: int | None = None
    pos: int | None = None
    last_pos: int | None = None
    tenant: str | None = None
    stream: str | None = None
    seq: int | None = None

    def __str__(self) -> str:
        place = []
        if self.partition is not None:
            place.append(f"partition {self.partition}")
        if self.pos is not None:
            place.append(f"pos {self.pos}" + (f" to {self.last_pos}" if self.last_pos not in (None, self.pos) else ""))
        if self.stream is not None:
            place.append(f"{self.stream} seq {self.seq} of {self.tenant}")
        return f"{', '.join(place)}: {self.kind}: {self.what}" if place else f"{self.kind}: {self.what}"


class End(NamedTuple):
    """The partition's own row: where it says that it ends."""

    pos: int
    at_ms: int
    hash: bytes


class _Suspect(NamedTuple):
    """A batch whose hash is not that of its rows, until the next one tells which of the two is wrong."""

    batch: BatchRow
    rows: list[Row]
    digests: list[bytes]
    previous: bytes
    clue: Finding | None


class Walk:
    """Through one partition by pos. Feed `page`, then `end`; ``finding`` and ``contradiction`` are what was found."""

    def __init__(
        self,
        partition: int,
        partitions: int,
        streams: Mapping[int, StreamRow],
        end: End,
        anchored: Sequence[Anchored] = (),
    ) -> None:
        self.partition = partition
        self.finding: Finding | None = None
        """The first row that does not hold."""
        self.contradiction: Finding | None = None
        """The first anchor that does not."""
        self.agreed = 0
        """Anchors that agree."""
        self.batch_pos = 0
        self.batch_first = 0
        """Of the last batch taken: a batch that lies over another one must not be passed over."""
        self.row_pos = 0
        self._partitions = partitions
        self._streams = streams
        self._end = end
        self._anchored = deque(sorted(anchored, key=lambda one: one.pos))
        self._anchored_pos = 0
        self._hash = genesis(partition)
        self._rows: deque[Row] = deque()
        self._seqs: dict[int, int] = {}
        self._named: set[int] = set()
        self._suspect: _Suspect | None = None
        while self._anchored and self._anchored[0].pos <= 0:
            self._compare(self._anchored.popleft(), 0, self._hash)

    @property
    def looking(self) -> bool:
        """Whether rows of events are still wanted: after the first finding only hashes are, for the anchors."""
        return self.finding is None

    def page(self, rows: Sequence[Row], batches: Sequence[BatchRow], *, last: bool = False) -> None:
        """The next rows by pos, and the batches from the last one taken to the last of these rows. ``last``: no row follows."""
        self._rows.extend(rows)
        if rows:
            self.row_pos = rows[-1].pos
        for batch in batches:
            if self.looking and batch.last_pos > self.row_pos and not last:
                break  # its other rows are on the next page
            self._batch(batch)

    def end(self) -> None:
        """Nothing follows: held against the partition's own row, and against anchors beyond it."""
        end = self._end
        if self._suspect is not None:
            self._decide(self._suspect, end.hash == batch_hash(self._suspect.previous, self._suspect.digests))
        if self.finding is None:
            if self.batch_pos != end.pos:
                self.finding = self._at(
                    "chain", self.batch_pos + 1, end.pos, f"no batch is here, and the partition ends at pos {end.pos}"
                )
            elif self._hash != end.hash:
                self.finding = self._at("chain", end.pos, end.pos, "the partition's hash is not that of its last batch")
            else:
                self.finding = self._absent_at_the_end()
        if self._anchored and self.contradiction is None:
            gone = self._anchored[-1]
            self.contradiction = self._at(
                "truncated",
                end.pos + 1,
                gone.pos,
                f"{gone.name} saw the partition end at pos {gone.pos}, and it ends at pos {end.pos}: what lay past it is gone",
            )

    def _absent_at_the_end(self) -> Finding | None:
        for sid, stream in sorted(self._streams.items()):
            seq = self._seqs.get(sid, 0)
            if seq < stream.head:
                what = f"the stream's head is {stream.head}, and its last event is seq {seq}"
                return Finding("missing", what, self.partition, None, None, stream.tenant, stream.stream, seq + 1)
            if seq > stream.head:
                what = f"the stream's head is {stream.head}, and its last event is seq {seq}"
                return Finding(
                    "altered", what, self.partition, None, None, stream.tenant, stream.stream, stream.head + 1
                )
        return None

    # -- a batch --------------------------------------------------------------------------------------------------------

    def _batch(self, batch: BatchRow) -> None:
        while self._anchored and self._anchored[0].pos <= batch.last_pos:
            self._compare(self._anchored.popleft(), batch.last_pos, batch.hash)
        self.batch_first = batch.first_pos
        if self.finding is not None:
            self.batch_pos = max(self.batch_pos, batch.last_pos)
            return
        rows = []
        while self._rows and self._rows[0].pos <= batch.last_pos:
            rows.append(self._rows.popleft())
        if batch.first_pos != self.batch_pos + 1 or batch.last_pos < batch.first_pos:
            self.finding = self._out_of_line(batch)
            return
        digests = [self._digest(row) or b"" for row in rows]
        if self._suspect is not None:
            suspect = self._suspect
            recomputed = batch_hash(suspect.previous, suspect.digests)
            self._decide(suspect, batch_hash(recomputed, digests) == batch.hash)
            return
        absent = self._gap(batch, rows)
        if absent is not None:
            self.finding = absent
            return
        clue = self._clue(rows)
        if batch_hash(self._hash, digests) != batch.hash:
            self._suspect = _Suspect(batch, rows, digests, self._hash, clue)
        elif clue is not None:
            self.finding = clue
        elif batch.at_ms != rows[0].at_ms:
            what = f"the batch's time, {batch.at_ms}, is not that of its events, {rows[0].at_ms}"
            self.finding = self._at("chain", batch.first_pos, batch.last_pos, what)
        self._hash = batch.hash
        self.batch_pos = batch.last_pos

    def _out_of_line(self, batch: BatchRow) -> Finding:
        """A batch that does not begin where the one before it ends."""
        suspect, self._suspect = self._suspect, None
        if suspect is not None:  # neither its rows nor its end are right: then it is its own row that was changed
            was = suspect.batch
            what = (
                f"this batch says that it ends at pos {was.last_pos}, and the next one begins at pos {batch.first_pos}"
            )
            return suspect.clue or self._at("chain", was.first_pos, was.last_pos, what)
        if batch.first_pos <= self.batch_pos or batch.last_pos < batch.first_pos:
            what = f"a batch of pos {batch.first_pos} to {batch.last_pos} cannot be here: pos {self.batch_pos} was the last"
            return self._at("chain", batch.first_pos, batch.last_pos, what)
        what = f"no batch is of this: the next one begins at pos {batch.first_pos}"
        return self._at("chain", self.batch_pos + 1, batch.first_pos - 1, what)

    def _gap(self, batch: BatchRow, rows: Sequence[Row]) -> Finding | None:
        """The first pos of the batch that no row has."""
        pos = batch.first_pos
        for row in rows:
            if row.pos != pos:
                break
            pos += 1
        if pos > batch.last_pos:
            return None
        last = next((row.pos for row in rows if row.pos > pos), batch.last_pos + 1) - 1
        return self._at("missing", pos, last, "no row is here" if last == pos else "no rows are here")

    def _digest(self, row: Row) -> bytes | None:
        if row.body is None:
            return row.digest
        return event_digest(
            partition=self.partition,
            pos=row.pos,
            sid=row.sid,
            seq=row.seq,
            key=row.key,
            at_ms=row.at_ms,
            tenant=row.tenant,
            type=row.type,
            by=row.by,
            body=row.body,
        )

    def _clue(self, rows: Sequence[Row]) -> Finding | None:
        """The first row that cannot be right, whatever the hashes say."""
        seqs, streams, named = self._seqs, self._streams, self._named
        first: Finding | None = None
        for row in rows:
            stream = streams.get(row.sid)
            if stream is None:
                return first or self._of(row, "altered", f"stream number {row.sid} does not exist in this partition")
            if row.tenant != stream.tenant:
                return first or self._of(
                    row, "altered", f"the row says tenant {row.tenant}, its stream is of {stream.tenant}"
                )
            if row.sid not in named:
                named.add(row.sid)
                if partition_of(stream.tenant, stream.stream, self._partitions) != self.partition:
                    return first or self._of(
                        row, "altered", "a stream of this name belongs to another partition: renamed"
                    )
            if row.seq != seqs.get(row.sid, 0) + 1 and first is None:
                first = self._out_of_order(row, seqs.get(row.sid, 0) + 1, rows)
            seqs[row.sid] = row.seq
            if row.body is None:
                if row.digest is None:
                    return first or self._of(row, "altered", "neither body nor digest is here")
                if row.seq >= stream.first:
                    return first or self._of(row, "altered", "its body is gone, and the stream was not trimmed so far")
            elif row.digest is not None and row.digest != self._digest(row):
                return first or self._of(row, "altered", "the digest beside it is not its own")
        return first

    def _out_of_order(self, row: Row, wanted: int, rows: Sequence[Row]) -> Finding:
        for other in (*rows, *self._rows):
            if other.sid == row.sid and other.seq == wanted and other.pos > row.pos:
                what = f"seq {wanted} should be here, and is at pos {other.pos}"
                return self._of(row, "reordered", what)
        if row.seq > wanted:
            return self._of(row, "missing", f"seq {wanted} should be here, and is nowhere near", seq=wanted)
        return self._of(row, "altered", f"seq {wanted} should be here")

    # -- a break of the chain ---------------------------------------------------------------------------------------------

    def _decide(self, suspect: _Suspect, row_of_the_batch: bool) -> None:
        """``row_of_the_batch``: what follows was computed from these very rows, so the hash beside them is what is wrong."""
        self._suspect = None
        batch, rows = suspect.batch, suspect.rows
        if row_of_the_batch:
            what = "the hash of this batch was altered; its rows are those that the next hash is of"
            self.finding = self._at("chain", batch.first_pos, batch.last_pos, what)
        elif suspect.clue is not None:
            self.finding = self._seq_put_back(suspect) or suspect.clue
        elif len(rows) == 1:
            self.finding = self._of(rows[0], "altered", "these are not the facts and the body that were committed")
        else:
            self.finding = self._tried(suspect) or replace(
                self._of(rows[0], "altered", f"one of these {len(rows)} rows is not what was committed"),
                last_pos=batch.last_pos,
                tenant=None,
                stream=None,
                seq=None,
            )

    def _seq_put_back(self, suspect: _Suspect) -> Finding | None:
        """A seq that is too high: altered, if the one that is wanted gives the batch's hash again; else one is missing."""
        clue = suspect.clue
        if clue is None or clue.kind != "missing" or clue.seq is None:
            return None
        at = next(at for at, row in enumerate(suspect.rows) if row.pos == clue.pos)
        tried = list(suspect.digests)
        tried[at] = self._digest(suspect.rows[at]._replace(seq=clue.seq)) or b""
        if batch_hash(suspect.previous, tried) != suspect.batch.hash:
            return None
        return self._of(suspect.rows[at], "altered", f"it was committed as seq {clue.seq}")

    def _tried(self, suspect: _Suspect) -> Finding | None:
        """The row, if putting one thing back gives the batch's hash again."""
        batch, rows, digests = suspect.batch, suspect.rows, suspect.digests

        def gives(*changes: tuple[int, Row]) -> bool:
            tried = list(digests)
            for at, row in changes:
                tried[at] = self._digest(row) or b""
            return batch_hash(suspect.previous, tried) == batch.hash

        for at, row in enumerate(rows):
            if row.at_ms != batch.at_ms and gives((at, row._replace(at_ms=batch.at_ms))):
                return self._of(row, "altered", f"its time was {batch.at_ms} when it was committed")
        if len(rows) > TRIED_MAX:
            return None
        for at, row in enumerate(rows):
            for to in range(at + 1, len(rows)):
                other = rows[to]
                if gives((at, other._replace(pos=row.pos)), (to, row._replace(pos=other.pos))):
                    return self._of(
                        row, "reordered", f"it was committed at pos {other.pos}, and what is there now, here"
                    )
                if gives((at, row._replace(body=other.body)), (to, other._replace(body=row.body))):
                    return self._of(row, "altered", f"its body is that of pos {other.pos}, which has its own")
        return None

    # -- anchors ------------------------------------------------------------------------------------------------------------

    def _compare(self, anchored: Anchored, pos: int, hash: bytes) -> None:
        if self.contradiction is not None:
            return
        if anchored.pos == pos and anchored.hash == hash:
            self.agreed += 1
            self._anchored_pos = pos
            return
        if anchored.pos == pos:
            what = f"{anchored.name} has another hash for the end of this: something here was rewritten, with what follows it"
        else:
            what = f"{anchored.name} saw a batch end at pos {anchored.pos}, and none does: something here was rewritten"
        self.contradiction = self._at("rewritten", min(self._anchored_pos + 1, anchored.pos), anchored.pos, what)

    # -- words ----------------------------------------------------------------------------------------------------------------

    def _at(self, kind: str, pos: int, last_pos: int, what: str) -> Finding:
        return Finding(kind, what, self.partition, pos, last_pos)

    def _of(self, row: Row, kind: str, what: str, *, seq: int | None = None) -> Finding:
        stream = self._streams.get(row.sid)
        name = None if stream is None else stream.stream
        return Finding(kind, what, self.partition, row.pos, row.pos, row.tenant, name, row.seq if seq is None else seq)
