"""core.anchors: records of one spelling, signed and chained; whatever is done to them shows, and where."""

from __future__ import annotations

import random
from typing import Any

import orjson
import pytest

from core.anchors import FIRST, RECORD_BYTES_MAX, Anchor, Head, canonical, changed, make, parse, read_chain
from core.keys import SigningKey

KEY = SigningKey("s1", b"s" * 32)
EPOCH = "0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11"
HEADS = (Head(0, 12, b"a" * 32), Head(1, 0, b"b" * 32))


def chain(count: int = 5, key: SigningKey = KEY) -> list[bytes]:
    lines: list[bytes] = []
    previous = FIRST
    for n in range(1, count + 1):
        heads = (Head(0, n, b"%032d" % n), HEADS[1])
        anchor = make(key, number=n, previous=previous, epoch=EPOCH, at_ms=1_700_000_000_000 + n, heads=heads)
        previous = anchor.digest
        lines.append(anchor.line)
    return lines


def problems(lines: list[bytes]) -> list[tuple[int, str]]:
    return [(problem.number, problem.what) for problem in read_chain(lines)[1]]


def test_a_record_comes_back_as_it_was_made() -> None:
    """Everything in it, and whose key signed it."""
    made = make(KEY, number=7, previous="ab" * 32, epoch=EPOCH, at_ms=1_700_000_000_123, heads=HEADS)
    anchor = parse(made.line)
    assert anchor == made
    assert isinstance(anchor, Anchor)
    assert (anchor.number, anchor.epoch, anchor.at, anchor.heads) == (7, EPOCH, "2023-11-14T22:13:20.123Z", HEADS)
    assert (anchor.previous, anchor.thumbprint, anchor.torn) == ("ab" * 32, KEY.thumbprint, False)
    assert anchor.head(1) == HEADS[1]
    assert anchor.head(2) is None
    assert b"\n" not in anchor.line
    assert anchor.line.isascii()


def test_the_form_of_a_record_never_changes() -> None:
    """Records like this one are on disks already: their digest, and so the chain, is of these very bytes."""
    anchor = make(KEY, number=1, previous=FIRST, epoch=EPOCH, at_ms=1_700_000_000_123, heads=HEADS[:1])
    assert anchor.line.startswith(
        b'{"at":"2023-11-14T22:13:20.123Z","epoch":"0b5e7c1e-4f57-4d8a-9a53-3c1f0c8f2f11","heads":[[0,12,"6161'
    )
    assert anchor.digest == "720e41fd21fce90ec6bbe81a472f7af9ebc1f1a7ac4e8b89cc24f91ebb188935"


def test_a_chain_as_it_was_written_has_no_problem() -> None:
    """Empty, one record, many."""
    for count in (0, 1, 5):
        anchors, found = read_chain(chain(count))
        assert [anchor.number for anchor in anchors] == list(range(1, count + 1))
        assert found == []


def test_every_byte_counts() -> None:
    """Whichever byte of a record is changed: it is one no more, and its line is named."""
    lines = chain(3)
    rng = random.Random(3)
    for at in range(len(lines[1])):
        edited = bytearray(lines[1])
        edited[at] ^= 1 << rng.randrange(7)
        found = problems([lines[0], bytes(edited), lines[2]])
        assert found[0][0] == 2, bytes(edited)


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([0, 2, 3], [(2, "record 3 stands here, and record 2 is missing before it")]),
        ([0, 3, 4], [(2, "record 4 stands here, and records 2 to 3 are missing before it")]),
        ([1, 2], [(1, "record 2 stands here, and record 1 is missing before it")]),
        (
            [0, 2, 1, 3],
            [
                (2, "record 3 stands here, and record 2 is missing before it"),
                (3, "record 2 stands here, where 4 should: out of order"),
            ],
        ),
        ([0, 1, 1, 2], [(3, "record 2 stands here, where 3 should: out of order")]),
    ],
)
def test_records_dropped_moved_or_repeated_are_named(lines: list[int], found: list[tuple[int, str]]) -> None:
    """By the line at which it shows."""
    whole = chain(5)
    assert problems([whole[at] for at in lines]) == found


def test_a_record_put_in_another_s_place_is_named() -> None:
    """Signed by the right key with the right number, but of another history."""
    other = make(KEY, number=2, previous="ab" * 32, epoch=EPOCH, at_ms=1, heads=HEADS)
    lines = chain(3)
    assert problems([lines[0], other.line, lines[2]]) == [
        (2, "record 2 follows another record than the one before it"),
        (3, "record 3 follows another record than the one before it"),
    ]


def test_a_line_that_was_cut_off_is_recognised() -> None:
    """At the end it is a problem; the record after it owns up to it, and then it is none."""
    lines = chain(2)
    torn = lines[1][:50]
    ((number, what),) = problems([lines[0], torn])
    assert number == 2
    assert "cut off" in what
    last = parse(lines[0])
    assert isinstance(last, Anchor)
    healed = make(KEY, number=2, previous=last.digest, epoch=EPOCH, at_ms=5, heads=HEADS, torn=True)
    assert healed.torn
    assert problems([lines[0], torn, healed.line]) == []
    assert problems([lines[0], torn, lines[1]]) == [(2, "not JSON")]
    assert problems([lines[0], torn, torn, healed.line]) == [(2, "not JSON")]
    assert problems([lines[0], healed.line]) == [
        (2, "it says that it follows a line that was cut off, and there is none")
    ]


def resigned(**changes: Any) -> bytes:
    """A record that was changed and signed anew."""
    from core.anchors import DOMAIN
    from core.jws import b64url

    record = orjson.loads(chain(1)[0])
    del record["sig"]
    record.update(changes)
    record = {name: value for name, value in record.items() if value is not ...}
    return canonical({**record, "sig": b64url(KEY.sign(DOMAIN + canonical(record)))})


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff",
        b"[" * 2_000,
        b" " * (RECORD_BYTES_MAX + 1),
        chain(1)[0] + b" ",
        chain(1)[0].replace(b'{"at"', b'{ "at"'),
        resigned(v=True),
        resigned(v=2),
        resigned(more=1),
        resigned(at=...),
        resigned(torn=1),
        resigned(torn=False),
        resigned(n=0),
        resigned(n=1.0),
        resigned(epoch=1),
        resigned(at=1),
        resigned(previous="zz" * 32),
        resigned(previous="AB" * 32),
        resigned(previous=None),
        resigned(heads={}),
        resigned(heads=[1]),
        resigned(heads=[[0, 1]]),
        resigned(heads=[[0, 1, "x"]]),
        resigned(heads=[[0, True, "ab" * 32]]),
        resigned(heads=[["0", 1, "ab" * 32]]),
        resigned(heads=[[0, -1, "ab" * 32]]),
        resigned(heads=[[1, 1, "ab" * 32], [0, 1, "ab" * 32]]),
        resigned(key="AAAA"),
        resigned(key=None),
        canonical({**orjson.loads(chain(1)[0]), "sig": 1}),
        canonical({**orjson.loads(chain(1)[0]), "sig": "="}),
        canonical({**orjson.loads(chain(1)[0]), "n": 2}),
    ],
)
def test_what_is_no_record_is_said_not_raised(line: bytes) -> None:
    """However it was made, and even where our own key signed it."""
    assert isinstance(parse(line), str)
    assert parse(chain(1)[0]) == parse(resigned())


def test_nothing_new_is_nothing_to_write() -> None:
    """The same heads of the same log."""
    anchor = make(KEY, number=1, previous=FIRST, epoch=EPOCH, at_ms=1, heads=HEADS)
    assert not changed(anchor, EPOCH, HEADS)
    assert changed(None, EPOCH, HEADS)
    assert changed(anchor, "other", HEADS)
    assert changed(anchor, EPOCH, HEADS[:1])


def test_random_tampering_never_goes_unseen() -> None:
    """Lines changed, dropped, moved, repeated, by a seed: there is always a problem, unless only the end was dropped."""
    whole = chain(6)
    rng = random.Random(1)
    for _ in range(300):
        lines = list(whole)
        for _ in range(rng.randrange(1, 3)):
            at = rng.randrange(len(lines))
            match rng.randrange(4):
                case 0:
                    del lines[at]
                case 1:
                    lines.insert(rng.randrange(len(lines) + 1), lines[at])
                case 2:
                    lines.insert(rng.randrange(len(lines)), lines.pop(at))
                case _:
                    cut = rng.randrange(len(lines[at]))
                    lines[at] = lines[at][:cut] + bytes((lines[at][cut] ^ 1,)) + lines[at][cut + 1 :]
        if lines == whole[: len(lines)]:
            assert problems(lines) == []
        else:
            assert problems(lines)
