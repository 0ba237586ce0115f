"""The hash chain over commit batches, as readback.event_digest and readback.append write it; for checking it from outside.

Each batch of a partition has ``hash = sha256(previous hash || sha256(event 1) || sha256(event 2) …)``, events by pos. The
first previous hash is ``genesis(partition)``. Who changes an event's facts or text, drops one, or reorders two, must
rewrite every later hash of the partition; the newest can be written down elsewhere.

The encoding of an event is a line of numbers separated by single spaces, among them the lengths in bytes of the four
texts that follow it: unambiguous whatever the texts hold. A trimmed event keeps its digest in place of its body.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def genesis(partition: int) -> bytes:
    return hashlib.sha256(f"readback partition {partition}".encode()).digest()


def event_digest(
    *,
    partition: int,
    pos: int,
    sid: int,
    seq: int,
    key: str,
    at_ms: int,
    tenant: str,
    type: str,
    by: str,
    body: str,
) -> bytes:
    texts = [text.encode() for text in (tenant, type, by, body)]
    line = " ".join(map(str, (partition, pos, sid, seq, key, at_ms, *map(len, texts))))
    return hashlib.sha256(line.encode() + b"\n" + b"".join(texts)).digest()


def batch_hash(previous: bytes, digests: Iterable[bytes]) -> bytes:
    return hashlib.sha256(previous + b"".join(digests)).digest()
