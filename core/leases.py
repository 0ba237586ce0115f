"""Which other nodes are alive: a node is, for one lease after it was last heard.

For: `core.gossip`, which keeps what each peer said and takes it away when the lease runs out. Promises: a node that ended
in order never comes back (its successor has another id), one whose lease ran out comes back with a newer heartbeat and
with nothing else, so that what was late on the way does not bring the dead to life. Everything is bounded:
`PEERS_MAX` peers, `GONE_MAX` remembered dead. No clock: the caller says what time it is.

A node that stood still itself (stopped, swapped out, its machine asleep) has heard nobody meanwhile; that says nothing
of the others, so `expired` adds the time it missed to every lease.
"""

from __future__ import annotations

from typing import Final

PEERS_MAX: Final = 1_000
GONE_MAX: Final = 4_096
STALL_S: Final = 1.0
"""Between two looks at the leases more than this is a standstill of this node; it looks every 50 ms."""


class Peer:
    """Another node, as far as it was heard."""

    __slots__ = ("asked_s", "beat", "first", "heard_s", "lost", "node", "owes", "seen", "suspected")

    def __init__(self, node: str, now_s: float) -> None:
        self.node = node
        self.heard_s = now_s
        self.beat = 0
        """Number of its last heartbeat."""
        self.first = True
        """No heartbeat of it was answered yet."""
        self.seen: dict[int, int] = {}
        """By partition, the number of the last message taken from it."""
        self.suspected: dict[int, tuple[int, float]] = {}
        """By partition, a number that its heartbeat named and that had not come, and when that will mean it is lost."""
        self.owes: dict[int, None] = {}
        """Streams (sids) of which its state must still be told."""
        self.lost: dict[int, float] = {}
        """Partitions of which something was lost, with the time when it may be asked."""
        self.asked_s: dict[int, float] = {}
        """By partition, when it was last asked because something was lost."""


class Leases:
    def __init__(self, node: str, lease_s: float) -> None:
        self.node = node
        self.peers: dict[str, Peer] = {}
        self._lease_s = lease_s
        self._gone: dict[str, int | None] = {}
        """Dead nodes with the number of their last heartbeat; ``None``: it ended in order."""
        self._looked_s: float | None = None
        self._frozen = False

    def heard(self, node: str, now_s: float) -> Peer | None:
        """The peer that a message came from, known from now on; ``None`` for a dead one, or one too many."""
        peer = self.peers.get(node)
        if peer is None and node not in self._gone:
            peer = self._new(node, now_s)
        return peer

    def beat(self, node: str, number: int, now_s: float) -> Peer | None:
        """A heartbeat came; ``None`` where it says nothing (an old one, or of a node that has ended)."""
        peer = self.peers.get(node)
        if peer is None:
            last = self._gone.get(node, 0)
            if last is None or number <= last:
                return None
            peer = self._new(node, now_s)
            if peer is None:
                return None
            self._gone.pop(node, None)
        if number <= peer.beat:
            return None
        peer.beat = number
        peer.heard_s = now_s
        return peer

    def _new(self, node: str, now_s: float) -> Peer | None:
        if len(self.peers) >= PEERS_MAX:
            return None
        peer = self.peers[node] = Peer(node, now_s)
        return peer

    def ended(self, node: str) -> Peer | None:
        """The node has said that it ends; the peer it was, if it was one."""
        peer = self.peers.pop(node, None)
        self._bury(node, None)
        return peer

    def expired(self, now_s: float) -> list[Peer]:
        """Peers not heard for a lease: no longer peers."""
        last_s, self._looked_s = self._looked_s, now_s
        if self._frozen:
            return []
        if last_s is not None and now_s - last_s > STALL_S:
            for peer in self.peers.values():
                peer.heard_s += now_s - last_s
        dead = [peer for peer in self.peers.values() if now_s - peer.heard_s >= self._lease_s]
        for peer in dead:
            del self.peers[peer.node]
            self._bury(peer.node, peer.beat)
        return dead

    def _bury(self, node: str, beat: int | None) -> None:
        self._gone.pop(node, None)
        self._gone[node] = beat
        if len(self._gone) > GONE_MAX:
            del self._gone[next(iter(self._gone))]

    def freeze(self) -> None:
        """Nobody can be heard: nobody dies of it."""
        self._frozen = True

    def thaw(self, now_s: float) -> None:
        """Everybody can be heard again, and gets a whole lease for it."""
        self._frozen = False
        self._looked_s = now_s
        for peer in self.peers.values():
            peer.heard_s = now_s
