"""bench.report and bench.plots: the page holds the files' figures, and says what was not measured."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench_results import result

from bench import model, plots, report


def test_the_page_is_made_of_the_results(tmp_path: Path) -> None:
    """Targets first, then a section a scenario with tables, notes and links to plots that exist."""
    data, out = tmp_path / "docs" / "data", tmp_path / "docs" / "benchmarks.md"
    model.write(result(), data / "bench-fanout.json")
    report.write(data, out)
    page = out.read_text()
    assert "| fanout | CPU a delivery | at most 1.5 x floor | 1.26 x floor | yes |" in page
    assert "| **no** |" in page
    assert "- ws was not measured: Node is not installed." in page
    assert "2.40 (2.20..2.90)" in page
    for kind in ("figures", "latency", "series"):
        assert f"](data/bench-fanout-{kind}.svg)" in page
        assert (data / f"bench-fanout-{kind}.svg").exists()


def test_a_scenario_without_a_file_is_named(tmp_path: Path) -> None:
    """Silence would read as a result."""
    model.write(result(), tmp_path / "bench-fanout.json")
    report.write(tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert page.count("Not measured yet.") == len(report.ORDER) - 1


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    """One broken file costs its own section only."""
    model.write(result(), tmp_path / "bench-fanout.json")
    (tmp_path / "bench-echo.json").write_text("{")
    found = report.write(tmp_path, tmp_path / "page.md")
    assert list(found.unreadable) == ["echo"]
    assert "The file could not be read: not JSON" in (tmp_path / "page.md").read_text()


def test_a_quick_run_makes_no_claim(tmp_path: Path) -> None:
    """Its targets stay out of the table of targets, and its section says so."""
    model.write(result(quick=True), tmp_path / "bench-fanout.json")
    report.write(tmp_path, tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert "## Targets" not in page
    assert "its figures are not claims" in page


def test_no_result_at_all_is_an_error_with_advice(tmp_path: Path) -> None:
    """The page is never emptied by accident."""
    with pytest.raises(FileNotFoundError, match="readback bench all"):
        report.write(tmp_path, tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists()


def test_plots_are_the_same_bytes_for_the_same_result(tmp_path: Path) -> None:
    """A commit of a plot shows a change of figures, never a date."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    for left, right in zip(plots.write_all(result(), one), plots.write_all(result(), other), strict=True):
        assert left.name == right.name
        assert left.read_bytes() == right.read_bytes()
        assert ElementTree.parse(left).getroot().tag.endswith("svg")


def test_nothing_is_drawn_for_what_was_not_measured(tmp_path: Path) -> None:
    """A result of missing servers has no plots."""
    made = result()
    made.peers = [one for one in made.peers if one.missing]
    assert plots.write_all(made, tmp_path) == []


def test_the_readme_s_figures_stand_between_its_markers(tmp_path: Path) -> None:
    """Readback beside its peers and every target; what stands around the markers stays, and a second time changes nothing."""
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    found = report.Found({"fanout": result()}, {})
    report.write_readme(found, readme)
    text = readme.read_text()
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert "| median of the runs | floor | readback | ws |" in text
    assert "one event at a time (us) | 1.90 | 2.40 | – |" in text
    assert "| fanout | CPU a delivery | at most 1.5 x floor | 1.26 x floor | yes |" in text
    report.write_readme(found, readme)
    assert readme.read_text() == text


def test_a_quick_run_is_no_figure_of_the_readme(tmp_path: Path) -> None:
    """And a README without the markers is said, not guessed at."""
    readme = tmp_path / "README.md"
    readme.write_text("nothing here\n")
    found = report.Found({"fanout": result(quick=True)}, {})
    assert report.figures(found) == ""
    with pytest.raises(ValueError, match="once each"):
        report.write_readme(found, readme)


def test_a_plot_of_many_latencies_shows_one_of_them_in_all_stretches() -> None:
    """Fifteen lines in one picture tell nobody anything."""
    made = result("redis-loss")
    ours = made.peers[1]
    one = ours.latency_us["send to delivery"]
    ours.latency_us = {f"{what}, {when}": one for when in "abcd" for what in ("ack to delivery", "send to delivery")}
    made.peers = [ours]
    figure = plots._latency(made)
    assert figure is not None
    assert [line.get_label() for line in figure.axes[0].get_lines()] == [f"ack to delivery, {when}" for when in "abcd"]
