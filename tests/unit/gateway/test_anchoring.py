"""gateway.anchoring: a record when something changed, one of many nodes, and never a disturbance."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import cast

import pytest
import trio
from trio.testing import MockClock

from core.anchors import Anchor, Head, read_chain
from core.keys import SigningKey
from core.ports import Unavailable
from gateway.anchoring import Anchoring, signing_key, write_anchor
from gateway.config import Secrets
from gateway.metrics import Registry
from store.anchor_places import FilePlace, Next
from store.proving import Heads, Prover

KEY = SigningKey("s1", b"s" * 32)


class FakeProver:
    """A log of one partition."""

    def __init__(self, epoch: str = "e1") -> None:
        self.epoch = epoch
        self.pos = 1
        self.down: Exception | None = None
        self.slow = False

    async def heads(self) -> Heads:
        if self.slow:
            await trio.sleep_forever()
        if self.down is not None:
            raise self.down
        return Heads(self.epoch, [Head(0, self.pos, b"%032d" % self.pos)])


class MemoryPlace:
    """Without the threads of a file, which a clock that jumps would not wait for."""

    name = "memory"

    def __init__(self) -> None:
        self.kept: list[Anchor] = []

    async def append(self, next: Next) -> Anchor | None:
        anchor = next(self.kept[-1] if self.kept else None, False)
        if anchor is not None:
            self.kept.append(anchor)
        return anchor

    async def lines(self) -> list[bytes]:
        return [anchor.line for anchor in self.kept]

    async def find(self, epoch: str, partition: int, pos: int) -> Anchor | None:
        raise NotImplementedError


class Scene:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.now_s = 1_700_000_000.0
        self.key: SigningKey | None = KEY
        self.prover = FakeProver()
        self.node = self.another(self.prover)

    def another(self, prover: FakeProver) -> Anchoring:
        return Anchoring(
            cast("Prover", prover),
            FilePlace(self.path),
            lambda: self.key,
            wall=lambda: self.now_s,
            interval_s=60.0,
        )

    def anchors(self) -> list[Anchor]:
        anchors, problems = read_chain(self.path.read_bytes().splitlines() if self.path.exists() else [])
        assert problems == []
        return anchors


@pytest.fixture
def it(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "anchors.jsonl")


async def test_a_record_an_interval_while_something_changes(it: Scene) -> None:
    """And none while nothing does."""
    await it.node.once()
    for pos in (1, 1, 2, 2, 3):
        it.prover.pos = pos
        it.now_s += 60
        await it.node.once()
    assert [anchor.heads[0].pos for anchor in it.anchors()] == [1, 2, 3]
    assert (it.node.written, it.node.failures, it.node.tampered) == (3, 0, 0)
    assert it.path.stat().st_mode & 0o777 == 0o600


async def test_a_key_that_was_rotated_signs_from_the_next_record_on(
    it: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """Also without a restart; with none left nothing is written, and that is said.

    The key of the start went on signing after it was taken out of the ring, and `verify` found records of an unknown key.
    """
    await it.node.once()
    for key in (SigningKey("s2", b"t" * 32), None):
        it.key = key
        it.prover.pos += 1
        it.now_s += 60
        await it.node.once()
    assert [anchor.thumbprint for anchor in it.anchors()] == [KEY.thumbprint, SigningKey("s2", b"t" * 32).thumbprint]
    assert it.node.failures == 1
    assert "no signing key" in caplog.text


async def test_of_many_nodes_one_writes(it: Scene) -> None:
    """Whichever comes first; the others see that it was done, and all records are one chain."""
    nodes = [it.node, *(it.another(it.prover) for _ in range(4))]
    for pos in range(1, 6):
        it.prover.pos = pos
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(node.once)
        it.now_s += 60
    assert [anchor.heads[0].pos for anchor in it.anchors()] == [1, 2, 3, 4, 5]
    assert sum(node.written for node in nodes) == 5


async def test_two_logs_in_one_place_are_both_written(it: Scene) -> None:
    """A moment after the other's record: it says nothing of this log."""
    other = it.another(FakeProver("e2"))
    for pos in (1, 2):
        it.prover.pos = pos
        await it.node.once()
        it.now_s += 5
        await other.once()
        it.now_s += 55
    assert [anchor.epoch for anchor in it.anchors()] == ["e1", "e2", "e1", "e2"]


async def test_a_place_or_log_that_is_away_is_said_once(it: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Counted each time; when it is back that is said, and records go on."""
    await it.node.once()
    for down in (Unavailable("stopped"), Unavailable("stopped"), OSError(28, "No space left")):
        it.prover.pos += 1
        it.prover.down = down
        it.now_s += 60
        await it.node.once()
    assert it.node.failures == 3
    assert it.node.trouble == "[Errno 28] No space left"
    it.prover.down = None
    await it.node.once()
    assert it.node.trouble is None
    said = [record.getMessage() for record in caplog.records]
    assert [" cannot be written " in line for line in said] == [True, True, False]
    assert len(it.anchors()) == 2


async def test_what_takes_too_long_is_given_up(it: Scene, autojump_clock: MockClock) -> None:
    """So that a disk that hangs costs a record, and no more."""
    it.prover.slow = True
    await it.node.once()
    assert it.node.trouble == "it took too long"


async def test_anchors_that_are_not_those_of_before_are_told_at_once(
    it: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """Cut back, written over, or gone: the node remembers the last one."""
    for pos in (1, 2):
        it.prover.pos = pos
        await it.node.once()
        it.now_s += 60
    whole = it.path.read_bytes()
    it.path.write_bytes(whole.splitlines(keepends=True)[0])
    it.prover.pos = 3
    await it.node.once()
    assert it.node.tampered == 1
    assert "record 2 of" in caplog.text
    it.path.unlink()
    it.now_s += 60
    await it.node.once()
    assert it.node.tampered == 2
    assert "none is" in caplog.text
    other = FakeProver()
    other.pos = 9
    it.path.unlink()
    await it.another(other).once()
    it.now_s += 60
    await it.node.once()
    assert it.node.tampered == 3


async def test_it_runs_by_itself(it: Scene, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    """The first at once, then one an interval; its numbers are in the registry."""
    registry = Registry()
    place = MemoryPlace()
    node = Anchoring(
        cast("Prover", it.prover),
        place,
        lambda: KEY,
        wall=lambda: 1_700_000_000 + trio.current_time(),
        interval_s=60.0,
        registry=registry,
    )
    nursery.start_soon(node.run)
    await trio.sleep(30)
    for pos in (2, 3):
        it.prover.pos = pos
        await trio.sleep(60)
    assert read_chain(await place.lines())[1] == []
    assert b"readback_anchors_total 3" in registry.text()


async def test_one_now_whether_or_not_anything_changed(it: Scene) -> None:
    """As the command does."""
    for _ in range(2):
        anchor = await write_anchor(cast("Prover", it.prover), FilePlace(it.path), KEY, wall=lambda: 1.0)
        assert anchor is not None
    assert len(it.anchors()) == 2


async def test_a_time_that_is_none_is_no_reason_to_wait(it: Scene) -> None:
    """A record of our own form, but by another program."""
    anchor = await write_anchor(cast("Prover", it.prover), FilePlace(it.path), KEY, wall=lambda: 1.0)
    assert anchor is not None
    assert it.node._due(dataclasses.replace(anchor, at="soon"), "e1", 1.0)


def test_the_newest_key_signs(caplog: pytest.LogCaptureFixture) -> None:
    """The first of the ring; without any there are no anchors."""
    caplog.set_level(logging.DEBUG)
    secrets = Secrets({}, {}, {"s2": b"2" * 32, "s1": b"1" * 32})
    key = signing_key(secrets)
    assert key is not None
    assert key.kid == "s2"
    assert signing_key(Secrets({}, {})) is None
