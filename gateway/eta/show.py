"""What a person sees of a score: tables, and pictures where they were asked for.

For: `readback eta score`. Promises: what is not known is not shown. Does not: score (`core.geo.score`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from core.geo.score import CallScore, Said, Score, call_score, percentile
from gateway.cli_errors import CANNOT, CliError
from gateway.eta.played import Played

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURES = ("buckets.png", "interval.png", "jitter.png", "trips.png")
TRIPS_SHOWN = 6
EARLY_S = 120.0


def as_json(score: Score) -> dict[str, object]:
    body = score._asdict()
    body["buckets"] = [bucket._asdict() for bucket in score.buckets]
    body["alerts"] = [alert._asdict() for alert in score.alerts]
    body["calls"] = None if score.calls is None else score.calls._asdict()
    return body


def print_score(score: Score, console: Console) -> None:
    """The benchmark's table, then the rest."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("to arrival", "said", "within", "mean error", "80 % interval held"):
        table.add_column(name, justify="left" if name == "to arrival" else "right")
    for bucket in score.buckets:
        row = (f"{bucket.within:.1%}", f"{bucket.mae_s:.0f} s", f"{bucket.covered:.1%}")
        table.add_row(bucket.bucket, str(bucket.fixes), *(row if bucket.fixes else ("-", "-", "-")))
    table.add_section()
    table.add_row("all buckets", "", f"{score.overall:.1%}", "", "", style="bold")
    table.add_row("all that was said", str(score.said), "", f"{score.mae_s:.0f} s", f"{score.covered:.1%}")
    console.print(table)
    console.print(
        f"{score.trips} trips. From one fix to the next the shown arrival moves by {score.jitter_p50_s:.0f} s (median), "
        f"{score.jitter_p95_s:.0f} s (95th percentile); {score.moved:.0%} of fixes move it. "
        f"In a trip it travels {score.travel_s:.0f} s and turns back {score.reversals:.1f} times.",
        highlight=False,
    )
    sources = ", ".join(f"{name or 'unnamed'} {count}" for name, count in sorted(score.sources.items()))
    console.print(f"Sources: {sources}.", highlight=False, markup=False)
    if score.alerts:
        table = Table(box=box.SIMPLE_HEAD)
        for name in ("alert", "trips", "sent", "twice", "missed", "merged", "lead error, median", "absolute"):
            table.add_column(name, justify="right")
        for alert in score.alerts:
            table.add_row(
                f"{alert.threshold_s / 60:g} min",
                str(alert.trips),
                str(alert.sent),
                str(alert.duplicates),
                str(alert.missed),
                str(alert.merged),
                f"{alert.error_median_s:+.0f} s",
                f"{alert.error_abs_median_s:.0f} s",
            )
        console.print(table)
    if score.calls is not None:
        console.print(calls_line(score.calls), highlight=False)


def print_played(played: Sequence[Played], console: Console) -> None:
    """What a replay says beside its files."""
    console.print(calls_line(call_score([one.calls for one in played])), highlight=False, soft_wrap=True)
    ends = [one.reached_s - one.trip.arrive_s for one in played if one.reached_s is not None]
    console.print(
        f"Taken to have arrived: {len(ends)} trips, {percentile(ends, 0.5):+.0f} s from the arrival (median), "
        f"{sum(end < -EARLY_S for end in ends)} more than {EARLY_S:.0f} s before it.",
        highlight=False,
        soft_wrap=True,
    )


def calls_line(calls: CallScore) -> str:
    reasons = ", ".join(f"{name} {count}" for name, count in sorted(calls.reasons.items())) or "none"
    return (
        f"Calls of the provider: {calls.mean:.2f} a trip, {calls.p95:.0f} (95th percentile), {calls.most} at most, "
        f"{calls.half_hour_max} at most within 30 minutes ({reasons}). Failed: {calls.failed}; made after a failed one of the "
        f"same trip: {calls.after_failed}."
    )


def draw(score: Score, arrivals: Mapping[str, float], said: Mapping[str, Sequence[Said]], folder: Path) -> list[Path]:
    """Four pictures in the folder."""
    try:
        import matplotlib
    except ImportError:
        raise CliError("pictures need matplotlib: pip install 'readback[bench]'", CANNOT) from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[Path] = []

    def picture(name: str, paint: Any, wide: float = 6.4) -> None:
        figure, axes = pyplot.subplots(figsize=(wide, 3.8), layout="constrained")
        paint(axes)
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(folder / name, dpi=110)
        pyplot.close(figure)
        drawn.append(folder / name)

    picture(PICTURES[0], lambda axes: _buckets(axes, score))
    picture(PICTURES[1], lambda axes: _interval(axes, arrivals, said))
    picture(PICTURES[2], lambda axes: _jitter(axes, said))
    picture(PICTURES[3], lambda axes: _trips(axes, arrivals, said))
    return drawn


def _buckets(axes: Axes, score: Score) -> None:
    bars = axes.bar([bucket.bucket for bucket in score.buckets], [100 * bucket.within for bucket in score.buckets])
    axes.bar_label(bars, fmt="%.0f %%")
    axes.axhline(100 * score.overall, color="black", linewidth=1, linestyle=":")
    axes.set(ylim=(0, 100), ylabel="within tolerance, %", title=f"ETA Accuracy Benchmark: {score.overall:.1%}")


def _interval(axes: Axes, arrivals: Mapping[str, float], said: Mapping[str, Sequence[Said]]) -> None:
    """How often the interval held, by minutes to go."""
    held: dict[int, list[bool]] = {}
    for trip, lines in said.items():
        for line in lines:
            minute = int(max(0.0, arrivals[trip] - line.at_s) // 120) * 2
            held.setdefault(minute, []).append(line.low_s <= arrivals[trip] <= line.high_s)
    minutes = sorted(minute for minute, cases in held.items() if len(cases) >= 20)
    axes.axhspan(75, 85, color="tab:green", alpha=0.15, linewidth=0)
    axes.plot(minutes, [100 * sum(held[minute]) / len(held[minute]) for minute in minutes], marker="o", markersize=3)
    axes.set(ylim=(0, 100), xlabel="minutes to go", ylabel="80 % interval held, %", title="Intervals")


def _jitter(axes: Axes, said: Mapping[str, Sequence[Said]]) -> None:
    """Which part of fixes moves the shown arrival by at most so much."""
    steps = sorted(abs(after.eta_s - before.eta_s) for lines in said.values() for before, after in pairwise(lines))
    axes.plot(steps, [100 * (at + 1) / len(steps) for at in range(len(steps))])
    axes.axhline(95, color="black", linewidth=1, linestyle=":")
    axes.set(xlim=(0, 180), ylim=(0, 100), xlabel="moved by at most, s", ylabel="fixes, %", title="Jitter")


def _trips(axes: Axes, arrivals: Mapping[str, float], said: Mapping[str, Sequence[Said]]) -> None:
    """Some trips: how far off the shown arrival was, as the arrival came nearer."""
    names = sorted(said)[:: max(1, len(said) // TRIPS_SHOWN)][:TRIPS_SHOWN]
    for name in names:
        left = [(arrivals[name] - line.at_s) / 60 for line in said[name]]
        axes.plot(left, [(line.eta_s - arrivals[name]) / 60 for line in said[name]], label=name, linewidth=1)
    axes.axhline(0, color="black", linewidth=1)
    axes.invert_xaxis()
    axes.set(xlabel="minutes to go", ylabel="shown too late, minutes", title="What some trips were shown")
    axes.legend(fontsize="x-small")
