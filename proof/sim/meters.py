"""Sometimes meters: rare paths that must be met in a set of runs, or the runs prove less than they seem to.

A simulator that never lets a subscriber lag says nothing about lagging. Each path below is counted where it is taken, and a
set of seeds fails if one of those that it should meet never was (`MUST`).
"""

from __future__ import annotations

from collections import Counter
from typing import Final

MUST: Final = (
    "resumed from the ring",
    "resumed from the log",
    "reset sent: trimmed",
    "reset sent: epoch",
    "reset sent: ahead",
    "commit unknown: lost before",
    "commit unknown: lost after",
    "commit late",
    "commit orphaned",
    "commit unknown retried, found as duplicate",
    "conflict answered",
    "lagging subscriber caught up",
    "page read from the log for a laggard",
    "hole filled from the log",
    "batch parked until the one before it came",
    "partition tailed",
    "superseded on the same node",
    "superseded from another node",
    "resume claimed without the bus",
    "resume token refused: used before",
    "resume token refused: forged",
    "access token expired on a live connection",
    "hello refused: token expired",
    "removed while following",
    "drain told",
    "drain met a handshake",
    "drain met a commit under way",
    "sent away after its slot",
    "newcomer refused while draining",
    "waited at the door",
    "ended as idle",
    "handshake timed out",
    "hello timed out",
    "node crashed amid a commit",
    "node crashed",
    "node paused past its lease",
    "wall clock jumped",
    "partial write cut a frame",
    "socket full",
    "big room on tour",
    "choked reader let on",
    "presence lease ran out",
    "stream let go and loaded again",
    "bus message doubled",
    "bus message late",
    "bus message of another version",
    "client of a newer version answered unknown_op",
    "hostile connection ended",
    "log restored under another epoch",
    "sends answered unavailable",
    "markers stored",
    "command refused by its machine",
    "command met another head",
    "command answered again as before",
    "timer fired",
    "rule fired",
    "worker crashed",
    "worker left in good order",
    "worker fenced",
    "beat lost",
    "effects late",
    "effects unknown: lost after",
    "late effects fenced",
    "stream parked",
    "saga done",
    "saga undone",
    "saga parked",
    "operator said abort",
    "read model rebuilt",
    "rebuild given up",
    "row of the board told",
    "fix quarantined",
    "fix late",
    "fix answered as a duplicate",
    "device at another node",
    "samples unknown: lost after",
    "subject told as stale",
    "alert given",
    "trip completed",
)
"""Of `large` and `small` runs together, over some hundred seeds."""


class Meters(Counter[str]):
    def seen(self, path: str, times: int = 1) -> None:
        self[path] += times

    def missing(self) -> list[str]:
        """Paths that should have been met and were not."""
        return [path for path in MUST if not self[path]]
