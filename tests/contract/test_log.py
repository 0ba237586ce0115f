"""The log's port, sentence by sentence, against the model in memory and against Postgres: one suite, two logs."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from random import Random

import pytest
import trio

from core.model import Entry, Event, Mark, Member, MyStream, Outcome, StreamFacts, Verdict
from core.ports import Log, Refused
from store.layout import partition_of
from store.memory import MemoryLog
from store.postgres import open_postgres_log
from tests.servers import TEST_PARTITIONS, Database, database, postgres_server  # noqa: F401

AMY, BOB, EVE = "user:amy", "user:bob", "user:eve"
OPS = "chat:ops"
_ms = count(1_700_000_000_000)


def new_key() -> str:
    return str(uuid.uuid4())


def memory_log() -> MemoryLog:
    return MemoryLog(now_ms=lambda: next(_ms), new_key=new_key, partitions=TEST_PARTITIONS)


@asynccontextmanager
async def open_log(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    if kind == "memory":
        yield memory_log()
    else:
        database: Database = request.getfixturevalue("database")
        async with open_postgres_log(database.url) as log:
            yield log


@pytest.fixture(params=["memory", "postgres"])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    async with open_log(request.param, request) as opened:
        yield opened


async def new_stream(
    log: Log, stream: str = OPS, *, tenant: str = "demo", open: bool = False, **roles: str
) -> StreamFacts:
    """A stream whose members are named by keyword: ``amy="owner"``."""
    members = [Member(f"user:{name}", role) for name, role in roles.items()]
    return await log.create_stream(tenant, stream, open=open, members=members, by=AMY)


def entry(facts: StreamFacts, by: str = AMY, **kwargs: object) -> Entry:
    """A message to a stream; anything else by keyword."""
    fields: dict[str, object] = {"tenant": facts.tenant, "sid": facts.sid, "key": new_key(), "type": "message"}
    fields |= {"by": by, "body": b'{"text":"hi"}'} | kwargs
    return Entry(**fields)  # type: ignore[arg-type]


async def append(log: Log, *entries: Entry) -> list[Verdict]:
    return await log.append(entries)


def outcomes(verdicts: list[Verdict]) -> list[Outcome]:
    return [verdict.outcome for verdict in verdicts]


# Appending


async def test_an_event_is_kept_as_it_was_sent(log: Log) -> None:
    """What is read is what was appended, byte for byte, with its place and time."""
    facts = await new_stream(log, amy="owner")
    body = '{"text":"žluťoučký 🐎 \\u0000 \\" 中"}'.encode()
    sent = entry(facts, body=body)
    [verdict] = await append(log, sent)
    assert verdict == Verdict(Outcome.OK, facts.partition, 1, 1, verdict.at_ms)
    event = Event(facts.partition, 1, facts.sid, 1, sent.key, "message", AMY, verdict.at_ms, body)
    assert await log.read("demo", facts.sid, 0, 10) == [event]
    assert await log.tail(facts.partition, 0, 10) == [event]


async def test_nothing_appended_is_nothing_answered(log: Log) -> None:
    """An empty batch is no error."""
    assert await log.append([]) == []


async def test_seq_follows_the_order_of_the_entries(log: Log) -> None:
    """Within a stream, seq rises by one in the order of the batch, whatever streams it is mixed with."""
    one, two = await new_stream(log, "chat:one", amy="member"), await new_stream(log, "chat:two", amy="member")
    batch = [entry(one), entry(two), entry(one), entry(one), entry(two)]
    verdicts = await log.append(batch)
    assert [verdict.seq for verdict in verdicts] == [1, 1, 2, 3, 2]
    assert [event.key for event in await log.read("demo", one.sid, 0, 9)] == [batch[0].key, batch[2].key, batch[3].key]


async def test_a_verdict_names_the_event_s_place(log: Log) -> None:
    """pos is dense in each partition, in the order of the batch, and the verdict's pos is the event's."""
    streams = [await new_stream(log, f"chat:s{n}", amy="member") for n in range(12)]
    assert len({facts.partition for facts in streams}) > 1, "one call spans several partitions"
    verdicts = await log.append([entry(facts) for facts in streams for _ in range(3)])
    assert set(outcomes(verdicts)) == {Outcome.OK}
    for partition in range(TEST_PARTITIONS):
        places = [verdict.pos for verdict in verdicts if verdict.partition == partition]
        assert places == list(range(1, len(places) + 1))
        assert [event.pos for event in await log.tail(partition, 0, 100)] == places
        assert (await log.heads())[partition] == len(places)


async def test_time_never_falls_within_a_partition(log: Log) -> None:
    """Every event of a partition is at or after the one before it."""
    facts = await new_stream(log, amy="member")
    for _ in range(5):
        await append(log, entry(facts), entry(facts))
    times = [event.at_ms for event in await log.tail(facts.partition, 0, 100)]
    assert times == sorted(times)


@pytest.mark.parametrize(("role", "allowed"), [("owner", True), ("member", True), ("reader", False), (None, False)])
async def test_who_may_send(log: Log, role: str | None, allowed: bool) -> None:
    """Owners and members send; readers and strangers do not."""
    facts = await new_stream(log, **({"bob": role} if role else {}))
    expected = Outcome.OK if allowed else Outcome.FORBIDDEN
    assert outcomes(await append(log, entry(facts, BOB))) == [expected]


async def test_an_open_stream_lets_its_tenant_in(log: Log) -> None:
    """Whoever has no role of its own is a member of an open stream; a reader stays a reader."""
    facts = await new_stream(log, open=True, bob="reader")
    assert outcomes(await append(log, entry(facts, EVE), entry(facts, BOB))) == [Outcome.OK, Outcome.FORBIDDEN]


async def test_a_tenant_role_stands_in_for_membership(log: Log) -> None:
    """A privileged entry needs no membership."""
    facts = await new_stream(log)
    assert outcomes(await append(log, entry(facts, "service:ops", privileged=True))) == [Outcome.OK]


async def test_one_bad_entry_never_fails_its_neighbours(log: Log) -> None:
    """Every kind of refusal in one batch, and the good entries around them are written in order."""
    facts = await new_stream(log, amy="member")
    await append(log, entry(facts))
    bad = [
        entry(facts, sid=facts.sid + 1_000),
        entry(facts, EVE),
        entry(facts, tenant="other"),
        entry(facts, type="member.left"),
        entry(facts, type="edit", ref=77),
        entry(facts, expect=9),
        entry(facts, key="not a key"),
        entry(facts, key=new_key().upper()),
        entry(facts, type="Bad Type"),
        entry(facts, by="nobody"),
        entry(facts, body=b'{"text":"\xff"}'),
        entry(facts, body=b'{"text":"\0"}'),
        entry(facts, sid=2**70),
        entry(facts, tenant="no/such"),
        entry(facts, by="user:a\0b"),
    ]
    batch = [entry(facts)]
    for each in bad:
        batch += [each, entry(facts)]
    verdicts = await log.append(batch)
    assert set(outcomes(verdicts[0::2])) == {Outcome.OK}
    assert [verdict.seq for verdict in verdicts[0::2]] == list(range(2, 3 + len(bad)))
    assert outcomes(verdicts[1::2]) == [
        Outcome.NOT_FOUND,
        Outcome.FORBIDDEN,
        Outcome.NOT_FOUND,
        Outcome.FORBIDDEN,
        Outcome.NOT_FOUND,
        Outcome.CONFLICT,
        *[Outcome.FORBIDDEN] * 6,
        Outcome.NOT_FOUND,
        Outcome.NOT_FOUND,
        Outcome.FORBIDDEN,
    ]
    assert all(verdict.pos == 0 for verdict in verdicts[1::2])


async def test_a_large_body_is_kept(log: Log) -> None:
    """As large as a frame may carry, in the largest batch the gateway makes."""
    facts = await new_stream(log, amy="member")
    body = b'"' + b"x" * 49_000 + b'"'
    verdicts = await log.append([entry(facts, body=body) for _ in range(100)])
    assert [verdict.seq for verdict in verdicts] == list(range(1, 101))
    assert (await log.read("demo", facts.sid, 99, 1))[0].body == body


async def test_a_batch_of_the_largest_size(log: Log) -> None:
    """512 entries over many streams in one call."""
    streams = [await new_stream(log, f"chat:s{n}", amy="member") for n in range(40)]
    verdicts = await log.append([entry(streams[n % 40]) for n in range(512)])
    assert set(outcomes(verdicts)) == {Outcome.OK}
    assert sum(await log.heads()) == 512


# Keys


async def test_a_key_lands_once(log: Log) -> None:
    """The same key again answers the first event's seq and time, and writes nothing."""
    facts = await new_stream(log, amy="member", bob="member")
    sent = entry(facts)
    [first] = await append(log, sent)
    await append(log, entry(facts))
    again = Verdict(Outcome.DUP, facts.partition, 0, first.seq, first.at_ms)
    assert await append(log, sent, entry(facts, BOB, key=sent.key)) == [again, again]
    assert len(await log.read("demo", facts.sid, 0, 10)) == 2


async def test_a_key_lands_once_within_a_batch(log: Log) -> None:
    """A duplicate inside the batch answers what its first occurrence was given."""
    facts = await new_stream(log, amy="member")
    sent = entry(facts)
    one, two, three, four = await append(log, sent, entry(facts), sent, entry(facts))
    assert (one.outcome, two.seq, four.seq) == (Outcome.OK, 2, 3)
    assert three == Verdict(Outcome.DUP, facts.partition, 0, 1, one.at_ms)


async def test_a_refused_entry_does_not_use_up_its_key(log: Log) -> None:
    """The key of an entry that was refused is free for the next, in the same batch and later."""
    facts = await new_stream(log, amy="member")
    key = new_key()
    batch = [entry(facts, EVE, key=key), entry(facts, key=key, expect=5), entry(facts, key=key), entry(facts, key=key)]
    # The conflicting entry is the second of its stream, so that its expect could not hold anyway.
    assert outcomes(await log.append(batch)) == [Outcome.FORBIDDEN, Outcome.CONFLICT, Outcome.OK, Outcome.DUP]
    assert outcomes(await append(log, entry(facts, EVE, key=key))) == [Outcome.FORBIDDEN]


async def test_a_key_belongs_to_its_stream(log: Log) -> None:
    """The same key in two streams is two events."""
    one, two = await new_stream(log, "chat:one", amy="member"), await new_stream(log, "chat:two", amy="member")
    key = new_key()
    assert outcomes(await append(log, entry(one, key=key), entry(two, key=key))) == [Outcome.OK, Outcome.OK]


async def test_a_key_outlives_its_body(log: Log) -> None:
    """Trimming does not make a key new again."""
    facts = await new_stream(log, amy="member")
    sent = entry(facts)
    [first] = await append(log, sent)
    await log.trim("demo", OPS, 2)
    assert await append(log, sent) == [Verdict(Outcome.DUP, facts.partition, 0, 1, first.at_ms)]


async def test_a_dup_beats_expect_and_ref(log: Log) -> None:
    """A repeated send answers as the first did, though its conditions no longer hold."""
    facts = await new_stream(log, amy="member")
    guarded = entry(facts, expect=0)
    assert outcomes(await append(log, guarded)) == [Outcome.OK]
    assert outcomes(await append(log, guarded)) == [Outcome.DUP]
    fresh = entry(facts, expect=1)
    copy = entry(facts, key=fresh.key, type="edit", ref=99)
    assert outcomes(await append(log, fresh, copy)) == [Outcome.OK, Outcome.DUP]


# expect


async def test_expect_is_the_head(log: Log) -> None:
    """An entry with expect is appended only at that head; otherwise the answer is the head."""
    facts = await new_stream(log, amy="member")
    await append(log, entry(facts), entry(facts))
    [verdict] = await append(log, entry(facts, expect=1))
    assert (verdict.outcome, verdict.seq) == (Outcome.CONFLICT, 2)
    [verdict] = await append(log, entry(facts, expect=2**80))
    assert verdict.outcome == Outcome.CONFLICT
    [verdict] = await append(log, entry(facts, expect=2))
    assert (verdict.outcome, verdict.seq) == (Outcome.OK, 3)


async def test_only_a_stream_s_first_entry_may_expect(log: Log) -> None:
    """A later one conflicts even where the number is right, and is told the head that it met."""
    facts = await new_stream(log, amy="member")
    verdicts = await append(log, entry(facts), entry(facts, expect=1), entry(facts, expect=0), entry(facts))
    assert outcomes(verdicts) == [Outcome.OK, Outcome.CONFLICT, Outcome.CONFLICT, Outcome.OK]
    assert [verdict.seq for verdict in verdicts] == [1, 1, 1, 2]


async def test_of_many_that_expect_one_head_one_wins(log: Log) -> None:
    """Concurrent appends with the same expect: exactly one is written."""
    facts = await new_stream(log, amy="member")
    won: list[Outcome] = []

    async def contend() -> None:
        won.extend(outcomes(await append(log, entry(facts, expect=0))))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(contend)
    assert sorted(won) == [Outcome.OK] + [Outcome.CONFLICT] * 7


# ref


async def test_edits_and_deletes_name_an_event_of_their_author(log: Log) -> None:
    """Only the author edits; the author, an owner or a privileged principal deletes."""
    facts = await new_stream(log, amy="owner", bob="member", eve="member")
    await append(log, entry(facts, BOB))

    async def outcome(by: str, type: str, **kwargs: object) -> Outcome:
        return (await append(log, entry(facts, by, type=type, ref=1, **kwargs)))[0].outcome

    assert await outcome(BOB, "edit") == Outcome.OK
    assert await outcome(EVE, "edit") == Outcome.FORBIDDEN
    assert await outcome(EVE, "delete") == Outcome.FORBIDDEN
    assert await outcome(AMY, "edit") == Outcome.FORBIDDEN
    assert await outcome(AMY, "delete") == Outcome.OK
    assert await outcome("service:ops", "edit", privileged=True) == Outcome.FORBIDDEN
    assert await outcome("service:ops", "delete", privileged=True) == Outcome.OK
    assert await outcome(BOB, "delete") == Outcome.OK
    assert await outcome(EVE, "react") == Outcome.OK


@pytest.mark.parametrize("ref", [None, 0, -1, 1, 3, 9, 2**40])
async def test_a_ref_that_names_no_kept_event(log: Log, ref: int | None) -> None:
    """Trimmed, not yet written, out of range, or absent from an edit: not found."""
    facts = await new_stream(log, amy="owner")
    await append(log, entry(facts), entry(facts))
    await log.trim("demo", OPS, 2)
    assert outcomes(await append(log, entry(facts, type="edit", ref=ref))) == [Outcome.NOT_FOUND]
    if ref is not None:
        assert outcomes(await append(log, entry(facts, type="react", ref=ref))) == [Outcome.NOT_FOUND]
    assert outcomes(await append(log, entry(facts, type="edit", ref=2))) == [Outcome.OK]


async def test_a_ref_names_an_event_committed_before(log: Log) -> None:
    """An event of the same batch has no number yet that anybody could know."""
    facts = await new_stream(log, amy="owner")
    assert outcomes(await append(log, entry(facts), entry(facts, type="edit", ref=1))) == [
        Outcome.OK,
        Outcome.NOT_FOUND,
    ]


async def test_a_ref_stays_in_its_stream(log: Log) -> None:
    """seq 2 of another stream is not seq 2 of this one."""
    one, two = await new_stream(log, "chat:one", amy="owner"), await new_stream(log, "chat:two", amy="owner")
    await append(log, entry(one), entry(one), entry(two))
    assert outcomes(await append(log, entry(two, type="delete", ref=2))) == [Outcome.NOT_FOUND]


# Concurrency


async def test_many_appenders_leave_no_hole_and_no_doubt(log: Log) -> None:
    """pos dense per partition, seq gap-free per stream in the order of pos, and every verdict true."""
    streams = [await new_stream(log, f"chat:s{n}", open=True) for n in range(6)]
    by_sid = {facts.sid: facts for facts in streams}
    acknowledged: dict[tuple[int, int], str] = {}

    async def appender(number: int) -> None:
        random = Random(number)
        for _ in range(12):
            batch = [entry(random.choice(streams), f"user:u{number}") for _ in range(random.randint(1, 9))]
            for sent, verdict in zip(batch, await log.append(batch), strict=True):
                assert verdict.outcome == Outcome.OK
                assert verdict.partition == by_sid[sent.sid].partition
                acknowledged[sent.sid, verdict.seq] = sent.key

    async with trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(appender, number)
    heads = await log.heads()
    assert sum(heads) == len(acknowledged)
    last: dict[int, int] = {}
    for partition, head in enumerate(heads):
        events = await log.tail(partition, 0, 10_000)
        assert [event.pos for event in events] == list(range(1, head + 1))
        assert [event.at_ms for event in events] == sorted(event.at_ms for event in events)
        for event in events:
            assert event.seq == last.get(event.sid, 0) + 1
            last[event.sid] = event.seq
            assert acknowledged[event.sid, event.seq] == event.key


async def test_a_reader_of_the_tail_never_misses_what_commits_late(log: Log) -> None:
    """While others commit, reading on from the last pos seen finds every event once, in order."""
    streams = [await new_stream(log, f"chat:s{n}", open=True) for n in range(4)]
    partition = streams[0].partition
    seen: list[int] = []
    writing = 4

    async def write(number: int) -> None:
        nonlocal writing
        for _ in range(15):
            await log.append([entry(facts, f"user:u{number}") for facts in streams])
        writing -= 1

    async def follow() -> None:
        while True:
            last_round = writing == 0
            events = await log.tail(partition, len(seen), 7)
            seen.extend(event.pos for event in events)
            if last_round and not events:
                return
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        for number in range(4):
            nursery.start_soon(write, number)
    assert seen == list(range(1, (await log.heads())[partition] + 1))


async def test_a_removal_has_a_place_in_the_order(log: Log) -> None:
    """What a member sends is written before its removal or refused after it, never written after."""
    facts = await new_stream(log, amy="owner", bob="member")
    sent: list[Outcome] = []

    async def send() -> None:
        for _ in range(10):
            sent.extend(outcomes(await append(log, entry(facts, BOB))))

    async def remove() -> None:
        for _ in range(3):
            await append(log, entry(facts))
        await log.remove_member("demo", OPS, BOB, AMY)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(remove)
    events = await log.read("demo", facts.sid, 0, 100)
    left = next(event.seq for event in events if event.type == "member.left")
    assert all(event.seq < left for event in events if event.by == BOB)
    assert sent == sorted(sent), "once forbidden, always forbidden"


# Reading


async def test_read_is_contiguous_and_bounded(log: Log) -> None:
    """Kept events past a seq, ascending, at most limit; nothing for limits and numbers that make no sense."""
    facts = await new_stream(log, amy="member")
    await log.append([entry(facts) for _ in range(10)])

    async def seqs(after: int, limit: int) -> list[int]:
        return [event.seq for event in await log.read("demo", facts.sid, after, limit)]

    assert await seqs(0, 3) == [1, 2, 3]
    assert await seqs(-5, 3) == [1, 2, 3]
    assert await seqs(7, 100) == [8, 9, 10]
    assert await seqs(10, 100) == []
    assert await seqs(2**90, 100) == []
    assert await seqs(0, 0) == []
    assert await seqs(0, -1) == []
    assert len(await seqs(0, 2**90)) == 10


async def test_read_before_takes_the_last_ones(log: Log) -> None:
    """The newest events below a seq, still ascending."""
    facts = await new_stream(log, amy="member")
    await log.append([entry(facts) for _ in range(10)])

    async def seqs(before: int, limit: int) -> list[int]:
        return [event.seq for event in await log.read_before("demo", facts.sid, before, limit)]

    assert await seqs(11, 3) == [8, 9, 10]
    assert await seqs(2**90, 3) == [8, 9, 10]
    assert await seqs(4, 10) == [1, 2, 3]
    assert await seqs(1, 10) == []
    assert await seqs(-1, 10) == []
    assert await seqs(5, 0) == []
    await log.trim("demo", OPS, 3)
    assert await seqs(6, 10) == [3, 4, 5]


async def test_tail_asks_for_a_partition_that_is_there(log: Log) -> None:
    """Another number is answered with nothing."""
    for partition in (-1, TEST_PARTITIONS, 2**40):
        assert await log.tail(partition, 0, 10) == []
    facts = await new_stream(log, amy="member")
    await log.append([entry(facts) for _ in range(5)])
    assert [event.pos for event in await log.tail(facts.partition, 2, 2)] == [3, 4]
    assert await log.tail(facts.partition, 0, 0) == []


async def test_nothing_crosses_a_tenant(log: Log) -> None:
    """The same name in two tenants is two streams, and no call for one says anything of the other."""
    ours = await new_stream(log, amy="owner")
    theirs = await new_stream(log, tenant="other", amy="owner")
    assert ours.sid != theirs.sid
    await append(log, entry(theirs), entry(theirs))
    await log.save_marks("other", [Mark(theirs.sid, AMY, 2, 2)])
    await log.save_marks("demo", [Mark(theirs.sid, EVE, 2, 2)])
    assert await log.read("demo", theirs.sid, 0, 10) == []
    assert await log.read_before("demo", theirs.sid, 10, 10) == []
    assert await log.load_marks("demo", [theirs.sid]) == []
    assert await log.load_marks("other", [theirs.sid]) == [Mark(theirs.sid, AMY, 2, 2)]
    assert await log.my_streams("demo", AMY) == [MyStream(OPS, "owner", 0, 1, 0, 0)]
    assert outcomes(await append(log, entry(theirs, tenant="demo"))) == [Outcome.NOT_FOUND]
    assert await log.put_member("demo", OPS, EVE, "member", AMY) is not None
    assert await log.members("other", OPS) == [Member(AMY, "owner")]
    await log.trim("demo", OPS, 99)
    assert len(await log.read("other", theirs.sid, 0, 10)) == 2


# Streams and members


async def test_create_stream_says_what_it_made(log: Log) -> None:
    """Head 0, members from before seq 1 without events, the partition by its name, the creator's own role."""
    facts = await new_stream(log, bob="member")
    assert facts == StreamFacts(facts.sid, "demo", OPS, partition_of("demo", OPS, TEST_PARTITIONS), 0, 1, False, None)
    assert await log.members("demo", OPS) == [Member(BOB, "member")]
    assert await log.read("demo", facts.sid, 0, 10) == []
    assert (await new_stream(log, "chat:mine", amy="reader", open=True)).role == "reader"
    assert (await new_stream(log, "chat:open", open=True)).role == "member"
    assert (await log.create_stream("demo", AMY, open=False, members=[], by=AMY)).role == "reader"


async def test_a_stream_is_created_once(log: Log) -> None:
    """A second time is a conflict, and changes nothing; of many at once, one succeeds."""
    results: list[str] = []

    async def create(name: str) -> None:
        try:
            await new_stream(log, **{name: "owner"})
        except Refused as refused:
            results.append(refused.code)
        else:
            results.append("made")

    async with trio.open_nursery() as nursery:
        for name in ("amy", "bob", "eve"):
            nursery.start_soon(create, name)
    assert sorted(results) == ["conflict", "conflict", "made"]
    assert len(await log.members("demo", OPS) or []) == 1


@pytest.mark.parametrize(
    ("tenant", "stream", "members", "by"),
    [
        ("Demo", OPS, [], AMY),
        ("demo", "room:ops", [], AMY),
        ("demo", "chat:", [], AMY),
        ("demo", "chat:a b", [], AMY),
        ("demo", "chat:" + "x" * 129, [], AMY),
        ("demo", OPS, [Member(AMY, "king")], AMY),
        ("demo", OPS, [Member("amy", "owner")], AMY),
        ("demo", OPS, [Member(AMY, "owner"), Member(AMY, "reader")], AMY),
        ("demo", OPS, [], "x"),
    ],
)
async def test_a_stream_that_cannot_be(log: Log, tenant: str, stream: str, members: list[Member], by: str) -> None:
    """Names and roles that make no sense are refused, and nothing is made."""
    with pytest.raises(Refused) as refused:
        await log.create_stream(tenant, stream, open=True, members=members, by=by)
    assert refused.value.code == "bad_request"
    assert await log.members("demo", OPS) is None


async def test_members_come_and_go_with_events(log: Log) -> None:
    """Joined, role changed, left: each one event in the same commit; none where nothing changes."""
    facts = await new_stream(log, amy="owner")
    joined = await log.put_member("demo", OPS, BOB, "member", AMY)
    assert joined is not None
    assert (joined.type, joined.seq, joined.by) == ("member.joined", 1, AMY)
    assert joined.body == b'{"principal":"user:bob","role":"member"}'
    assert await log.put_member("demo", OPS, BOB, "member", AMY) is None
    changed = await log.put_member("demo", OPS, BOB, "reader", AMY)
    assert changed is not None
    assert (changed.type, changed.body) == ("member.role", b'{"principal":"user:bob","role":"reader"}')
    assert await log.members("demo", OPS) == [Member(AMY, "owner"), Member(BOB, "reader")]
    left = await log.remove_member("demo", OPS, BOB, AMY)
    assert (left.type, left.body) == ("member.left", b'{"principal":"user:bob"}')
    assert await log.members("demo", OPS) == [Member(AMY, "owner")]
    assert await log.read("demo", facts.sid, 0, 10) == [joined, changed, left]
    assert await log.tail(facts.partition, 0, 10) == [joined, changed, left]
    assert len({joined.key, changed.key, left.key}) == 3


async def test_a_removed_member_may_not_send(log: Log) -> None:
    """And may again once it is put back."""
    facts = await new_stream(log, bob="member")
    await log.remove_member("demo", OPS, BOB, AMY)
    assert outcomes(await append(log, entry(facts, BOB))) == [Outcome.FORBIDDEN]
    await log.put_member("demo", OPS, BOB, "member", AMY)
    assert outcomes(await append(log, entry(facts, BOB))) == [Outcome.OK]


async def test_membership_of_what_is_not_there(log: Log) -> None:
    """No such stream, no such member: refused as not found; malformed names as a bad request."""
    for call in (
        log.put_member("demo", "chat:none", BOB, "member", AMY),
        log.remove_member("demo", "chat:none", BOB, AMY),
    ):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.code == "not_found"
    await new_stream(log, amy="owner")
    with pytest.raises(Refused) as refused:
        await log.remove_member("demo", OPS, BOB, AMY)
    assert refused.value.code == "not_found"
    for call in (
        log.put_member("demo", OPS, "bob", "member", AMY),
        log.put_member("demo", OPS, BOB, "king", AMY),
        log.put_member("demo", OPS, BOB, "member", ""),
        log.put_member("demo", "ops", BOB, "member", AMY),
        log.remove_member("de mo", OPS, BOB, AMY),
        log.remove_member("demo", OPS, "bob", AMY),
    ):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.code == "bad_request"
    assert await log.members("demo", "chat:none") is None
    assert await log.members("demo", "chat\0") is None


async def test_open_streams_answers_in_the_order_asked(log: Log) -> None:
    """Facts with the asker's role for what exists, None for what does not, whatever the tenants."""
    ops = await new_stream(log, amy="owner", bob="reader")
    lobby = await new_stream(log, "chat:lobby", tenant="other", open=True)
    await append(log, entry(ops), entry(ops))
    found = await log.open_streams(
        [
            ("demo", OPS, BOB),
            ("other", "chat:lobby", EVE),
            ("demo", "chat:lobby", EVE),
            ("demo", OPS, EVE),
            ("demo", OPS, AMY),
            ("demo", "nonsense", AMY),
            ("de\0mo", OPS, AMY),
            ("demo", OPS, "am y"),
            ("demo", OPS, BOB),
        ]
    )
    bobs = StreamFacts(ops.sid, "demo", OPS, ops.partition, 2, 1, False, "reader")
    assert found[0] == found[8] == bobs
    assert found[1] == StreamFacts(lobby.sid, "other", "chat:lobby", lobby.partition, 0, 1, True, "member")
    assert [facts and facts.role for facts in found[2:5]] == [None, None, "owner"]
    assert found[2] is None
    assert found[3] is not None
    assert found[5:8] == [None, None, None]
    assert await log.open_streams([]) == []


async def test_an_inbox_is_made_for_its_owner(log: Log) -> None:
    """When first asked for by its owner, who is its reader; nobody else makes it or reads it."""
    assert await log.open_streams([("demo", AMY, BOB)]) == [None]
    assert await log.my_streams("demo", AMY) == []
    by_bob, first, again = await log.open_streams([("demo", AMY, BOB), ("demo", AMY, AMY), ("demo", AMY, AMY)])
    assert first == again
    assert by_bob is not None, "all from one snapshot, so that the order of the questions makes no difference"
    assert first is not None
    assert (first.role, first.head, first.open) == ("reader", 0, False)
    [others] = await log.open_streams([("demo", AMY, BOB)])
    assert others is not None
    assert others.role is None
    assert outcomes(await append(log, entry(first), entry(first, "service:ops", privileged=True))) == [
        Outcome.FORBIDDEN,
        Outcome.OK,
    ]
    assert await log.my_streams("demo", AMY) == [MyStream(AMY, "reader", 1, 1, 0, 0)]
    assert await log.members("demo", AMY) == []


async def test_my_streams_are_those_i_belong_to(log: Log) -> None:
    """Memberships, the inbox, and open streams once marked; by name, with head, first and markers."""
    ops = await new_stream(log, amy="owner")
    await new_stream(log, "chat:bobs", bob="owner")
    lobby = await new_stream(log, "chat:lobby", open=True)
    await new_stream(log, "chat:unmarked", open=True)
    await log.open_streams([("demo", AMY, AMY)])
    await append(log, entry(ops), entry(ops), entry(lobby))
    await log.trim("demo", OPS, 2)
    await log.save_marks("demo", [Mark(ops.sid, AMY, 2, 1), Mark(lobby.sid, AMY, 1, 0)])
    assert await log.my_streams("demo", AMY) == [
        MyStream("chat:lobby", "member", 1, 1, 1, 0),
        MyStream("chat:ops", "owner", 2, 2, 2, 1),
        MyStream("user:amy", "reader", 0, 1, 0, 0),
    ]
    await log.remove_member("demo", OPS, AMY, BOB)
    assert [line.stream for line in await log.my_streams("demo", AMY)] == ["chat:lobby", "user:amy"]


# Markers


async def test_markers_only_rise_and_never_pass_head(log: Log) -> None:
    """Monotonic each for itself, whatever order they come in."""
    facts = await new_stream(log, amy="member")
    await log.append([entry(facts) for _ in range(10)])

    async def saved(*pairs: tuple[int, int]) -> list[Mark]:
        await log.save_marks("demo", [Mark(facts.sid, AMY, *pair) for pair in pairs])
        return await log.load_marks("demo", [facts.sid])

    assert await saved((0, 0), (-3, -9)) == []
    assert await saved((5, 2)) == [Mark(facts.sid, AMY, 5, 2)]
    assert await saved((3, 1)) == [Mark(facts.sid, AMY, 5, 2)]
    assert await saved((4, 3), (6, 1)) == [Mark(facts.sid, AMY, 6, 3)]
    assert await saved((99, 2**80)) == [Mark(facts.sid, AMY, 10, 10)]
    assert await saved() == [Mark(facts.sid, AMY, 10, 10)]


async def test_when_somebody_was_last_here(log: Log) -> None:
    """Times only rise, are the tenant's, and are told of those who may follow the stream asked about."""
    crew = await new_stream(log, "chat:crew", amy="owner", bob="member")
    lobby = await new_stream(log, "chat:lobby", open=True)
    theirs = await new_stream(log, "chat:lobby", tenant="other", open=True)
    await log.save_seen("demo", {AMY: 1_000, EVE: 2_000})
    await log.save_seen("demo", {AMY: 900, BOB: 3_000})
    await log.save_seen("other", {AMY: 9_000})
    await log.save_seen("demo", {})
    assert await log.load_seen("demo", crew.sid, [EVE, BOB, AMY, "user:nobody"]) == {AMY: 1_000, BOB: 3_000}
    assert await log.load_seen("demo", lobby.sid, [AMY, EVE]) == {AMY: 1_000, EVE: 2_000}
    assert await log.load_seen("other", theirs.sid, [AMY, EVE]) == {AMY: 9_000}
    assert await log.load_seen("other", crew.sid, [AMY]) == {}
    assert await log.load_seen("demo", 2**70, [AMY]) == {}
    assert await log.load_seen("demo", lobby.sid, ["user:\0", ""]) == {}
    assert await log.load_seen("demo", lobby.sid, []) == {}


async def test_markers_of_many(log: Log) -> None:
    """Saved and loaded in one call, by stream and principal; unknown streams are ignored."""
    one, two = await new_stream(log, "chat:one", open=True), await new_stream(log, "chat:two", open=True)
    await append(log, entry(one), entry(one), entry(two))
    marks = [Mark(two.sid, BOB, 1, 0), Mark(one.sid, EVE, 2, 2), Mark(one.sid, BOB, 1, 1), Mark(2**70, BOB, 1, 1)]
    await log.save_marks("demo", marks)
    expected = sorted((mark for mark in marks[:3]), key=lambda mark: (mark.sid, mark.principal))
    assert await log.load_marks("demo", [two.sid, one.sid, two.sid, 2**70]) == expected
    assert await log.load_marks("demo", []) == []


async def test_markers_from_many_nodes_at_once(log: Log) -> None:
    """Concurrent flushes of the same markers in different orders all succeed, and the highest stays."""
    streams = [await new_stream(log, f"chat:s{n}", open=True) for n in range(5)]
    await log.append([entry(facts) for facts in streams for _ in range(20)])

    async def flush(number: int) -> None:
        marks = [Mark(facts.sid, name, number, number) for facts in streams for name in (AMY, BOB)]
        Random(number).shuffle(marks)
        await log.save_marks("demo", marks)

    async with trio.open_nursery() as nursery:
        for number in range(1, 13):
            nursery.start_soon(flush, number)
    marks = await log.load_marks("demo", [facts.sid for facts in streams])
    assert [(mark.delivered, mark.read) for mark in marks] == [(12, 12)] * 10


# Trimming


async def test_trimming_forgets_bodies_and_keeps_places(log: Log) -> None:
    """Reads start at first; the tail keeps the place, without the body; nothing comes back."""
    facts = await new_stream(log, amy="member")
    await log.append([entry(facts) for _ in range(6)])
    assert await log.trim("demo", OPS, 4) == 4
    assert await log.trim("demo", OPS, 2) == 4
    assert await log.trim("demo", OPS, -7) == 4
    assert [event.seq for event in await log.read("demo", facts.sid, 0, 10)] == [4, 5, 6]
    tail = await log.tail(facts.partition, 0, 10)
    assert [event.pos for event in tail] == [1, 2, 3, 4, 5, 6]
    assert [event.body is None for event in tail] == [True, True, True, False, False, False]
    [now] = await log.open_streams([("demo", OPS, AMY)])
    assert now is not None
    assert (now.first, now.head) == (4, 6)
    assert await log.trim("demo", OPS, 2**90) == 7
    assert await log.read("demo", facts.sid, 0, 10) == []
    assert (await append(log, entry(facts)))[0].seq == 7
    assert [event.seq for event in await log.read("demo", facts.sid, 0, 10)] == [7]
    with pytest.raises(Refused) as refused:
        await log.trim("demo", "chat:none", 1)
    assert refused.value.code == "not_found"


async def test_trimming_keeps_membership(log: Log) -> None:
    """What a change of membership says stays in the tail: a node that meets it late must know of whom it speaks."""
    facts = await new_stream(log, amy="member")
    await append(log, entry(facts))
    left = await log.remove_member("demo", OPS, AMY, BOB)
    assert await log.trim("demo", OPS, 3) == 3
    assert await log.read("demo", facts.sid, 0, 10) == []
    assert [event.body for event in await log.tail(facts.partition, 0, 10)] == [None, left.body]


# Itself


async def test_the_epoch_stays(log: Log) -> None:
    """One life of the log, and as many heads as partitions."""
    epoch = await log.epoch()
    assert epoch == await log.epoch()
    assert epoch.partitions == TEST_PARTITIONS
    assert uuid.UUID(epoch.log)
    assert await log.heads() == [0] * TEST_PARTITIONS
