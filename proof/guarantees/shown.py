"""What was shown, held against the log once for all: which events are not the ones that stand at their places, and why.

Three guarantees speak of such events, each of another cause. An event is looked at once for all who saw the same.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from proof.guarantees.log import Log
from proof.history import Committed, Took

if TYPE_CHECKING:
    from proof.guarantees.parts import Conn, Differing
    from proof.guarantees.scene import Scene


class Cause(Enum):
    FOREIGN = "another tenant's"
    UNDONE = "of the log's life before a restore"
    OTHER = "not the one that the log holds there"
    MISSING = "not in the log"


class Wrong(NamedTuple):
    at: int
    took: Took
    conn: Conn
    cause: Cause
    truth: Committed | None
    """What the log holds at that place."""


class Shown:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.wrong: list[Wrong] = []
        self.early: list[tuple[int, Took, int]] = []
        """Shown before its commit, with the index of that."""
        self.disputed: list[Differing] = []
        """Two saw different events where nobody knows the log."""
        self.key_tenants = _key_tenants(scene)
        for (tenant, stream, epoch), table in scene.seen.items():
            self._look(scene.logs.get((tenant, stream)), scene.restores.life(epoch), table)
        for differing in scene.differing:
            conn, took = differing.span.conn, differing.took
            log = scene.log_of(conn, took.stream)
            known = log is not None and log.at(took.seq, conn.life) is not None
            if not self._judge(differing.at, took, log, conn.life) and not known:
                self.disputed.append(differing)

    def foreign(self, conn: Conn, key: str) -> str | None:
        """Another tenant that the key is known to be of, where it is none of this one's."""
        tenants = self.key_tenants.get(key)
        return None if not tenants or conn.tenant in tenants else min(tenants)

    def _look(self, log: Log | None, life: int, table: dict[int, tuple[int, Took]]) -> None:
        view = {} if log is None else log.views[life]
        live = self._scene.run.live_commits
        for seq, (at, took) in table.items():
            standing = view.get(seq)
            if standing is not None:
                truth = standing[1]
                if truth.key == took.key and truth.what == took.what and truth.by == took.by:
                    if live and standing[0] > at:
                        self.early.append((at, took, standing[0]))
                    continue
            self._judge(at, took, log, life)

    def _judge(self, at: int, took: Took, log: Log | None, life: int) -> bool:
        """Whether it is wrong; then it is noted."""
        conn, seq = self._scene.conns[took.conn], took.seq
        standing = None if log is None else log.at(seq, life)
        truth = None if standing is None else standing[1]
        if truth is not None and _same(truth, took):
            return False
        if self.foreign(conn, took.key) is not None:
            cause = Cause.FOREIGN
        elif log is not None and log.undone(seq, took.key, life):
            cause = Cause.UNDONE
        elif truth is not None:
            cause = Cause.OTHER
        elif not self._is_known(conn, took, log, life):
            return False
        else:
            cause = Cause.MISSING
        self.wrong.append(Wrong(at, took, conn, cause, truth))
        return True

    def _is_known(self, conn: Conn, took: Took, log: Log | None, life: int) -> bool:
        """Whether what the log is not told to hold at an event's place was never there."""
        scene = self._scene
        if not conn.tenant or not scene.knows_log:
            return False
        if scene.forgotten(took.seq, (conn.tenant, took.stream)):
            return False
        return log is None or not log.unknown(took.seq, life)


def _same(truth: Committed, took: Took) -> bool:
    """What one of them leaves out, it does not contradict."""
    return (
        truth.key == took.key and truth.by == took.by and (truth.what == took.what or not truth.what or not took.what)
    )


def _key_tenants(scene: Scene) -> dict[str, set[str]]:
    """Whose each key is; empty where there is but one tenant, and so nobody whose it could wrongly be."""
    tenants = {tenant for tenant, _ in scene.logs} | {conn.tenant for conn in scene.conns.values()}
    owners: dict[str, set[str]] = {}
    if len(tenants - {""}) < 2:
        return owners
    for (tenant, _), log in scene.logs.items():
        for key in log.keys:
            owners.setdefault(key, set()).add(tenant)
    for question in scene.questions:
        key = question.asked.key
        if key and question.conn.tenant:
            owners.setdefault(key, set()).add(question.conn.tenant)
    return owners
