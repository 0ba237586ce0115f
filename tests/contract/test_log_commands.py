"""Commands in the log, sentence by sentence, against the model in memory and against Postgres."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Sequence

import pytest
import trio

from core.flight.machine import BY_GATEWAY
from core.model import AUDIT_STREAM, FACTS_MAX, Decided, Entry, Event, Judged, Member, Outcome, StreamFacts
from core.ports import Log
from store.memory import MemoryLog
from store.postgres import open_postgres_log
from tests.servers import TEST_PARTITIONS, Database

AMY, BOB, EVE = "user:amy", "user:bob", "user:eve"
FLIGHT = "flight:QX12-20261121"
REFUSAL = b'{"reason":"wrong_state","message":"it has departed"}'


def new_key() -> str:
    return str(uuid.uuid4())


@pytest.fixture(params=["memory", "postgres"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    if request.param == "memory":
        yield MemoryLog(now_ms=lambda: 1_700_000_000_000, new_key=new_key, partitions=TEST_PARTITIONS)
    else:
        database: Database = request.getfixturevalue("database")
        async with open_postgres_log(database.url) as opened:
            yield opened


async def flight(log: Log, stream: str = FLIGHT, *, tenant: str = "demo", **roles: str) -> StreamFacts:
    members = [Member(f"user:{name}", role) for name, role in (roles or {"amy": "owner"}).items()]
    return await log.create_stream(tenant, stream, open=False, members=members, by=AMY)


def decided(of: StreamFacts, state: int = 0, *, events: int = 1, by: str = AMY, **fields: object) -> Decided:
    """A command that became so many events; refused where that is none."""
    key = str(fields.pop("key", new_key()))
    keys = [key, *(new_key() for _ in range(events - 1))]
    given: dict[str, object] = {
        "tenant": of.tenant,
        "sid": of.sid,
        "key": key,
        "type": "depart",
        "by": by,
        "state": state,
        "facts": [(keys[n], "flight.departed", b'{"n":%d}' % n) for n in range(events)],
        "refusal": None if events else REFUSAL,
    }
    return Decided(**given | fields)  # type: ignore[arg-type]


def sent(facts: StreamFacts, **fields: object) -> Entry:
    given = {"tenant": facts.tenant, "sid": facts.sid, "key": new_key(), "type": "message", "by": AMY, "body": b"{}"}
    return Entry(**given | fields)  # type: ignore[arg-type]


async def judge(log: Log, *commands: Decided) -> list[Judged]:
    return await log.command(commands)


def outcomes(judged: Sequence[Judged]) -> list[Outcome]:
    return [each.outcome for each in judged]


# What is kept


async def test_a_command_becomes_its_events(log: Log) -> None:
    """All its facts in their order, under its name and time, the first under its own key; and the stream's head follows."""
    facts = await flight(log)
    command = decided(facts, events=3)
    [judged] = await judge(log, command)
    assert judged == Judged(Outcome.OK, facts.partition, 1, 1, 3, judged.at_ms, None)
    expected = [
        Event(facts.partition, n, facts.sid, n, key, type, AMY, judged.at_ms, body)
        for n, (key, type, body) in enumerate(command.facts, 1)
    ]
    assert expected[0].key == command.key
    assert await log.read("demo", facts.sid, 0, 10) == expected
    assert await log.tail(facts.partition, 0, 10) == expected
    assert await log.ruled("demo", facts.sid, 0, 10) == expected
    assert (await log.heads())[facts.partition] == 3


async def test_a_refusal_is_kept_and_writes_no_event(log: Log) -> None:
    """It is answered as it was given, and the stream stays as it was: nothing was decided that others must know of."""
    facts = await flight(log)
    command = decided(facts, events=0)
    [judged] = await judge(log, command)
    assert judged == Judged(Outcome.OK, facts.partition, 0, 0, 0, judged.at_ms, REFUSAL)
    assert judged.at_ms > 0
    assert await log.read("demo", facts.sid, 0, 10) == await log.ruled("demo", facts.sid, 0, 10) == []
    assert outcomes(await judge(log, decided(facts))) == [Outcome.OK]


async def test_nothing_commanded_is_nothing_answered(log: Log) -> None:
    """An empty batch is no error."""
    assert await log.command([]) == []


async def test_as_many_events_as_a_command_may_become(log: Log) -> None:
    """`FACTS_MAX` of them, of many streams in one batch, each dense in its stream and in its partition."""
    flights = [await flight(log, f"flight:F{n}") for n in range(8)]
    judged = await judge(
        log, *(decided(facts, events=FACTS_MAX if n % 2 else n + 1) for n, facts in enumerate(flights))
    )
    assert set(outcomes(judged)) == {Outcome.OK}
    for n, (facts, each) in enumerate(zip(flights, judged, strict=True)):
        events = await log.read("demo", facts.sid, 0, 100)
        assert [event.seq for event in events] == list(range(1, (FACTS_MAX if n % 2 else n + 1) + 1))
        assert [event.pos for event in events] == list(range(each.pos, each.pos + each.events))
    for partition, head in enumerate(await log.heads()):
        assert [event.pos for event in await log.tail(partition, 0, 1_000)] == list(range(1, head + 1))


async def test_bodies_are_kept_byte_for_byte(log: Log) -> None:
    """Of facts and of refusals, whatever they hold."""
    facts = await flight(log)
    body = '{"text":"žluťoučký 🐎 \\u0000 \\" 中"}'.encode()
    key = new_key()
    await judge(log, decided(facts, key=key, facts=[(key, "flight.departed", body)]))
    assert [event.body for event in await log.ruled("demo", facts.sid, 0, 9)] == [body]
    refused = decided(facts, 1, events=0, refusal=body)
    assert [each.refusal for each in [*await judge(log, refused), *await judge(log, refused)]] == [body, body]


# A command asked again


@pytest.mark.parametrize("events", [0, 1, 3])
async def test_a_repeated_command_is_answered_as_before(log: Log, events: int) -> None:
    """By its key, with what was kept then: events from seq on, or the refusal; though it was decided otherwise by now."""
    facts = await flight(log)
    await judge(log, decided(facts, events=2))
    command = decided(facts, 2, events=events)
    [first] = await judge(log, command)
    again = decided(facts, 99, events=2, key=command.key, expect=77)
    for repeated in (command, again):
        assert await judge(log, repeated) == [first._replace(outcome=Outcome.DUP, pos=0)]
    assert len(await log.read("demo", facts.sid, 0, 100)) == 2 + events


async def test_a_key_that_a_send_used_is_used(log: Log) -> None:
    """The answer is that one event."""
    facts = await flight(log)
    message = sent(facts)
    await judge(log, decided(facts))
    [verdict] = await log.append([message])
    [judged] = await judge(log, decided(facts, 1, key=message.key))
    assert judged == Judged(Outcome.DUP, facts.partition, 0, 2, 1, verdict.at_ms, None)


async def test_a_send_does_not_repeat_a_command(log: Log) -> None:
    """A send under the key of a command that became events is that command's first event."""
    facts = await flight(log)
    command = decided(facts, events=2)
    await judge(log, command)
    [verdict] = await log.append([sent(facts, key=command.key)])
    assert (verdict.outcome, verdict.seq) == (Outcome.DUP, 1)


async def test_a_key_belongs_to_its_stream(log: Log) -> None:
    """The same key in two streams is two commands."""
    one, two = await flight(log, "flight:A"), await flight(log, "flight:B")
    key = new_key()
    assert outcomes(await judge(log, decided(one, key=key), decided(two, key=key))) == [Outcome.OK, Outcome.OK]


async def test_a_later_fact_s_key_must_be_new(log: Log) -> None:
    """Used by a send, by another command's fact, or by a refused command: forbidden, and nothing is kept."""
    facts = await flight(log)
    message, refused, before = sent(facts), decided(facts, events=0), decided(facts, events=2)
    assert outcomes(await judge(log, refused)) == outcomes(await judge(log, before)) == [Outcome.OK]
    await log.append([message])
    for used in (message.key, refused.key, before.facts[1][0]):
        key = new_key()
        pair = [(key, "flight.departed", b"{}"), (used, "flight.delayed", b"{}")]
        assert outcomes(await judge(log, decided(facts, 2, key=key, facts=pair))) == [Outcome.FORBIDDEN]
        assert outcomes(await judge(log, decided(facts, 1, key=key, facts=pair))) == [Outcome.STALE]
    assert len(await log.read("demo", facts.sid, 0, 100)) == 3


async def test_the_facts_of_a_command_have_keys_of_their_own(log: Log) -> None:
    """One that names a key twice is malformed."""
    facts = await flight(log)
    key = new_key()
    twice = [(key, "flight.departed", b"{}"), (key, "flight.departed", b"{}")]
    judged = await judge(log, decided(facts, key=key, facts=twice), decided(facts))
    assert outcomes(judged) == [Outcome.FORBIDDEN, Outcome.OK]


# On what it was decided


async def test_a_command_holds_while_nothing_was_decided_since(log: Log) -> None:
    """Chat in between does not matter; another command does, and the answer says what the state is now."""
    facts = await flight(log)
    assert outcomes(await judge(log, decided(facts, events=2))) == [Outcome.OK]
    await log.append([sent(facts), sent(facts)])
    [stale] = await judge(log, decided(facts, 0))
    assert stale == Judged(Outcome.STALE, facts.partition, 0, 2, 0, 0, None)
    [kept] = await judge(log, decided(facts, 2))
    assert (kept.outcome, kept.seq) == (Outcome.OK, 5)
    assert [event.seq for event in await log.ruled("demo", facts.sid, 0, 10)] == [1, 2, 5]
    for wrong in (0, 2, 4, 6, -1, 2**70):
        assert [(each.outcome, each.seq) for each in await judge(log, decided(facts, wrong))] == [(Outcome.STALE, 5)]


async def test_a_stale_command_may_be_decided_again(log: Log) -> None:
    """It did not use up its key, be it refused this time."""
    facts = await flight(log)
    await judge(log, decided(facts))
    command = decided(facts, 0)
    assert outcomes(await judge(log, command)) == [Outcome.STALE]
    refused = decided(facts, 1, events=0, key=command.key)
    assert [(each.outcome, each.refusal) for each in await judge(log, refused)] == [(Outcome.OK, REFUSAL)]


async def test_a_refusal_too_must_be_decided_on_the_latest(log: Log) -> None:
    """What was refused for a state that is no more is to be decided again."""
    facts = await flight(log)
    await judge(log, decided(facts))
    assert outcomes(await judge(log, decided(facts, 0, events=0))) == [Outcome.STALE]


async def test_of_a_stream_only_the_first_of_a_batch_is_kept(log: Log) -> None:
    """Others are judged as things were before the batch, and are stale if nothing else is said of them first."""
    one, two = await flight(log, "flight:A"), await flight(log, "flight:B", amy="owner", bob="reader")
    first = decided(one, events=2)
    batch = [
        first,
        decided(one, 0),
        decided(one, 2),
        decided(one, 0, key=first.key),
        decided(one, 0, expect=5),
        decided(two, by=BOB),
        decided(two),
    ]
    judged = await judge(log, *batch)
    assert outcomes(judged) == [
        Outcome.OK,
        Outcome.STALE,
        Outcome.STALE,
        Outcome.STALE,
        Outcome.CONFLICT,
        Outcome.FORBIDDEN,
        Outcome.STALE,
    ]
    assert [event.seq for event in await log.read("demo", one.sid, 0, 10)] == [1, 2]
    assert await log.read("demo", two.sid, 0, 10) == []


async def test_expect_is_the_head(log: Log) -> None:
    """Chat counts for it; where it is not the head, the answer is the head, before staleness is looked at."""
    facts = await flight(log)
    await log.append([sent(facts), sent(facts)])
    for state in (0, 9):
        [judged] = await judge(log, decided(facts, state, expect=1))
        assert judged == Judged(Outcome.CONFLICT, facts.partition, 0, 2, 0, 0, None)
    assert outcomes(await judge(log, decided(facts, 9, expect=2))) == [Outcome.STALE]
    assert outcomes(await judge(log, decided(facts, 0, expect=2**80))) == [Outcome.CONFLICT]
    assert outcomes(await judge(log, decided(facts, 0, expect=2))) == [Outcome.OK]


async def test_the_gateways_own_timers_do_not_count_for_expect(log: Log) -> None:
    """What a rule sets to wait by tells nobody anything; somebody's timer, and anything else of the gateway's, does."""
    facts = await flight(log)
    await log.append([sent(facts)])

    async def kept(state: int, type: str, by: str, expect: int | None = None) -> Judged:
        key = new_key()
        privileged = by == BY_GATEWAY
        command = Decided(
            facts.tenant, facts.sid, key, "x", by, state, [(key, type, b"{}")], expect=expect, privileged=privileged
        )
        [judged] = await log.command([command])
        return judged

    assert (await kept(0, "timer.set", BY_GATEWAY)).seq == 2
    assert (await kept(2, "timer.fired", BY_GATEWAY)).seq == 3
    assert (await kept(3, "flight.gate", AMY, expect=1)).seq == 4
    assert (await kept(4, "timer.set", AMY, expect=4)).seq == 5
    for expect in (1, 3, 4, 6, -1, 0):
        assert (await kept(5, "flight.gate", AMY, expect=expect)).outcome is Outcome.CONFLICT
    assert (await kept(5, "flight.gate", BY_GATEWAY, expect=5)).seq == 6
    assert (await kept(6, "flight.gate", AMY, expect=5)) == Judged(Outcome.CONFLICT, facts.partition, 0, 6, 0, 0, None)


async def test_of_many_decided_on_one_state_one_is_kept(log: Log) -> None:
    """Concurrent commands: exactly one, and the others decide again until all are in."""
    facts = await flight(log)
    won: list[int] = []

    async def contend() -> None:
        state = 0
        while True:
            [judged] = await judge(log, decided(facts, state, events=2))
            if judged.outcome is Outcome.OK:
                won.append(judged.seq)
                return
            assert judged.outcome is Outcome.STALE
            state = judged.seq
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(contend)
    assert won == [1, 3, 5, 7, 9, 11, 13, 15]
    assert len(await log.ruled("demo", facts.sid, 0, 100)) == 16


async def test_sends_and_commands_at_once_leave_no_hole(log: Log) -> None:
    """However they meet, of many streams in each batch: seqs and positions are dense, and nothing waits for ever."""
    flights = [await flight(log, f"flight:F{n}") for n in range(6)]

    async def chat() -> None:
        for _ in range(10):
            verdicts = await log.append([sent(facts) for facts in reversed(flights)])
            assert {verdict.outcome for verdict in verdicts} == {Outcome.OK}

    async def rule() -> None:
        states = [0] * len(flights)
        for _ in range(10):
            judged = await judge(log, *map(decided, flights, states))
            states = [each.seq + each.events - 1 if each.outcome is Outcome.OK else each.seq for each in judged]

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(chat)
                nursery.start_soon(rule)
    for facts in flights:
        events = await log.read("demo", facts.sid, 0, 1_000)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        ruled = [event for event in events if event.type != "message"]
        assert len(events) - len(ruled) == 20
        assert 10 <= len(ruled) <= 20
        assert await log.ruled("demo", facts.sid, 0, 1_000) == ruled


# Who may, and what


@pytest.mark.parametrize(("role", "allowed"), [("owner", True), ("member", True), ("reader", False), (None, False)])
async def test_who_may_command(log: Log, role: str | None, allowed: bool) -> None:
    """Whoever may send: owners and members, and one who is privileged."""
    facts = await flight(log, **({"bob": role} if role else {"eve": "owner"}))
    [judged] = await judge(log, decided(facts, by=BOB))
    assert judged.outcome is (Outcome.OK if allowed else Outcome.FORBIDDEN)
    if not allowed:
        assert outcomes(await judge(log, decided(facts, by=BOB, privileged=True))) == [Outcome.OK]


async def test_who_may_not_is_not_told_what_became_of_a_key(log: Log) -> None:
    """Forbidden comes before dup."""
    facts = await flight(log)
    command = decided(facts)
    await judge(log, command)
    assert outcomes(await judge(log, decided(facts, key=command.key, by=EVE))) == [Outcome.FORBIDDEN]


async def test_an_open_stream_lets_its_tenant_in(log: Log) -> None:
    """As with sends."""
    facts = await log.create_stream("demo", FLIGHT, open=True, members=[Member(BOB, "reader")], by=AMY)
    assert outcomes(await judge(log, decided(facts, by=BOB))) == [Outcome.FORBIDDEN]
    assert outcomes(await judge(log, decided(facts, by=EVE))) == [Outcome.OK]


async def test_nothing_crosses_a_tenant(log: Log) -> None:
    """Another tenant's stream is not there: to commands, to reading, to the keys of commands."""
    facts = await flight(log)
    command = decided(facts)
    stranger = decided(facts, tenant="other", key=command.key)
    judged = await judge(log, stranger, command, decided(facts, tenant="", privileged=True))
    assert outcomes(judged) == [Outcome.NOT_FOUND, Outcome.OK, Outcome.NOT_FOUND]
    assert outcomes(await judge(log, stranger)) == [Outcome.NOT_FOUND]
    for tenant in ("other", "", "demo\0", "demo' or true --"):
        assert await log.ruled(tenant, facts.sid, 0, 10) == []
    assert outcomes(await judge(log, decided(facts, sid=2**70))) == [Outcome.NOT_FOUND]


async def test_an_audit_stream_takes_no_command(log: Log) -> None:
    """Whoever asks."""
    facts = await log.create_stream("demo", AUDIT_STREAM, open=True, members=[Member(AMY, "owner")], by=AMY)
    assert outcomes(await judge(log, decided(facts, privileged=True))) == [Outcome.FORBIDDEN]


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "Depart"},
        {"type": ""},
        {"key": "no uuid"},
        {"key": "00000000-0000-4000-8000-00000000000A"},
        {"by": "amy"},
        {"events": 0, "refusal": b"\xff"},
        {"events": 0, "refusal": b"\0"},
        *({"fact": fact} for fact in ("message", "member.joined", "flight", "Flight.departed", "flight.\0")),
        {"body": b"\0"},
        {"body": b"\xff"},
    ],
)
async def test_one_that_is_malformed_fails_alone(log: Log, fields: dict[str, object]) -> None:
    """Forbidden, whatever is wrong with it; its neighbours, those of its own stream too, are judged as if it were not there."""
    facts = await flight(log)
    given = dict(fields)
    type, body = given.pop("fact", "flight.departed"), given.pop("body", b"{}")
    bad = decided(facts, privileged=True, **given)  # type: ignore[arg-type]
    if bad.facts:
        bad.facts = [(bad.key, type, body)]  # type: ignore[list-item]
    judged = await judge(log, bad, decided(facts), decided(facts))
    assert outcomes(judged) == [Outcome.FORBIDDEN, Outcome.OK, Outcome.STALE]


# Reading


async def test_ruled_reads_what_commands_became(log: Log) -> None:
    """After a seq, ascending, at most so many; chat is left out, and so is another stream's."""
    facts, other = await flight(log), await flight(log, "flight:other")
    state = 0
    for _ in range(3):
        await log.append([sent(facts)])
        [judged] = await judge(log, decided(facts, state, events=3))
        state = judged.seq + 2
        await judge(log, decided(facts, state, events=0))
    await judge(log, decided(other))
    every = [event for event in await log.read("demo", facts.sid, 0, 100) if event.type != "message"]
    assert [event.seq for event in every] == [2, 3, 4, 6, 7, 8, 10, 11, 12]
    for after in (-(2**70), -1, 0, 1, 2, 3, 4, 5, 8, 11, 12, 13, 2**70):
        for limit in (-1, 0, 1, 4, 100):
            expected = [event for event in every if event.seq > after][: max(limit, 0)]
            assert await log.ruled("demo", facts.sid, after, limit) == expected
    assert await log.ruled("demo", 10**9, 0, 10) == []


async def test_a_long_command_is_read_from_its_midst(log: Log) -> None:
    """The longest there can be, from its last event."""
    facts = await flight(log)
    await judge(log, decided(facts, events=FACTS_MAX))
    for after in (0, 1, FACTS_MAX - 2, FACTS_MAX - 1, FACTS_MAX):
        events = await log.ruled("demo", facts.sid, after, 100)
        assert [event.seq for event in events] == list(range(after + 1, FACTS_MAX + 1))


async def test_what_was_trimmed_is_still_there_without_its_body(log: Log) -> None:
    """So that the last of them still says on what the next command is to be decided."""
    facts = await flight(log)
    await judge(log, decided(facts, events=2))
    await log.trim("demo", FLIGHT, 2)
    assert [(event.seq, event.body is None) for event in await log.ruled("demo", facts.sid, 0, 9)] == [
        (1, True),
        (2, False),
    ]


async def test_names_are_those_of_streams_that_exist(log: Log) -> None:
    """Of any tenant; of others nothing is said."""
    one, two = await flight(log), await flight(log, "flight:two", tenant="other")
    expected = {one.sid: ("demo", FLIGHT), two.sid: ("other", "flight:two")}
    assert await log.names([two.sid, one.sid, one.sid, 0, -1, 10**9, 2**70]) == expected
    assert await log.names([]) == {}
