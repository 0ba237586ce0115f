"""Short histories for the tests of the guarantees, told a line at a time.

A `Story` knows the tenant and person of each connection and counts time by itself, so that a test names only what matters
in it. Every method that adds a record returns its index, which is where a finding about it must be.
"""

from __future__ import annotations

from proof.guarantees import check
from proof.history import (
    Answered,
    Asked,
    Committed,
    End,
    Ended,
    Follow,
    Kept,
    Open,
    Record,
    Rejected,
    Reset,
    Run,
    Told,
    Took,
    Welcome,
)

ROOM = "chat:a"


class Story:
    def __init__(self, *, live: bool = True, run: Run | None = None) -> None:
        self.t = 0.0
        self.records: list[Record] = [run or Run(0.0, "a story", live_commits=live)]
        self._tenants: dict[str, str] = {}
        self._asked = 0

    def add(self, record: Record) -> int:
        record.t = self.t = max(self.t + 0.001, record.t)
        self.records.append(record)
        return len(self.records) - 1

    def wait(self, seconds: float) -> None:
        self.t += seconds

    # -- connections --------------------------------------------------------------------------------------------------

    def open(
        self,
        conn: str,
        *,
        tenant: str = "acme",
        who: str = "user:amy",
        node: str = "n1",
        how: str = "hello",
        asked: dict[str, int | None] | None = None,
        credential: str = "",
        standing: str = "good",
        epoch: str | None = None,
        expires_t: float | None = None,
        hostile: bool = False,
        privileged: bool = False,
    ) -> int:
        self._tenants[conn] = tenant
        return self.add(
            Open(
                0.0,
                conn,
                f"client of {conn}",
                tenant,
                who,
                node,
                how,
                asked or {},
                credential,
                standing,
                expires_t,
                hostile,
                epoch,
                privileged,
            )
        )

    def welcome(
        self, conn: str, *, resumed: bool = False, epoch: str = "e1", refused: dict[str, str] | None = None
    ) -> int:
        return self.add(Welcome(0.0, conn, f"session of {conn}", resumed, epoch, refused=refused or {}))

    def follow(self, conn: str, after: int = 0, *, head: int | None = None, stream: str = ROOM) -> int:
        return self.add(Follow(0.0, conn, stream, after, after if head is None else head))

    def join(
        self,
        conn: str,
        after: int = 0,
        *,
        head: int | None = None,
        tenant: str = "acme",
        who: str = "user:amy",
        node: str = "n1",
        epoch: str = "e1",
    ) -> int:
        """Somebody says hello, is welcomed and follows the room; the index is the `Follow`'s."""
        self.open(conn, tenant=tenant, who=who, node=node, asked={ROOM: after})
        self.welcome(conn, epoch=epoch)
        return self.follow(conn, after, head=head)

    def rejected(self, conn: str, code: str = "resume_rejected") -> int:
        return self.add(Rejected(0.0, conn, code))

    def ended(self, conn: str, by: str = "network", code: int = 0, reason: str = "", bye: str = "") -> int:
        return self.add(Ended(0.0, conn, by, code, reason, bye))

    # -- events ---------------------------------------------------------------------------------------------------------

    def commit(
        self, seq: int, key: str = "", *, tenant: str = "acme", stream: str = ROOM, epoch: str = "", by: str = ""
    ) -> int:
        key, by = key or f"{tenant}-{seq}", by or f"user:{tenant}"
        return self.add(Committed(0.0, tenant, stream, seq, key, by, f"what {key}", epoch))

    def took(self, conn: str, seq: int, key: str = "", *, stream: str = ROOM, mark: str = "", by: str = "") -> int:
        tenant = self._tenants.get(conn, "acme")
        key, by = key or f"{tenant}-{seq}", by or f"user:{tenant}"
        return self.add(Took(0.0, conn, stream, seq, key, by, f"what {key}", mark))

    def event(self, seq: int, *conns: str, tenant: str = "acme") -> int:
        """Committed, then given to these; the index is that of the last."""
        at = self.commit(seq, tenant=tenant)
        for conn in conns:
            at = self.took(conn, seq)
        return at

    def reset(self, conn: str, reason: str, first: int, head: int, *, stream: str = ROOM) -> int:
        return self.add(Reset(0.0, conn, stream, reason, first, head))

    # -- requests -------------------------------------------------------------------------------------------------------

    def asks(self, conn: str, op: str = "send", key: str = "", *, within_s: float | None = None) -> int:
        """The id is counted up: the next `answered` is of it."""
        self._asked += 1
        return self.add(Asked(0.0, conn, self._asked, op, within_s, ROOM, key))

    def answered(self, conn: str, seq: int = 0, key: str = "", *, dup: bool = False, code: str = "") -> int:
        return self.add(Answered(0.0, conn, self._asked, not code, code, seq, dup, ROOM, key))

    def sends(self, conn: str, key: str, seq: int, *, dup: bool = False) -> int:
        self.asks(conn, "send", key)
        return self.answered(conn, seq, key, dup=dup)

    def commands(self, conn: str, key: str, seq: int = 0, events: int = 0, *, code: str = "", reason: str = "") -> int:
        """Asked and answered: obeyed, refused for a reason (``rejected``), or not kept."""
        self.asks(conn, "command", key)
        code = "rejected" if reason else code
        return self.add(Answered(0.0, conn, self._asked, not code, code, seq, False, ROOM, key, events, reason))

    def keeps(
        self, key: str, seq: int = 0, events: int = 0, *, facts: int | None = None, reason: str = "", epoch: str = ""
    ) -> int:
        """A command is kept, its events first."""
        for n in range(events):
            self.commit(seq + n, f"{key}.{n}" if n else key, epoch=epoch)
        facts = events if facts is None else facts
        return self.add(Kept(0.0, "acme", ROOM, key, "user:acme", seq, events, facts, reason, epoch))

    def told(
        self,
        conn: str,
        kind: str,
        value: object,
        *,
        by: str | None = "user:bob",
        age_s: float = 0.0,
        head: int | None = None,
        sent_t: float | None = None,
        stream: str = ROOM,
    ) -> int:
        return self.add(Told(0.0, conn, stream, kind, by, value, age_s, head, sent_t))

    # -- the end --------------------------------------------------------------------------------------------------------

    def end(self) -> list[Record]:
        self.add(End(0.0))
        return self.records

    def found(self, *, whole: bool = True) -> list[tuple[str, int]]:
        """What is broken, and at which record."""
        if whole:
            self.end()
        return [(finding.guarantee, finding.index) for finding in check(self.records).findings]

    def judged(self, name: str) -> int:
        return check(self.records).judged[name]
