"""Random real faults: three node processes, a Postgres and a Redis of their own, twelve people, two programs with
the Python client, and a plan drawn from a seed.

    python -m tests.faults.chaos [--seeds 1-10] [--length 30] [--summary FILE] [--keep FOLDER]

Promises of each run: all that was acknowledged is in Postgres, once, where the answer said; everybody saw each stream whole,
in order, once, and as Postgres has it; when the trouble is over everybody comes to the heads, and knows who is here and who
has read what; no node ends by itself or says a traceback. The run is a history (`proof.history`), judged by
`tests.faults.histories` and `proof.guarantees`. It is written down where it fails, and always where a folder is named:
``--keep``, or READBACK_HISTORY.

A seed draws the same plan and the same people every time; what becomes of it the machine decides, so a failing seed may need to
be run again, and the history is what to look at first.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import platform
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import trio

from proof import history as proof
from proof.guarantees import check
from readback_client import Limits as ClientLimits
from store.embedded import EmbeddedPostgres
from store.embedded_redis import EmbeddedRedis, embedded_redis
from store.postgres import migrate_database
from tests.disks import folder_on_small_disk
from tests.faults.crowd import make_streams, read_log
from tests.faults.gate import GATE, Gatekeeper, member_records
from tests.faults.histories import Seen, findings
from tests.faults.library import LibraryUser
from tests.faults.person import Person
from tests.faults.plans import KINDS, Trouble, draw
from tests.faults.processes import LIMITS as FLEET_LIMITS
from tests.faults.processes import Fleet
from tests.faults.proxy import Proxy, proxy_to
from tests.faults.travellers import HEARTBEAT_S, MANNERS, Traveller, Travellers
from tests.faults.troubles import Servers, Troubles
from tests.faults.way import way_to
from tests.servers import TEST_PARTITIONS, Database

NODES = "abc"
OPEN = ("chat:ops", "trip:9")
STREAMS = (*OPEN, GATE)
TENANTS = {"demo": 3, "rival": 1}
"""How many people of each are on each node; their principals and streams have the same names."""
PEOPLE = [(tenant, f"{node}{n}", node) for tenant, a_node in TENANTS.items() for node in NODES for n in range(a_node)]
"""Tenant, name and first node."""
LIBRARY = ("lib0", "lib1")
"""Of the tenant demo, with the Python client, in the first stream alone."""
LIBRARY_LIMITS = ClientLimits(
    backoff_base_s=0.1, backoff_cap_s=0.5, dial_timeout_s=3.0, opening_timeout_s=4.0, answer_timeout_s=6.0
)

LENGTH_S = 30.0
DISK = "600m"
SETTINGS = {"fsync": "off", "max_wal_size": "64MB", "min_wal_size": "32MB", "shared_buffers": "32MB"}
"""A killed process loses nothing that the kernel has; only a lost machine would."""
LIMITS = {**FLEET_LIMITS, "heartbeat_s": str(HEARTBEAT_S), "commit_timeout_s": "1.5"}


def people_of(tenant: str) -> list[str]:
    return [f"user:{who}" for of, who, _ in PEOPLE if of == tenant]


@dataclass(slots=True)
class Report:
    """One run in figures."""

    seed: int
    seconds: float = 0.0
    faults: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Kinds of trouble that cannot be made here, and why."""
    acknowledged: int = 0
    lost: int = 0
    deliveries: int = 0
    connections: int = 0
    resumed: int = 0
    unanswered: int = 0
    refused: int = 0
    refused_starts: int = 0
    longest_outage_s: float = 0.0
    """The longest time in which no send of anybody was acknowledged."""
    judged: dict[str, int] = field(default_factory=dict)
    """By guarantee, how many observations could have broken it."""
    findings: list[str] = field(default_factory=list)
    history: str = ""

    def __str__(self) -> str:
        what = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in sorted(self.faults.items()))
        what += "".join(f"; no {kind}: {why}" for kind, why in self.left_out.items())
        return (
            f"seed {self.seed}: {sum(self.faults.values())} faults ({what}); "
            f"{self.acknowledged} acknowledged, {self.lost} lost, {self.deliveries} deliveries over {self.connections} "
            f"connections ({self.resumed} resumed), longest outage {self.longest_outage_s:.1f} s; {self.seconds:.0f} s"
        )


def repeat(seed: int, length_s: float) -> str:
    return f".venv/bin/python -m tests.faults.chaos --seeds {seed} --length {length_s:g}"


def run(seed: int, length_s: float = LENGTH_S, *, keep: Path | None = None) -> Report:
    """One seed, on servers of its own. Call it on the main thread, whose end is theirs too."""
    report, began_s = Report(seed), time.monotonic()
    records: list[proof.Record] = []
    with tempfile.TemporaryDirectory(prefix="readback-chaos-") as home, folder_on_small_disk(DISK) as (disk, why_not):
        without = ["disk full"] if why_not else []
        report.left_out = {"disk full": why_not} if why_not else {}
        postgres = EmbeddedPostgres(disk / "postgres", settings=SETTINGS)
        postgres.start()
        try:
            trio.run(partial(migrate_database, postgres.url(), partitions=TEST_PARTITIONS))
            with embedded_redis() as redis:
                play = partial(_play, seed, length_s, Path(home), disk, postgres, redis, without, report, records)
                try:
                    trio.run(play)
                except Exception as error:
                    report.findings.append(f"the run did not come to its end: {_words(error)}")
        finally:
            postgres.stop()
        report.seconds = round(time.monotonic() - began_s, 1)
        if report.findings and keep is None:
            keep = Path(tempfile.mkdtemp(prefix=f"readback-history-{seed}-"))
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            path = keep / f"faults-{seed}.jsonl"
            proof.write(path, records)
            report.history = str(path)
            if report.findings:
                for words in Path(home).glob("*.log"):
                    shutil.copy(words, keep / f"faults-{seed}-{words.name}")
                shutil.copy(postgres.log_path, keep / f"faults-{seed}-postgres.log")
    return report


def _words(error: BaseException) -> str:
    """Of a group, what its members say; and where it came from, in these tests' words."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_words(part) for part in error.exceptions)
    ways = [frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/" in frame.filename]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in reversed(ways[-4:]))
    return f"{type(error).__name__}: {error} ({where})"


async def _play(
    seed: int,
    length_s: float,
    home: Path,
    disk: Path,
    postgres: EmbeddedPostgres,
    redis: EmbeddedRedis,
    without: Sequence[str],
    report: Report,
    records: list[proof.Record],
) -> None:
    database = Database(postgres, "readback")
    for tenant in TENANTS:
        await make_streams(database, OPEN, tenant=tenant)
        await make_streams(database, [GATE], tenant=tenant, members=people_of(tenant))
    plan = _plan(seed, length_s, without)
    async with AsyncExitStack() as stack:
        bus = {name: await stack.enter_async_context(proxy_to(redis.port)) for name in NODES}
        fleet = Fleet(home, database.url, {name: _through(redis.url, bus[name]) for name in NODES}, NODES, LIMITS)
        stack.callback(fleet.end)
        await fleet.up(patience_s=MANNERS.patience_s)
        servers = Servers({node.name: node for node in fleet.nodes}, postgres, redis, bus, {}, disk)
        async with _crowd_over(servers, seed, records) as crowd:
            troubles = Troubles(servers, crowd)
            gates = _gates_for(crowd, servers, seed)
            try:
                await troubles.run(plan)
                await _come_to_rest(crowd, gates, database)
            finally:
                _count(report, crowd, troubles)
        await troubles.end()
        logs = await _write_down_the_truth(crowd, database)
    _judge(report, crowd, logs, gates)


def _plan(seed: int, length_s: float, without: Sequence[str] = ()) -> list[Trouble]:
    people = [*(f"{tenant}-{who}" for tenant, who, _ in PEOPLE), *LIBRARY]
    return draw(seed, length_s, NODES, people, without=without)


def _through(url: str, proxy: Proxy) -> str:
    """A server's URL by way of the proxy to it."""
    return f"redis://{urlsplit(url).netloc.rpartition('@')[0]}@127.0.0.1:{proxy.port}/0"


@asynccontextmanager
async def _crowd_over(servers: Servers, seed: int, records: list[proof.Record]) -> AsyncIterator[Travellers]:
    """All of them under way, each over a way of its own."""
    rng = random.Random(f"readback people {seed}")
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        crowd = Travellers(servers.nodes, servers.ways, nursery)
        crowd.records = records
        lease_s, grace_s = float(LIMITS["lease_s"]), float(LIMITS["presence_grace_s"])
        title = f"faults, seed {seed}"
        # Where everybody stands is written down when all had their time (`_come_to_rest`): it is judged whenever that was.
        crowd.record(proof.Run(crowd.now(), title, lease_s, grace_s, HEARTBEAT_S, settle_s=0.0))
        for tenant, who, node in PEOPLE:
            name = f"{tenant}-{who}"
            person = Traveller(crowd, name, node, STREAMS, tenant=tenant, who=who, rng=random.Random(rng.random()))
            servers.ways[name] = await stack.enter_async_context(way_to(crowd.port_for(person), rng))
            nursery.start_soon(crowd.arrive, person)
        for name in LIBRARY:
            user = LibraryUser(
                name, crowd.history, OPEN[0], limits=LIBRARY_LIMITS, pause_s=rng.uniform(0.1, 0.3), stir=crowd.stir
            )
            turns = itertools.cycle(servers.nodes.values())
            servers.ways[name] = await stack.enter_async_context(way_to(lambda turns=turns: next(turns).port, rng))  # type: ignore[misc]
            nursery.start_soon(user.run, [f"ws://127.0.0.1:{servers.ways[name].port}"])
            crowd.library.append(user)
        await crowd.until(lambda: len(crowd.people) == len(PEOPLE) and all(user.cursor for user in crowd.library))
        await crowd.delivered(30)
        yield crowd
        nursery.cancel_scope.cancel()


def _gates_for(crowd: Travellers, servers: Servers, seed: int) -> dict[str, Gatekeeper]:
    """By tenant; each with people who knock."""
    gates = {
        tenant: Gatekeeper(tenant, people_of(tenant), servers.nodes, random.Random(f"readback gate {tenant} {seed}"))
        for tenant in TENANTS
    }
    for gate in gates.values():
        crowd.nursery.start_soon(gate.run)
    for person in crowd.people:
        assert isinstance(person, Traveller)
        crowd.nursery.start_soon(person.knock)
    return gates


async def _come_to_rest(crowd: Travellers, gates: Mapping[str, Gatekeeper], database: Database) -> None:
    """They fall silent, come to the heads, read all there is; then they, and a second device of each, are asked what they
    know."""
    crowd.quiet = True
    for user in crowd.library:
        user.quiet = True
    await crowd.until(lambda: crowd.talking == 0 and all(user.silent for user in crowd.library))
    for gate in gates.values():
        with trio.fail_after(crowd.manners.patience_s):
            await gate.close()
    heads = {
        (tenant, stream): len(events)
        for tenant in TENANTS
        for stream, events in (await read_log(database, STREAMS, tenant=tenant)).items()
    }

    def streams_of(person: Person) -> Sequence[str]:
        return [s for s in person.streams if s != GATE or person.principal in gates[person.tenant].members]

    def at_heads() -> bool:
        return (
            all(p.online and p.cursor(s) == heads[p.tenant, s] for p in crowd.people for s in streams_of(p))
            and all(p.inside == (GATE in streams_of(p)) for p in crowd.people if isinstance(p, Traveller))
            and all(user.cursor == heads["demo", OPEN[0]] for user in crowd.library)
        )

    async with _as_far_as_it_comes():
        await crowd.until(at_heads)
    async with trio.open_nursery() as nursery:
        for person in crowd.people:
            assert isinstance(person, Traveller)
            nursery.start_soon(person.mark_all)
    first = list(crowd.people)
    there = {
        (tenant, stream): [person.principal for person in crowd.of(tenant) if stream in streams_of(person)]
        for tenant in TENANTS
        for stream in STREAMS
    }
    async with trio.open_nursery() as nursery:
        for person in first:
            streams = streams_of(person)
            again = Person(crowd, f"{person.name}-again", person.node, streams, tenant=person.tenant, who=person.who)
            nursery.start_soon(partial(crowd.arrive, again, talks=False))
    there["demo", OPEN[0]] += [f"user:{name}" for name in LIBRARY]
    async with _as_far_as_it_comes():
        await crowd.until(
            lambda: (
                at_heads()
                and all(_knows_all(p, s, there[p.tenant, s], heads) for p in crowd.people for s in streams_of(p))
            )
        )
    now = crowd.now()
    for (tenant, stream), people in there.items():
        crowd.record(proof.There(now, tenant, stream, dict.fromkeys(people, "online")))
    for person in crowd.people:
        fresh = person not in first
        for stream in streams_of(person):
            present = {who: at for (of, who), at in person.present.items() if of == stream and at != "offline"}
            marks = {who: at for (of, who), at in person.marks.items() if of == stream and who != person.principal}
            head = heads[person.tenant, stream]
            crowd.record(proof.View(now, person.conn, stream, head, marks, present, fresh, scope=person.node))
            crowd.record(
                proof.Stand(now, person.name, person.tenant, stream, person.cursor(stream), head, person.online)
            )


@asynccontextmanager
async def _as_far_as_it_comes() -> AsyncIterator[None]:
    """Who does not come to where all should be is named by the judge, better than here."""
    try:
        yield
    except trio.TooSlowError:
        pass


def _knows_all(person: Person, stream: str, there: Sequence[str], heads: Mapping[tuple[str, str], int]) -> bool:
    """Who is here, and that all have read everything."""
    all_read = [heads[person.tenant, stream]] * 2
    online = {who for (of, who), at in person.present.items() if of == stream and at == "online"}
    return online == set(there) and all(
        person.marks.get((stream, who)) == all_read
        for who in there
        if who != person.principal and who.removeprefix("user:") not in LIBRARY  # whose program marks nothing
    )


async def _write_down_the_truth(crowd: Travellers, database: Database) -> dict[str, dict[str, list[Seen]]]:
    """The rows, of each tenant; the whole log was checked with them."""
    logs = {tenant: await read_log(database, STREAMS, tenant=tenant) for tenant in TENANTS}
    now = crowd.now()
    for tenant, log in logs.items():
        for stream, events in log.items():
            for event in events:
                crowd.record(proof.Committed(now, tenant, stream, event.seq, event.key, event.by, event.what))
        for member in member_records(now, tenant, log[GATE]):
            crowd.record(member)
    crowd.record(proof.End(now))
    return logs


def _count(report: Report, crowd: Travellers, troubles: Troubles) -> None:
    report.faults = dict(Counter(trouble.kind for trouble in troubles.made))
    report.acknowledged = sum(len(history.acknowledged) for history in crowd.histories.values())
    report.deliveries = sum(isinstance(record, proof.Took) for record in crowd.records)
    report.deliveries += sum(user.client.stats.events for user in crowd.library)
    report.connections = sum(p.welcomed for p in crowd.people) + sum(u.client.stats.welcomes for u in crowd.library)
    report.resumed = sum(p.resumed for p in crowd.people) + sum(u.client.stats.resumes for u in crowd.library)
    report.unanswered, report.refused = crowd.unanswered, crowd.refusals
    report.longest_outage_s = round(max((b - a for a, b in pairwise(crowd.acknowledged_at)), default=0.0), 2)
    report.refused_starts = troubles.refused_starts


def _judge(
    report: Report,
    crowd: Travellers,
    logs: Mapping[str, Mapping[str, Sequence[Seen]]],
    gates: Mapping[str, Gatekeeper],
) -> None:
    outside = [(p.name, GATE) for p in crowd.people if p.principal not in gates[p.tenant].members]
    for tenant, log in logs.items():
        held = {(stream, event.key, event.seq) for stream, events in log.items() for event in events}
        acknowledged = crowd.histories[tenant].acknowledged
        report.lost += sum(
            not all((stream, key, seq) in held for seq in seqs) for (stream, key), seqs in acknowledged.items()
        )
        report.findings += [f"{tenant}: {finding}" for finding in findings(crowd.histories[tenant], log, outside)]
    for user in crowd.library:
        stats = user.client.stats
        if stats.duplicates or stats.gaps:
            report.findings.append(f"{user.name}: its client saw {stats.duplicates} duplicates and {stats.gaps} gaps")
    verdict = check(crowd.records)
    report.findings += [str(finding) for finding in verdict.findings]
    report.findings += verdict.warnings
    report.judged = verdict.judged


# -- the command ----------------------------------------------------------------------------------------------------------


def seeds_of(text: str) -> list[int]:
    """``1-10``, ``3``, ``1,5,7-9``."""
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def summary(reports: Sequence[Report], length_s: float) -> dict[str, object]:
    """What the documents say of the runs."""
    faults: Counter[str] = Counter()
    judged: Counter[str] = Counter()
    for report in reports:
        faults.update(report.faults)
        judged.update(report.judged)
    left_out = ("judged", "findings", "history")
    rows = [{name: value for name, value in asdict(r).items() if name not in left_out} for r in reports]
    return {
        "about": "random sequences of real faults; by python -m tests.faults.chaos",
        "machine": {"cores": os.cpu_count(), "system": f"{platform.system()} {platform.release()}"},
        "trouble_s": length_s,
        "runs": len(reports),
        "failed": sum(bool(report.findings) for report in reports),
        "faults": sum(faults.values()),
        "faults_by_kind": {kind: faults[kind] for kind in KINDS},
        "acknowledged": sum(report.acknowledged for report in reports),
        "lost": sum(report.lost for report in reports),
        "deliveries": sum(report.deliveries for report in reports),
        "longest_outage_s": max(report.longest_outage_s for report in reports),
        "judged": dict(judged),
        "seconds": round(sum(report.seconds for report in reports), 1),
        "by_seed": rows,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", default=os.environ.get("READBACK_FAULT_SEEDS", "1-10"))
    parser.add_argument("--length", type=float, default=LENGTH_S, help="seconds of trouble in a run")
    parser.add_argument("--summary", type=Path, help="write the figures there, as JSON")
    parser.add_argument(
        "--keep", type=Path, default=os.environ.get("READBACK_HISTORY"), help="write every history there"
    )
    parser.add_argument("--plan", action="store_true", help="say what would be done, and do nothing")
    given = parser.parse_args()
    if given.plan:
        for seed in seeds_of(given.seeds):
            print(f"seed {seed}", *_plan(seed, given.length), sep="\n")
        return 0
    logging.getLogger("trio-websocket").setLevel(logging.WARNING)
    reports = []
    for seed in seeds_of(given.seeds):
        report = run(seed, given.length, keep=None if given.keep is None else Path(given.keep))
        reports.append(report)
        print(report, flush=True)
        for finding in report.findings[:20]:
            print(f"  {finding}", flush=True)
        if report.findings:
            print(f"  again: {repeat(seed, given.length)}", flush=True)
            print(f"  look: .venv/bin/readback check --history {report.history}", flush=True)
    failed = [report.seed for report in reports if report.findings]
    total = summary(reports, given.length)
    verdict = f"FAILED: {failed}" if failed else "all guarantees hold"
    print(
        f"{len(reports)} runs, {total['faults']} faults, {total['acknowledged']} acknowledged, {total['lost']} lost, {verdict}"
        f"; {total['seconds']:.0f} s"
    )
    if given.summary is not None:
        given.summary.write_text(json.dumps(total, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
