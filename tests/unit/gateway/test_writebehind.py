"""gateway.writebehind: what the log did not take is kept, and goes with the next writing."""

from __future__ import annotations

import pytest
from trio.testing import wait_all_tasks_blocked

from core.ports import Unavailable
from tests.nodes import memory_log, serving_node
from tests.wire_client import hello


async def test_markers_that_cannot_be_stored_are_kept() -> None:
    """The write-behind fails: nothing is lost, of any tenant, and the next try stores it all."""
    log = memory_log()
    async with serving_node(log) as node:
        for tenant in ("demo", "other"):
            await node.stream("chat:ops", tenant=tenant)
            await node.node.loader.load([(tenant, "chat:ops", "user:amy")])
            await log.put_member(tenant, "chat:ops", "user:x", "member", "service:x")
            stream = node.node.hub.by_name[tenant, "chat:ops"]
            stream.head = 1
            node.node.hub.signals.mark(stream, "user:amy", 1, 1)
        log.fail_next("unavailable", "save_marks")
        with pytest.raises(Unavailable):
            await node.node.save_marks()
        assert len(node.node.hub.signals.unsaved) == 2
        await node.node.save_marks()
        assert not node.node.hub.signals.unsaved
        for tenant, sid in (("demo", 1), ("other", 2)):
            assert [mark.read for mark in await log.load_marks(tenant, [sid])] == [1]


async def test_when_people_left_is_kept_until_it_is_stored() -> None:
    """The log is away: nothing is forgotten, of any tenant, and the latest time counts."""
    log = memory_log()
    async with serving_node(log) as node:
        await node.stream("chat:ops")
        facts = (await log.open_streams([("demo", "chat:ops", "user:amy")]))[0]
        assert facts is not None
        async with hello(node.url, "user:amy"):
            pass
        async with hello(node.url, "user:zoe", tenant="other"):
            pass
        await wait_all_tasks_blocked(0.005)
        log.fail_next("unavailable", "save_seen")
        with pytest.raises(Unavailable):
            await node.node.save_seen()
        assert set(node.node.hub.signals.gone) == {("demo", "user:amy"), ("other", "user:zoe")}
        await node.node.save_seen()
        assert not node.node.hub.signals.gone
        assert set(await log.load_seen("demo", facts.sid, ["user:amy", "user:zoe"])) == {"user:amy"}
