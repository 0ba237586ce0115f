"""docs/benchmarks.md, written from the JSON of the runs: every figure on the page is a figure of a file beside it.

Nothing is typed by hand into the page; to change it, measure again. A scenario without a file is named as not measured.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bench import model, plots, table
from bench.model import Result

BESIDE_PEERS = ("floor", "echo", "fanout", "chat", "resume-storm", "jitter", "idle", "slow")
ONE_NODE = (*BESIDE_PEERS, "noisy-neighbour", "flights", "arrivals")
MANY_NODES = ("cluster", "drain", "presence-storm", "redis-loss", "node-loss", "jitter-cluster")
ORDER = (*ONE_NODE, *MANY_NODES, "soak")
ABOUT = {
    "floor": "What this machine's kernel asks for a bare echo and a bare send, when a server does nothing else.",
    "echo": "A ping answered by a pong, one outstanding on every connection, as fast as the server goes.",
    "fanout": "One publisher, many subscribers of one stream: what a delivery costs beside a bare `send`.",
    "chat": "Many rooms; every send is acknowledged and delivered to everyone in its room.",
    "resume-storm": "Everybody drops, and everybody comes back at the same moment.",
    "jitter": "Every client's connection is killed again and again while messages flow; every seq is accounted for.",
    "idle": "What a connection that says nothing costs in memory.",
    "slow": "Some subscribers stop reading; do the others notice, and does the server's memory grow?",
    "noisy-neighbour": "One tenant does fifty times its share of something: what do the others on its node notice?",
    "flights": "Commands that are decided before they are committed, and what reads their events: read models, the live board, "
    "the past, timers.",
    "arrivals": "Positions taken, watched and kept; how soon arrival times and alerts are there, and what they cost.",
    "cluster": "One to four nodes on one Postgres and one Redis: delivery across nodes, and the work that a core carries.",
    "drain": "Every node is told to end and replaced, one after another, while everybody chats: a deploy.",
    "presence-storm": "Thousands join and leave rooms every second, on several nodes; when does everybody know the truth?",
    "redis-loss": "Redis is killed under chat, started again, frozen and thawed: how late is an event?",
    "node-loss": "One of several nodes is killed under chat: what is lost, who is whole when, who is there?",
    "soak": "Half an hour of chat while clients come and go: does memory stay flat, does the loop stay on time?",
    "jitter-cluster": "`jitter` over several nodes: everybody who returns does so at another node.",
}
HEAD = """# Benchmarks

This page is written by `readback bench report` from the JSON files in `docs/data/`; no figure on it is typed by hand.
`make bench` measures everything again and rewrites it.

How to read it:

- Server and load generator share one machine and its loopback. Absolute figures belong to that machine; the claims are
  the ratios between servers of one run, and to the *floor*, which is the machine's own limit measured in the same run.
- CPU is utime + stime of the server process from `/proc`, Postgres' processes apart from it. Microseconds a
  unit, the generator's own CPU not included.
- Repeats go through the servers in turn (A B A B). `7.8 (7.6..8.3)` is the median with the least and the greatest run.
- Percentiles are taken over the merged samples of all runs, never averaged; one without ten samples beyond it is a dash.
- Every server is one process; the scenarios of several nodes are of Readback alone, whose nodes share one Postgres and
  one Redis on the same cores; `noisy-neighbour`, `flights`, `arrivals` and `soak` are of Readback alone too. Peers speak
  the nearest equivalent of Readback's wire and parse and build the same JSON; *durable* says whether a send is in a
  database on disk when it is acknowledged.
- A target that was not met says **no**.
"""


HEADLINES = (
    ("echo", "echoes/s", "echoes a second, 500 connections"),
    ("fanout", "CPU us, server per delivery, one", "CPU a delivery, 1,000 subscribers, one event at a time (us)"),
    ("fanout", "CPU us, server per delivery, batched", "the same under load, in batches (us)"),
    ("chat", "sends/s, saturated", "chat sends a second, each delivered to its room"),
    ("jitter", "delivered (%)", "delivered to clients whose connections are killed (%)"),
    ("idle", "RSS an idle connection (KB)", "memory an idle connection (KB)"),
)
"""(scenario, a column of its figures, what the README calls it)."""

BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"


@dataclass(frozen=True, slots=True)
class Found:
    """Results by scenario, and the files that could not be read with the reason."""

    results: dict[str, Result]
    unreadable: dict[str, str]


def load(data: Path) -> Found:
    results: dict[str, Result] = {}
    unreadable: dict[str, str] = {}
    for scenario in ORDER:
        path = data / f"bench-{scenario}.json"
        if path.exists():
            try:
                results[scenario] = model.from_json(path.read_bytes())
            except ValueError as error:
                unreadable[scenario] = str(error)
    return Found(results, unreadable)


def page(found: Found, pictures: dict[str, list[str]]) -> str:
    """The whole page. ``pictures`` are links relative to it, by scenario."""
    parts = [HEAD, _targets(found)]
    for scenario in ORDER:
        parts.append(f"## {scenario}\n\n{ABOUT[scenario]}\n")
        result = found.results.get(scenario)
        if result is None:
            reason = found.unreadable.get(scenario)
            parts.append(f"The file could not be read: {reason}.\n" if reason else "Not measured yet.\n")
        else:
            parts.append(_section(result, pictures.get(scenario, [])))
    return "\n".join(parts)


def figures(found: Found) -> str:
    """The README's part: Readback beside its peers, then every target with what was measured."""
    results = {name: result for name, result in found.results.items() if not result.quick}
    servers = list(dict.fromkeys(one.peer for name in ONE_NODE if name in results for one in results[name].peers))
    rows = []
    for scenario, column, called in HEADLINES:
        if scenario not in results:
            continue
        head, lines = table.figures(results[scenario])
        if column in head:
            cells = {line[0]: line[head.index(column)].partition(" (")[0] for line in lines if line[-1]}
            rows.append([called, *(cells.get(server) or "–" for server in servers)])
    beside = table.markdown((["median of the runs", *servers], rows)) if rows else ""
    told = _targets(found).partition("\n\n")[2]
    return "\n".join(part for part in (_said(results), beside, told) if part)


def _said(results: dict[str, Result]) -> str:
    if not results:
        return ""
    machine = next(iter(results.values())).machine
    return (
        f"Measured by `make bench` on one machine ({machine.cores} cores, Linux {machine.kernel}, Python {machine.python}),\n"
        "load generator and Postgres on the same cores. Readback commits every send before it answers; its peers keep\n"
        "nothing. *floor* is bare `recv` and `send`. [docs/benchmarks.md](docs/benchmarks.md) has the rest, with spreads\n"
        "and percentiles.\n"
    )


def write_readme(found: Found, readme: Path) -> None:
    """Put `figures` between the markers. `ValueError` where the markers do not stand once each, in order."""
    text = readme.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{readme} must hold {BEGIN} and {END} once each, in this order")
    before, _, rest = text.partition(BEGIN)
    readme.write_text(f"{before}{BEGIN}\n{figures(found)}\n{END}{rest.partition(END)[2]}")


def _targets(found: Found) -> str:
    rows = [
        [scenario, *row]
        for scenario, result in found.results.items()
        if not result.quick
        for row in table.targets(result)[1]
    ]
    if not rows:
        return ""
    return "## Targets\n\n" + table.markdown((["scenario", "target", "asked", "measured", "met"], _bold(rows)))


def _bold(rows: list[list[str]]) -> list[list[str]]:
    return [[*row[:-1], "**no**" if row[-1] == "NO" else row[-1]] for row in rows]


def _section(result: Result, pictures: list[str]) -> str:
    machine = result.machine
    parameters = ", ".join(f"{name} {value}" for name, value in result.parameters.items())
    parts = []
    if result.quick:
        parts.append("**A quick run: it shows that the harness works; its figures are not claims.**\n")
    parts.append(
        f"Measured {result.at} in {result.took_s:g} s: {parameters}. Machine: {machine.cores} cores, "
        f"{machine.memory_gib:g} GiB, Linux {machine.kernel}, Python {machine.python}"
        f"{f', Node {machine.node}' if machine.node else ''}, load average {machine.load_1m:g} when it began.\n"
    )
    parts += [f"![{picture.rpartition('/')[2]}]({picture})\n" for picture in pictures]
    parts.append(table.turned_markdown(table.figures(result)))
    parts.append(table.markdown(table.latencies(result)))
    parts.append(table.turned_markdown(table.counts(result)))
    parts += [f"- {one.peer} was not measured: {one.missing}.\n" for one in result.peers if one.missing is not None]
    parts += [f"- {one.peer}: {one.note}.\n" for one in result.peers if one.note and one.note != "not durable"]
    parts.append("".join(f"- {note}\n" for note in result.notes))
    return "\n".join(part for part in parts if part)


def write(data: Path, out: Path) -> Found:
    """Plots into ``data``, the page to ``out``. `FileNotFoundError` when there is no result at all."""
    found = load(data)
    if not found.results:
        raise FileNotFoundError(f"no results in {data}: run `readback bench all`, or a scenario with --json")
    pictures: dict[str, list[str]] = {}
    for scenario, result in found.results.items():
        pictures[scenario] = [
            Path(os.path.relpath(path, out.parent)).as_posix() for path in plots.write_all(result, data)
        ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page(found, pictures))
    return found
