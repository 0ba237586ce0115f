"""What the bus's adapters share: their bounds, what they count, and how they refuse."""

from __future__ import annotations

from dataclasses import dataclass

from core.ports import StoreError


@dataclass(frozen=True, slots=True)
class BusLimits:
    """Every bound of the bus's links. Seconds and bytes."""

    connect_timeout_s: float = 1.0
    """For each of: the connection, TLS, the login, the confirmation of what is listened to."""
    reply_timeout_s: float = 1.0
    """For a command that somebody waits for."""
    canary_every_s: float = 0.2
    canary_timeout_s: float = 0.6
    """With ``canary_every_s`` this finds a deaf subscription in 0.8 s at worst."""
    probe_every_s: float = 1.0
    """A write under a key of this node's own: only a write tells a full Redis, or a replica, from a good one."""
    resubscribe_every_s: float = 5.0
    """Everything listened to is asked for again: a single channel that the server forgot shows by the answer."""
    find_every_s: float = 5.0
    """Sentinels and clusters are asked again though all seems well: this node may be the one that was cut off."""
    find_timeout_s: float = 1.0
    """For each of the addresses asked."""
    backoff_min_s: float = 0.05
    backoff_max_s: float = 1.0
    publish_bytes_max: int = 16 * 1_048_576
    """Waiting to be written; at the bound, messages are dropped and counted. Four of the largest."""
    commands_max: int = 10_000
    """Waiting for an answer; at the bound, `Unavailable`."""
    recv_bytes: int = 262_144
    """Taken from a link in one turn."""


class BusCounters:
    """Plain numbers, which only rise (but for ``canary_s``); somebody else makes metrics of them."""

    def __init__(self) -> None:
        self.published = 0
        self.dropped = 0
        """Not handed over: the bus was away, too much waited, or the payload was too large."""
        self.received = 0
        self.reconnects = 0
        """Links opened again after one that had been well."""
        self.canaries_lost = 0
        self.deaf_found = 0
        """Channels that the server had forgotten while the link seemed well."""
        self.errors = 0
        """Replies that were errors."""
        self.bytes_in = 0
        self.bytes_out = 0
        self.canary_s = 0.0
        """The round trip of the last canary that came back."""


class BusRefused(StoreError):
    """The bus cannot be used as it is configured; one sentence says why and what to do next."""


class BusUnreachable(BusRefused):
    """It does not answer now, or not yet: a node may start without it and reads the log meanwhile."""
