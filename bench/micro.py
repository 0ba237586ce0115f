"""Micro-measurements of single pure functions: ``python -m bench.micro NAME [--json FILE]``.

Each measurement is a module ``bench/micro_NAME.py`` with a ``measure`` that yields `Figure` values. They say where the
microseconds of a hot path go, and nothing about a server: for that there is ``readback bench``.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import platform
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns

NAMES = ("frames", "capture")

ROUNDS = 9
ROUND_S = 0.05


@dataclass(frozen=True, slots=True)
class Figure:
    """One function of one implementation at one size: microseconds an operation, best and median of the rounds.

    The best is what the code costs; the median tells how quiet the machine was.
    """

    what: str
    size: str
    who: str
    best_us: float
    median_us: float


def time_us(operation: Callable[[], object], *, per_call: int = 1) -> tuple[float, float]:
    """Best and median microseconds of ``operation``, which does ``per_call`` of the thing that is counted."""
    calls = 1
    while (spent_ns := _spent_ns(operation, calls)) < ROUND_S * 1e9 / 4:
        calls *= 4
    calls = max(1, round(calls * ROUND_S * 1e9 / spent_ns))
    rounds = [_spent_ns(operation, calls) / calls / per_call / 1000 for _ in range(ROUNDS)]
    return min(rounds), statistics.median(rounds)


def _spent_ns(operation: Callable[[], object], calls: int) -> int:
    collecting = gc.isenabled()
    gc.disable()
    try:
        begin = perf_counter_ns()
        for _ in range(calls):
            operation()
        return perf_counter_ns() - begin
    finally:
        if collecting:
            gc.enable()


def main() -> int:
    from rich.console import Console
    from rich.table import Table

    parser = argparse.ArgumentParser(prog="python -m bench.micro", description=__doc__.split("\n")[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    module = importlib.import_module(f"bench.micro_{options.name}")
    measure: Callable[[], Iterator[Figure]] = module.measure
    figures = []
    errors = Console(stderr=True)
    with errors.status("measuring") as status:
        for figure in measure():
            figures.append(figure)
            status.update(f"{figure.what} {figure.size}: {figure.who} {figure.best_us:.2f} us")
    everyone = list(dict.fromkeys(figure.who for figure in figures))
    table = Table("best us", "size", *everyone, title=f"{options.name}, CPython {platform.python_version()}")
    cells = {(figure.what, figure.size, figure.who): f"{figure.best_us:.2f}" for figure in figures}
    for what, size in dict.fromkeys((figure.what, figure.size) for figure in figures):
        table.add_row(what, size, *(cells.get((what, size, who), "") for who in everyone))
    Console().print(table)
    if options.json:
        record = {"python": platform.python_version(), "figures": [asdict(figure) for figure in figures]}
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
