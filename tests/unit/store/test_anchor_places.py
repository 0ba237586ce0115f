"""store.anchor_places: records are appended whole, by any number of writers, and what is there is never changed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from core.anchors import FIRST, Anchor, Head, make, read_chain
from core.keys import SigningKey
from core.ports import StoreError, Unavailable
from store import anchor_places
from store.anchor_places import TABLE, AnchorPlace, FilePlace, TablePlace, open_place
from store.embedded import EmbeddedPostgres
from tests.servers import Database, database, fresh_database, postgres_server  # noqa: F401

KEY = SigningKey("s1", b"s" * 32)


def following(pos: int, epoch: str = "e1") -> Callable[[Anchor | None, bool], Anchor]:
    def next(last: Anchor | None, torn: bool) -> Anchor:
        number, previous = (1, FIRST) if last is None else (last.number + 1, last.digest)
        heads = [Head(0, pos, b"a" * 32), Head(1, 2 * pos, b"b" * 32)]
        return make(KEY, number=number, previous=previous, epoch=epoch, at_ms=1, heads=heads, torn=torn)

    return next


@pytest.fixture(params=["file", "table"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "file":
        yield FilePlace(tmp_path / "anchors.jsonl")
    else:
        server = request.getfixturevalue("postgres_server")
        with fresh_database(server) as elsewhere:
            yield TablePlace(elsewhere.admin_url)


async def test_records_are_one_chain_in_the_order_written(place: AnchorPlace) -> None:
    """Ten writers at once; an empty place is no error."""
    assert await place.lines() == []
    assert await place.find("e1", 0, 1) is None
    async with trio.open_nursery() as nursery:
        for pos in range(1, 11):
            nursery.start_soon(place.append, following(pos))
    anchors, problems = read_chain(await place.lines())
    assert problems == []
    assert sorted(anchor.heads[0].pos for anchor in anchors) == list(range(1, 11))


async def test_nothing_to_write_writes_nothing(place: AnchorPlace) -> None:
    """The writer decides, under the place's lock."""
    assert await place.append(lambda last, torn: None) is None
    assert await place.lines() == []


async def test_the_first_record_past_an_event_is_found(place: AnchorPlace) -> None:
    """Of this log, this partition, this pos or later; lines that are no records are passed over."""
    for pos in (3, 6, 9):
        await place.append(following(pos))
    await place.append(following(20, "e2"))
    for epoch, partition, pos, number in (("e1", 0, 3, 1), ("e1", 0, 4, 2), ("e1", 1, 13, 3), ("e2", 0, 4, 4)):
        found = await place.find(epoch, partition, pos)
        assert found is not None
        assert found.number == number
    assert await place.find("e1", 0, 10) is None
    assert await place.find("e1", 7, 1) is None


async def test_a_file_is_its_owner_s_alone_and_only_grows(tmp_path: Path) -> None:
    """0600, and what was there stays byte for byte."""
    place = FilePlace(tmp_path / "a")
    before = b""
    for pos in (1, 2, 3):
        await place.append(following(pos))
        now = place.path.read_bytes()
        assert now.startswith(before)
        assert now.endswith(b"\n")
        before = now
    assert place.path.stat().st_mode & 0o777 == 0o600


async def test_a_torn_line_stays_and_is_owned_up_to(tmp_path: Path) -> None:
    """Cut off anywhere, even at the first record: the next one begins on a line of its own and says so."""
    place = FilePlace(tmp_path / "a")
    await place.append(following(1))
    await place.append(following(2))
    whole = place.path.read_bytes()
    first = len(whole.splitlines(keepends=True)[0])
    for cut in (1, 5, first - 2, first + 1, first + 50, len(whole) - 2):
        place.path.write_bytes(whole[:cut])
        assert read_chain(place.path.read_bytes().splitlines())[1]
        anchor = await place.append(following(7))
        assert anchor is not None
        assert anchor.torn
        assert place.path.read_bytes().startswith(whole[:cut] + b"\n")
        assert read_chain(await place.lines())[1] == []


async def test_a_record_that_lacks_only_its_newline_is_whole(tmp_path: Path) -> None:
    """It is the last one; the next begins on a line of its own."""
    place = FilePlace(tmp_path / "a")
    await place.append(following(1))
    place.path.write_bytes(place.path.read_bytes()[:-1])
    anchor = await place.append(following(2))
    assert anchor is not None
    assert (anchor.number, anchor.torn) == (2, False)
    assert read_chain(await place.lines())[1] == []


@pytest.mark.parametrize("content", [b"root:x:0:0\n", b"hello", b"{}\n", b'{"at":"x"}\n{"at":"'])
async def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    """A path that was given by mistake: nothing is written into it."""
    path = tmp_path / "a"
    path.write_bytes(content)
    with pytest.raises(StoreError, match="something else than anchors"):
        await FilePlace(path).append(following(1))
    assert path.read_bytes() == content


async def test_an_edited_last_line_is_not_owned_up_to(tmp_path: Path) -> None:
    """Only what has no end was cut off: a whole line that is no record stays a finding."""
    place = FilePlace(tmp_path / "a")
    await place.append(following(1))
    await place.append(following(2))
    place.path.write_bytes(place.path.read_bytes().replace(b'"n":2', b'"n":3'))
    anchor = await place.append(following(3))
    assert anchor is not None
    assert not anchor.torn
    (problem,) = read_chain(await place.lines())[1]
    assert (problem.number, "signature" in problem.what) == (2, True)


async def test_a_file_that_stays_locked_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another program: said, not waited for without end."""
    monkeypatch.setattr(anchor_places, "LOCK_WAIT_S", 0.0)
    place = FilePlace(tmp_path / "a")
    await place.append(following(1))
    with place.path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="locked by another program"):
            await place.append(following(2))


async def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a line was taken: raised, and recognised by the next writer."""
    place = FilePlace(tmp_path / "a")
    await place.append(following(1))
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[: len(data) // 2]))
    with pytest.raises(OSError, match="No space left"):
        await place.append(following(2))
    monkeypatch.undo()
    anchor = await place.append(following(3))
    assert anchor is not None
    assert (anchor.number, anchor.torn) == (2, True)


async def test_a_login_that_may_only_add_is_enough(postgres_server: EmbeddedPostgres) -> None:  # noqa: F811
    """The table made by another: insert and select, and no right to change what is there."""
    with fresh_database(postgres_server) as elsewhere:
        await TablePlace(elsewhere.admin_url).append(following(1))
        elsewhere.sql(f"create role adder login; grant select, insert on {TABLE} to adder")
        try:
            url = postgres_server.url(user="adder", database=elsewhere.name)
            place = TablePlace(url)
            assert await place.append(following(2))
            assert read_chain(await place.lines())[1] == []
            with pytest.raises(AssertionError, match="permission denied"):
                elsewhere.sql(f"delete from {TABLE}", user="adder")
            elsewhere.sql(f"revoke all on {TABLE} from adder")
            with pytest.raises(StoreError, match="may not use or make the table"):
                await place.append(following(3))
        finally:
            elsewhere.sql("drop owned by adder; drop role adder")


async def test_the_log_s_own_database_is_refused(database: Database) -> None:  # noqa: F811
    """Anchors there could be rewritten together with the log."""
    epoch = database.sql("select epoch from readback.meta")
    with pytest.raises(StoreError, match="the log's own database"):
        await TablePlace(database.admin_url).append(following(1, epoch))
    assert await TablePlace(database.admin_url).lines() == []


async def test_a_database_that_is_away_is_unavailable(tmp_path: Path) -> None:
    """With words that hold no password."""
    place = open_place(f"postgresql://me:secret@/anchors?host={tmp_path}")
    assert isinstance(place, TablePlace)
    assert "secret" not in place.name
    with pytest.raises(Unavailable) as caught:
        await place.append(following(1))
    assert "secret" not in str(caught.value)
    assert isinstance(open_place("/x/anchors"), FilePlace)
