"""proof.history: every record as a line and back, what an older reader passes over, what is no history."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from proof import history
from proof.history import KINDS, End, HistoryError, Record, Run, Told, View, decode, digest, encode, parse, read, write


def example(hint: Any) -> Any:
    """Some value that a field of that type may have."""
    if get_origin(hint) is dict:
        return {"a": example(get_args(hint)[1])}
    if get_origin(hint) is list:
        return [example(get_args(hint)[0])] * 2
    if get_args(hint):
        return example(get_args(hint)[0])
    return {str: 'ä"\n\u2028', int: 7, float: 0.25, bool: True, Any: [1, {"b": None}]}[hint]


def full(kind: type[Record]) -> Record:
    return kind(**{name: example(hint) for name, hint in get_type_hints(kind).items()})


@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_kind_there_and_back(name: str) -> None:
    """A record with all its fields, and one with only those that it needs."""
    kind = KINDS[name]
    record = full(kind)
    assert decode(encode(record)) == record
    needed = {
        field.name: getattr(record, field.name)
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    assert decode(encode(kind(**needed))) == kind(**needed)


def test_a_file_there_and_back(tmp_path: Path) -> None:
    """All kinds in one file, in their order; one line each, whatever they quote."""
    records = [full(kind) for kind in KINDS.values()]
    path = tmp_path / "run.jsonl"
    assert write(path, records) == len(records)
    assert list(read(path)) == records
    assert path.read_bytes().count(b"\n") == len(records)


def test_what_a_newer_writer_adds_is_passed_over() -> None:
    """Unknown kinds, unknown fields, empty lines."""
    lines = [
        b'{"k":"run","t":0,"what":"x","colour":"blue"}\n',
        b'{"k":"weather","t":1,"rain":true}\n',
        b"\n",
        b'{"k":"end","t":2}\n',
    ]
    assert list(parse(lines, "x")) == [Run(0, "x"), End(2)]


def test_any_value_may_be_told() -> None:
    """Of a signal the value is whatever it is."""
    for value in (None, True, 1, "online", [1, 2], {"lat": 1.5}):
        told = Told(0.0, "c1", "chat:a", "position", None, value)
        assert decode(encode(told)) == told


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"no JSON", "line 2: invalid literal, expected 'null'"),
        (b"\xff", "line 2: "),
        (b"[1]", "object with its kind"),
        (b'{"t":1}', "object with its kind"),
        (b'{"k":7,"t":1}', "object with its kind"),
        (b'{"k":"took","t":1}', "a record of kind took needs conn, stream, seq, key, by"),
        (b'{"k":"end","t":"now"}', "a record of kind end cannot have 'now' as its t"),
        (b'{"k":"end","t":true}', "cannot have 'True' as its t"),
        (b'{"k":"exit","t":1,"node":"n1","left":[1]}', "as its left"),
        (b'{"k":"there","t":1,"tenant":"a","stream":"s","present":{"x":1}}', "as its present"),
        (b'{"k":"view","t":1,"conn":"c","stream":"s","head":1,"marks":{"x":["1"]}}', "as its marks"),
        (b'{"k":"view","t":1,"conn":"c","stream":"s","head":1.5}', "as its head"),
        (b'{"k":"welcome","t":1,"conn":"c","session":null,"resumed":true,"epoch":"e"}', "as its session"),
    ],
)
def test_what_is_no_record_is_named_with_its_line(tmp_path: Path, line: bytes, why: str) -> None:
    """The file, the line, and what is wrong with it."""
    path = tmp_path / "run.jsonl"
    path.write_bytes(encode(Run(0.0, "x")) + b"\n" + line + b"\n" + encode(End(1.0)) + b"\n")
    with pytest.raises(HistoryError, match=re.escape(why)) as caught:
        list(read(path))
    assert str(caught.value).startswith(f"{path}, line 2: ")


def test_half_a_last_line_is_a_writer_that_was_killed(tmp_path: Path) -> None:
    """What came before it is the history, without its end; half an only line is nothing."""
    path = tmp_path / "run.jsonl"
    write(path, [Run(0.0, "x"), End(1.0)])
    path.write_bytes(path.read_bytes()[:-5])
    assert list(read(path)) == [Run(0.0, "x")]
    path.write_bytes(b'{"k":"ru')
    with pytest.raises(HistoryError, match="line 1"):
        list(read(path))


def test_optional_fields_may_be_absent_or_null() -> None:
    """`None` is written and read as such."""
    view = View(1.0, "c1", "chat:a", 3, None, {"user:amy": "online"})
    assert decode(encode(view)) == view
    assert decode(b'{"k":"view","t":1,"conn":"c","stream":"s","head":1,"marks":null}') == View(1, "c", "s", 1)


def test_a_digest_is_of_all_its_parts_in_any_order_of_names() -> None:
    """The same for equal parts, another for others, and it does not run parts together."""
    assert digest("a", {"x": 1, "y": 2}) == digest("a", {"y": 2, "x": 1})
    assert len({digest("a", "b"), digest("ab", ""), digest("b", "a"), digest(["a", "b"])}) == 4


def test_kinds_are_all_records() -> None:
    """Each kind is in the module under its own name, and begins with its time."""
    for name, kind in KINDS.items():
        assert getattr(history, kind.__name__) is kind
        assert kind.__name__.lower() == name
        assert next(iter(get_type_hints(kind))) == "t"
