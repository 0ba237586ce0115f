"""What a node measures about itself, and how it says whether it is well."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from core.overload import STEPS
from gateway.connection import OPEN
from gateway.metrics import COUNTS, Registry, add_process_metrics
from gateway.service import Health

if TYPE_CHECKING:
    from core.quotas import Account
    from gateway.cluster import Cluster
    from gateway.gatekeeper import Gatekeeper
    from gateway.node import Node
    from gateway.pulse import Pulse

DELAYS: Final = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 5.0)
"""Seconds: fine where a healthy loop is, then the ladder's own thresholds."""
TENANTS_SHOWN: Final = 100
"""Those with most connections; what a scrape costs must not grow with the number of tenants."""
OTHERS: Final = "(others)"
"""No tenant's name."""
PAUSES: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)


class Measures:
    """Counters that the node raises, and a registry that reads everything else where it lives already."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self.opened = 0
        self.resumed = 0
        self.unproven = 0
        self.more_facts: list[Callable[[], Mapping[str, int | float | str]]] = []
        """What else health tells of: of the worker beside the node, where there is one."""
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
        gauge("readback_log_up", "1 while the log answers.", lambda: int(node.follower.trouble is None))
        gauge("readback_draining", "1 while the node is leaving.", lambda: int(node.draining))
        counter("readback_accepted_total", "Connections accepted.", lambda: counts.accepted)
        counter("readback_refused_total", "Connections refused for want of room.", lambda: counts.refused)
        counter("readback_limited_total", "Refused for the rate of their address.", lambda: counts.limited)
        counter("readback_handshakes_refused_total", "Refused upgrades.", lambda: counts.handshakes_refused)
        counter("readback_protocol_errors_total", "Connections ended for bad frames.", lambda: counts.protocol_errors)
        counter("readback_idle_ended_total", "Connections ended for silence.", lambda: counts.idle_ended)
        counter("readback_messages_in_total", "Client messages.", lambda: counts.messages_in)
        counter("readback_received_bytes_total", "Bytes read from clients.", lambda: counts.bytes_in)
        counter("readback_turns_total", "Turns of the shard.", lambda: counts.turns)
        counter("readback_sends_total", "Sends taken.", lambda: ops.sends_taken)
        counter("readback_errors_total", "Error answers.", lambda: ops.errors_sent)
        counter("readback_sessions_opened_total", "Sessions opened by hello.", lambda: self.opened)
        self._tenants(node.gatekeeper)
        counter("readback_tokens_refused_total", "Tokens that proved nobody.", lambda: self.unproven)
        counter("readback_revoked_total", "Ended or refused for a revocation.", lambda: node.gatekeeper.revoked)
        counter("readback_throttle_pauses_total", "Clients left unread for a while.", lambda: node.throttle.pauses)
        counter("readback_sessions_resumed_total", "Sessions resumed.", lambda: self.resumed)
        counter("readback_deliveries_total", "Events handed to live subscribers.", lambda: hub.delivered)
        counter("readback_replayed_total", "Events replayed past a cursor.", lambda: hub.replayed)
        counter("readback_lagged_total", "Times a subscriber fell behind.", lambda: hub.lagged)
        counter("readback_resets_total", "Cursors that could not be honoured.", lambda: hub.resets)
        counter("readback_gaps_total", "Holes met in a partition.", lambda: hub.gaps)
        counter("readback_tailed_total", "Events learned from the log.", lambda: node.follower.tailed)
        counter("readback_pages_read_total", "Pages read for laggards.", lambda: node.follower.pages_read)
        counter("readback_facts_queries_total", "Queries for stream facts.", lambda: node.loader.queries)
        counter("readback_commits_total", "Commit batches.", lambda: sum(lane.commits for lane in lanes))
        counter("readback_committed_total", "Entries committed.", lambda: sum(lane.entries for lane in lanes))
        counter("readback_commit_failures_total", "Batches unanswered.", lambda: sum(lane.failures for lane in lanes))
        counter("readback_log_restored_total", "Times the log was behind us.", lambda: node.follower.restored)
        if node.cluster is not None:
            self._cluster(node.cluster)
        self._pulse(node.pulse)
        commit_seconds = registry.histogram("readback_commit_seconds", "Round trip of a commit batch.")
        batch_entries = registry.histogram("readback_batch_entries", "Entries of a commit batch.", COUNTS)

        def observe(seconds: float, entries: int) -> None:
            commit_seconds.observe(seconds)
            batch_entries.observe(entries)

        for lane in lanes:
            lane.observe = observe

    def _tenants(self, gatekeeper: Gatekeeper) -> None:
        """Of each tenant, as far as there are not too many; the others together."""
        table, shares = self.registry.table, functools.partial(_by_tenant, gatekeeper)
        connections = functools.partial(shares, lambda account: account.connections)
        streams = functools.partial(shares, lambda account: account.streams)
        throttled = functools.partial(shares, lambda account: account.throttled)
        table("gauge", "readback_tenant_connections", "Connections of a tenant.", "tenant", connections)
        table("gauge", "readback_tenant_streams", "Streams held of a tenant.", "tenant", streams)
        table("counter", "readback_tenant_throttled_total", "Refused for a quota.", "tenant", throttled)

    def _pulse(self, pulse: Pulse) -> None:
        node, registry = self._node, self.registry
        gauge, counter = registry.gauge, registry.counter_read
        gauge("readback_overload_level", "How many steps of the shedding ladder are taken.", lambda: pulse.level)
        for number, step in enumerate(STEPS, 1):
            shed_now = functools.partial(_reached, pulse, number)
            gauge("readback_shedding", "1 while this is shed.", shed_now, what=step.what)
        signals, counts, ops = node.hub.signals, node.shard.counts, node.ops
        shed = "What was shed: typing begun, presence diffs of a room, newcomers, sends."
        counter("readback_shed_total", shed, lambda: signals.typing_shed, what="typing")
        counter("readback_shed_total", shed, lambda: signals.presence_shed, what="presence")
        counter("readback_shed_total", shed, lambda: counts.shed, what="connections")
        counter("readback_shed_total", shed, lambda: ops.sends_shed, what="sends")
        delay = registry.histogram("readback_loop_delay_seconds", "How late the loop was, a sample a beat.", DELAYS)
        pulse.observe_delay = delay.observe
        recent = "Loop delay of the last two minutes: a share of the beats was not above it."
        for q in (0.5, 0.99, 0.999, 1.0):
            told = functools.partial(pulse.recent, q)
            gauge("readback_loop_delay_recent_seconds", recent, told, quantile=f"{q:g}")
        pauses = [
            registry.histogram("readback_gc_pause_seconds", "A collection.", PAUSES, generation=str(generation))
            for generation in range(3)
        ]
        pulse.observe_pause = lambda generation, seconds: pauses[generation].observe(seconds)

    def _cluster(self, cluster: Cluster) -> None:
        node, registry, bus = self._node, self.registry, cluster.bus
        gauge, counter = registry.gauge, registry.counter_read
        gauge("readback_bus_up", "1 while what nodes tell each other arrives.", lambda: int(bus.trouble is None))
        gauge("readback_cluster_nodes", "Nodes heard of, this one too.", lambda: 1 + len(cluster.gossip.nodes))
        counter("readback_bus_batches_out_total", "Batches told to other nodes.", lambda: cluster.batches_out)
        counter("readback_bus_batches_in_total", "Batches of other nodes.", lambda: cluster.batches_in)
        rejected = "Messages on the bus that were not believed."
        counter("readback_bus_rejected_total", rejected, lambda: cluster.foreign, reason="foreign")
        counter("readback_bus_rejected_total", rejected, lambda: cluster.malformed, reason="malformed")
        counter("readback_bus_parked_total", "Batches that came before their turn.", lambda: node.sequencer.parked)
        counter("readback_bus_overdue_total", "Holes read from the log instead.", lambda: cluster.overdue)
        missed = "Stored markers that nobody here had told of."
        counter("readback_markers_missed_total", missed, lambda: cluster.rereading.found)

    def health(self) -> Health:
        node = self._node
        reasons = []
        if node.draining:
            reasons.append("draining")
        if node.follower.trouble is not None:
            reasons.append(f"the log cannot be reached: {node.follower.trouble}")
        if node.pulse.full is not None:
            reasons.append(node.pulse.full)
        facts: dict[str, int | float | str] = {
            "connections": len(node.shard.connections),
            "open": sum(c.state is OPEN for c in node.shard.connections.values()),
            "streams": len(node.hub.by_sid),
            "waiting_sends": len(node.lanes),
        }
        for more in self.more_facts:
            facts |= more()
        if node.pulse.level:
            facts["overload"] = f"level {node.pulse.level}: {node.pulse.ladder.reason}"
        if node.cluster is not None:
            trouble = node.cluster.bus.trouble
            facts["bus"] = "ok" if trouble is None else f"away, the log is tailed meanwhile: {trouble}"
            facts["nodes"] = 1 + len(node.cluster.gossip.nodes)
        return Health(
            live=True,
            ready=not reasons,
            reasons=reasons,
            draining=node.draining,
            facts=facts,
        )


def _reached(pulse: Pulse, level: int) -> int:
    return int(pulse.level >= level)


def _by_tenant(gatekeeper: Gatekeeper, value: Callable[[Account], int]) -> dict[str, int | float]:
    accounts = sorted(gatekeeper.accounts.accounts.values(), key=lambda account: (-account.connections, account.tenant))
    result: dict[str, int | float] = {account.tenant: value(account) for account in accounts[:TENANTS_SHOWN]}
    if len(accounts) > TENANTS_SHOWN:
        result[OTHERS] = sum(map(value, accounts[TENANTS_SHOWN:]))
    return result
