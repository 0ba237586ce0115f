"""gateway.live.keeper: samples are kept together, whoever waits is told once, and what could not be kept is kept later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from core.limits import Limits
from core.ports import Unavailable
from core.tracks import KEEP_MAX, Last, Sample
from gateway.live.keeper import Keeper


def sample(seq: int, subject: str = "device:x") -> Sample:
    return Sample("demo", subject, "trip:9", seq, seq, 1.0, 2.0, None, None, None, None, "accepted", "", 0)


def last(seq: int, subject: str = "device:x") -> Last:
    return Last("demo", subject, "trip:9", seq, 1.0, 2.0, None, None, None, None, "accepted", 0, {})


class Store:
    """Keeps when it is let, and fails as it is told."""

    def __init__(self) -> None:
        self.commits: list[tuple[list[int], list[int]]] = []
        self.errors: list[Exception] = []
        self.fails_at: int | None = None
        """After so many more commits, once."""
        self.go = trio.Event()

    async def keep(self, samples: Sequence[Sample], lasts: Sequence[Last]) -> None:
        await self.go.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self.fails_at == 0:
            self.fails_at = None
            raise Unavailable("planted")
        if self.fails_at is not None:
            self.fails_at -= 1
        self.commits.append(([each.seq for each in samples], [each.at_ms for each in lasts]))


def trouble(keeper: Keeper) -> str | None:
    return keeper.trouble


@asynccontextmanager
async def keeping(limits: Limits | None = None) -> AsyncIterator[tuple[Keeper, Store]]:
    store, node = Store(), SimpleNamespace(limits=limits or Limits(), settle=lambda: None)
    keeper = Keeper(node, store)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        yield keeper, store
        nursery.cancel_scope.cancel()


async def test_what_comes_while_a_commit_is_under_way_is_the_next() -> None:
    """One for all who came meanwhile, each told when its own is kept; of a subject the newest last position."""
    async with keeping() as (keeper, store):
        told: list[tuple[str, object]] = []
        keeper.put([sample(1)], [last(1)], lambda error: told.append(("a", error)))
        await wait_all_tasks_blocked()
        keeper.put([sample(2)], [last(2)], lambda error: told.append(("b", error)))
        keeper.put(
            [sample(3), sample(4, "device:y")], [last(3), last(4, "device:y")], lambda error: told.append(("c", error))
        )
        assert keeper.waiting == 4
        store.go.set()
        await keeper.kept_all()
        assert store.commits == [([1], [1]), ([2, 3, 4], [3, 4])]
        assert told == [("a", None), ("b", None), ("c", None)]
        assert (keeper.waiting, keeper.kept, keeper.commits) == (0, 4, 2)


async def test_what_is_too_much_for_one_commit_goes_in_several(autojump_clock: MockClock) -> None:
    """Told when the last of them is kept; what was kept before a failure is not kept again."""
    async with keeping(Limits(samples_commit_max=2)) as (keeper, store):
        told: list[object] = []
        store.go.set()
        keeper.put([sample(seq) for seq in range(5)], [last(4)], told.append)
        await wait_all_tasks_blocked()
        assert store.commits == [([0, 1], []), ([2, 3], []), ([4], [4])]
        assert told == [None]


async def test_more_subjects_than_one_commit_takes_go_in_several(autojump_clock: MockClock) -> None:
    """The samples first, then where each was last, some at a time; what was kept before a failure is not kept again.

    Postgres stood still while 18,000 devices sent one fix each. Their last positions were given to the store in one call, which
    takes 10,000: it refused them, samples too, and every one of those connections was ended.
    """
    async with keeping(Limits(samples_commit_max=2)) as (keeper, store):
        told: list[object] = []
        subjects = [f"device:{n}" for n in range(5)]
        store.go.set()
        keeper.put([sample(n, each) for n, each in enumerate(subjects)], map(last, range(5), subjects), told.append)
        await wait_all_tasks_blocked()
        assert store.commits == [([0, 1], []), ([2, 3], []), ([4], [0, 1]), ([], [2, 3]), ([], [4])]
        assert (told, keeper.kept, keeper.waiting) == ([None], 5, 0)
        store.commits.clear()
        keeper.put([sample(0), sample(1)], map(last, range(3), subjects), told.append)
        store.fails_at = 1
        await wait_all_tasks_blocked()
        assert (store.commits, keeper.waiting) == ([([0, 1], [0, 1])], 0)
        with trio.fail_after(5):
            await keeper.kept_all()
        assert store.commits == [([0, 1], [0, 1]), ([], [2])]
        assert (len(told), keeper.trouble) == (2, None)


async def test_a_commit_is_never_more_than_the_store_takes(autojump_clock: MockClock) -> None:
    """Whatever the settings say."""
    async with keeping(Limits(samples_commit_max=10 * KEEP_MAX)) as (keeper, store):
        store.go.set()
        many = range(KEEP_MAX + 1)
        keeper.put([sample(n) for n in many], [last(n, f"device:{n}") for n in many], lambda error: None)
        await wait_all_tasks_blocked()
        assert [(len(samples), len(lasts)) for samples, lasts in store.commits] == [
            (KEEP_MAX, 0),
            (1, KEEP_MAX),
            (0, 1),
        ]


async def test_a_store_that_is_away_gets_it_when_it_is_back(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Who waited is told that it is not kept, once; before anything that came later it is kept; said twice in the log."""
    async with keeping() as (keeper, store):
        store.errors = [Unavailable("gone fishing", 0.1), Unavailable("gone fishing", 60.0)]
        store.go.set()
        told: list[object] = []
        keeper.put([sample(1)], [last(1)], told.append)
        await wait_all_tasks_blocked()
        assert keeper.trouble == "gone fishing"
        [error] = told
        assert isinstance(error, Unavailable)
        keeper.put([sample(2)], [last(2)], told.append)
        with trio.fail_after(5):
            await keeper.kept_all()
        assert store.commits == [([1], [1]), ([2], [2])]
        assert told == [error, None]
        assert trouble(keeper) is None
        assert len(caplog.records) == 2


async def test_what_no_store_takes_stands_in_nobody_s_way(caplog: pytest.LogCaptureFixture) -> None:
    """Its sender is told, and the next is kept."""
    async with keeping() as (keeper, store):
        store.errors = [ValueError("planted")]
        store.go.set()
        told: list[Any] = []
        keeper.put([sample(1)], [], told.append)
        await wait_all_tasks_blocked()
        keeper.put([sample(2)], [], told.append)
        await wait_all_tasks_blocked()
        assert [str(error) for error in told] == ["planted", "None"]
        assert store.commits == [([2], [])]
        assert (keeper.waiting, keeper.trouble) == (0, None)
