"""gateway.live.positions: a fix that is said again is a duplicate once the first one is kept, and not before.

`readback sim` found it: a device said a fix again while its commit was under way, was told "duplicate" and forgot it; a node
that died before the commit had lost it.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio
from trio.testing import wait_all_tasks_blocked

from core.pings import read_fixes
from core.tracks import Last, Sample
from gateway.live.positions import Taken
from tests.moving import TRIP, Mover, tracking_node
from tests.nodes import until


async def test_a_duplicate_waits_for_the_first() -> None:
    """Its answer lets a device forget the fix: there is none while the commit is under way."""
    async with tracking_node() as (node, tracks):
        await node.node.loader.load([("demo", TRIP, "user:root")])
        positions, stream = node.node.positions, node.node.hub.by_name["demo", TRIP]
        fixes = read_fixes([Mover().fix()])
        assert positions is not None
        assert not isinstance(fixes, str)
        go, keep, calls, taken = trio.Event(), tracks.keep, list[int](), list[Taken]()

        async def keep_when_told(samples: Sequence[Sample], lasts: Sequence[Last]) -> None:
            calls.append(len(samples))
            await go.wait()
            await keep(samples, lasts)

        async def say() -> None:
            taken.append(await positions.take("demo", "device:x", stream, fixes))

        tracks.keep = keep_when_told  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(say)
            await until(lambda: calls)
            nursery.start_soon(say)
            await wait_all_tasks_blocked(0.01)
            assert taken == []
            go.set()
        assert [each.verdicts[0]["verdict"] for each in taken] == ["accepted", "duplicate"]
        assert calls == [1], "there was nothing of the second to keep"
