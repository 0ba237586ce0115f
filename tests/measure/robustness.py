"""The tables of docs/robustness.md, from what was measured: ``python -m tests.measure.robustness [--write]``.

Each block stands between ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``. ``--write`` puts them anew; tests/unit/test_docs.py
holds the page to them, so that a figure on the page is always one of a file in docs/data.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from proof.guarantees import GUARANTEES
from proof.sim.mutants import MUTANTS
from proof.sim.swarm import TROUBLES
from tests.conformance.autobahn import table

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "robustness.md"
DATA: Final = ROOT / "docs" / "data"

MEANINGS: Final = {
    "cut": "connections are reset, unread bytes are lost, also amid a frame",
    "stall": "nothing on some links moves for a while",
    "half_open": "a client is gone and its node is not told",
    "dribble": "links that carry one, three or twenty bytes at a time",
    "crash": "a node ends between two steps: its connections are reset, its tasks do nothing more",
    "power": "the same, and nobody is told: its clients find out by their own time-outs",
    "crash_amid": "a node ends at a checkpoint that was chosen beforehand, up to 300 steps ahead",
    "pause": "a node stands still for 1 to 60 s (SIGSTOP, a stolen CPU); its timers run out meanwhile",
    "wall": "a node's wall clock jumps, by 0.3 s to two hours, either way",
    "drain": "a node leaves in good order, whatever is under way, and is started again",
    "bus_down": "the bus is away for all, and comes back",
    "bus_loses": "a tenth, half or all of the messages are lost, for each hearer apart; claims go unanswered",
    "bus_doubles": "messages come twice",
    "bus_late": "messages come late, and behind later ones",
    "bus_parted": "one node is cut off from the others on the bus, also for longer than its lease",
    "bus_deaf": "one node hears nothing and does not notice",
    "bus_version": "one node is of another version, whose messages nobody else can read",
    "log_down": "the log answers nobody",
    "log_slow": "each way to the log and back takes up to 0.3 s",
    "log_unknown": "calls are lost before their effect, or their answers after it",
    "log_late": "a commit takes effect after its node was told that there is no answer",
    "log_refuses": "calls are refused at once",
    "removal": "people lose their place in a stream, and get it back, as members or readers",
    "trim": "what followers still want is forgotten",
    "evict": "streams nobody follows are let go at once",
    "restore": "the log is put back to a backup, under a new epoch",
    "hostile": "somebody sends what breaks the rules, again and again",
    "desk": "the HTTP API's half of a node sends, reads and lists meanwhile",
    "work_crash": "kill -9 of a worker, now or amid one of its next hundred steps: its leases and claims run out by themselves",
    "work_leaves": "a worker leaves in good order, and another begins",
    "work_slow": "each way to the workers' store and back takes up to 0.6 s: claims run out while their tasks are done",
    "work_unknown": "calls of workers are lost before their effect, or their answers after it",
    "work_late": "a commit, claim or beat takes effect after its worker was told that there is no answer",
    "work_refuses": "calls of workers are refused at once",
    "beat_lost": "a worker's beats get no answer for up to twice its lease, while it goes on with what others have by then",
    "skew": "a node's clock is off by 0.01 to 0.8 s, either way",
    "poison": "a consumer cannot take a flight's events for a while; then an operator has the parked stream tried again",
    "rebuild": "some read models are made anew beside the live ones, on a node that may crash amid it, and by two at once",
    "operator": "a saga is told to turn back, or to go on where it is parked, again and again until somebody answers",
}


def _json(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((DATA / name).read_text())
    return data


def _count(number: float) -> str:
    return f"{number:,.0f}"


def guarantees() -> str:
    """Names, promises, and how many observations each was held against in the measured runs."""
    small, large, faults = _json("sim-small.json"), _json("sim-large.json"), _json("faults.json")
    lines = ["| guarantee | promise | judged in simulation | judged under real faults |", "| --- | --- | ---: | ---: |"]
    for guarantee in GUARANTEES:
        simulated = small["judged"].get(guarantee.name, 0) + large["judged"].get(guarantee.name, 0)
        real = faults["judged"].get(guarantee.name, 0)
        promise = guarantee.promise[0].upper() + guarantee.promise[1:]
        counts = " | ".join(_count(count) if count else "–" for count in (simulated, real))
        lines.append(f"| **{guarantee.name}** | {promise} | {counts} |")
    return "\n".join(lines)


def troubles() -> str:
    lines = ["| trouble | what happens |", "| --- | --- |"]
    lines += [f"| `{name}` | {MEANINGS[name]} |" for name in TROUBLES]
    return "\n".join(lines)


def seeds() -> str:
    """What was run, and what came of it."""
    lines = ["| runs | command | failed | simulated | rate |", "| --- | --- | ---: | ---: | ---: |"]
    for name, command in (
        ("sim-small.json", "readback sim --seeds {} --json"),
        ("sim-large.json", "readback sim --seeds {} --size large --json"),
        ("sim-crashes.json", "readback sim --seeds {} --size short --every-crash --json"),
    ):
        data = _json(name)
        kind = {
            "sim-small.json": "small",
            "sim-large.json": "large",
            "sim-crashes.json": "short, a crash at each checkpoint",
        }
        rate = 60 * data["runs"] / data["cpu_seconds"]
        lines.append(
            f"| {_count(data['runs'])} {kind[name]} | `{command.format(data['seeds'])}` | {len(data['failed'])} "
            f"| {data['simulated_s'] / 3600:.1f} h | {rate:.0f} a minute of a core |"
        )
    return "\n".join(lines)


def mutants() -> str:
    data = _json("mutants.json")
    assert [row["mutant"] for row in data["mutants"]] == [mutant.name for mutant in MUTANTS], "run make test-mutants"
    lines = ["| planted error | in | first seed | found by |", "| --- | --- | ---: | --- |"]
    for row in data["mutants"]:
        place = row["where"].partition(":")[2]
        seed = "–" if row["seed"] is None else str(row["seed"])
        lines.append(f"| {row['mutant']} | `{place}` | {seed} | {row['by']} |")
    return "\n".join(lines)


def paths() -> str:
    """How often each rare path was met in the measured runs."""
    small, large = _json("sim-small.json")["meters"], _json("sim-large.json")["meters"]
    lines = ["| rare path | met |", "| --- | ---: |"]
    lines += [f"| {name} | {_count(small.get(name, 0) + large.get(name, 0))} |" for name in sorted({*small, *large})]
    return "\n".join(lines)


def mutation() -> str:
    data = _json("mutation.json")["targets"]
    lines = ["| changed, one thing at a time | mutants | found | change nothing | found of all | of the rest |",
             "| --- | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for target in data.values():
        equivalent = len(target["equivalent"])
        found = target["killed"] + target["timeout"]
        real = target["mutants"] - equivalent
        lines.append(
            f"| `{target['source']}` | {_count(target['mutants'])} | {_count(found)} | {equivalent} "
            f"| {100 * found / target['mutants']:.1f} % | {100 * found / real:.1f} % |"
        )
    return "\n".join(lines)


def autobahn() -> str:
    block = table(_json("autobahn.json")).strip().splitlines()
    return "\n".join(line for line in block if not line.startswith("<!--"))


BLOCKS: Final[dict[str, Callable[[], str]]] = {
    "guarantees": guarantees,
    "troubles": troubles,
    "seeds": seeds,
    "mutants": mutants,
    "paths": paths,
    "mutation": mutation,
    "autobahn": autobahn,
}


def block_of(page: str, name: str) -> str:
    """What stands between the markers. Raises `ValueError` where they do not."""
    _, begins, rest = page.partition(f"<!-- {name}:begin -->\n")
    block, ends, _ = rest.partition(f"<!-- {name}:end -->")
    if not begins or not ends:
        raise ValueError(f"no block {name}")
    return block


def rendered(page: str) -> str:
    for name, make in BLOCKS.items():
        begin = f"<!-- {name}:begin -->\n"
        page = page.replace(begin + block_of(page, name), f"{begin}{make().strip()}\n")
    return page


def main() -> None:
    if "--write" in sys.argv[1:]:
        PAGE.write_text(rendered(PAGE.read_text()))
    else:
        for name, make in BLOCKS.items():
            print(f"{name}\n\n{make()}\n")


if __name__ == "__main__":
    main()
