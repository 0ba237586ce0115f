"""The score of arrival times: what was shown against when the vehicle came.

The ETA Accuracy Benchmark: of what was shown while the vehicle was so far from arriving, which part was within the tolerance;
the mean of the buckets, each counting the same. A vehicle may come `early_s` before what was shown, or `late_s` after it:
coming early costs people the bus. Beside it what the benchmark does not ask: the mean error, how often the 80 % interval held,
and how much the shown arrival moves about, which people notice first.

For: `readback eta score`, training. Promises: the same whatever the order of trips. Does not: read files, draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple


class Bucket(NamedTuple):
    from_s: float
    to_s: float
    early_s: float
    late_s: float

    @property
    def name(self) -> str:
        return f"{self.from_s / 60:.0f}-{self.to_s / 60:.0f} min"


BUCKETS: Final = (
    Bucket(0.0, 180.0, 30.0, 90.0),
    Bucket(180.0, 360.0, 60.0, 150.0),
    Bucket(360.0, 600.0, 60.0, 210.0),
    Bucket(600.0, 900.0, 90.0, 270.0),
)
HALF_HOUR_S: Final = 1_800.0
MOVED_S: Final = 1.0  # a change below is none: times are shown in minutes


class Said(NamedTuple):
    """One line of predictions."""

    at_s: float
    eta_s: float
    low_s: float
    high_s: float
    source: str = ""


class Alert(NamedTuple):
    """It stands for thresholds ``merged``, too, which were passed with its own."""

    threshold_s: float
    at_s: float
    merged: tuple[float, ...] = ()


class Call(NamedTuple):
    """Of a provider of routes. ``failed``: it was dead."""

    at_s: float
    why: str
    failed: bool = False


class BucketScore(NamedTuple):
    bucket: str
    fixes: int
    within: float
    mae_s: float
    covered: float


class AlertScore(NamedTuple):
    """Of one threshold, over trips longer than it and a minute; duplicates over all. `error_s`: how much sooner than the
    threshold says; the vehicle came later where positive. What a nearer threshold's alert stood for is `merged`: neither sent
    nor missed."""

    threshold_s: float
    trips: int
    sent: int
    duplicates: int
    missed: int
    merged: int
    error_median_s: float
    error_abs_median_s: float


class CallScore(NamedTuple):
    """Calls a trip. `half_hour_max`: the most that one trip made within 30 minutes. `failed`: made in vain, all trips together;
    `after_failed`: made by a trip whose call had failed before."""

    calls: int
    mean: float
    p95: float
    most: int
    half_hour_max: int
    failed: int
    after_failed: int
    reasons: Mapping[str, int]


class Score(NamedTuple):
    trips: int
    said: int
    overall: float
    buckets: tuple[BucketScore, ...]
    mae_s: float
    covered: float
    jitter_p50_s: float
    jitter_p95_s: float
    moved: float
    """Which part of fixes changed what is shown."""
    travel_s: float
    """How far the shown arrival went to and fro in a trip, on average."""
    reversals: float
    """How often it changed direction in a trip, on average."""
    sources: Mapping[str, int]
    alerts: tuple[AlertScore, ...]
    calls: CallScore | None = None


def percentile(values: Sequence[float], part: float) -> float:
    """Read between neighbours, as numpy does; 0 of none."""
    if not values:
        return 0.0
    held = sorted(values)
    at = part * (len(held) - 1)
    low = int(at)
    return held[low] + (at - low) * (held[min(low + 1, len(held) - 1)] - held[low])


def within(arrive_s: float, said: Said) -> tuple[int, bool] | None:
    """Which bucket a shown arrival falls into, and whether it was within the tolerance; ``None`` for none."""
    left = arrive_s - said.at_s
    for at, bucket in enumerate(BUCKETS):
        if bucket.from_s <= left < bucket.to_s:
            return at, -bucket.early_s <= arrive_s - said.eta_s <= bucket.late_s
    return None


def score(
    arrivals: Mapping[str, float],
    said: Mapping[str, Sequence[Said]],
    alerts: Mapping[str, Sequence[Alert]] | None = None,
    calls: Mapping[str, Sequence[Call]] | None = None,
) -> Score:
    """Of trips that arrived then, what was said of each in order."""
    hits = [0] * len(BUCKETS)
    errors: list[list[float]] = [[] for _ in BUCKETS]
    covers = [0] * len(BUCKETS)
    every: list[float] = []
    covered = 0
    jitter: list[float] = []
    reversals = 0
    sources: dict[str, int] = {}
    for trip, lines in said.items():
        arrive_s = arrivals[trip]
        for line in lines:
            sources[line.source] = sources.get(line.source, 0) + 1
            held = line.low_s <= arrive_s <= line.high_s
            covered += held
            every.append(abs(arrive_s - line.eta_s))
            found = within(arrive_s, line)
            if found is not None:
                at, hit = found
                hits[at] += hit
                covers[at] += held
                errors[at].append(every[-1])
        steps = [after.eta_s - before.eta_s for before, after in pairwise(lines)]
        jitter += [abs(step) for step in steps]
        moves = [step for step in steps if abs(step) >= MOVED_S]
        reversals += sum(a * b < 0.0 for a, b in pairwise(moves))
    buckets = tuple(
        BucketScore(
            bucket.name,
            len(errors[at]),
            _part(hits[at], len(errors[at])),
            _mean(errors[at]),
            _part(covers[at], len(errors[at])),
        )
        for at, bucket in enumerate(BUCKETS)
    )
    trips = len(said)
    return Score(
        trips=trips,
        said=len(every),
        overall=_mean([bucket.within for bucket in buckets]),
        buckets=buckets,
        mae_s=_mean(every),
        covered=_part(covered, len(every)),
        jitter_p50_s=percentile(jitter, 0.5),
        jitter_p95_s=percentile(jitter, 0.95),
        moved=_part(sum(step >= MOVED_S for step in jitter), len(jitter)),
        travel_s=_part(sum(jitter), trips),
        reversals=_part(reversals, trips),
        sources=sources,
        alerts=() if alerts is None else _alerts(arrivals, said, alerts),
        calls=None if calls is None else call_score([calls.get(trip, ()) for trip in said]),
    )


def call_score(trips: Sequence[Sequence[Call]]) -> CallScore:
    """Of trips' calls in their order; a trip that made none counts, too."""
    counts = [len(calls) for calls in trips]
    every = [call for calls in trips for call in calls]
    reasons: dict[str, int] = {}
    for call in every:
        reasons[call.why] = reasons.get(call.why, 0) + 1
    within = [sum(0.0 <= call.at_s - first.at_s < HALF_HOUR_S for call in calls) for calls in trips for first in calls]
    after = [sum(before.failed for before in calls[:nth]) > 0 for calls in trips for nth in range(len(calls))]
    return CallScore(
        calls=len(every),
        mean=_mean(counts),
        p95=percentile(counts, 0.95),
        most=max(counts, default=0),
        half_hour_max=max(within, default=0),
        failed=sum(call.failed for call in every),
        after_failed=sum(after),
        reasons=reasons,
    )


def _alerts(
    arrivals: Mapping[str, float], said: Mapping[str, Sequence[Said]], alerts: Mapping[str, Sequence[Alert]]
) -> tuple[AlertScore, ...]:
    thresholds = sorted({alert.threshold_s for sent in alerts.values() for alert in sent}, reverse=True)
    scores: list[AlertScore] = []
    for threshold_s in thresholds:
        trips = [trip for trip, lines in said.items() if _long(arrivals[trip], lines, threshold_s)]
        every = {
            trip: [alert.at_s for alert in sent if alert.threshold_s == threshold_s] for trip, sent in alerts.items()
        }
        times = [every.get(trip, []) for trip in trips]
        merged = {trip for trip, sent in alerts.items() for alert in sent if threshold_s in alert.merged}
        errors = [arrivals[trip] - sent[0] - threshold_s for trip, sent in zip(trips, times, strict=True) if sent]
        scores.append(
            AlertScore(
                threshold_s,
                len(trips),
                sum(map(len, times)),
                sum(max(0, len(sent) - 1) for sent in every.values()),
                sum(not sent and trip not in merged for trip, sent in zip(trips, times, strict=True)),
                sum(not sent and trip in merged for trip, sent in zip(trips, times, strict=True)),
                percentile(errors, 0.5),
                percentile([abs(error) for error in errors], 0.5),
            )
        )
    return tuple(scores)


def _long(arrive_s: float, lines: Sequence[Said], threshold_s: float) -> bool:
    return bool(lines) and arrive_s - lines[0].at_s > threshold_s + 60.0


def _part(count: float, of: int) -> float:
    return count / of if of else 0.0


def _mean(values: Iterable[float]) -> float:
    held = list(values)
    return sum(held) / len(held) if held else 0.0
