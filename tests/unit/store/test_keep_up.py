"""store.keep_up: a child that ends is started again, and stopped whatever becomes of the block."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from core.ports import StoreError
from store.keep_up import RELAUNCH_MAX_S, WATCH_S, kept_up


class Child:
    """A server that is down when told, and may refuse to start again."""

    def __init__(self) -> None:
        self.up = True
        self.refusals = 0
        self.tries: list[float] = []
        self.stopped = 0

    def ended(self) -> str | None:
        return None if self.up else "no space left"

    async def again(self) -> None:
        self.tries.append(trio.current_time())
        if self.refusals:
            self.refusals -= 1
            raise StoreError("it does not start")
        self.up = True

    def stop(self) -> None:
        self.stopped += 1


async def test_it_is_tried_again_ever_less_often(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """One line an attempt with its last words; the pause doubles up to its bound, and is short again once it is up."""
    child = Child()
    async with kept_up("Redis", ended=child.ended, again=child.again, stop=child.stop):
        child.up, child.refusals = False, 7
        await trio.sleep(60.0)
        assert child.up
        pauses = [later - sooner for sooner, later in zip(child.tries, child.tries[1:], strict=False)]
        assert pauses == pytest.approx([0.4, 0.8, 1.6, 3.2, *[RELAUNCH_MAX_S] * 3])
        since_s, child.up = trio.current_time(), False
        await trio.sleep(1.0)
        assert child.tries[-1] - since_s <= WATCH_S
    assert caplog.messages.count("Redis ended by itself (no space left): starting it again") == 9
    assert caplog.messages.count("it does not start") == 7
    assert child.stopped == 1


async def test_it_is_stopped_whatever_becomes_of_the_block() -> None:
    """Raised: comes out as it is. Cancelled: stopped all the same. Never up: `first` raises, and nothing is left."""
    child = Child()
    with pytest.raises(ValueError, match="mine"):
        async with kept_up("Postgres", ended=child.ended, again=child.again, stop=child.stop):
            raise ValueError("mine")
    with trio.CancelScope() as scope:
        async with kept_up("Postgres", ended=child.ended, again=child.again, stop=child.stop):
            scope.cancel()
            await trio.lowlevel.checkpoint()

    def never() -> None:
        raise StoreError("not ready")

    with pytest.raises(StoreError, match="not ready"):
        async with kept_up("Postgres", ended=child.ended, again=child.again, stop=child.stop, first=never):
            pytest.fail("it is not up")
    assert child.stopped == 3
