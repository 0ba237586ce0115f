"""gateway.metrics: what is counted comes out as Prometheus reads it."""

from __future__ import annotations

import math

import pytest

from gateway.metrics import COUNTS, SECONDS, Histogram, Registry, add_process_metrics


def test_counter_and_gauge_in_text() -> None:
    """HELP and TYPE precede the samples, and an increment is an attribute add."""
    registry = Registry()
    sends = registry.counter("readback_sends_total", "Committed sends.")
    connections = registry.gauge("readback_connections", "Open connections.")
    sends.value += 3
    connections.value = 7
    assert registry.text().decode().splitlines() == [
        "# HELP readback_connections Open connections.",
        "# TYPE readback_connections gauge",
        "readback_connections 7",
        "# HELP readback_sends_total Committed sends.",
        "# TYPE readback_sends_total counter",
        "readback_sends_total 3",
    ]
    assert registry.text().endswith(b"\n")


def test_labels_make_series_of_one_family() -> None:
    """Series that differ in labels stand together under one TYPE line."""
    registry = Registry()
    registry.counter("readback_errors_total", "Errors.", code="forbidden").value += 1
    registry.counter("readback_errors_total", "Errors.", code="conflict")
    text = registry.text().decode()
    assert text.count("# TYPE readback_errors_total counter") == 1
    assert 'readback_errors_total{code="forbidden"} 1' in text
    assert 'readback_errors_total{code="conflict"} 0' in text


def test_histogram_buckets_are_cumulative_and_inclusive() -> None:
    """A value on a bound counts below it; +Inf equals the count."""
    registry = Registry()
    commit = registry.histogram("readback_commit_seconds", "Commits.", (0.001, 0.01))
    for value in (0.0005, 0.001, 0.005, 4.0):
        commit.observe(value)
    lines = registry.text().decode().splitlines()
    assert lines[2:] == [
        'readback_commit_seconds_bucket{le="0.001"} 2',
        'readback_commit_seconds_bucket{le="0.01"} 3',
        'readback_commit_seconds_bucket{le="+Inf"} 4',
        f"readback_commit_seconds_sum {0.0005 + 0.001 + 0.005 + 4.0!r}",
        "readback_commit_seconds_count 4",
    ]
    assert commit.count == 4


def test_histogram_with_labels_keeps_le_last() -> None:
    """Labels of a histogram stand in every one of its samples."""
    registry = Registry()
    registry.histogram("readback_op_seconds", "Ops.", (1.0,), op="send").observe(0.5)
    text = registry.text().decode()
    assert 'readback_op_seconds_bucket{op="send",le="1.0"} 1' in text
    assert 'readback_op_seconds_sum{op="send"} 0.5' in text
    assert 'readback_op_seconds_count{op="send"} 1' in text


def test_read_functions_are_asked_at_each_scrape() -> None:
    """A gauge or counter kept elsewhere shows what its owner says now."""
    registry = Registry()
    now = [1]
    registry.gauge("readback_streams", "Warm streams.", lambda: now[0])
    registry.counter_read("readback_bytes_sent_total", "Bytes out.", lambda: now[0] * 100)
    now[0] = 5
    text = registry.text().decode()
    assert "readback_streams 5\n" in text
    assert "readback_bytes_sent_total 500\n" in text


def test_a_failing_gauge_hides_no_other() -> None:
    """One number that cannot be read is left out; the scrape still answers."""
    registry = Registry()

    def broken() -> int:
        raise OSError("gone")

    registry.gauge("readback_a", "A.", broken)
    registry.gauge("readback_b", "B.").value = 2
    text = registry.text().decode()
    assert "readback_b 2" in text
    assert "\nreadback_a " not in text


def test_text_is_escaped() -> None:
    """Quotes, backslashes and newlines in help and labels cannot break a line."""
    registry = Registry()
    registry.gauge("readback_odd", "one\\two\nthree", path='a"b\\c\nd').value = 1
    text = registry.text().decode()
    assert "# HELP readback_odd one\\\\two\\nthree\n" in text
    assert 'readback_odd{path="a\\"b\\\\c\\nd"} 1\n' in text


@pytest.mark.parametrize(
    ("value", "shown"), [(math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (0.25, "0.25")]
)
def test_special_numbers(value: float, shown: str) -> None:
    """Floats that JSON could not write have their Prometheus spelling."""
    registry = Registry()
    registry.gauge("readback_x", "X.").value = value
    assert f"readback_x {shown}\n" in registry.text().decode()


def test_wrong_names_are_refused() -> None:
    """A name, label or kind that Prometheus or its rules would not take is an error where it is made."""
    registry = Registry()
    with pytest.raises(ValueError, match="_total"):
        registry.counter("readback_sends", "Sends.")
    with pytest.raises(ValueError, match="_total"):
        registry.counter_read("readback_sends", "Sends.", lambda: 0)
    with pytest.raises(ValueError, match="readback_"):
        registry.gauge("connections", "Open.")
    with pytest.raises(ValueError, match="label"):
        registry.gauge("readback_x", "X.", le="1")
    with pytest.raises(ValueError, match="rise"):
        registry.histogram("readback_h", "H.", (2.0, 1.0))


def test_one_owner_a_series() -> None:
    """The same name with the same labels, or with another meaning, is refused."""
    registry = Registry()
    registry.gauge("readback_x", "X.")
    with pytest.raises(ValueError, match="exists already"):
        registry.gauge("readback_x", "X.")
    with pytest.raises(ValueError, match="another meaning"):
        registry.gauge("readback_x", "Y.", a="1")
    with pytest.raises(ValueError, match="already a gauge"):
        registry.histogram("readback_x", "X.", (1.0,))


def test_default_buckets_rise() -> None:
    """The shared bucket tables are usable as they are."""
    for bounds in (SECONDS, COUNTS):
        histogram = Histogram(bounds)
        histogram.observe(bounds[0])
        histogram.observe(bounds[-1] + 1)
        assert histogram.counts[0] == 1
        assert histogram.counts[-1] == 1


def test_process_metrics_answer() -> None:
    """CPU, memory and open files of this very process are above zero."""
    registry = Registry()
    add_process_metrics(registry)
    values = {
        line.split()[0]: float(line.split()[1]) for line in registry.text().decode().splitlines() if line[0] != "#"
    }
    assert values["process_resident_memory_bytes"] > 1_000_000
    assert values["process_open_fds"] > 0
    assert values["process_cpu_seconds_total"] > 0


def test_a_table_has_the_series_of_the_moment() -> None:
    """They come and go; a reader that fails hides no other number."""
    registry, values = Registry(), {"acme": 2, 'a"b': 1}
    registry.table("gauge", "readback_tenant_connections", "Connections of a tenant.", "tenant", lambda: values)
    text = registry.text().decode()
    assert 'readback_tenant_connections{tenant="acme"} 2' in text
    assert 'readback_tenant_connections{tenant="a\\"b"} 1' in text
    values.clear()
    assert "acme" not in registry.text().decode()
    registry.table("counter", "readback_tenant_x_total", "Broken.", "tenant", lambda: 1 // 0)  # type: ignore[arg-type,return-value]
    registry.counter("readback_y_total", "Whole.").value = 7
    assert "readback_y_total 7" in registry.text().decode()
    with pytest.raises(ValueError, match="_total"):
        registry.table("gauge", "readback_z_total", "A gauge.", "tenant", dict)
