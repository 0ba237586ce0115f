"""Anchors: what the log's hashes were at a time, signed, and chained to each other.

A record says: at this time the partitions of this log ended at these positions with these hashes. Kept where whoever can
change the log cannot reach, it is what a rewritten log is found by. Records of one place form a chain of their own: each
names the SHA-256 of the one before it and its own number, so that one that was changed, dropped or moved shows.

A record is one line of JSON: keys sorted, no spaces, ASCII. What is signed (Ed25519, RFC 8032) is `DOMAIN`, then that line
without its ``sig``; the signer's public key is in the record, and whether it is the right one is for the reader to know.

    {"at": RFC 3339, "epoch": the log's, "heads": [[partition, pos, hash in hex], …], "key": base64url, "n": from 1,
     "previous": hex, "sig": base64url, "torn": only after a line that was cut off, "v": 1}

Promises: `parse` never raises, whatever it is given; one record has exactly one spelling. Does not: read files or
databases (`store.anchor_places`), nor know which partitions a log has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import orjson

from core.jws import b64url, unb64url
from core.keys import PublicKey, SigningKey, parse_jwk
from core.wire import at_bytes

DOMAIN: Final = b"readback anchor v1\n"
"""So that a signature over a record can be one over nothing else."""

FIRST: Final = "0" * 64
"""``previous`` of the first record of a place."""

RECORD_BYTES_MAX: Final = 262_144
"""Of a line; a log of 1,024 partitions takes some 90 KB."""

_FIELDS: Final = frozenset(("at", "epoch", "heads", "key", "n", "previous", "sig", "v"))
_POS_MAX: Final = 2**63 - 1


class Head(NamedTuple):
    """Where a partition ended, and the hash of its last batch: 32 bytes."""

    partition: int
    pos: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Anchor:
    """``line`` is the record as it is kept, without the newline; ``thumbprint`` of the key that signed it (RFC 7638)."""

    number: int
    epoch: str
    at: str
    heads: tuple[Head, ...]
    previous: str
    thumbprint: str
    torn: bool
    line: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """What the next record names."""
        return hashlib.sha256(self.line).hexdigest()

    def head(self, partition: int) -> Head | None:
        return next((head for head in self.heads if head.partition == partition), None)


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that is no record of ours, or that does not fit. ``number`` counts lines from 1."""

    number: int
    what: str


def make(
    key: SigningKey, *, number: int, previous: str, epoch: str, at_ms: int, heads: Sequence[Head], torn: bool = False
) -> Anchor:
    """The next record of a place, signed."""
    record: dict[str, object] = {
        "v": 1,
        "n": number,
        "epoch": epoch,
        "at": at_bytes(at_ms).decode(),
        "heads": [[partition, pos, hash.hex()] for partition, pos, hash in heads],
        "previous": previous,
        "key": b64url(key.public_bytes),
    }
    if torn:
        record["torn"] = True
    record["sig"] = b64url(key.sign(DOMAIN + canonical(record)))
    anchor = parse(canonical(record))
    assert isinstance(anchor, Anchor), anchor
    return anchor


def canonical(record: Mapping[str, object]) -> bytes:
    """The one spelling: keys sorted, no spaces."""
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def parse(line: bytes) -> Anchor | str:
    """A record whose signature holds for the key that it names; a str says what is wrong with it."""
    if len(line) > RECORD_BYTES_MAX:
        return "too long for a record"
    try:
        record = orjson.loads(line)
    except ValueError:
        return "not JSON"
    if not isinstance(record, dict) or canonical(record) != line:
        return "not in the form in which records are written"
    torn = record.get("torn", False)
    if (
        record.keys() - {"torn"} != _FIELDS
        or record["v"].__class__ is not int
        or record["v"] != 1
        or torn is not ("torn" in record)
    ):
        return "not a record of this version"
    number, epoch, at, previous = record["n"], record["epoch"], record["at"], record["previous"]
    heads = _heads(record["heads"])
    if (
        number.__class__ is not int
        or number < 1
        or not isinstance(epoch, str)
        or not isinstance(at, str)
        or _hash(previous) is None
        or heads is None
    ):
        return "not a record of this version"
    key = parse_jwk({"kty": "OKP", "crv": "Ed25519", "x": record["key"]})
    signature = unb64url(record["sig"]) if isinstance(record["sig"], str) else None
    if not isinstance(key, PublicKey) or signature is None:
        return "its key or signature is none"
    del record["sig"]
    if not key.verify(DOMAIN + canonical(record), signature):
        return "its signature does not hold: it was changed after it was signed"
    return Anchor(number, epoch, at, heads, previous, key.thumbprint, torn, line)


def _heads(value: object) -> tuple[Head, ...] | None:
    if not isinstance(value, list):
        return None
    heads: list[Head] = []
    for item in value:
        if not isinstance(item, list) or len(item) != 3:
            return None
        partition, pos, text = item
        hash = _hash(text)
        if partition.__class__ is not int or pos.__class__ is not int or hash is None:
            return None
        after = heads[-1].partition if heads else -1
        if not after < partition or not 0 <= pos <= _POS_MAX:
            return None
        heads.append(Head(partition, pos, hash))
    return tuple(heads)


def _hash(value: object) -> bytes | None:
    """64 lower-case hex digits, as bytes."""
    if not isinstance(value, str) or len(value) != 64:
        return None
    try:
        hash = bytes.fromhex(value)
    except ValueError:
        return None
    return hash if hash.hex() == value else None


class Chain:
    """Walks the lines of one place in order; what does not fit comes out, once each.

    A line that was cut off while it was written (a crash, a full disk) is named. It is forgiven where the record after it
    says, under its signature, that it was there and follows the one before it.
    """

    def __init__(self) -> None:
        self.last: Anchor | None = None
        self.lines = 0
        self._unread: Problem | None = None
        """A line that is no record, until the next one tells what it was."""

    def take(self, line: bytes) -> tuple[Anchor | None, list[Problem]]:
        """One line, without its newline: the record in it, if any, and what is wrong."""
        self.lines += 1
        problems: list[Problem] = []
        anchor = parse(line)
        if isinstance(anchor, str):
            if self._unread is not None:
                problems.append(self._unread)
            self._unread = Problem(self.lines, anchor)
            return None, problems
        last, unread, self._unread = self.last, self._unread, None
        follows = anchor.previous == (FIRST if last is None else last.digest)
        number = 1 if last is None else last.number + 1
        if unread is not None and not (anchor.torn and follows):
            problems.append(unread)
        elif unread is None and anchor.torn:
            problems.append(Problem(self.lines, "it says that it follows a line that was cut off, and there is none"))
        if anchor.number > number:
            if unread is None:
                what = (
                    f"record {number} is"
                    if anchor.number == number + 1
                    else f"records {number} to {anchor.number - 1} are"
                )
                problems.append(
                    Problem(self.lines, f"record {anchor.number} stands here, and {what} missing before it")
                )
        elif anchor.number < number:
            problems.append(
                Problem(self.lines, f"record {anchor.number} stands here, where {number} should: out of order")
            )
            return anchor, problems  # what comes next follows the one before it
        elif not follows:
            problems.append(
                Problem(self.lines, f"record {anchor.number} follows another record than the one before it")
            )
        self.last = anchor
        return anchor, problems

    def end(self) -> list[Problem]:
        """What is left at the end: a last line that is no record."""
        if self._unread is None:
            return []
        number, what = self._unread.number, self._unread.what
        return [Problem(number, f"the last line is no whole record ({what}): cut off while it was written, or since")]


def read_chain(lines: Iterable[bytes]) -> tuple[list[Anchor], list[Problem]]:
    """All records of a place, and what is wrong with them."""
    chain = Chain()
    anchors: list[Anchor] = []
    problems: list[Problem] = []
    for line in lines:
        anchor, found = chain.take(line)
        problems += found
        if anchor is not None:
            anchors.append(anchor)
    return anchors, problems + chain.end()


def changed(last: Anchor | None, epoch: str, heads: Sequence[Head]) -> bool:
    """Whether another record would say anything new."""
    return last is None or last.epoch != epoch or last.heads != tuple(heads)
