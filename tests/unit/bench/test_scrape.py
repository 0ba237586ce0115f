"""bench.scrape: totals and percentiles out of a node's own metrics."""

from __future__ import annotations

from bench.scrape import buckets, quantile, since, total

TEXT = """# HELP readback_shed_total What was shed.
# TYPE readback_shed_total counter
readback_shed_total{what="typing"} 3
readback_shed_total{what="presence"} 4
# TYPE readback_loop_delay_seconds histogram
readback_loop_delay_seconds_bucket{le="0.001"} 90
readback_loop_delay_seconds_bucket{le="0.005"} 99
readback_loop_delay_seconds_bucket{le="+Inf"} 100
readback_loop_delay_seconds_sum 0.2
readback_loop_delay_seconds_count 100
readback_connections 12
"""
DELAY = "readback_loop_delay_seconds"


def test_a_family_is_added_up_over_its_labels() -> None:
    """And a family that the node does not have is not a zero."""
    assert total(TEXT, "readback_shed_total") == 7
    assert total(TEXT, "readback_connections") == 12
    assert total(TEXT, "readback_bus_up") is None


def test_percentiles_are_bucket_bounds() -> None:
    """The least bound that enough samples do not exceed."""
    counts = buckets(TEXT, DELAY)
    assert counts == {0.001: 90, 0.005: 99, float("inf"): 100}
    assert quantile(counts, 0.5) == 0.001
    assert quantile(counts, 0.99) == 0.005
    assert quantile(counts, 0.999) == float("inf")
    assert quantile({}, 0.5) is None


def test_a_window_is_the_difference_of_two_readings() -> None:
    """What was counted before it is not the window's."""
    later = TEXT.replace('"0.001"} 90', '"0.001"} 95').replace('"0.005"} 99', '"0.005"} 109').replace("} 100", "} 110")
    counts = since(buckets(TEXT, DELAY), buckets(later, DELAY))
    assert counts == {0.001: 5, 0.005: 10, float("inf"): 10}
    assert quantile(counts, 0.99) == 0.005
