"""People who talk through whatever happens to nodes, Redis and Postgres, and the truth that what they saw is held against.

Each is a `tests.faults.person.Person`. Nothing is forgiven: `crowd_on` ends by holding all that everybody was told against
the log.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import orjson
import trio

from core import wire
from core.model import Member
from proof import history as proof
from proof.guarantees import check
from store.postgres import open_postgres_log
from tests.faults.histories import History, Seen, findings
from tests.faults.person import PATIENCE_S, Frame, Manners, Person, what
from tests.servers import Database
from tests.together import Together
from tests.wire_client import WireClient, wire_client

__all__ = ["PATIENCE_S", "Crowd", "Frame", "Person", "crowd_on", "eventually", "make_streams", "read_log", "what"]


class Crowd(Together):
    """Use `crowd_on`."""

    def __init__(self, urls: Mapping[str, str], nursery: trio.Nursery, manners: Manners | None = None) -> None:
        self.manners = manners or Manners()
        super().__init__(self.manners.patience_s)
        self.urls = urls
        """Node → URL; looked up at every dial, so that a node may come back elsewhere."""
        self.nursery = nursery
        self.people: list[Person] = []
        self.histories: defaultdict[str, History] = defaultdict(History)
        """By tenant."""
        self.acks = 0
        self.refusals = 0
        self.unanswered = 0
        """Sends whose connection ended before their answer came."""
        self.acknowledged_at: list[float] = []
        self.talking = 0
        self.quiet = False
        self.records: list[proof.Record] = []
        self._began_s = trio.current_time()

    @property
    def history(self) -> History:
        return self.histories["demo"]

    # -- what is written down -----------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since the crowd came together."""
        return round(trio.current_time() - self._began_s, 6)

    def record(self, record: proof.Record) -> None:
        self.records.append(record)

    def whole_history(self, log: Mapping[str, Sequence[Seen]]) -> list[proof.Record]:
        """All that was written down, between its first words and the log as it is now."""
        now = self.now()
        begun: list[proof.Record] = [proof.Run(0.0, "a case of tests/faults", settle_s=0.0)]
        committed = [
            proof.Committed(now, "demo", stream, event.seq, event.key, event.by, event.what)
            for stream, events in log.items()
            for event in events
        ]
        stands = [
            proof.Stand(now, person.name, "demo", stream, person.cursor(stream), len(log[stream]), person.online)
            for person in self.people
            if not person.superseded
            for stream in person.streams
        ]
        return begun + self.records + committed + stands + [proof.End(now)]

    def start_of(self, node: str) -> str:
        """The name of what runs as this node now."""
        return node

    def dial(self, person: Person) -> AbstractAsyncContextManager[WireClient]:
        return wire_client(self.urls[person.node], give_up_s=self.manners.dial_s)

    # -- who is here --------------------------------------------------------------------------------------------------

    def after(self, node: str) -> str:
        names = sorted(self.urls)
        return names[(names.index(node) + 1) % len(names)]

    def on(self, node: str) -> list[Person]:
        return [person for person in self.people if person.node == node]

    async def acknowledged(self, more: int) -> None:
        """Wait for so many more acknowledgements."""
        goal = self.acks + more
        await self.until(lambda: self.acks >= goal)

    async def delivered(self, more: int = 30) -> None:
        """Wait until so many more were acknowledged, and everybody stands behind the last of them."""
        await self.acknowledged(more)
        heads: dict[tuple[str, str], int] = {}
        for tenant, history in self.histories.items():
            for (stream, _), seqs in history.acknowledged.items():
                heads[tenant, stream] = max(heads.get((tenant, stream), 0), *seqs)
        await self.until(
            lambda: all(
                person.cursor(stream) >= heads.get((person.tenant, stream), 0)
                for person in self.people
                for stream in person.streams
            )
        )

    async def join(self, name: str, node: str, streams: Sequence[str], *, talks: bool = True) -> Person:
        return await self.arrive(Person(self, name, node, streams), talks=talks)

    async def arrive(self, person: Person, *, talks: bool = True) -> Person:
        self.people.append(person)
        self.nursery.start_soon(person.live)
        await self.until(lambda: person.online)
        if talks:
            self.talking += 1
            self.nursery.start_soon(person.talk)
        return person


async def eventually(question: Callable[[], Any], *, every_s: float = 0.02, patience_s: float = PATIENCE_S) -> Any:
    """Ask (an async question) until the answer is true; returns it."""
    with trio.fail_after(patience_s):
        while not (answer := await question()):  # noqa: ASYNC110  # the world outside has no event
            await trio.sleep(every_s)
    return answer


async def read_log(database: Database, streams: Sequence[str], *, tenant: str = "demo") -> dict[str, list[Seen]]:
    """What Postgres holds of these streams; what `readback check` finds wrong with the log is an error."""
    held: dict[str, list[Seen]] = {}
    async with open_postgres_log(database.admin_url) as log:
        wrong = [finding async for _done, _all, finding in log.check() if finding is not None]
        assert wrong == []
        facts = await log.open_streams([(tenant, stream, "user:nobody") for stream in streams])
        for stream, fact in zip(streams, facts, strict=True):
            assert fact is not None, stream
            events: list[Seen] = []
            while page := await log.read(tenant, fact.sid, len(events), 1_000):
                for event in page:
                    at = wire.at_bytes(event.at_ms).decode()
                    body = None if event.body is None else orjson.loads(event.body)
                    events.append(Seen(event.seq, event.key, what(event.by, event.type, at, body)))
            held[stream] = events
    return held


async def make_streams(
    database: Database, streams: Sequence[str], *, tenant: str = "demo", members: Sequence[str] = ()
) -> None:
    """Open to all, or, where members are named, to them alone."""
    async with open_postgres_log(database.url) as log:
        for stream in streams:
            people = [Member(who, "member") for who in members]
            await log.create_stream(tenant, stream, open=not members, members=people, by="service:test")


@asynccontextmanager
async def crowd_on(
    urls: Mapping[str, str], database: Database, streams: Sequence[str], *, a_node: int = 3
) -> AsyncIterator[Crowd]:
    """Some people on each node, who all follow all the streams and talk; well under way when the block begins.

    At its end they fall silent; everything is acknowledged and with everyone, and the histories are judged.
    """
    await make_streams(database, streams)
    async with trio.open_nursery() as nursery:
        crowd = Crowd(urls, nursery)
        async with trio.open_nursery() as joining:
            for node in urls:
                for number in range(a_node):
                    joining.start_soon(functools.partial(crowd.join, f"{node}{number}", node, streams))
        await crowd.delivered(30)
        yield crowd
        crowd.quiet = True
        await crowd.until(lambda: crowd.talking == 0)
        log = await read_log(database, streams)
        there = [person for person in crowd.people if not person.superseded]
        try:
            await crowd.until(lambda: all(p.online and p.cursor(s) >= len(log[s]) for p in there for s in p.streams))
        except trio.TooSlowError:
            pass  # the judge says it better
        gone = [person.name for person in crowd.people if person.superseded]
        log = await read_log(database, streams)
        found = findings(crowd.history, log, gone)
        assert found == [], found[:8]
        verdict = check(crowd.whole_history(log))
        assert verdict.holds, [str(finding) for finding in verdict.findings[:8]]
        assert crowd.acks == len(crowd.history.acknowledged)
        nursery.cancel_scope.cancel()
