"""How fast read models follow the log, and are rebuilt: ``python -m bench.projection [--events N] [--json FILE]``.

A Postgres of its own is filled with the facts of flights, their cabins and their crew, interleaved as they would come in a
day: of every flight one command's facts after the other's. Then one worker with the consumer of read models alone takes them
all, and all five models are rebuilt, then one. Each in this process, commits and all. Beside it: what folding and making rows
costs without any store. The promises are 20,000 events/s into read models and 30,000 events/s for a rebuild.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import orjson
import trio

from bench import proc
from core.commands import derived_key
from core.flight.machine import Recorded
from core.flight.read_models import source_of
from core.flight.times import write
from core.flight.views import CONSUMER, MODELS, changes
from core.model import Decided, Outcome
from core.work_limits import WorkLimits
from gateway.work.rebuild import Rebuild
from gateway.work.views import Views
from gateway.work.worker import Worker
from store.embedded import SUPERUSER, running_postgres
from store.postgres import PostgresLog, migrate_database, open_postgres_log

PROJECTED_MIN: Final = 20_000.0
REBUILT_MIN: Final = 30_000.0
TENANT: Final = "bench"
USER: Final = "readback_gateway"
DAY_MS: Final = 1_795_219_200_000
STEP_MS: Final = 60_000
SEATS: Final = 60
COMMANDS_AT_ONCE: Final = 400

Body = tuple[str, dict[str, Any]]


def _leg(number: int) -> Iterator[Sequence[Body]]:
    """38 facts: a schedule, estimates as the day goes, gates, the four milestones, a delay."""
    start = DAY_MS + (number % 960) * STEP_MS
    out, arrive = write(start), write(start + 90 * STEP_MS)
    name = {"flight": f"QX{number}", "operator": "QX", "registration": f"VH-{number % 97:03}", "type": "B738"}
    yield [("flight.scheduled", {**name, "service": "J", "from": "SYD", "to": "MEL", "out": out, "in": arrive})]
    for n in range(28):
        milestone = ("OUT", "OFF", "ON", "IN")[n % 4]
        said = {"milestone": milestone, "kind": "estimated", "at": write(start + (n + 1) * STEP_MS), "source": "ops"}
        yield [("flight.milestone", said)]
        if n in (3, 9, 15):
            yield [("flight.gate", {"departure": {"gate": str(n)}})]
    yield [("flight.boarding", {"at": write(start - 20 * STEP_MS)})]
    yield [("flight.delayed", {"reasons": [{"code": "31", "minutes": 12}]})]
    for n, milestone in enumerate(("OUT", "OFF", "ON", "IN")):
        said = {
            "milestone": milestone,
            "kind": "actual",
            "at": write(start + (12 + 20 * n) * STEP_MS),
            "source": "acars",
        }
        yield [("flight.milestone", said)]


def _cabin(number: int) -> Iterator[Sequence[Body]]:
    """241 facts: a layout, and for each of 60 passengers a booking with a seat, check-in and boarding."""
    layout = {"rows": [{"row": row, "seats": "ABCDEF", "class": "Y"} for row in range(1, SEATS // 6 + 1)]}
    yield [("seat.opened", {"flight": f"QX{number}", "layout": layout, "overbooking": 0})]
    for n in range(SEATS):
        who, seat = f"p{number}-{n}", f"{n // 6 + 1}{'ABCDEF'[n % 6]}"
        yield [("seat.booked", {"passenger": who}), ("seat.assigned", {"passenger": who, "seat": seat})]
    for n in range(SEATS):
        who, seat = f"p{number}-{n}", f"{n // 6 + 1}{'ABCDEF'[n % 6]}"
        yield [("seat.checked_in", {"passenger": who, "at": write(DAY_MS)})]
        yield [("seat.boarded", {"passenger": who, "seat": seat, "at": write(DAY_MS)})]


def _crew(number: int) -> Iterator[Sequence[Body]]:
    """13 facts: who it is, and four duties of three."""
    yield [("crew.registered", {"name": f"C{number}", "base": "SYD", "pack": "far135", "roles": ["captain"]})]
    for n in range(4):
        flight, start = f"QX{number * 4 + n}", DAY_MS + n * 86_400_000
        duty = {"flight": flight, "role": "captain", "report_at": write(start), "release_at": write(start + 7_200_000)}
        yield [("crew.assigned", {**duty, "block_minutes": 90})]
        yield [("crew.reported", {"flight": flight, "at": write(start)})]
        yield [("crew.off", {"flight": flight, "at": write(start + 7_200_000), "block_minutes": 88})]


def _stories(events: int) -> dict[str, Iterator[Sequence[Body]]]:
    """Streams with what comes of them; about so many events in all."""
    found: dict[str, Iterator[Sequence[Body]]] = {}
    flights = max(1, events // (38 + 241 + 3))
    for number in range(flights):
        found[f"flight:QX{number}"] = _leg(number)
        found[f"flight:QX{number}.seats"] = _cabin(number)
    for number in range(max(1, flights // 4)):
        found[f"flight:crew.c{number}"] = _crew(number)
    return found


async def fill(log: PostgresLog, events: int) -> int:
    """Commands that became these facts, one a stream in each round; how many facts."""
    stories, written = _stories(events), 0
    states: dict[str, tuple[int, int]] = {}
    for stream in stories:
        facts = await log.create_stream(TENANT, stream, open=True, members=[], by="service:bench")
        states[stream] = (facts.sid, 0)
    while stories:
        batch: list[tuple[str, Decided]] = []
        for stream in list(stories):
            bodies = next(stories[stream], None)
            if bodies is None:
                del stories[stream]
                continue
            batch.append((stream, _decided(*states[stream], bodies)))
        for at in range(0, len(batch), COMMANDS_AT_ONCE):
            part = batch[at : at + COMMANDS_AT_ONCE]
            for (stream, decided), judged in zip(part, await log.command([one for _, one in part]), strict=True):
                assert judged.outcome is Outcome.OK, judged
                written += len(decided.facts)
                states[stream] = (decided.sid, judged.seq + len(decided.facts) - 1)
    return written


def _decided(sid: int, state: int, bodies: Sequence[Body]) -> Decided:
    key = str(uuid.uuid4())
    facts = [(derived_key(key, n) if n else key, type, orjson.dumps(body)) for n, (type, body) in enumerate(bodies)]
    return Decided(TENANT, sid, key, "bench", "service:bench", state, facts, privileged=True)


async def _project(log: PostgresLog) -> float:
    """Seconds until a worker has taken everything."""
    worker = Worker(
        log,
        log.work,
        [Views(log)],
        [],
        holder=f"bench-{uuid.uuid4()}",
        limits=WorkLimits(),
        rng=Random(1),
        wall=time.time,
    )
    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        await nursery.start(worker.run)
        while not (cursors := await log.work.cursors(CONSUMER)) or any(c.pos < c.head for c in cursors):  # noqa: ASYNC110
            await trio.sleep(0.02)
        taken = time.perf_counter() - began
        await worker.leave()
        nursery.cancel_scope.cancel()
    assert worker.parked == 0
    return taken


async def _rebuild(log: PostgresLog, *models: str) -> tuple[float, float]:
    """Seconds in all, and of those that workers would have waited."""
    began = time.perf_counter()
    done = await Rebuild(log, log.work, models, holder=f"bench-{uuid.uuid4()}").run()
    return time.perf_counter() - began, done.held_s


def pure(events: int) -> dict[str, float]:
    """Microseconds an event, by kind of stream, one event at a time."""
    taken: dict[str, list[float]] = {}
    for stream, story in _stories(events).items():
        source = source_of(stream)
        assert source is not None
        view, name = source
        state, seq = view.initial(), 0
        kind = type(view).__name__
        for bodies in story:
            for type_, body in bodies:
                seq += 1
                event = Recorded(seq, type_, "service:bench", DAY_MS, body)
                began = time.perf_counter()
                state, _ = changes(view, name, state, [event])
                taken.setdefault(kind, []).append(time.perf_counter() - began)
    found = {kind: 1e6 * sum(each) / len(each) for kind, each in taken.items()}
    every = [one for each in taken.values() for one in each]
    return {**found, "all": 1e6 * sum(every) / len(every)}


def _cpu_s(postgres_pid: int) -> tuple[float, float]:
    """Of this process, and of Postgres."""
    return time.process_time(), proc.tree_cpu_s(postgres_pid)


def _each(what: str, before: tuple[float, float], after: tuple[float, float], events: int) -> dict[str, float]:
    ours, postgres = (1e6 * (late - early) / events for early, late in zip(before, after, strict=True))
    return {f"{what}_us": ours, f"{what}_postgres_us": postgres}


async def measure(events: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="readback-bench-") as folder:
        async with running_postgres(f"{folder}/postgres") as server:
            await migrate_database(server.url(user=SUPERUSER))
            async with open_postgres_log(server.url(user=USER)) as log:
                assert server.pid is not None
                written = await fill(log, events)
                before = _cpu_s(server.pid)
                taken = await _project(log)
                projecting = _cpu_s(server.pid)
                rows = {model: len(await log.work.rows(model, TENANT, limit=1_000_000)) for model in MODELS}
                rebuild_before = _cpu_s(server.pid)
                all_s, held_s = await _rebuild(log, *MODELS)
                rebuilding = _cpu_s(server.pid)
                again = {model: len(await log.work.rows(model, TENANT, limit=1_000_000)) for model in MODELS}
                assert again == rows
                board_s, _ = await _rebuild(log, "flight_board")
    return {
        "events": written,
        "rows": sum(rows.values()),
        "projected_per_s": written / taken,
        "rebuilt_per_s": written / all_s,
        "rebuilt_board_per_s": written / board_s,
        "held_ms": 1000 * held_s,
        **_each("projected", before, projecting, written),
        **_each("rebuilt", rebuild_before, rebuilding, written),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.projection", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args(arguments)
    costs = pure(min(options.events, 30_000))
    found = trio.run(measure, options.events)
    print(
        f"{platform.machine()}, Python {platform.python_version()}, {found['events']:.0f} events, {found['rows']:.0f} rows"
    )
    print("folding and rows, no store: " + ", ".join(f"{name} {us:.1f} us" for name, us in costs.items()))
    good = True
    for name, words, least in (
        ("projected_per_s", "into five read models, events/s", PROJECTED_MIN),
        ("rebuilt_per_s", "all five rebuilt, events/s", REBUILT_MIN),
        ("rebuilt_board_per_s", "flight_board rebuilt, events/s", REBUILT_MIN),
    ):
        met = found[name] >= least
        good = good and met
        print(f"{words:36} {found[name]:9,.0f}   at least {least:,.0f}: {'met' if met else 'not met'}")
    for what in ("projected", "rebuilt"):
        ours, postgres = found[f"{what}_us"], found[f"{what}_postgres_us"]
        print(f"{f'CPU an event, {what}: worker, Postgres':36} {ours:6.1f} us {postgres:6.1f} us")
    print(f"{'workers waited for the change, ms':36} {found['held_ms']:9.0f}")
    if options.json is not None:
        options.json.write_text(json.dumps({**found, "pure_us": costs}, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
