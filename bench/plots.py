"""SVG plots of a result: figures a server with their spread, latency by percentile, memory over time.

Deterministic: the same result gives the same bytes (no dates, fixed ids), so that a commit of a plot shows a change of
figures. Text stays text. Nothing is drawn for what was not measured.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.model import Result
from bench.stats import Spread

OURS = "#0b7285"
FLOOR = "#868e96"
OTHERS = "#e8890c"
LINES = ("#0b7285", "#e8890c", "#7048e8", "#2b8a3e", "#c92a2a", "#495057", "#d6336c", "#1c7ed6", "#66a80f", "#a61e4d")
DASHES = ("-", "--", ":", "-.", (0, (1, 3)), (0, (6, 3)))
STYLE: Any = {"svg.hashsalt": "readback", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}
SHOWN_KINDS = 6
"""Latencies of one server in one plot at most."""
SHOWN_GROUPS = 4
"""Bar groups of one plot at most; more would not be read."""


def write_all(result: Result, folder: Path) -> list[Path]:
    """The plots of a result beside its JSON, named after the scenario; those that have nothing to show are left out."""
    written = []
    for name, figure in (
        ("figures", _bars(result)),
        ("latency", _latency(result)),
        ("series", _series(result)),
    ):
        if figure is not None:
            path = folder / f"bench-{result.scenario}-{name}.svg"
            path.write_bytes(_svg(figure))
            written.append(path)
    return written


def _svg(figure: Figure) -> bytes:
    out = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(out, format="svg", bbox_inches="tight", metadata={"Date": None})
    # Matplotlib ends some lines with spaces, which a diff would show.
    return b"".join(line.rstrip() + b"\n" for line in out.getvalue().splitlines())


def _groups(result: Result) -> list[tuple[str, dict[str, Spread]]]:
    """What deserves bars: rates, then CPU of the server, then memory; a server each."""
    found: dict[str, dict[str, Spread]] = {}
    for peer in result.peers:
        for name, one in peer.rates.items():
            if not name.startswith(("deliveries/s, one", "deliveries/s, batched", "sends/s, at half")):  # set by us
                found.setdefault(name, {})[peer.peer] = one
    for peer in result.peers:
        for name, one in peer.cpu_us.items():
            if name.startswith(("server", "nodes")):
                found.setdefault(f"CPU us, {name}", {})[peer.peer] = one
        for name, one in peer.values.items():
            if name.startswith(("RSS an idle", "delivered")):
                found.setdefault(name, {})[peer.peer] = one
    return list(found.items())[:SHOWN_GROUPS]


def _bars(result: Result) -> Figure | None:
    groups = _groups(result)
    if not groups:
        return None
    most = max(len(servers) for _, servers in groups)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.4 * len(groups), 0.6 + 0.34 * max(3, most)))
        for at, (title, servers) in enumerate(groups):
            _bar(figure.add_subplot(1, len(groups), at + 1), title, servers)
        figure.tight_layout()
    return figure


def _bar(axes: Axes, title: str, servers: dict[str, Spread]) -> None:
    names = list(reversed(servers))
    medians = [servers[name].median for name in names]
    ours = ("readback", "node", "nodes")
    colors = [OURS if name.endswith(ours) else FLOOR if name == "floor" else OTHERS for name in names]
    axes.barh(names, medians, color=colors)
    for at, name in enumerate(names):
        if servers[name].runs > 1:
            axes.plot([servers[name].low, servers[name].high], [at, at], color="#212529", linewidth=1)
    axes.set_title(title, fontsize=9, loc="left")
    axes.spines["right"].set_visible(False)
    axes.set_xlim(left=0)


def _latency(result: Result) -> Figure | None:
    """A line a server and latency, up to the highest percentile that the count supports."""
    measured = [one for one in result.peers if one.latency_us]
    kinds = list(dict.fromkeys(name for one in measured for name in one.latency_us))
    if not kinds:
        return None
    if len(kinds) > SHOWN_KINDS and len(measured) == 1:
        # One latency over the stretches of a run, rather than all of them: the tables have the others.
        kinds = [name for name in kinds if name.partition(",")[0] == kinds[0].partition(",")[0]]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 3.6))
        axes = figure.add_subplot(1, 1, 1)
        for at, one in enumerate(measured):
            # Where one server has several kinds, its colour says who and its dashes say what.
            for name, made in ((name, one.latency_us[name]) for name in kinds if name in one.latency_us):
                points = [(q, value) for q, value in made.curve if q > 0]
                # The usual axis of tail latency: each step to the right is ten times rarer.
                axes.plot(
                    [1.0 / (1.0 - q) for q, _ in points],
                    [max(value, 1.0) / 1000 for _, value in points],
                    color=LINES[(at if len(measured) > 1 else kinds.index(name)) % len(LINES)],
                    linestyle=DASHES[kinds.index(name) % len(DASHES)] if len(measured) > 1 else "-",
                    label=f"{one.peer}: {name}" if len(measured) > 1 else name,
                    linewidth=1.4,
                )
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([2, 10, 100, 1000, 10_000], ["p50", "p90", "p99", "p99.9", "p99.99"])
        axes.minorticks_off()
        axes.set_ylabel("ms")
        axes.grid(True, which="major", color="#dee2e6", linewidth=0.6)
        axes.spines["right"].set_visible(False)
        axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _series(result: Result) -> Figure | None:
    lines = [
        (f"{peer.peer}: {name}", points) for peer in result.peers for name, points in peer.series.items() if points
    ]
    if not lines:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.0, 3.2))
        axes = figure.add_subplot(1, 1, 1)
        for at, (name, points) in enumerate(lines):
            axes.plot([x for x, _ in points], [y for _, y in points], color=LINES[at % len(LINES)], label=name)
        axes.set_xlabel("seconds")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.grid(True, color="#dee2e6", linewidth=0.6)
        axes.spines["right"].set_visible(False)
        axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
