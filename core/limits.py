"""Every bound of a node in one table: its unit is in its name, its default and the reason beside it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one node. A default is right for one tenant of phones and desks on a 2-core machine."""

    frame_bytes_max: int = 65_536  # a client message, all fragments together; told to clients as limits.frame
    handshake_bytes_max: int = 16_384  # request line and headers; the largest cookies seen in the wild fit twice
    handshake_timeout_s: float = 5.0  # from accept to upgrade, TLS and all; a slowloris gets this and no more
    handshakes_per_address_per_s: float = 50.0  # newcomers of one address (IPv6: one /64); 0: no bound
    handshakes_per_address_burst: int = 500  # an office behind one address that comes back at once; 0: no bound
    guesses_per_address_per_s: float = 1.0  # wrong tokens of one address, which then is not listened to; 0: no bound
    guesses_per_address_burst: int = 30  # people whose tokens ended over night, behind one address; 0: no bound
    addresses_kept_max: int = 65_536  # addresses that owe something, of either kind: 10 MB if ever full
    hello_timeout_s: float = 5.0  # from upgrade to hello or resume (wire contract)
    connections_max: int = 18_000  # below the 20,000 open files of a process, with room for the store's links
    streams_per_connection_max: int = 1_000  # told to clients as limits.streams
    body_bytes_max: int = 49_152  # so that the event frame around it stays below frame_bytes_max
    json_depth_max: int = 64  # deeper bodies help nobody and cost every reader
    replies_per_connection_max: int = 256  # answers waiting for a slow reader before its requests wait unread
    reply_bytes_per_connection_max: int = 1_048_576
    inflight_sends_per_connection_max: int = 1_024  # unanswered sends of one connection; more answers rate_limited
    ring_events_max: int = 1_024  # recent framed events kept a stream, for late joiners and laggards
    ring_bytes_max: int = 1_048_576  # the same bound in bytes, whichever is met first
    rings_bytes_max: int = 268_435_456  # all rings of a node; the streams idle longest are let go first
    stream_idle_s: float = 300.0  # a stream without subscribers stays warm this long (a resume is in-window)
    replay_page_events: int = 256  # events a laggard takes in one turn, so that no replay holds the shard
    replay_page_bytes: int = 262_144
    turn_replay_bytes: int = 524_288  # replay and big rooms of one turn, all tenants, a send as 4 KB more: below 1 ms
    slice_deliveries: int = 512  # sends of one room before other work gets its turn (about 1 ms)
    lane_entries_max: int = 16_384  # sends waiting for a commit, a lane; half for one tenant, more answer overloaded
    lane_bytes_max: int = 268_435_456  # the same in bytes, where more waits than one batch takes
    batch_entries_max: int = (
        1_024  # entries of one commit; at 25,000 sends/s about 800 gather, and they leave in fewer sends
    )
    commands_kept_max: int = 20_000  # streams whose folded state is remembered: a day of a large airline, 5 KB each
    board_rows_max: int = 2_000  # rows of a live board, a tenant: a day; who comes gets all at once, 4 us and 1 KB each
    commands_per_stream_max: int = 256  # commands of one stream waiting for each other; more answer overloaded
    commit_timeout_s: float = 5.0  # a commit unanswered this long is unknown: its senders get unavailable
    heads_interval_s: float = 1.0  # how often silence is checked against the partition heads
    tail_interval_s: float = 0.075  # the same while the bus is away: events are then late by this and no more
    gap_wait_s: float = (
        0.1  # a batch not brought by the bus by then is read from the log; a busy node may be this late to tell
    )
    parked_batches_max: int = 64  # batches that came before their turn, a partition; more are read from the log
    resume_ttl_s: float = 300.0
    heartbeat_s: float = 25.0  # below the 30 s after which common proxies cut silence
    typing_ttl_s: float = 6.0  # wire contract
    presence_grace_s: float = 5.0  # a reconnect inside this is not seen by others
    presence_list_max: int = 200  # rooms with more online get counts instead of names
    presence_idle_s: float = 300.0  # nothing but pings for so long counts as away; 0: never
    lease_s: float = 10.0  # within this all see a dead node's people go: silent for half a beat less, it is dead
    node_beat_s: float = 2.0  # how often a node says that it lives: three may be lost before its lease runs out
    marker_flush_s: float = 0.5  # markers reach Postgres within this
    signal_flush_s: float = 0.05  # signals and markers are gathered this long before one joined send a connection
    drain_window_s: float = 10.0
    history_limit_max: int = 500  # events of one history answer, within frame bounds of any client
    sessions_max: int = 100_000  # resume generations remembered; beyond it the oldest is forgotten (and must hello)
    claims_kept_max: int = 20_000  # resumes decided without the bus, told to it later: one for each connection and more
    opening_work_max: int = 128  # openings and pages of replay in hand; a turn of them all takes some 20 ms
    openings_waiting_max: int = 8_192  # openings waiting for their turn, all tenants; more answer overloaded
    openings_waiting_tenant_max: int = 4_096  # the same for one tenant: about a second's worth of resumes
    opening_wait_s: float = 5.0  # who was not let in by then is told to come back
    drain_per_second_min: float = 20.0  # clients leave a draining node no slower: few need not take the whole window
    drain_grace_s: float = 1.0  # who is still here so long after its slot is sent away
    pulse_interval_s: float = 0.1  # how often the loop's delay is measured and overload judged: 4 us and a wake
    shed_delay_s: float = 0.05  # loop delay that sheds typing, further steps at double; healthy p99: 10 to 20 ms
    shed_samples: int = 5  # pulses in a row over a threshold before a step: less is a slow turn, or a collection
    shed_calm_s: float = 2.0  # all must be well for so long before a step is taken back
    meters_kept_max: int = 50_000  # principals whose use is remembered; past it the longest absent are forgotten
    capture_bytes_max: int = 536_870_912  # a node's files of a capture (off by default); the oldest quarter goes first
    audit_gather_s: float = 0.25  # what is noted of a tenant within this is one event a type: a storm is tens a second
    audit_bytes_max: int = 33_554_432  # notes waiting to be written, all tenants; whoever has most is cut
    audit_tenant_bytes_max: int = 8_388_608  # of one: 5 s of 5,000 resumes/s with the log away; more are counted
    audit_events_max: int = 32  # audit events in the lanes at once: 1.5 MB at most, and sends go between them
    anchor_interval_s: float = 60.0  # how long a rewriting of the log's end can go unnoticed
    token_ttl_s: float = 600.0  # of our own access tokens: who is removed is cut by its revocation, not by this
    claim_ttl_s: float = 600.0  # from a device's QR code being shown to its use; not more than this
    refresh_ttl_s: float = 7_776_000.0  # a device that was off for longer is onboarded anew
    pings_gather_s: float = 0.02  # fixes of all devices gather this long for one look at their windows
    pings_batch_max: int = 1_000  # or until there are so many
    pings_waiting_max: int = 20_000  # fixes under way; more answer overloaded
    books_max: int = 50_000  # subjects whose past is remembered for judging, 2 KB each; more are read anew
    book_idle_s: float = 120.0  # a subject silent here for longer is read anew: it may have been at another node
    samples_waiting_max: int = 50_000  # judged and not kept yet: 20 MB, two seconds' worth; more answer overloaded
    samples_commit_max: int = 5_000  # of one commit: some 50 ms of Postgres
    shown_per_stream_max: int = (
        200  # subjects whose position a stream shows: who joins gets 1 KB of each, trail and all
    )
    live_flush_s: float = 0.1  # positions gather so long before they go to who follows, and to other nodes
    live_slice_deliveries: int = 6  # positions handed out before events get their turn: a tenth of a millisecond
    device_key_s: float = 1.0  # a key that was rotated at another node is taken for so long


AT_START: Final = frozenset(
    (
        "meters_kept_max",
        "frame_bytes_max",
        "connections_max",
        "parked_batches_max",
        "resume_ttl_s",
        "lease_s",
        "node_beat_s",
        "marker_flush_s",
        "sessions_max",
        "capture_bytes_max",
        "replay_page_events",
        "commit_timeout_s",
        "shed_delay_s",
        "shed_samples",
        "shed_calm_s",
        "pulse_interval_s",
        "gap_wait_s",
        "json_depth_max",
        "addresses_kept_max",
        "anchor_interval_s",
    )
)
"""What something else was sized by, or told to clients, when the node started; all others are looked up where they apply."""


def adopt(limits: Limits, wanted: Limits) -> tuple[list[str], list[str]]:
    """Make the limits that a node holds those that are wanted, in place: whoever looks them up finds the new ones.

    Returns the names of what has changed now, and of what will only with the next start.
    """
    changed, later = [], []
    for field in fields(Limits):
        value = getattr(wanted, field.name)
        if value == getattr(limits, field.name):
            continue
        if field.name in AT_START:
            later.append(field.name)
        else:
            # Frozen for everybody else: that only a reload changes them is what makes it safe to share one.
            object.__setattr__(limits, field.name, value)
            changed.append(field.name)
    return changed, later
