"""bench.stats: histograms merge without loss, and percentiles are those of the merged samples."""

from __future__ import annotations

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import CURVE, Histogram, merged, spread

NANOSECONDS = st.integers(min_value=0, max_value=10**13)


def histogram(values: list[int]) -> Histogram:
    made = Histogram()
    made.record_all(values)
    return made


@given(NANOSECONDS)
def test_a_bucket_holds_its_values_within_a_thousandth(value: int) -> None:
    """Every value lies in its bucket, whose ceiling is at most 0.1 % above it."""
    ceiling = Histogram.ceiling(Histogram.bucket(value))
    assert value <= ceiling <= value * (1 + 2**-10)
    assert Histogram.bucket(ceiling) == Histogram.bucket(value)
    assert Histogram.bucket(ceiling + 1) == Histogram.bucket(value) + 1


@given(st.lists(NANOSECONDS, min_size=1, max_size=200), st.floats(min_value=0, max_value=1))
def test_a_quantile_is_the_ordered_samples_own(values: list[int], q: float) -> None:
    """The quantile read back is the sample of that rank, within its bucket."""
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
    assert exact <= histogram(values).quantile(q) <= exact * (1 + 2**-10)


@given(st.lists(st.lists(NANOSECONDS, max_size=50), max_size=5))
def test_merging_is_as_if_one_had_seen_all(parts: list[list[int]]) -> None:
    """Merged histograms equal the histogram of all samples, to the last count."""
    whole = histogram([value for part in parts for value in part])
    assert merged(map(histogram, parts)).to_json() == whole.to_json()


@given(st.lists(NANOSECONDS, max_size=50))
def test_a_histogram_survives_json(values: list[int]) -> None:
    """What a generator writes is what the harness reads."""
    made = histogram(values)
    assert Histogram.from_json(orjson.loads(orjson.dumps(made.to_json()))).to_json() == made.to_json()


@pytest.mark.parametrize(
    "broken",
    [None, [], {}, {"count": 1}, {"count": 2, "total": 1, "least": 1, "greatest": 1, "counts": [[1, 1]]}],
)
def test_what_is_no_histogram_is_refused(broken: object) -> None:
    """Another version's or a truncated histogram is an error, not a wrong percentile."""
    with pytest.raises(ValueError, match="histogram"):
        Histogram.from_json(broken)


def test_a_negative_duration_is_a_bug_and_says_so() -> None:
    """Two clocks mixed up must not become a latency of nearly zero."""
    with pytest.raises(ValueError, match="below zero was recorded: -5"):
        histogram([3, -5])


def test_a_quantile_outside_its_range_is_refused() -> None:
    """99 is not 0.99."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        histogram([1]).quantile(99)


def test_an_empty_histogram_has_no_summary() -> None:
    """Nothing measured is nothing, not zero microseconds."""
    assert Histogram().summary() is None
    assert Histogram().quantile(0.5) == 0


def test_a_percentile_needs_ten_samples_beyond_it() -> None:
    """p99 of a hundred samples would be one sample's story."""
    few = histogram([1000] * 100).summary()
    many = histogram([1000] * 1000).summary()
    assert few is not None
    assert many is not None
    assert (few.p95_us, few.p99_us, few.p999_us) == (None, None, None)
    assert (many.p95_us, many.p99_us, many.p999_us) == (1.0, 1.0, None)
    assert [q for q, _ in many.curve] == [q for q in CURVE if q <= 0.99]


def test_a_summary_is_in_microseconds() -> None:
    """Nanoseconds are recorded, microseconds are shown; least, mean and greatest are exact."""
    made = histogram([1_000, 2_000, 6_000]).summary()
    assert made is not None
    assert (made.count, made.min_us, made.mean_us, made.max_us) == (3, 1.0, 3.0, 6.0)


@pytest.mark.parametrize(("values", "median"), [([5.0], 5.0), ([3.0, 1.0, 2.0], 2.0), ([1.0, 2.0, 3.0, 10.0], 2.5)])
def test_a_spread_is_the_median_between_its_extremes(values: list[float], median: float) -> None:
    """Median, least, greatest, and how many runs there were."""
    made = spread(values)
    assert (made.median, made.low, made.high, made.runs) == (median, min(values), max(values), len(values))


def test_a_spread_of_nothing_is_refused() -> None:
    """A figure without a run has no place in a table."""
    with pytest.raises(ValueError, match="no runs"):
        spread([])
