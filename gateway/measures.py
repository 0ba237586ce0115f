"""What a node measures about itself, and how it says whether it is well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.connection import OPEN
from gateway.metrics import COUNTS, Registry, add_process_metrics
from gateway.service import Health

if TYPE_CHECKING:
    from gateway.node import Node


class Measures:
    """Counters that the node raises, and a registry that reads everything else where it lives already."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.opened = 0
        self.resumed = 0
        self.pages_read = 0
        self.tailed = 0
        self.registry = registry = Registry()
        add_process_metrics(registry)
        shard, hub, lanes, ops = node.shard, node.hub, node.lanes.lanes, node.ops
        counts = shard.counts
        gauge, counter = registry.gauge, registry.counter_read
        gauge("readback_connections", "WebSocket connections now.", lambda: len(shard.connections))
        gauge("readback_sessions", "Sessions remembered.", lambda: len(node.sessions))
        gauge("readback_streams", "Streams held in memory.", lambda: len(hub.by_sid))
        gauge("readback_ring_bytes", "Recent events kept framed for late joiners.", lambda: hub.ring_bytes)
        gauge("readback_lane_entries", "Sends waiting for a commit.", lambda: len(node.lanes))
        gauge("readback_log_up", "1 while the log answers.", lambda: int(node.log_trouble is None))
        gauge("readback_draining", "1 while the node is leaving.", lambda: int(node.draining))
        counter("readback_accepted_total", "Connections accepted.", lambda: counts.accepted)
        counter("readback_refused_total", "Connections refused for want of room.", lambda: counts.refused)
        counter("readback_handshakes_refused_total", "Refused upgrades.", lambda: counts.handshakes_refused)
        counter("readback_protocol_errors_total", "Connections ended for bad frames.", lambda: counts.protocol_errors)
        counter("readback_idle_ended_total", "Connections ended for silence.", lambda: counts.idle_ended)
        counter("readback_messages_in_total", "Client messages.", lambda: counts.messages_in)
        counter("readback_received_bytes_total", "Bytes read from clients.", lambda: counts.bytes_in)
        counter("readback_turns_total", "Turns of the shard.", lambda: counts.turns)
        counter("readback_sends_total", "Sends taken.", lambda: ops.sends_taken)
        counter("readback_errors_total", "Error answers.", lambda: ops.errors_sent)
        counter("readback_sessions_opened_total", "Sessions opened by hello.", lambda: self.opened)
        counter("readback_sessions_resumed_total", "Sessions resumed.", lambda: self.resumed)
        counter("readback_deliveries_total", "Events handed to live subscribers.", lambda: hub.delivered)
        counter("readback_replayed_total", "Events replayed past a cursor.", lambda: hub.replayed)
        counter("readback_lagged_total", "Times a subscriber fell behind.", lambda: hub.lagged)
        counter("readback_resets_total", "Cursors that could not be honoured.", lambda: hub.resets)
        counter("readback_gaps_total", "Holes met in a partition.", lambda: hub.gaps)
        counter("readback_tailed_total", "Events learned from the log.", lambda: self.tailed)
        counter("readback_pages_read_total", "Pages read for laggards.", lambda: self.pages_read)
        counter("readback_facts_queries_total", "Queries for stream facts.", lambda: node.loader.queries)
        counter("readback_commits_total", "Commit batches.", lambda: sum(lane.commits for lane in lanes))
        counter("readback_committed_total", "Entries committed.", lambda: sum(lane.entries for lane in lanes))
        counter("readback_commit_failures_total", "Batches unanswered.", lambda: sum(lane.failures for lane in lanes))
        commit_seconds = registry.histogram("readback_commit_seconds", "Round trip of a commit batch.")
        batch_entries = registry.histogram("readback_batch_entries", "Entries of a commit batch.", COUNTS)

        def observe(seconds: float, entries: int) -> None:
            commit_seconds.observe(seconds)
            batch_entries.observe(entries)

        for lane in lanes:
            lane.observe = observe

    def health(self) -> Health:
        node = self._node
        reasons = []
        if node.draining:
            reasons.append("draining")
        if node.log_trouble is not None:
            reasons.append(f"the log cannot be reached: {node.log_trouble}")
        return Health(
            live=True,
            ready=not reasons,
            reasons=reasons,
            draining=node.draining,
            facts={
                "connections": len(node.shard.connections),
                "open": sum(c.state is OPEN for c in node.shard.connections.values()),
                "streams": len(node.hub.by_sid),
                "waiting_sends": len(node.lanes),
            },
        )
