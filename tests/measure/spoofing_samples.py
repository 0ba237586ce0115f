"""Flights of the PyPI package ``traffic`` (MIT) and trips of ``../shared/data``, as fixes that a judge can be given.

The package is opened as the archive it is, in a temporary folder; nothing of it is installed or kept. Its tables hold one row a
second, as a network of receivers keeps them: where no position came in, the last one is repeated. A fix is a position, so a
row that repeats the one before is none (`fixes`); `rows` gives them all the same, as a careless collector would send them.
Where a table says when the position was had (``last_position``), that is the fix's time, else the row's.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from core.pings import Fix
from tests.measure.own import ROOT

SAMPLES: Final = "traffic/data/samples/"
CLEAN, OTHER = "collections/quickstart", "collections/switzerland"
SPOOFED, TIMES = "noisy/noisy_spoofing", "noisy/noisy_time_issue"
TRIPS: Final = ROOT.parent / "shared/data/eta"
KNOT_MPS: Final = 1852 / 3600
FOOT_M: Final = 0.3048
START_MS: Final = 1_700_000_000_000

Row = dict[str, Any]


class Flight(NamedTuple):
    name: str
    rows: list[Fix]
    """Each row of the table, at the row's time."""
    fixes: list[Fix]
    """Each position once, at its own time where the table says it."""


def wheel(folder: Path) -> Path:
    """The package by its name, from the registry; without what it depends on."""
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), "traffic"]
    subprocess.run(pip, check=True)
    return next(folder.glob("traffic-*.whl"))


def flights(archive: zipfile.ZipFile, name: str) -> list[Flight]:
    """A table's flights: rows of one address and one call sign (which is how ``traffic`` tells them apart, too)."""
    by_name: dict[str, list[Row]] = {}
    for row in _table(gzip.decompress(archive.read(f"{SAMPLES}{name}.json.gz"))):
        by_name.setdefault(f"{row['icao24']} {row.get('callsign') or '-'}", []).append(row)
    return [flight(name, sorted(rows, key=lambda row: int(row["timestamp"]))) for name, rows in by_name.items()]


def flight(name: str, rows: list[Row]) -> Flight:
    raw, fixes, was = [], [], None
    for row in rows:
        if row["latitude"] is None or row["longitude"] is None:
            continue
        raw.append(_fix(row, int(row["timestamp"])))
        here = row["latitude"], row["longitude"]
        if here != was:
            fixes.append(_fix(row, int(row.get("last_position") or row["timestamp"])))
            was = here
    return Flight(name, raw, fixes)


def trips(path: Path) -> list[list[Fix]]:
    found = []
    for line in path.read_bytes().splitlines():
        rows = orjson.loads(line)["fixes"]
        found.append([Fix(0, START_MS + round(at_s * 1000), b"", True, lat, lon) for at_s, lat, lon in rows])
    return found


def _table(data: bytes) -> list[Row]:
    """Of either form that pandas writes: a list of rows, or columns of values by number."""
    table = orjson.loads(data)
    if isinstance(table, list):
        return table
    names = list(table)
    return [{name: table[name][key] for name in names} for key in table[names[0]]]


def _fix(row: Row, at_ms: int) -> Fix:
    speed, heading, alt = row.get("groundspeed"), row.get("track"), row.get("altitude")
    return Fix(
        0,
        at_ms,
        b"",
        True,
        round(row["latitude"], 7),
        round(row["longitude"], 7),
        None,
        None if speed is None else round(speed * KNOT_MPS, 2),
        None if heading is None else round(heading % 360, 2),
        None if alt is None else round(alt * FOOT_M, 2),
    )
