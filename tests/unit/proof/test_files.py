"""proof.files: the files of several nodes, and the parts of one, are one history."""

from __future__ import annotations

from pathlib import Path

import pytest

from proof.files import read_all
from proof.history import End, Fault, Heal, HistoryError, Record, Run, write


def kinds(paths: list[Path]) -> list[str]:
    return [type(record).__name__ for record in read_all(paths)]


def test_records_come_by_time_and_a_files_own_order_stays(tmp_path: Path) -> None:
    """Also where two of them have the same time."""
    one: list[Record] = [Run(1.0, "a"), Fault(2.0, "a1"), Fault(2.0, "a2"), Fault(4.0, "a3"), End(9.0)]
    two: list[Record] = [Run(1.5, "b"), Fault(3.0, "b1"), End(5.0)]
    write(tmp_path / "one.jsonl", one)
    write(tmp_path / "two.jsonl", two)
    found = list(read_all([tmp_path]))
    assert [record.what for record in found if isinstance(record, Fault)] == ["a1", "a2", "b1", "a3"]
    assert isinstance(found[0], Run)
    assert found[0].what == "a, and 1 files more"
    assert found[-1] == End(9.0)
    assert [type(record).__name__ for record in found].count("Run") == 1


def test_a_file_that_was_cut_short_leaves_the_whole_without_an_end(tmp_path: Path) -> None:
    """Whoever judges it must know that something may be missing."""
    write(tmp_path / "one.jsonl", [Run(1.0, "a"), End(9.0)])
    write(tmp_path / "two.jsonl", [Run(1.5, "b"), Heal(3.0)])
    assert kinds([tmp_path]) == ["Run", "Heal"]
    assert kinds([tmp_path / "one.jsonl"]) == ["Run", "End"]


def test_one_file_is_read_as_it_is(tmp_path: Path) -> None:
    """Whatever its name."""
    path = tmp_path / "run"
    write(path, [Run(1.0, "a"), Heal(2.0), End(9.0)])
    assert list(read_all([path])) == [Run(1.0, "a"), Heal(2.0), End(9.0)]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """An empty folder, and a line that is no record."""
    with pytest.raises(FileNotFoundError, match="no history there"):
        kinds([tmp_path])
    (tmp_path / "bad.jsonl").write_text('{"k":"heal","t":1}\n{"k":7}\n')
    with pytest.raises(HistoryError, match=r"bad\.jsonl, line 2"):
        kinds([tmp_path])
