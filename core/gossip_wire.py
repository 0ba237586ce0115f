"""The messages by which nodes tell each other presence, typing and markers, as bytes. JSON arrays (orjson).

For: `core.gossip`. Promises: what `parse_told` and `parse_notice` return is of the right shape down to each value, so
that it can be applied without another check; anything else is ``None``, and nothing here raises. Whether a stream is held
here, and whether the message is news, is not decided here.

On ``signals:<partition>`` a `Told`, as a list in the order of its fields. On ``nodes`` one of

* ``["beat", node, number, [partition, seq, …]]``: I live, and this is the number of my last message on each partition;
* ``["ask", node, [node, …], partition, [sid, …]]``: tell your state of these streams (to these nodes; none: to all);
* ``["end", node]``: I end, in order.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from core.bus import BUS_PAYLOAD_MAX
from core.wire import SEQ_MAX, is_principal, is_seq

COUNT_MAX: Final = 1 << 40
"""A packed count (core.presence) of one node stays below this: a million connections that are here, and that are away."""
NODE_MAX: Final = 64
ROWS_PER_MESSAGE: Final = 2_000
"""Principals in one message: at most 80 KB or so, and 3 ms for who takes it."""
SIDS_PER_ASK_MAX: Final = 500
PEERS_PER_ASK_MAX: Final = 1_000
PARTITIONS_MAX: Final = 4_096

Row = list[Any]
"""``[sid, …]``; what follows is in `Told`."""


class Told(NamedTuple):
    """What one node tells of streams of one partition, absolute values all."""

    node: str
    seq: int
    """Of this node's messages on this channel: 1, 2, 3 …; one that is missing was lost."""
    changes: list[Row]
    """``[sid, who, count, who, count, …]``: how many connections of these principals the node has now."""
    states: list[Row]
    """The same, and the node has nobody else in the stream."""
    typing: list[Row]
    """``[sid, who, on]``"""
    marks: list[Row]
    """``[sid, who, delivered, read, who, delivered, read, …]``"""


class Beat(NamedTuple):
    node: str
    number: int
    seqs: dict[int, int]


class Ask(NamedTuple):
    node: str
    to: list[str]
    partition: int
    sids: list[int]


class End(NamedTuple):
    node: str


Notice = Beat | Ask | End


CHANGES, STATES, TYPING, MARKS = range(4)
"""The kinds of rows of a `Told`, in its order."""


class Rows:
    """Rows by partition, in messages of a bounded size."""

    def __init__(self) -> None:
        self.parts: dict[int, list[tuple[list[Row], list[Row], list[Row], list[Row]]]] = {}
        self._room: dict[int, int] = {}

    def add(self, partition: int, kind: int, row: Row, width: int) -> None:
        """A row of a sid and groups of ``width``; a long one goes in parts, of a state all but the first as changes."""
        groups = max((len(row) - 1) // width, 1)
        parts = self.parts.setdefault(partition, [])
        if not parts or self._room[partition] < min(groups, ROWS_PER_MESSAGE):
            parts.append(([], [], [], []))
            self._room[partition] = ROWS_PER_MESSAGE
        cut = 1 + width * ROWS_PER_MESSAGE
        parts[-1][kind].append(row[:cut])
        self._room[partition] -= min(groups, ROWS_PER_MESSAGE)
        if len(row) > cut:
            self.add(partition, CHANGES if kind == STATES else kind, [row[0], *row[cut:]], width)


def encode_told(told: Told) -> bytes:
    return orjson.dumps(list(told))


def encode_beat(node: str, number: int, seqs: dict[int, int]) -> bytes:
    return orjson.dumps(["beat", node, number, [value for pair in seqs.items() for value in pair]])


def encode_ask(node: str, to: list[str], partition: int, sids: list[int]) -> bytes:
    return orjson.dumps(["ask", node, to, partition, sids])


def encode_end(node: str) -> bytes:
    return orjson.dumps(["end", node])


def parse_told(payload: bytes) -> Told | None:
    parts = _list(payload)
    if parts is None or len(parts) != 6:
        return None
    node, seq, changes, states, typing, marks = parts
    good = (
        _is_node(node)
        and _is_number(seq)
        and _are_rows(changes, 2)
        and _are_rows(states, 2)
        and _are_rows(typing, 2)
        and _are_rows(marks, 3)
        and all(_are_counts(row) for row in changes)
        and all(_are_counts(row) for row in states)
        and all(len(row) == 3 and is_principal(row[1]) and row[2].__class__ is bool for row in typing)
        and all(_are_marks(row) for row in marks)
    )
    return Told(*parts) if good else None


def parse_notice(payload: bytes) -> Notice | None:
    match _list(payload):
        case ["beat", node, number, list(flat)] if _is_node(node) and _is_number(number) and len(flat) % 2 == 0:
            pairs = dict(zip(flat[::2], flat[1::2], strict=True)) if all(map(is_seq, flat)) else None
            return None if pairs is None or len(pairs) > PARTITIONS_MAX else Beat(node, number, pairs)
        case ["ask", node, list(to), partition, list(sids)] if _is_node(node) and is_seq(partition):
            good = len(to) <= PEERS_PER_ASK_MAX and len(sids) <= SIDS_PER_ASK_MAX
            good = good and all(map(_is_node, to)) and all(map(_is_number, sids))
            return Ask(node, to, partition, sids) if good else None
        case ["end", node] if _is_node(node):
            return End(node)
        case _:
            return None


def _list(payload: bytes) -> list[Any] | None:
    if len(payload) > BUS_PAYLOAD_MAX:
        return None
    try:
        parts = orjson.loads(payload)
    except ValueError:
        return None
    return parts if isinstance(parts, list) else None


def _is_node(node: object) -> bool:
    return isinstance(node, str) and 1 <= len(node) <= NODE_MAX


def _is_number(value: object) -> bool:
    return value.__class__ is int and 1 <= value <= SEQ_MAX


def _are_rows(rows: object, width: int) -> bool:
    """Rows of a sid and then ``width`` values each, any number of times."""
    if not isinstance(rows, list):
        return False
    return all(isinstance(row, list) and len(row) % width == 1 % width and row and _is_number(row[0]) for row in rows)


def _are_counts(row: Row) -> bool:
    counts = row[2::2]
    return all(map(is_principal, row[1::2])) and all(c.__class__ is int and 0 <= c < COUNT_MAX for c in counts)


def _are_marks(row: Row) -> bool:
    return all(map(is_principal, row[1::3])) and all(map(is_seq, row[2::3])) and all(map(is_seq, row[3::3]))
