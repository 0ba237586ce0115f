"""Clients that write down what they see, as a `proof.history`; used only where a history was asked for.

`Tape` is the file of one generator: every record goes to disk as it is made, so that a long run takes no memory.
`Recorded` is mixed into a scenario's own client, which knows nothing of it: the messages of both directions pass through
`Raw.send` and `Raw._frame`, so that is where they are seen.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from typing import TYPE_CHECKING, Any

import orjson

from bench.gen.link import monotonic_ns
from bench.gen.raw import CLOSE, GONE, TEXT, Raw
from proof.history import Record, Stand, encode
from proof.watched import Watched

BUFFER_BYTES = 1 << 20
WITHIN_S = 20.0
"""A request is answered by then, also where the log or a node's Redis is away: `commit_timeout_s` and time to spare."""
TEXT_FRAME, CLOSE_FRAME = 0x80 | TEXT, 0x80 | CLOSE


class Tape:
    """``spec``: the path, and the moment (monotonic, ns) at which the run's clock began."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.began_ns: int = spec["began_ns"]
        self._file = open(spec["path"], "wb", BUFFER_BYTES)  # noqa: SIM115 - closed in `close`

    def now(self) -> float:
        return round((monotonic_ns() - self.began_ns) / 1e9, 6)

    def write(self, record: Record) -> None:
        if not self._file.closed:
            self._file.write(encode(record) + b"\n")

    def close(self) -> None:
        """What comes later is not of the run: its own sockets are closed then."""
        self._file.close()


def claims_of(token: str) -> tuple[str, str]:
    """Tenant and principal that an access token names."""
    part = token.split(".")[1]
    claims = orjson.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims["tenant"], claims["sub"]


if TYPE_CHECKING:
    _Base = Raw
else:
    _Base = object


class Recorded(_Base):
    """Before the scenario's client in the order of bases. Call `record` before the first connection."""

    tape: Tape
    name: str
    tenant: str
    principal: str
    watched: Watched | None
    lives: int

    def record(self, tape: Tape, name: str, token: str) -> None:
        self.tape, self.name = tape, name
        self.tenant, self.principal = claims_of(token)
        self.watched, self.lives = None, 0

    def stand(self, cursors: dict[str, int]) -> None:
        """Where it stands at the end; the heads are the harness's to fill in, for the log knows them."""
        for stream, cursor in cursors.items():
            self.tape.write(Stand(self.tape.now(), self.name, self.tenant, stream, cursor, -1, self.state != GONE))

    def connect(self) -> None:
        self.lives += 1
        tape = self.tape
        self.watched = Watched(
            f"{self.name}.{self.lives}",
            str(self.port),  # the harness knows which start of a node that was
            tape.write,
            tape.now,
            client=self.name,
            tenant=self.tenant,
            who=self.principal,
            within_s=WITHIN_S,
        )
        super().connect()

    def send(self, payload: bytes, opcode: int = TEXT) -> None:
        if opcode == TEXT and self.watched is not None and self.sock is not None:
            self.watched.said(payload)
        super().send(payload, opcode)

    def _frame(self, first: int, payload: bytes) -> None:
        if self.watched is not None:
            if first == TEXT_FRAME:
                self.watched.told(payload)
            elif first == CLOSE_FRAME:
                code = int.from_bytes(payload[:2], "big")
                self.watched.ended("server", code, payload[2:].decode(errors="replace"))
        super()._frame(first, payload)

    def cut(self, *, reset: bool) -> None:
        if self.watched is not None:
            self.watched.ended("client", reason="reset" if reset else "")
        super().cut(reset=reset)

    def _gone(self, reason: str) -> None:
        if self.watched is not None:
            # A refused opening is ended by the client itself; anything else that was not said is the network's doing.
            refused = self.watched.opened and not self.watched.welcomed and reason.startswith("{")
            self.watched.ended("client" if refused else "network", reason=reason[:120])
        super()._gone(reason)
