"""The model and Postgres give the same answers to the same calls, whatever the calls: sequences made by hypothesis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import Any

import hypothesis.strategies as st
import trio
from hypothesis import HealthCheck, given, settings

from core.model import AUDITOR, Decided, Entry, Event, Judged, Mark, Member, MyStream, Outcome, StreamFacts, Verdict
from core.ports import Log, Refused
from store.memory import MemoryLog
from store.postgres import open_postgres_log
from tests.servers import TEST_PARTITIONS, Database, database, postgres_server  # noqa: F401

STREAMS = ("chat:a", "chat:b", "trip:1", "user:amy", "audit:log")
PRINCIPALS = ("user:amy", "user:bob", "service:ops", AUDITOR)
KEYS = tuple(f"00000000-0000-4000-8000-{n:012}" for n in range(6))
_examples = count(1)

streams = st.sampled_from(STREAMS)
principals = st.sampled_from(PRINCIPALS)
small = st.integers(-1, 6)
entries = st.fixed_dictionaries(
    {
        "stream": streams,
        "key": st.sampled_from(KEYS),
        "type": st.sampled_from(("message", "message", "edit", "delete", "react", "member.left")),
        "by": principals,
        "expect": st.none() | st.none() | small,
        "ref": st.none() | small,
        "privileged": st.booleans(),
    }
)
commands = st.fixed_dictionaries(
    {
        "stream": streams,
        "key": st.sampled_from(KEYS),
        "more": st.lists(st.sampled_from(KEYS), max_size=2),
        "type": st.sampled_from(("flight.departed", "flight.departed", "timer.set", "message")),
        "by": principals,
        "refused": st.booleans(),
        "state": st.sampled_from((None, None, None, 0, 1, 3)),
        "expect": st.none() | st.none() | small,
        "privileged": st.booleans(),
    }
)
"""``more`` are the keys of its other facts; a state of ``None`` is the one that `Log.ruled` gives."""
members = st.dictionaries(principals, st.sampled_from(("owner", "member", "reader")), max_size=3)
operations = st.one_of(
    st.tuples(st.just("append"), st.lists(entries, max_size=12)),
    st.tuples(st.just("append"), st.lists(entries, max_size=12)),
    st.tuples(st.just("command"), st.lists(commands, max_size=6)),
    st.tuples(st.just("command"), st.lists(commands, max_size=6)),
    st.tuples(st.just("create_stream"), streams, st.booleans(), members, principals),
    st.tuples(st.just("put_member"), streams, principals, st.sampled_from(("owner", "member", "reader")), principals),
    st.tuples(st.just("remove_member"), streams, principals, principals),
    st.tuples(st.just("save_marks"), st.lists(st.tuples(streams, principals, small, small), max_size=5)),
    st.tuples(st.just("trim"), streams, small),
    st.tuples(st.just("open_streams"), st.lists(st.tuples(streams, principals), max_size=5)),
    st.tuples(st.just("read"), streams, small, small),
    st.tuples(st.just("read_before"), streams, small, small),
    st.tuples(st.just("ruled"), streams, small, small),
)


class Player:
    """Plays operations on one log and tells the answers in words that do not depend on which log it is.

    sids become names, positions count from where the example began, times become whether there is one, and keys that
    the log chose are left out.
    """

    def __init__(self, log: Log, tenant: str) -> None:
        self.log = log
        self.tenant = tenant
        self.sids: dict[str, int] = {}
        self.names: dict[int, str] = {}
        self.base: list[int] = []

    async def begin(self) -> None:
        self.base = await self.log.heads()

    def sid(self, name: str) -> int:
        return self.sids.get(name, 10**9)

    def tell(self, answer: object) -> object:
        match answer:
            case StreamFacts():
                self.sids[answer.stream] = answer.sid
                self.names[answer.sid] = answer.stream
                return (answer.stream, answer.partition, answer.head, answer.first, answer.open, answer.role)
            case Verdict():
                pos = answer.pos - self.base[answer.partition] if answer.pos else 0
                return (answer.outcome, answer.partition, pos, answer.seq, answer.at_ms > 0)
            case Judged():
                pos = answer.pos - self.base[answer.partition] if answer.pos else 0
                kept = (answer.seq, answer.events, answer.at_ms > 0, answer.refusal)
                return (answer.outcome, answer.partition, pos, *kept)
            case Event():
                key = None if answer.type.startswith("member.") else answer.key
                pos = answer.pos - self.base[answer.partition]
                name = self.names.get(answer.sid)
                return (answer.partition, pos, name, answer.seq, key, answer.type, answer.by, answer.body)
            case Mark():
                return (self.names[answer.sid], answer.principal, answer.delivered, answer.read)
            case MyStream() | Member() | None | int():
                return answer
            case list():
                return [self.tell(each) for each in answer]
            case _:
                raise AssertionError(f"an answer of type {type(answer)}")

    async def play(self, operation: tuple[Any, ...]) -> object:
        name, *args = operation
        call: Callable[..., Awaitable[object]] = getattr(self, f"do_{name}", getattr(self.log, name, None))
        try:
            return self.tell(await call(*args))
        except Refused as refused:
            return (refused.code, refused.message)

    async def do_append(self, batch: list[dict[str, Any]]) -> object:
        made = []
        for number, fields in enumerate(batch):
            rest = dict(fields)
            stream = rest.pop("stream")
            made.append(Entry(tenant=self.tenant, sid=self.sid(stream), body=b'{"n":%d}' % number, **rest))
        return await self.log.append(made)

    async def do_command(self, batch: list[dict[str, Any]]) -> object:
        made = []
        for number, fields in enumerate(batch):
            rest = dict(fields)
            sid = self.sid(rest.pop("stream"))
            keys = [rest["key"], *rest.pop("more")]
            fact, refused, state = rest["type"], rest.pop("refused"), rest.pop("state")
            if state is None:
                decided = await self.log.ruled(self.tenant, sid, 0, 1_000)
                state = decided[-1].seq if decided else 0
            facts = [] if refused else [(key, fact, b'{"n":%d}' % number) for key in keys]
            refusal = b'{"reason":"r%d"}' % number if refused else None
            made.append(Decided(tenant=self.tenant, sid=sid, state=state, facts=facts, refusal=refusal, **rest))
        return await self.log.command(made)

    async def do_ruled(self, stream: str, after: int, limit: int) -> object:
        return await self.log.ruled(self.tenant, self.sid(stream), after, limit)

    async def do_create_stream(self, stream: str, is_open: bool, roles: dict[str, str], by: str) -> object:
        wanted = [Member(*pair) for pair in roles.items()]
        return await self.log.create_stream(self.tenant, stream, open=is_open, members=wanted, by=by)

    async def do_put_member(self, *args: str) -> object:
        return await self.log.put_member(self.tenant, *args)

    async def do_remove_member(self, *args: str) -> object:
        return await self.log.remove_member(self.tenant, *args)

    async def do_save_marks(self, marks: list[tuple[str, str, int, int]]) -> object:
        return await self.log.save_marks(self.tenant, [Mark(self.sid(stream), *rest) for stream, *rest in marks])

    async def do_trim(self, stream: str, before: int) -> object:
        return await self.log.trim(self.tenant, stream, before)

    async def do_open_streams(self, asked: list[tuple[str, str]]) -> object:
        return await self.log.open_streams([(self.tenant, *pair) for pair in asked])

    async def do_read(self, stream: str, after: int, limit: int) -> object:
        return await self.log.read(self.tenant, self.sid(stream), after, limit)

    async def do_read_before(self, stream: str, before: int, limit: int) -> object:
        return await self.log.read_before(self.tenant, self.sid(stream), before, limit)

    async def everything(self) -> list[object]:
        """All that can be read at the end."""
        known = [self.sids[name] for name in STREAMS if name in self.sids]
        told: list[object] = [
            [head - base for head, base in zip(await self.log.heads(), self.base, strict=True)],
            self.tell(await self.log.open_streams([(self.tenant, name, PRINCIPALS[1]) for name in STREAMS])),
            sorted(map(str, map(self.tell, await self.log.load_marks(self.tenant, known)))),
        ]
        for name in STREAMS:
            told.append(self.tell(await self.log.members(self.tenant, name)))
            told.append(self.tell(await self.log.read(self.tenant, self.sid(name), 0, 1_000)))
            told.append(self.tell(await self.log.ruled(self.tenant, self.sid(name), 0, 1_000)))
        for principal in PRINCIPALS:
            told.append(self.tell(await self.log.my_streams(self.tenant, principal)))
        for partition, base in enumerate(self.base):
            told.append(self.tell(await self.log.tail(partition, base, 1_000)))
        return told


async def compare(url: str, sequence: list[tuple[Any, ...]]) -> None:
    tenant = f"t{next(_examples)}"
    ticks = count(1)
    model = MemoryLog(
        now_ms=lambda: next(ticks),
        new_key=lambda: f"10000000-0000-4000-8000-{next(ticks):012}",
        partitions=TEST_PARTITIONS,
    )
    async with open_postgres_log(url) as postgres:
        one, two = Player(model, tenant), Player(postgres, tenant)
        await one.begin()
        await two.begin()
        for number, operation in enumerate(sequence):
            expected, answered = await one.play(operation), await two.play(operation)
            assert answered == expected, f"operation {number}: {operation}"
        assert await two.everything() == await one.everything()


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(sequence=st.lists(operations, min_size=4, max_size=25))
def test_the_model_and_postgres_agree(database: Database, sequence: list[tuple[Any, ...]]) -> None:  # noqa: F811
    """Every answer, and all that is left in the log at the end, is the same in both."""
    # The two streams that make most operations meaningful are there from the beginning.
    opening = [
        ("create_stream", "chat:a", False, {"user:amy": "owner", "user:bob": "member"}, "user:amy"),
        ("create_stream", "chat:b", True, {"user:bob": "reader"}, "user:amy"),
    ]
    trio.run(partial(compare, database.url, [*opening, *sequence]))


def test_a_batch_of_everything_at_once(database: Database) -> None:  # noqa: F811
    """A long batch in which keys, expectations and references collide is judged alike."""
    batch = [
        {
            "stream": STREAMS[n % 3],
            "key": KEYS[(n * 7) % 6],
            "type": ("message", "edit", "delete", "react")[n % 4],
            "by": PRINCIPALS[n % 3],
            "expect": (None, 0, None, 3)[(n // 3) % 4],
            "ref": (None, 1, 2)[(n // 2) % 3],
            "privileged": n % 5 == 0,
        }
        for n in range(200)
    ]
    sequence: list[tuple[Any, ...]] = [
        ("create_stream", "chat:a", True, {"user:amy": "owner"}, "user:amy"),
        ("create_stream", "chat:b", True, {}, "user:amy"),
        ("open_streams", [("user:amy", "user:amy")]),
        *[("append", batch[n : n + 50]) for n in range(0, 200, 50)],
        ("trim", "chat:a", 2),
        *[("append", batch[n : n + 20]) for n in range(0, 200, 20)],
    ]
    trio.run(partial(compare, database.url, sequence))


def test_a_batch_of_all_commands_at_once(database: Database) -> None:  # noqa: F811
    """Long batches in which keys, states and streams collide are judged alike, between sends under the same keys."""
    batch = [
        {
            "stream": STREAMS[n % 3],
            "key": KEYS[(n * 7) % 6],
            "more": [KEYS[(n * 5 + 1) % 6]][: n % 3 // 2],
            "type": "flight.departed",
            "by": PRINCIPALS[n % 3],
            "refused": n % 4 == 3,
            "state": (None, None, 0, 2)[(n // 3) % 4],
            "expect": (None, 0, None, 3)[(n // 5) % 4],
            "privileged": n % 5 == 0,
        }
        for n in range(120)
    ]
    send = {"stream": "chat:a", "key": KEYS[3], "type": "message", "by": "user:amy", "expect": None, "ref": None}
    sequence: list[tuple[Any, ...]] = [
        ("create_stream", "chat:a", True, {"user:amy": "owner"}, "user:amy"),
        ("create_stream", "chat:b", True, {}, "user:amy"),
        ("create_stream", "trip:1", True, {}, "user:amy"),
        *[("command", batch[n : n + 4]) for n in range(0, 40, 4)],
        ("append", [{**send, "privileged": False}]),
        ("trim", "chat:a", 2),
        *[("command", batch[n : n + 20]) for n in range(40, 120, 20)],
        ("ruled", "chat:a", 1, 5),
    ]
    trio.run(partial(compare, database.url, sequence))


def test_an_outcome_of_each_kind_was_compared() -> None:
    """The comparison would notice nothing if its batches were all refused alike."""

    async def outcomes() -> set[Outcome]:
        ticks = count(1)
        model = MemoryLog(now_ms=lambda: next(ticks), new_key=lambda: KEYS[0], partitions=TEST_PARTITIONS)
        player = Player(model, "demo")
        await player.begin()
        await player.play(("create_stream", "chat:a", True, {}, "user:amy"))
        fields = {"stream": "chat:a", "key": KEYS[1], "type": "message", "by": "user:amy", "privileged": False}
        batch = [
            {**fields, "expect": 0, "ref": None},
            {**fields, "expect": None, "ref": None},
            {**fields, "key": KEYS[2], "expect": 5, "ref": None},
            {**fields, "key": KEYS[2], "expect": None, "ref": 5},
            {**fields, "key": KEYS[2], "expect": None, "ref": None, "type": "member.left"},
        ]
        told = await player.play(("append", batch))
        command = {**fields, "key": KEYS[3], "more": [], "type": "timer.set", "refused": False, "expect": None}
        judged = await player.play(("command", [{**command, "state": 7}]))
        assert isinstance(told, list)
        assert isinstance(judged, list)
        return {outcome for outcome, *_ in [*told, *judged]}

    assert trio.run(outcomes) == set(Outcome)
