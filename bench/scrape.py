"""What a node says of itself: figures out of Prometheus' text, as the scenarios need them. Pure.

Does not: read labels that hold a ``}``; Readback has none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

SAMPLE = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>[^}]*)\})? (?P<value>\S+)$", re.MULTILINE)
BOUND = re.compile(r'le="([^"]+)"')


def total(text: str, name: str) -> float | None:
    """All samples of a family added up, ``None`` where the node has no such family."""
    found = [float(one["value"]) for one in SAMPLE.finditer(text) if one["name"] == name]
    return sum(found) if found else None


def buckets(text: str, name: str) -> dict[float, float]:
    """A histogram's cumulative counts by upper bound; empty where the node has none of that name."""
    found: dict[float, float] = {}
    for one in SAMPLE.finditer(text):
        bound = BOUND.search(one["labels"] or "")
        if one["name"] == f"{name}_bucket" and bound:
            at = float(bound[1])
            found[at] = found.get(at, 0.0) + float(one["value"])
    return found


def since(before: Mapping[float, float], after: Mapping[float, float]) -> dict[float, float]:
    """What came into a histogram between two readings."""
    return {bound: many - before.get(bound, 0.0) for bound, many in after.items()}


def quantile(counts: Mapping[float, float], q: float) -> float | None:
    """The bucket bound that at least ``q`` of all samples do not exceed; ``None`` for no samples."""
    most = max(counts.values(), default=0.0)
    if not most:
        return None
    return next(bound for bound in sorted(counts) if counts[bound] >= q * most)
