"""core.limits: bounds that are there, stay as they are, and fit together."""

from __future__ import annotations

import dataclasses

import pytest

from core import wire
from core.bus import BUS_PAYLOAD_MAX
from core.limits import AT_START, Limits, adopt

LIMITS = Limits()


def test_every_bound_is_a_bound() -> None:
    """No default is zero, negative or endless: each field bounds something."""
    values = dataclasses.asdict(LIMITS)
    assert {name: value for name, value in values.items() if not 0 < value < 1 << 40} == {}
    units = ("_s", "_max", "_min", "_bytes", "_events", "_samples", "_deliveries", "_burst")
    assert [name for name in values if not name.endswith(units)] == []


def test_a_node_keeps_its_bounds() -> None:
    """They are told to clients; nothing changes them in passing."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        LIMITS.frame_bytes_max = 1  # type: ignore[misc]


def test_what_is_accepted_can_be_delivered() -> None:
    """The largest body, under the longest names, comes out in a frame that any client of this node reads."""
    event = wire.event_json(
        b"flight:" + b"x" * 128,
        wire.SEQ_MAX,
        "t" * 64,
        "k" * 36,
        "service:" + "x" * 128,
        1 << 41,
        b"x" * LIMITS.body_bytes_max,
    )
    assert len(event) <= LIMITS.frame_bytes_max
    assert LIMITS.frame_bytes_max < LIMITS.replay_page_bytes < LIMITS.ring_bytes_max < LIMITS.rings_bytes_max
    assert LIMITS.frame_bytes_max < LIMITS.reply_bytes_per_connection_max < BUS_PAYLOAD_MAX
    assert LIMITS.replay_page_events < LIMITS.ring_events_max


def test_waits_that_contain_others_are_longer() -> None:
    """A node is not called dead for a lost heartbeat, nor a client for a late one; looking more often is sooner."""
    assert 3 * LIMITS.node_beat_s < LIMITS.lease_s
    assert LIMITS.presence_grace_s < LIMITS.lease_s
    assert LIMITS.tail_interval_s < LIMITS.gap_wait_s < LIMITS.heads_interval_s
    assert LIMITS.signal_flush_s < LIMITS.marker_flush_s < LIMITS.typing_ttl_s
    assert LIMITS.heartbeat_s < 30 < LIMITS.resume_ttl_s
    assert LIMITS.drain_grace_s < LIMITS.drain_window_s


def test_a_part_is_no_more_than_the_whole() -> None:
    """One tenant's share of all that wait, one connection's streams, and a claim for each connection."""
    assert LIMITS.openings_waiting_tenant_max < LIMITS.openings_waiting_max
    assert LIMITS.opening_work_max < LIMITS.openings_waiting_tenant_max
    assert LIMITS.batch_entries_max <= LIMITS.lane_entries_max
    assert LIMITS.connections_max <= LIMITS.claims_kept_max <= LIMITS.sessions_max


def test_a_reload_changes_what_is_looked_up_and_names_what_it_cannot() -> None:
    """In place: who holds the limits finds the new ones. What something was sized by waits for the next start."""
    limits = Limits()
    wanted = dataclasses.replace(limits, drain_window_s=3.0, history_limit_max=7, sessions_max=9)
    assert adopt(limits, wanted) == (["drain_window_s", "history_limit_max"], ["sessions_max"])
    assert (limits.drain_window_s, limits.history_limit_max) == (3.0, 7)
    assert limits.sessions_max == LIMITS.sessions_max
    assert adopt(limits, limits) == ([], [])


def test_what_changes_with_a_start_only_is_a_limit() -> None:
    """A name that is none would never be said."""
    assert {field.name for field in dataclasses.fields(Limits)} >= AT_START
