"""A commit batch as nodes tell it to each other: where it lies in its partition, and its events, already framed.

Layout, little-endian: partition (u32), first and last position (i64 each), number of events (u32); then for each event
sid, seq (i64) and the length of its frame (u32); then the frames. A batch told without its events (`hint`) says only
that the log now reaches to ``last``: membership changes are told so, because they must be read in their place.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

_HEAD = struct.Struct("<IqqI")
_ENTRY = struct.Struct("<qqI")
EVENTS_MAX = 65_536


class Batch(NamedTuple):
    """Events are (sid, seq, frame) in order of position: as many as positions, or none (then the log must be read)."""

    partition: int
    first: int
    last: int
    events: list[tuple[int, int, bytes]]


def encode(partition: int, first: int, last: int, events: Sequence[tuple[int, int, bytes]]) -> bytes:
    pack = _ENTRY.pack
    parts = [_HEAD.pack(partition, first, last, len(events))]
    parts += [pack(sid, seq, len(frame)) for sid, seq, frame in events]
    parts += [frame for _, _, frame in events]
    return b"".join(parts)


def hint(partition: int, last: int) -> bytes:
    """The log of the partition reaches to ``last``; see there."""
    return _HEAD.pack(partition, last, last, 0)


def peek(payload: bytes, offset: int = 0) -> tuple[int, int] | None:
    """(partition, last position) of what may be a batch, before anything else of it is looked at."""
    if len(payload) < offset + _HEAD.size:
        return None
    partition, _first, last, _count = _HEAD.unpack_from(payload, offset)
    return partition, last


def decode(payload: bytes) -> Batch | None:
    """``None`` for what no node could have written."""
    if len(payload) < _HEAD.size:
        return None
    partition, first, last, count = _HEAD.unpack_from(payload)
    directory_end = _HEAD.size + count * _ENTRY.size
    if not 1 <= first <= last or count > EVENTS_MAX or len(payload) < directory_end:
        return None
    if count == 0:
        return Batch(partition, first, last, []) if len(payload) == directory_end else None
    if count != last - first + 1:
        return None
    events = []
    at = directory_end
    for sid, seq, length in _ENTRY.iter_unpack(payload[_HEAD.size : directory_end]):
        if sid < 1 or seq < 1 or length < 1:
            return None
        events.append((sid, seq, payload[at : at + length]))
        at += length
    return Batch(partition, first, last, events) if at == len(payload) else None
