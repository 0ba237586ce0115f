"""gateway.measures: what a node counts is what happened, and its health says why it is not ready."""

from __future__ import annotations

from tests.nodes import memory_log, serving_node
from tests.wire_client import hello


def values(text: bytes) -> dict[str, float]:
    """Samples without labels, by name."""
    lines = [line for line in text.decode().splitlines() if line and not line.startswith("#") and "{" not in line]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def test_the_counters_tell_what_happened() -> None:
    """Two people, three sends, one of them refused: every counter moves by just that."""
    async with serving_node() as node:
        await node.stream("chat:ops")
        async with (
            hello(node.url, "user:amy", {"chat:ops": {}}) as amy,
            hello(node.url, "user:bob", {"chat:ops": {}}) as bob,
        ):
            for n in range(2):
                await amy.send("chat:ops", f"{n}")
            await amy.send("chat:ops", "no", expect=99)
            await bob.events("chat:ops", 2)
            seen = values(node.desk.metrics_text())
    expected = {
        "readback_connections": 2,
        "readback_sessions": 2,
        "readback_streams": 1,
        "readback_lane_entries": 0,
        "readback_log_up": 1,
        "readback_draining": 0,
        "readback_accepted_total": 2,
        "readback_refused_total": 0,
        "readback_messages_in_total": 5,
        "readback_sends_total": 3,
        "readback_errors_total": 1,
        "readback_sessions_opened_total": 2,
        "readback_sessions_resumed_total": 0,
        "readback_deliveries_total": 4,
        "readback_committed_total": 3,
        "readback_commit_failures_total": 0,
        "readback_commit_seconds_count": 3,
        "readback_batch_entries_count": 3,
    }
    assert {name: seen[name] for name in expected} == expected
    assert seen["readback_ring_bytes"] > 0


async def test_health_says_why_a_node_is_not_ready() -> None:
    """Ready while all is well; else the reasons, one a trouble; alive in any case."""
    log = memory_log()
    async with serving_node(log) as node:
        assert node.desk.health().ready
        node.node.draining = True
        node.node.follower.trouble = "stopped"
        health = node.desk.health()
        assert (health.live, health.ready, health.draining) == (True, False, True)
        assert health.reasons == ["draining", "the log cannot be reached: stopped"]
        assert health.facts == {"connections": 0, "open": 0, "streams": 0, "waiting_sends": 0}
        seen = values(node.desk.metrics_text())
        assert (seen["readback_log_up"], seen["readback_draining"]) == (0, 1)
