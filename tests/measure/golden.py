"""The recorded day: what becomes of its commands, and the golden outcome kept beside it.

``python -m tests.measure.golden`` compares; with ``--write`` the outcome is written anew, and what changed is said; with
``--record`` the day itself is made anew from its seed first. The recorded commands are what they are: a change of the demo's
generator does not change them until somebody records again.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from random import Random
from typing import Any, Final

from core.flight.machine import Command, Decision, Malformed, Recorded, Refusal, Unallowed
from core.flight.registry import machine_of
from gateway.demo.day import make_day
from gateway.demo.script import MEMBERS, Given, referred

SEED: Final = 20_261_121
DATE: Final = date(2026, 11, 21)
DATA: Final = Path(__file__).parent.parent / "data"
RECORDED: Final = DATA / "day200.jsonl.gz"
GOLDEN: Final = DATA / "day200_golden.json"
IN_FULL: Final = 10
"""Flights whose last state is kept word for word; of the others a digest is."""

Outcome = dict[str, Any]


class World:
    """Streams and their machines, in memory: what a log would hold of the day, and no more."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}
        self.events: dict[str, list[Recorded]] = {}

    def shown(self, stream: str) -> dict[str, Any]:
        machine = machine_of(stream)
        assert machine is not None, stream
        return machine.show(self.states.get(stream, machine.initial()))

    def give(self, given: Given) -> Decision:
        machine = machine_of(given.stream)
        assert machine is not None, given.stream
        state = self.states.get(given.stream, machine.initial())
        decision = machine.decide(state, Command(given.type, given.body, given.by, MEMBERS[given.by]), given.at_ms)
        if isinstance(decision, list):
            events = self.events.setdefault(given.stream, [])
            for fact in decision:
                body = json.loads(json.dumps(fact.body))  # as the log would give it back
                event = Recorded(len(events) + 1, fact.type, given.by, given.at_ms, body)
                state = machine.evolve(state, event)
                events.append(event)
            self.states[given.stream] = state
        return decision


def record() -> list[Given]:
    """The day of the seed, with seqs where its commands name events."""
    world = World()
    given = []
    for one in make_day(Random(SEED), DATE).given:
        whole = one._replace(body=referred(one, world.shown(one.stream)) if "ref" in one.body else one.body)
        world.give(whole)
        given.append(whole)
    return given


def write_recorded(given: Iterable[Given], path: Path = RECORDED) -> None:
    lines = "".join(json.dumps(one._asdict(), separators=(",", ":")) + "\n" for one in given)
    with path.open("wb") as raw, gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as file:
        file.write(lines.encode())


def recorded(path: Path = RECORDED) -> Iterator[Given]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            yield Given(**json.loads(line))


def refused_for(decision: Decision) -> str:
    """A word; empty where the command was obeyed."""
    if isinstance(decision, Refusal):
        return decision.reason
    if isinstance(decision, Malformed):
        return "bad_request"
    return "forbidden" if isinstance(decision, Unallowed) else ""


def replay(given: Iterable[Given]) -> Outcome:
    """Through the machines alone."""
    world = World()
    refusals: Counter[str] = Counter()
    for one in given:
        refusals[refused_for(world.give(one))] += 1
    return outcome(world.events, refusals)


def outcome(events: Mapping[str, Sequence[Recorded]], refusals: Mapping[str, int]) -> Outcome:
    """What is compared. ``events`` are all of each stream, ``refusals`` by reason (commands obeyed under the empty one)."""
    shown = {}
    for stream in sorted(events):
        machine = machine_of(stream)
        assert machine is not None
        state = machine.initial()
        for event in events[stream]:
            state = machine.evolve(state, event)
        shown[stream] = machine.show(state)
    flights = {stream: one for stream, one in shown.items() if "times" in one}
    return {
        "commands": sum(refusals.values()),
        "heads": {stream: len(events[stream]) for stream in shown},
        "events": dict(sorted(Counter(event.type for all in events.values() for event in all).items())),
        "refused": {reason: count for reason, count in sorted(refusals.items()) if reason},
        "statuses": dict(sorted(Counter(one["status"] for one in flights.values()).items())),
        "shown": {stream: _digest(one) for stream, one in shown.items()},
        "in_full": {stream: flights[stream] for stream in _remarkable(flights)},
        "board": [_row(one) for one in sorted(flights.values(), key=_by_time)],
    }


def _digest(shown: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()[:16]


def _remarkable(flights: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Those with most to tell: legs that are over, corrections, reasons, cancellation."""

    def told(stream: str) -> tuple[int, str]:
        one = flights[stream]
        delayed = one["delayed"] or {"reasons": ()}
        score = (
            4 * len(one["legs"]) + 3 * len(one["corrections"]) + 5 * bool(one["cancelled"]) + len(delayed["reasons"])
        )
        return -score, stream

    return sorted(sorted(flights, key=told)[:IN_FULL])


def _by_time(shown: Mapping[str, Any]) -> tuple[str, str]:
    return shown["times"]["OUT"]["scheduled"] or "", shown["flight"]


def _row(shown: Mapping[str, Any]) -> str:
    """One line of the board."""
    times = shown["times"]
    best = " ".join(f"{name} {(times[name]['best'] or '-')[11:16]}" for name in ("OUT", "OFF", "ON", "IN"))
    late = shown["delayed"]["minutes"] if shown["delayed"] else 0
    return f"{shown['flight']} {shown['from']}-{shown['to']} {shown['registration']} {shown['status']} {best} +{late}"


def differences(golden: Outcome, found: Outcome, path: str = "") -> Iterator[str]:
    """What is not as it was, a line each."""
    for name in sorted(golden.keys() | found.keys()):
        was, now, where = golden.get(name), found.get(name), f"{path}{name}"
        if isinstance(was, dict) and isinstance(now, dict):
            yield from differences(was, now, f"{where}.")
        elif isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
            yield from (f"{where}: {old!r} is now {new!r}" for old, new in zip(was, now, strict=True) if old != new)
        elif was != now:
            yield f"{where}: {was!r} is now {now!r}"


def golden() -> Outcome:
    found: Outcome = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.measure.golden", description=__doc__)
    parser.add_argument("--record", action="store_true", help="make the day's commands anew from the seed")
    parser.add_argument("--write", action="store_true", help="keep the outcome as it is now")
    options = parser.parse_args(arguments)
    if options.record:
        write_recorded(record())
    found = replay(recorded())
    changed = list(differences(golden(), found))
    for line in changed[:200]:
        print(line)
    print(f"{found['commands']} commands, {len(changed)} differences from the golden outcome")
    if options.write and changed:
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        print(f"written: {GOLDEN.name}")
        return 0
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
