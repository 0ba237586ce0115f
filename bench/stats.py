"""Latency histograms that merge without loss, and the percentiles read from them.

For: samples gathered in several processes and runs. Two histograms merge into what one would have held had it seen all
samples, so a percentile is always taken over the merged samples; percentiles are never averaged.

Promises: a recorded value is read back within 0.1 % (1,024 buckets an octave); count, sum, least and greatest are exact.
Does not: know units. The harness records nanoseconds everywhere and turns to microseconds in `Summary` alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

SUB_BITS = 10
"""Buckets an octave, as a power of two: 10 gives a relative error of at most 2**-10."""

CURVE = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999)
"""Quantiles kept with a summary for plots; those that the count cannot support are left out."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a table shows of a histogram, in microseconds. A percentile without 10 samples beyond it is ``None``."""

    count: int
    min_us: float
    mean_us: float
    p50_us: float
    p95_us: float | None
    p99_us: float | None
    p999_us: float | None
    max_us: float
    curve: list[tuple[float, float]]
    """(quantile, microseconds) pairs, ascending."""


class Histogram:
    """Counts of non-negative integers in log-linear buckets (the layout of HDR histograms)."""

    __slots__ = ("count", "counts", "greatest", "least", "total")

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.count = 0
        self.total = 0
        self.least = 0
        self.greatest = 0

    @staticmethod
    def bucket(value: int) -> int:
        shift = max(0, value.bit_length() - SUB_BITS - 1)
        return (shift << SUB_BITS) + (value >> shift)

    @staticmethod
    def ceiling(bucket: int) -> int:
        """The greatest value that falls into ``bucket``."""
        shift = max(0, (bucket >> SUB_BITS) - 1)
        return ((bucket - (shift << SUB_BITS) + 1) << shift) - 1

    def record_all(self, values: Iterable[int]) -> None:
        """Record many values. Negative ones (two clocks read out of order) are a bug of the caller: `ValueError`."""
        counts, bucket = self.counts, self.bucket
        for value in values:
            if value < 0:
                raise ValueError(f"a duration below zero was recorded: {value}")
            if not self.count or value < self.least:
                self.least = value
            if value > self.greatest:
                self.greatest = value
            self.count += 1
            self.total += value
            at = bucket(value)
            counts[at] = counts.get(at, 0) + 1

    def merge(self, other: Histogram) -> None:
        if not other.count:
            return
        self.least = min(self.least, other.least) if self.count else other.least
        self.greatest = max(self.greatest, other.greatest)
        self.count += other.count
        self.total += other.total
        for at, many in other.counts.items():
            self.counts[at] = self.counts.get(at, 0) + many

    def quantile(self, q: float) -> int:
        """The least recorded value (within its bucket) that at least ``q`` of all samples do not exceed. 0 if empty."""
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"a quantile lies between 0 and 1, not {q}")
        rank = max(1, math.ceil(q * self.count))
        seen = 0
        for at in sorted(self.counts):
            seen += self.counts[at]
            if seen >= rank:
                return max(self.least, min(self.ceiling(at), self.greatest))
        return 0

    def summary(self) -> Summary | None:
        """``None`` when nothing was recorded: a table then shows a dash rather than a zero."""
        if not self.count:
            return None

        def at(q: float) -> float | None:
            return self.quantile(q) / 1000 if self.count * (1.0 - q) >= 10 else None

        return Summary(
            count=self.count,
            min_us=self.least / 1000,
            mean_us=self.total / self.count / 1000,
            p50_us=self.quantile(0.5) / 1000,
            p95_us=at(0.95),
            p99_us=at(0.99),
            p999_us=at(0.999),
            max_us=self.greatest / 1000,
            curve=[(q, value) for q in CURVE if (value := at(q)) is not None],
        )

    def to_json(self) -> dict[str, object]:
        return {
            "count": self.count,
            "total": self.total,
            "least": self.least,
            "greatest": self.greatest,
            "counts": sorted(self.counts.items()),
        }

    @classmethod
    def from_json(cls, data: object) -> Histogram:
        """The inverse of `to_json`. `ValueError` for anything else (a generator of another version wrote it)."""
        made = cls()
        try:
            assert isinstance(data, dict)
            made.count, made.total = int(data["count"]), int(data["total"])
            made.least, made.greatest = int(data["least"]), int(data["greatest"])
            made.counts = {int(at): int(many) for at, many in data["counts"]}
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a histogram: {error}") from error
        if sum(made.counts.values()) != made.count:
            raise ValueError("a histogram whose buckets do not add up to its count")
        return made


def merged(parts: Iterable[Histogram]) -> Histogram:
    whole = Histogram()
    for part in parts:
        whole.merge(part)
    return whole


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure measured in several runs: the median with the least and the greatest."""

    median: float
    low: float
    high: float
    runs: int


def spread(values: Iterable[float]) -> Spread:
    """`ValueError` for no values: a figure that was not measured has no place in a table."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("a spread of no runs")
    half = len(ordered) // 2
    median = ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
    return Spread(median, ordered[0], ordered[-1], len(ordered))
