"""One WebSocket connection: a hub `Port` with a socket, a frame reader and what the client proved about itself.

Data only; `gateway.shard` moves its bytes and `gateway.ops` answers its messages. Slots and shared empties, because
there are tens of thousands of these: an idle one with three streams costs about 2 KB of this process
(``readback bench idle``).
"""

from __future__ import annotations

import socket
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from core.frames import FrameReader
from core.handshake import Handshake
from core.stream import Port

if TYPE_CHECKING:
    from core.quotas import Meter
    from gateway.shard import Shard
    from gateway.tls import TlsSocket


class State(IntEnum):
    """In order of life; a connection only moves down this list."""

    HANDSHAKE = 0
    HELLO = 1
    OPEN = 2
    CLOSING = 3  # the close frame is out; what still comes in is thrown away until the peer closes too
    CLOSED = 4


HANDSHAKE: Final = State.HANDSHAKE
HELLO: Final = State.HELLO
OPEN: Final = State.OPEN
CLOSING: Final = State.CLOSING
CLOSED: Final = State.CLOSED
# Plain names for the hot path: looking a member up on its class takes 0.12 us on CPython 3.11, a global 0.01 us.


class Connection(Port):
    __slots__ = (
        "active",
        "address",
        "auth_expires_at_s",
        "authorization",
        "backlog",
        "bound_to",
        "busy",
        "choked",
        "due",
        "fd",
        "handshake",
        "heard",
        "host",
        "idled",
        "inflight",
        "issued_at_s",
        "mask",
        "meter",
        "metered",
        "privileged",
        "reader",
        "recv",
        "refused",
        "roles",
        "session",
        "shard",
        "sock",
        "standing",
        "state",
        "tenant",
        "tls",
        "token_at_s",
        "token_id",
    )

    def __init__(
        self, sock: socket.socket | TlsSocket, shard: Shard, handshake: Handshake, frame_bytes_max: int
    ) -> None:
        super().__init__(sock.send)
        self.sock = sock
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.tls: TlsSocket | None = None
        """The socket itself, where it speaks TLS."""
        self.shard = shard
        self.state: State = HANDSHAKE
        self.handshake: Handshake | None = handshake
        self.reader = FrameReader(frame_bytes_max, binary=False)
        self.mask = 0
        """What epoll watches the socket for."""
        self.choked = False
        """Nothing is read: requests wait in the kernel until this connection has taken its answers."""
        self.busy = False
        """An op of this connection waits for the log; the messages after it wait in ``backlog``."""
        self.backlog: list[bytes] | None = None
        self.heard = 0
        """The shard's tick in which the client was last heard."""
        self.active = 0
        """The tick of the last op other than `ping`."""
        self.idled = False
        """Counted as away because nothing was done, not because the client said so."""
        self.due = 0
        """The tick in which it is next looked after; older entries of the shard's wheel are stale."""
        self.inflight = 0
        self.address = ""
        """Of the client as far as it is known, canonical (`core.addresses`): the peer's, or what a trusted proxy says before
        the handshake is over. Empty for a Unix socket."""
        self.authorization: str | None = None
        self.host = ""
        """What it called us, in the ``Host`` of its handshake."""
        self.tenant = ""
        self.privileged = False
        self.standing = 0
        """In its tenant, by its token's roles (`core.policy`)."""
        self.roles: frozenset[str] = frozenset()
        self.session = ""
        self.auth_expires_at_s = 0.0
        self.issued_at_s = 0.0
        self.token_id = ""
        self.bound_to = ""
        """The thumbprint of the key that its access token is bound to."""
        self.meter: Meter | None = None
        """From hello or resume until it is closed: what its principal and its tenant may use."""
        self.metered: Meter | None = None
        """The same where anything is bounded for it."""
        self.refused = 0
        """Messages refused for a quota in a row."""
        self.token_at_s = 0.0

    def stall(self) -> None:
        self.shard.watch(self)

    def flow(self) -> None:
        self.shard.watch(self)

    def broken(self) -> None:
        self.shard.lost(self)
